//! Asking again about a send that is unconfirmed, where its provider answers a repetition as the first request. A challenge
//! does so a bounded number of times; then, and during the pauses between, the recorded answer is given.

use std::time::Duration;

use super::{Judged, ReserveSend, Reserved, SendStep, State, Status};
use crate::domain::{
    challenge::{Challenge, EventKind, MAX_RESUMES, Phase, Sending},
    ids::IdempotencyKey,
    time::Timestamp,
};

/// Whether the last send is this request's, without an outcome, and its provider can tell what became of it.
pub(super) fn is_possible(state: &State, key: &IdempotencyKey, option: u8, at: &Judged<'_>) -> bool {
    let challenge = &state.challenge;
    let Some(open) = challenge.open() else { return false };
    let Some(sent) = open.unconfirmed.as_ref().filter(|sent| sent.key == *key) else { return false };
    let is_due = open.resumes < MAX_RESUMES && at.time >= open.resumes_from;
    let is_idle = challenge.sending.is_none() && open.asking.is_none();
    let is_live = open.code.as_ref().is_some_and(|code| code.send == sent.number);
    let is_open = Status::of(challenge, at.time) == Status::Live && state.locked(Some(option), at.now).is_none();
    is_due && is_idle && is_live && is_open
}

/// Reserves the repetition: the number, the code and the quotas stay those of the first request.
pub(super) fn resume(send: &ReserveSend, challenge: &mut Challenge, lease: Duration, time: Timestamp) -> SendStep {
    let provider = challenge.live_code().map(|code| code.provider.clone()).unwrap_or_default();
    let Phase::Open(open) = &mut challenge.phase else { return SendStep::Conflict };
    let Some(first) = open.unconfirmed.take() else { return SendStep::Conflict };
    open.resumes += 1;
    let sending = Sending { token: send.token, lease_until: time.plus(lease), resumed: true, ..*first };
    let (option, reserved) = (sending.option, Reserved::from(&sending));
    challenge.sending = Some(sending);
    challenge.log(time, EventKind::SendReserved, Some(option), &provider);
    SendStep::Resumed(reserved)
}
