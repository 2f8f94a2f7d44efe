//! What callers ask, parsed. Every value here is valid; relations to stored state are the rules' to judge.

use std::sync::Arc;

use crate::{
    domain::{
        caller::CallerRights,
        destination::{Channel, Destination},
        ids::{AccountId, OptionId, RequestId, Tenant},
        purpose::Purpose,
        time::Timestamp,
        transaction::Transaction,
    },
    ports::{
        call::CallRecord,
        clock::Deadline,
        provider::{ClientContext, Parameters},
    },
    secret::Secret,
};

/// Who calls, under which id, and until when an answer is awaited.
#[derive(Clone, Debug)]
pub struct Caller {
    pub tenant: Tenant,
    pub request_id: RequestId,
    pub deadline: Deadline,
    /// What it may do.
    pub rights: Arc<CallerRights>,
    /// What is found out of the call, for logs, traces and events.
    pub record: Arc<CallRecord>,
}

/// One way to reach the person, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The caller's own id of the option.
    pub id: Option<OptionId>,
    pub channel: Channel,
    pub destination: Destination,
}

/// Opens a challenge.
#[derive(Clone, Debug)]
pub struct CreateChallenge {
    pub account: AccountId,
    pub purpose: Purpose,
    /// Set exactly for [`Purpose::Transaction`].
    pub transaction: Option<Transaction>,
    /// 1 to 10, no two with the same channel and destination, no two with the same id.
    pub destinations: Vec<Reach>,
    /// BCP 47, or empty.
    pub locale: String,
    pub client: ClientContext,
    /// For the provider of the first send. Empty without `send_otp`.
    pub parameters: Parameters,
    pub send_otp: bool,
}

/// Sends a code.
#[derive(Clone, Debug)]
pub struct SendOtp {
    pub challenge: RequestId,
    pub option: OptionId,
    pub parameters: Parameters,
    pub client: ClientContext,
}

/// Checks a code.
#[derive(Clone, Debug)]
pub struct VerifyOtp {
    pub challenge: RequestId,
    /// What the person typed, 1 to 16 of `[0-9A-Za-z]`.
    pub otp: Secret<String>,
    pub parameters: Parameters,
    /// Must be the challenge's, where given.
    pub account: Option<AccountId>,
    /// Must be the challenge's, where given.
    pub purpose: Option<Purpose>,
    /// Must be the challenge's, where given.
    pub transaction: Option<Transaction>,
}

/// Whose lockout an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockoutOwner {
    Account(AccountId),
    Contact(Destination),
}

/// Locks an account or a contact.
#[derive(Clone, Debug)]
pub struct LockAccount {
    pub owner: LockoutOwner,
    /// Why, 1 to 200 characters, for the operators' log.
    pub reason: String,
    /// When the lock ends; `None`: until unlocked.
    pub until: Option<Timestamp>,
}

/// Unlocks an account or a contact.
#[derive(Clone, Debug)]
pub struct UnlockAccount {
    pub owner: LockoutOwner,
    /// Why, 1 to 200 characters, for the operators' log.
    pub reason: String,
}
