//! Outcomes of the rules -> messages of the contract. Matches are exhaustive: a new outcome does not compile until it
//! has its member.

mod view;

pub(crate) use view::{account, challenge, locked_account, unlocked_account};

use super::proto::{
    self, create_challenge_result::Result as CreateResult, send_otp_result::Result as SendResult,
    verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
};
use std::collections::BTreeMap;

use crate::domain::{
    destination::Channel,
    outcome::{Created, Dispatch, Locked, OptionView, Proof, ProviderValues, Sent, Verified},
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// An answer, and the name of its outcome for logs and metrics: the result member that is set. A success whose message may
/// not have gone out has a name of its own, so that dashboards do not count it among the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendered<T> {
    /// The answer.
    pub(crate) message: T,
    /// The name.
    pub(crate) outcome: &'static str,
}

const SUCCESS: &str = "success";
/// The provider did not say whether it took the message.
const SUCCESS_UNCONFIRMED: &str = "success_unconfirmed";

/// What became of a `CreateChallenge`.
pub(crate) fn created(now: Timestamp, created: Created) -> Rendered<proto::CreateChallengeResponse> {
    let (result, outcome) = match created {
        Created::Success { options, expires_at, send } => {
            let outcome = send.as_ref().map_or(SUCCESS, creation_outcome);
            let success = proto::CreateChallengeSuccess {
                challenge_options: options.into_iter().map(option).collect(),
                expiration_timestamp: Some(timestamp(expires_at)),
                send_result: send.map(|send| send_result(send).0),
            };
            (CreateResult::Success(success), outcome)
        }
        Created::AccountLocked(locked) => (CreateResult::AccountLocked(account_locked(locked)), "account_locked"),
        Created::RiskDeclined => (CreateResult::RiskDeclined(proto::RiskDeclined {}), "risk_declined"),
    };
    let result = proto::CreateChallengeResult { result: Some(result) };
    let message = proto::CreateChallengeResponse { response_header: Some(header(now)), result: Some(result) };
    Rendered { message, outcome }
}

/// What became of a `SendOtp`.
pub(crate) fn sent(now: Timestamp, sent: Sent) -> Rendered<proto::SendOtpResponse> {
    let (result, outcome) = send_result(sent);
    let message = proto::SendOtpResponse { response_header: Some(header(now)), result: Some(result) };
    Rendered { message, outcome }
}

/// What became of a `VerifyOtp`. Only a success says what was proven.
pub(crate) fn verified(now: Timestamp, verified: Verified) -> Rendered<proto::VerifyOtpResponse> {
    let mut message = proto::VerifyOtpResponse { response_header: Some(header(now)), ..Default::default() };
    let (result, outcome) = match verified {
        Verified::Success(proof) => {
            let Proof { account, purpose, transaction, option, at, evidence } = *proof;
            message.payment_integrator_verify_otp_id = evidence.verification_id;
            message.eci = evidence.eci;
            message.provider_values = provider_values(evidence.values);
            let proto::ChallengeOption { challenge_option_id, channel, masked_destination } =
                option.map(self::option).unwrap_or_default();
            message.verified = Some(proto::Verified {
                account_id: account.as_str().to_owned(),
                purpose: self::purpose(purpose).into(),
                transaction: transaction.map(self::transaction),
                challenge_option_id,
                channel,
                masked_destination,
                verified_timestamp: Some(timestamp(at)),
            });
            (VerifyResult::Success(proto::VerifyOtpSuccess {}), SUCCESS)
        }
        Verified::NotMatched { remaining } => {
            let remaining_verification_attempts = Some(remaining.into());
            (VerifyResult::OtpNotMatched(proto::OtpNotMatched { remaining_verification_attempts }), "otp_not_matched")
        }
        Verified::AlreadyUsed => (VerifyResult::OtpAlreadyUsed(proto::OtpAlreadyUsed {}), "otp_already_used"),
        Verified::Expired => (VerifyResult::OtpExpired(proto::OtpExpired {}), "otp_expired"),
        Verified::AttemptsExceeded => (
            VerifyResult::VerificationAttemptsExceeded(proto::VerificationAttemptsExceeded {}),
            "verification_attempts_exceeded",
        ),
        Verified::AccountLocked(locked) => (VerifyResult::AccountLocked(account_locked(locked)), "account_locked"),
    };
    message.result = Some(proto::VerifyOtpResultCode { verify_otp_result_code: Some(result) });
    Rendered { message, outcome }
}

/// A cancel went through.
pub(crate) fn cancelled(now: Timestamp, (): ()) -> Rendered<proto::CancelChallengeResponse> {
    Rendered { message: proto::CancelChallengeResponse { response_header: Some(header(now)) }, outcome: "cancelled" }
}

/// A creation has its challenge whatever became of its send, which the name tells.
fn creation_outcome(sent: &Sent) -> &'static str {
    match sent {
        Sent::Success(dispatch) if dispatch.confirmed => SUCCESS,
        Sent::Success(_) => SUCCESS_UNCONFIRMED,
        Sent::ChallengeOptionExpired => "success_challenge_option_expired",
        Sent::SendLimitExceeded => "success_send_limit_exceeded",
        Sent::AccountLocked(_) => "success_account_locked",
        Sent::RiskDeclined => "success_risk_declined",
        Sent::ResendTooSoon { .. } => "success_resend_too_soon",
        Sent::DestinationRejected => "success_destination_rejected",
    }
}

fn send_result(sent: Sent) -> (proto::SendOtpResult, &'static str) {
    let (result, outcome) = match sent {
        Sent::Success(dispatch) => {
            let outcome = if dispatch.confirmed { SUCCESS } else { SUCCESS_UNCONFIRMED };
            (SendResult::Success(send_success(dispatch)), outcome)
        }
        Sent::ChallengeOptionExpired => {
            (SendResult::ChallengeOptionExpired(proto::ChallengeOptionExpired {}), "challenge_option_expired")
        }
        Sent::SendLimitExceeded => (SendResult::SendLimitExceeded(proto::SendLimitExceeded {}), "send_limit_exceeded"),
        Sent::AccountLocked(locked) => (SendResult::AccountLocked(account_locked(locked)), "account_locked"),
        Sent::RiskDeclined => (SendResult::RiskDeclined(proto::RiskDeclined {}), "risk_declined"),
        Sent::ResendTooSoon { next_send_at } => {
            let next_send_timestamp = Some(timestamp(next_send_at));
            (SendResult::ResendTooSoon(proto::ResendTooSoon { next_send_timestamp }), "resend_too_soon")
        }
        Sent::DestinationRejected => {
            (SendResult::DestinationRejected(proto::DestinationRejected {}), "destination_rejected")
        }
    };
    (proto::SendOtpResult { result: Some(result) }, outcome)
}

fn send_success(dispatch: Dispatch) -> proto::SendOtpSuccess {
    let state = if dispatch.confirmed { proto::DeliveryState::Accepted } else { proto::DeliveryState::Unconfirmed };
    proto::SendOtpSuccess {
        max_verification_attempts: dispatch.max_verification_attempts.into(),
        max_send_attempts: dispatch.max_send_attempts.into(),
        expiration_timestamp: Some(timestamp(dispatch.expires_at)),
        remaining_send_attempts: Some(dispatch.remaining_sends.into()),
        next_send_timestamp: Some(timestamp(dispatch.next_send_at)),
        delivery_state: state.into(),
        otp_length: dispatch.code_length.into(),
        provider_values: provider_values(dispatch.provider_values),
    }
}

fn provider_values(values: ProviderValues) -> BTreeMap<String, String> {
    values.into_iter().map(|(name, value)| (name, value.expose().clone())).collect()
}

fn header(now: Timestamp) -> proto::ResponseHeader {
    proto::ResponseHeader { response_timestamp: Some(timestamp(now)) }
}

fn timestamp(at: Timestamp) -> proto::EpochTimestamp {
    // The largest timestamp is far below the largest i64.
    proto::EpochTimestamp { epoch_millis: i64::try_from(at.as_millis()).unwrap_or(i64::MAX) }
}

fn account_locked(locked: Locked) -> proto::AccountLocked {
    proto::AccountLocked { unlock_timestamp: locked.until.map(timestamp) }
}

fn option(view: OptionView) -> proto::ChallengeOption {
    let channel = match view.channel {
        Channel::Sms => proto::Channel::Sms,
        Channel::Voice => proto::Channel::Voice,
        Channel::WhatsApp => proto::Channel::Whatsapp,
        Channel::Email => proto::Channel::Email,
    };
    proto::ChallengeOption {
        challenge_option_id: view.id.as_str().to_owned(),
        channel: channel.into(),
        masked_destination: view.masked,
    }
}

fn purpose(purpose: Purpose) -> proto::Purpose {
    match purpose {
        Purpose::Login => proto::Purpose::Login,
        Purpose::Registration => proto::Purpose::Registration,
        Purpose::Transaction => proto::Purpose::Transaction,
    }
}

fn transaction(transaction: Transaction) -> proto::Transaction {
    let amount = proto::Amount { amount_micros: transaction.amount.micros, currency_code: transaction.amount.currency };
    proto::Transaction { amount: Some(amount), payee: transaction.payee, reference: transaction.reference }
}

#[cfg(test)]
mod tests;
