//! Messages of the contract -> valid requests of the service. All fields at fault are found at once; relations to
//! stored state are not judged here. A description never repeats a value: values are codes, numbers and accounts.

mod characters;
mod client;
mod destinations;
mod header;
mod owner;
mod values;
mod violations;

use std::{sync::Arc, time::Duration};

pub(crate) use violations::{FieldReason, Violations};

use super::proto;
use crate::{
    domain::{
        caller::CallerRights,
        ids::{AccountId, OptionId, RequestId},
        purpose::Purpose,
        time::Timestamp,
    },
    ports::{call::CallRecord, clock::Deadline},
    service::request::{Caller, CreateChallenge, LockAccount, LockoutOwner, SendOtp, UnlockAccount, VerifyOtp},
};

/// What requests are judged by, besides themselves.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The time of day.
    pub(crate) now: Timestamp,
    /// How far `request_timestamp` may be from it, if that matters.
    pub(crate) max_skew: Option<Duration>,
    /// When the answer is due.
    pub(crate) deadline: Deadline,
    /// What the caller may do.
    pub(crate) rights: Arc<CallerRights>,
    /// What is found out of the call.
    pub(crate) record: Arc<CallRecord>,
}

/// Who calls and what for, or all that is wrong with it.
pub(crate) type Parsed<T> = Result<(Caller, T), Violations>;

/// Opens a challenge.
pub(crate) fn create_challenge(context: &Context, request: proto::CreateChallengeRequest) -> Parsed<CreateChallenge> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let account = values::id(&mut faults, "account_id", &request.account_id, AccountId::parse);
    let purpose = values::purpose(&mut faults, request.purpose);
    let transaction = request.transaction.map(|transaction| values::transaction(&mut faults, transaction));
    match purpose {
        Some(Purpose::Transaction) if transaction.is_none() => faults.missing("transaction"),
        Some(Purpose::Login | Purpose::Registration) if transaction.is_some() => {
            faults.invalid("transaction", "is allowed with PURPOSE_TRANSACTION only");
        }
        Some(_) | None => {}
    }
    let destinations = destinations::destinations(&mut faults, request.destinations);
    if purpose == Some(Purpose::Registration) {
        destinations::are_one_contact(&mut faults, &destinations);
    }
    let locale = client::language(&mut faults, request.locale);
    let client = client::context(&mut faults, request.client_context);
    let parameters = values::parameters(&mut faults, request.provider_parameters);
    if !parameters.is_empty() && !request.send_otp {
        faults.invalid("provider_parameters", "is allowed with send_otp only");
    }
    let (Some(caller), Some(account), Some(purpose)) = (caller, account, purpose) else {
        return Err(faults);
    };
    let transaction = transaction.flatten();
    let send_otp = request.send_otp;
    let challenge =
        CreateChallenge { account, purpose, transaction, destinations, locale, client, parameters, send_otp };
    faults.or((caller, challenge))
}

/// Sends a code.
pub(crate) fn send_otp(context: &Context, request: proto::SendOtpRequest) -> Parsed<SendOtp> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let challenge = values::id(&mut faults, "enrollment_request_id", &request.enrollment_request_id, RequestId::parse);
    let option = values::id(&mut faults, "challenge_option_id", &request.challenge_option_id, OptionId::parse);
    let parameters = values::parameters(&mut faults, request.provider_parameters);
    let client = client::context(&mut faults, request.client_context);
    let (Some(caller), Some(challenge), Some(option)) = (caller, challenge, option) else {
        return Err(faults);
    };
    faults.or((caller, SendOtp { challenge, option, parameters, client }))
}

/// Checks a code.
pub(crate) fn verify_otp(context: &Context, request: proto::VerifyOtpRequest) -> Parsed<VerifyOtp> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let challenge =
        values::id(&mut faults, "authenticate_request_id", &request.authenticate_request_id, RequestId::parse);
    let otp = values::otp(&mut faults, request.otp);
    let parameters = values::parameters(&mut faults, request.provider_parameters);
    let account = values::optional_id(&mut faults, "account_id", &request.account_id, AccountId::parse);
    let purpose = values::optional_purpose(&mut faults, request.purpose);
    let transaction = request.transaction.and_then(|transaction| values::transaction(&mut faults, transaction));
    let (Some(caller), Some(challenge)) = (caller, challenge) else {
        return Err(faults);
    };
    faults.or((caller, VerifyOtp { challenge, otp, parameters, account, purpose, transaction }))
}

/// Ends a challenge.
pub(crate) fn cancel_challenge(context: &Context, request: proto::CancelChallengeRequest) -> Parsed<RequestId> {
    challenge(context, request.request_header, &request.authenticate_request_id)
}

/// Describes a challenge.
pub(crate) fn get_challenge(context: &Context, request: proto::GetChallengeRequest) -> Parsed<RequestId> {
    challenge(context, request.request_header, &request.authenticate_request_id)
}

/// Shows a lockout.
pub(crate) fn get_account(context: &Context, request: proto::GetAccountRequest) -> Parsed<LockoutOwner> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let owner = owner::owner(&mut faults, &request.account_id, &request.phone_number, &request.email_address);
    let (Some(caller), Some(owner)) = (caller, owner) else {
        return Err(faults);
    };
    faults.or((caller, owner))
}

/// Locks an account or a contact.
pub(crate) fn lock_account(context: &Context, request: proto::LockAccountRequest) -> Parsed<LockAccount> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let owner = owner::owner(&mut faults, &request.account_id, &request.phone_number, &request.email_address);
    let reason = values::reason(&mut faults, request.reason);
    let until = request.unlock_timestamp.and_then(|at| values::timestamp(&mut faults, "unlock_timestamp", at));
    // Alone it may be the repetition of a lock that has ended since, which the use case tells.
    if until.is_some_and(|until| until <= context.now) && !faults.is_empty() {
        faults.invalid("unlock_timestamp", "must be in the future");
    }
    let (Some(caller), Some(owner)) = (caller, owner) else {
        return Err(faults);
    };
    faults.or((caller, LockAccount { owner, reason, until }))
}

/// Unlocks an account or a contact.
pub(crate) fn unlock_account(context: &Context, request: proto::UnlockAccountRequest) -> Parsed<UnlockAccount> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, request.request_header);
    let owner = owner::owner(&mut faults, &request.account_id, &request.phone_number, &request.email_address);
    let reason = values::reason(&mut faults, request.reason);
    let (Some(caller), Some(owner)) = (caller, owner) else {
        return Err(faults);
    };
    faults.or((caller, UnlockAccount { owner, reason }))
}

fn challenge(context: &Context, header: Option<proto::RequestHeader>, id: &str) -> Parsed<RequestId> {
    let mut faults = Violations::default();
    let caller = header::caller(&mut faults, context, header);
    let challenge = values::id(&mut faults, "authenticate_request_id", id, RequestId::parse);
    let (Some(caller), Some(challenge)) = (caller, challenge) else {
        return Err(faults);
    };
    faults.or((caller, challenge))
}

#[cfg(test)]
mod tests;
