//! What callers and operators see of challenges and accounts.

use super::{Rendered, header, option, purpose, timestamp};
use crate::{
    domain::{
        challenge::EventKind,
        outcome::{ChallengeState, ChallengeView, EventView, LockoutView, OptionView},
        time::Timestamp,
    },
    grpc::proto,
};

/// A challenge.
pub(crate) fn challenge(now: Timestamp, view: ChallengeView) -> Rendered<proto::GetChallengeResponse> {
    let (state, outcome) = state(view.state);
    let message = proto::GetChallengeResponse {
        response_header: Some(header(now)),
        state: state.into(),
        account_id: view.account.as_str().to_owned(),
        purpose: purpose(view.purpose).into(),
        creation_timestamp: Some(timestamp(view.created_at)),
        expiration_timestamp: Some(timestamp(view.expires_at)),
        otp_expiration_timestamp: view.code_expires_at.map(timestamp),
        next_send_timestamp: view.next_send_at.map(timestamp),
        max_verification_attempts: view.max_verification_attempts.into(),
        verification_attempts: view.attempts.into(),
        max_send_attempts: view.max_send_attempts.into(),
        options: view.options.into_iter().map(option_status).collect(),
        timeline: view.timeline.into_iter().map(event).collect(),
    };
    Rendered { message, outcome }
}

/// An account.
pub(crate) fn account(now: Timestamp, view: LockoutView) -> Rendered<proto::GetAccountResponse> {
    let (failures, locked, unlock_timestamp) = account_parts(view);
    let message = proto::GetAccountResponse { response_header: Some(header(now)), failures, locked, unlock_timestamp };
    Rendered { message, outcome: account_outcome(locked) }
}

/// An account after `LockAccount`.
pub(crate) fn locked_account(now: Timestamp, view: LockoutView) -> Rendered<proto::LockAccountResponse> {
    let (failures, locked, unlock_timestamp) = account_parts(view);
    let message = proto::LockAccountResponse { response_header: Some(header(now)), failures, locked, unlock_timestamp };
    Rendered { message, outcome: account_outcome(locked) }
}

/// An account after `UnlockAccount`.
pub(crate) fn unlocked_account(now: Timestamp, view: LockoutView) -> Rendered<proto::UnlockAccountResponse> {
    let (failures, locked, unlock_timestamp) = account_parts(view);
    let message =
        proto::UnlockAccountResponse { response_header: Some(header(now)), failures, locked, unlock_timestamp };
    Rendered { message, outcome: account_outcome(locked) }
}

fn account_parts(view: LockoutView) -> (i64, bool, Option<proto::EpochTimestamp>) {
    let failures = i64::from(view.failures);
    let until = view.locked.and_then(|locked| locked.until);
    (failures, view.locked.is_some(), until.map(timestamp))
}

fn account_outcome(locked: bool) -> &'static str {
    if locked { "locked" } else { "not_locked" }
}

fn option_status((view, sends): (OptionView, u32)) -> proto::ChallengeOptionStatus {
    proto::ChallengeOptionStatus { option: Some(option(view)), sends: sends.into() }
}

fn event(view: EventView) -> proto::ChallengeEvent {
    proto::ChallengeEvent {
        timestamp: Some(timestamp(view.at)),
        kind: event_kind(view.kind).into(),
        challenge_option_id: view.option.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        provider: view.provider,
    }
}

fn state(state: ChallengeState) -> (proto::ChallengeState, &'static str) {
    match state {
        ChallengeState::Created => (proto::ChallengeState::Created, "created"),
        ChallengeState::Sent => (proto::ChallengeState::Sent, "sent"),
        ChallengeState::Verified => (proto::ChallengeState::Verified, "verified"),
        ChallengeState::Cancelled => (proto::ChallengeState::Cancelled, "cancelled"),
        ChallengeState::Expired => (proto::ChallengeState::Expired, "expired"),
        ChallengeState::AttemptsExceeded => (proto::ChallengeState::AttemptsExceeded, "attempts_exceeded"),
    }
}

fn event_kind(kind: EventKind) -> proto::EventKind {
    match kind {
        EventKind::Created => proto::EventKind::Created,
        EventKind::SendReserved => proto::EventKind::SendReserved,
        EventKind::SendAccepted => proto::EventKind::SendAccepted,
        EventKind::SendRejected => proto::EventKind::SendRejected,
        EventKind::SendFailed => proto::EventKind::SendFailed,
        EventKind::SendUnconfirmed => proto::EventKind::SendUnconfirmed,
        EventKind::SendDeclined => proto::EventKind::SendDeclined,
        EventKind::NotMatched => proto::EventKind::NotMatched,
        EventKind::Verified => proto::EventKind::Verified,
        EventKind::CheckAsked => proto::EventKind::CheckAsked,
        EventKind::CheckUnconfirmed => proto::EventKind::CheckUnconfirmed,
        EventKind::Cancelled => proto::EventKind::Cancelled,
        EventKind::CodeExpired => proto::EventKind::CodeExpired,
    }
}
