//! What callers and operators see of challenges and lockouts.

use super::{Rendered, header, option, purpose, timestamp};
use crate::{
    domain::{
        challenge::EventKind,
        outcome::{ChallengeState, ChallengeView, EventView, LockoutView, OptionView, QuotaUsage},
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

/// The lockout of an account or a contact. The three answers of the admin calls have the same fields.
macro_rules! lockout_answer {
    ($name:ident, $message:ident) => {
        pub(crate) fn $name(now: Timestamp, view: LockoutView) -> Rendered<proto::$message> {
            let LockoutView { failures, locked, locked_contacts, quotas } = view;
            let message = proto::$message {
                response_header: Some(header(now)),
                failures: Some(failures.into()),
                locked: Some(locked.is_some()),
                unlock_timestamp: locked.and_then(|locked| locked.until).map(timestamp),
                quotas: quotas.into_iter().map(quota_usage).collect(),
                locked_contacts: i64::try_from(locked_contacts).unwrap_or(i64::MAX),
            };
            Rendered { message, outcome: if locked.is_some() { "locked" } else { "not_locked" } }
        }
    };
}

lockout_answer!(account, GetAccountResponse);
lockout_answer!(locked_account, LockAccountResponse);
lockout_answer!(unlocked_account, UnlockAccountResponse);

fn quota_usage(usage: QuotaUsage) -> proto::QuotaUsage {
    let QuotaUsage { quota, uses, window } = usage;
    // A window is at most 31 days long.
    let span = prost_types::Duration::try_from(window.per).unwrap_or_default();
    proto::QuotaUsage { quota: quota.to_owned(), uses: Some(uses.into()), limit: window.max.into(), window: Some(span) }
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
