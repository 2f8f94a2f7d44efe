//! What callers ask, parsed. Every value here is valid; relations to stored state are the rules' to judge.

use crate::{
    domain::{
        destination::{Channel, Destination},
        ids::{AccountId, OptionId, RequestId, Tenant},
        purpose::Purpose,
        time::Timestamp,
        transaction::Transaction,
    },
    ports::{
        clock::Deadline,
        provider::{ClientContext, Parameters},
    },
    secret::Secret,
};

/// Who calls, under which id, and until when an answer is awaited.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The tenant.
    pub tenant: Tenant,
    /// The id of this request.
    pub request_id: RequestId,
    /// When the caller stops waiting.
    pub deadline: Deadline,
}

/// One way to reach the person, as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The caller's own id of the option.
    pub id: Option<OptionId>,
    /// How.
    pub channel: Channel,
    /// Where.
    pub destination: Destination,
}

/// Opens a challenge.
#[derive(Clone, Debug)]
pub struct CreateChallenge {
    /// The person's account at the caller.
    pub account: AccountId,
    /// What is to be proven.
    pub purpose: Purpose,
    /// Set exactly for [`Purpose::Transaction`].
    pub transaction: Option<Transaction>,
    /// 1 to 10, no two with the same channel and destination, no two with the same id.
    pub destinations: Vec<Reach>,
    /// BCP 47, or empty.
    pub locale: String,
    /// For providers.
    pub client: ClientContext,
    /// For the provider of the first send. Empty without `send_otp`.
    pub parameters: Parameters,
    /// Send to the first option at once.
    pub send_otp: bool,
}

/// Sends a code.
#[derive(Clone, Debug)]
pub struct SendOtp {
    /// The challenge.
    pub challenge: RequestId,
    /// The option to send to.
    pub option: OptionId,
    /// For the provider of this send.
    pub parameters: Parameters,
    /// For providers.
    pub client: ClientContext,
}

/// Checks a code.
#[derive(Clone, Debug)]
pub struct VerifyOtp {
    /// The challenge.
    pub challenge: RequestId,
    /// What the person typed, 1 to 16 of `[0-9A-Za-z]`.
    pub otp: Secret<String>,
    /// For a provider that checks its own codes.
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
    /// An account.
    Account(AccountId),
    /// A contact that registrations prove.
    Contact(Destination),
}

/// Locks an account or a contact.
#[derive(Clone, Debug)]
pub struct LockAccount {
    /// Whose lockout.
    pub owner: LockoutOwner,
    /// Why, 1 to 200 characters, for the operators' log.
    pub reason: String,
    /// When the lock ends; `None`: until unlocked.
    pub until: Option<Timestamp>,
}

/// Unlocks an account or a contact.
#[derive(Clone, Debug)]
pub struct UnlockAccount {
    /// Whose lockout.
    pub owner: LockoutOwner,
    /// Why, 1 to 200 characters, for the operators' log.
    pub reason: String,
}
