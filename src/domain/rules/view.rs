//! Describing a challenge: what a caller may see of it.

use std::time::Duration;

use super::{Status, create::option_view};
use crate::domain::{
    challenge::Challenge,
    outcome::{ChallengeView, EventView},
    time::Timestamp,
};

/// Describes a challenge as of `now`.
pub fn view(challenge: &Challenge, now: Timestamp) -> ChallengeView {
    let now = now.max(challenge.latest_at);
    let status = Status::of(challenge, now);
    let accepts_sends = status.refuses_send().is_none() && challenge.attempts_left() > 0;
    ChallengeView {
        state: status.shown(),
        account: challenge.account.clone(),
        purpose: challenge.purpose,
        created_at: challenge.created_at,
        expires_at: challenge.expires_at(),
        code_expires_at: challenge.live_code().filter(|code| now < code.expires_at).map(|code| code.expires_at),
        next_send_at: accepts_sends.then(|| challenge.accepts_send_at()),
        max_verification_attempts: challenge.max_checks().max(challenge.attempts),
        attempts: challenge.attempts,
        max_send_attempts: challenge.max_sends(),
        options: challenge.options.iter().map(|option| (option_view(option), option.sends)).collect(),
        timeline: timeline(challenge),
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
