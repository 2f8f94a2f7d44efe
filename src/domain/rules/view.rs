//! Describing a challenge: what a caller may see of it.

use super::create::option_view;
use crate::domain::{
    challenge::{Challenge, Ended, Phase},
    outcome::{ChallengeView, EventView, State},
    time::Timestamp,
};
use std::time::Duration;

/// Describes a challenge as of `now`.
pub fn view(challenge: &Challenge, now: Timestamp) -> ChallengeView {
    let now = now.max(challenge.latest_at);
    ChallengeView {
        state: state(challenge, now),
        account: challenge.account.clone(),
        purpose: challenge.purpose,
        created_at: challenge.created_at,
        expires_at: challenge.expires_at(),
        code_expires_at: challenge.live_code().filter(|code| now < code.expires_at).map(|code| code.expires_at),
        next_send_at: (!challenge.is_over(now)).then_some(challenge.next_send_at),
        max_verification_attempts: challenge.limits.max_verification_attempts,
        attempts: challenge.attempts,
        max_send_attempts: challenge.limits.max_send_attempts,
        options: challenge.options.iter().map(|option| (option_view(option), option.sends)).collect(),
        timeline: timeline(challenge),
    }
}

fn state(challenge: &Challenge, now: Timestamp) -> State {
    match challenge.phase {
        Phase::Ended(Ended::Verified { .. }) => State::Verified,
        Phase::Ended(Ended::Cancelled) => State::Cancelled,
        Phase::Ended(Ended::AttemptsExceeded { .. }) => State::AttemptsExceeded,
        Phase::Ended(Ended::Expired) => State::Expired,
        Phase::Open(_) if now >= challenge.expires_at() => State::Expired,
        Phase::Open(_) if challenge.is_over(now) => State::AttemptsExceeded,
        Phase::Open(_) if challenge.live_code().is_some() => State::Sent,
        Phase::Open(_) => State::Created,
    }
}

fn timeline(challenge: &Challenge) -> Vec<EventView> {
    let events = challenge.timeline.iter().map(|event| EventView {
        at: challenge.created_at.plus(Duration::from_millis(event.after_ms)),
        kind: event.kind,
        option: event.option.and_then(|index| challenge.option_at(index)).map(|option| option.id.clone()),
        provider: event.provider.clone(),
    });
    events.collect()
}
