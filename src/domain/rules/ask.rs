//! Codes that a provider makes and checks: an attempt is reserved, its provider asked, the answer settled.
//!
//! One ask is in flight per challenge. The attempt is bound to the code that was live when it was made, and its failure is
//! pending in the lockout until the answer is settled.

use std::time::Duration;

use super::{
    Command, Judged, Seen, State, Status,
    judgement::{fail, recorded, succeed},
    pause_after, seen,
};
use crate::domain::{
    challenge::{Asking, Attempt, Challenge, Ended, EventKind, MAX_REFUNDS, Phase, Reply},
    ids::{IdempotencyKey, Token},
    outcome::{Evidence, Verified},
    time::Timestamp,
};

/// What a provider is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub provider: String,
    /// By what the provider knows the code.
    pub reference: String,
    /// The option that the code was sent to.
    pub option: u8,
    /// Whether it was asked about this attempt before.
    pub repeated: bool,
}

/// What a provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskResult {
    Matched(Evidence),
    NotMatched {
        /// How many more codes the provider compares, where it says so.
        left: Option<u32>,
    },
    /// It is past its time, or the provider knows of no open verification.
    Gone,
    /// The provider compares no more codes.
    AttemptsExceeded,
    AlreadyUsed,
    /// Certainly nothing was judged: the ask never left, or the provider's own error says so.
    NotJudged,
    Unknown,
}

/// Settle an ask.
#[derive(Clone, Debug)]
pub struct SettleAsk {
    /// The request that made the attempt.
    pub key: IdempotencyKey,
    pub token: Token,
    pub result: AskResult,
}

/// What settling comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskStep {
    Answer(Verified),
    /// The attempt has no outcome; the same request asks again.
    Unknown,
    /// The attempt is refunded, and its id free.
    Refunded,
}

/// Reserves an ask about an attempt.
pub(super) fn reserve(
    state: &mut State,
    attempt: Attempt,
    token: Token,
    repeated: bool,
    lease: Duration,
    at: &Judged<'_>,
) -> Option<Asked> {
    let contact = state.challenge.contact(attempt.option);
    state.lockout_mut().add_pending(token, contact, at.now.plus(lease));
    let challenge = state.challenge_mut();
    challenge.last_ask += 1;
    let asking = Asking { attempt, token, number: challenge.last_ask, lease_until: at.time.plus(lease), repeated };
    let provider = challenge.live_code().map(|code| code.provider.clone()).unwrap_or_default();
    challenge.log(at.time, EventKind::CheckAsked, Some(attempt.option), &provider);
    if let Phase::Open(open) = &mut challenge.phase {
        open.asking = Some(asking);
    }
    reserved(challenge, &asking)
}

/// What the provider is to be asked, by a reservation on record.
pub(super) fn reserved(challenge: &Challenge, asking: &Asking) -> Option<Asked> {
    let code = challenge.live_code()?;
    Some(Asked {
        provider: code.provider.clone(),
        reference: code.reference.clone(),
        option: asking.attempt.option,
        repeated: asking.repeated,
    })
}

/// Settles the ask in flight, whose lease has ended: the provider may have judged it.
pub(super) fn settle_as_unknown(challenge: &mut Challenge, time: Timestamp) {
    if let Phase::Open(open) = &mut challenge.phase
        && let Some(asking) = open.asking.take()
    {
        leave_unknown(challenge, &asking, true, time);
    }
}

fn leave_unknown(challenge: &mut Challenge, asking: &Asking, judged: bool, time: Timestamp) {
    let attempt = Attempt { judged: judged || asking.attempt.judged, ..asking.attempt };
    challenge.answer(attempt.key, Reply::Unknown(attempt));
    challenge.log(time, EventKind::CheckUnconfirmed, Some(attempt.option), "");
}

impl Command for SettleAsk {
    type Outcome = AskStep;

    fn settles(&self) -> Option<Token> {
        Some(self.token)
    }

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> AskStep {
        state.lockout_mut().remove_pending(self.token);
        match state.challenge.asking().filter(|asking| asking.token == self.token).copied() {
            Some(asking) => self.settle(state, &asking, at),
            None => self.settle_late(state, at),
        }
    }
}

impl SettleAsk {
    fn settle(&self, state: &mut State, asking: &Asking, at: &Judged<'_>) -> AskStep {
        let challenge = state.challenge_mut();
        if let Phase::Open(open) = &mut challenge.phase {
            open.asking = None;
        }
        match &self.result {
            AskResult::Matched(evidence) => self.matched(state, asking, evidence, at),
            AskResult::NotMatched { left } => {
                if let Some(left) = left {
                    limit_checks(challenge, *left);
                }
                AskStep::Answer(fail(state, self.key, asking.attempt.option, at))
            }
            // The provider may not have had the first request, and be about to send by its repetition.
            AskResult::Gone if challenge.sending.as_ref().is_some_and(|sending| sending.resumed) => {
                leave_unknown(challenge, asking, true, at.time);
                AskStep::Unknown
            }
            AskResult::Gone => AskStep::Answer(gone(challenge, asking, Reply::CodeExpired, at.time)),
            AskResult::AlreadyUsed => AskStep::Answer(gone(challenge, asking, Reply::AlreadyUsed, at.time)),
            AskResult::AttemptsExceeded => {
                challenge.answer(self.key, Reply::AttemptsExceeded);
                if challenge.unknown_attempts().next().is_none() {
                    let code_expires_at = challenge.live_code().map_or(at.time, |code| code.expires_at);
                    challenge.end(Ended::Exhausted { code_expires_at });
                }
                AskStep::Answer(Verified::AttemptsExceeded)
            }
            AskResult::NotJudged if !asking.attempt.judged && challenge.refunded_attempts < MAX_REFUNDS => {
                challenge.refunded_attempts += 1;
                challenge.attempts = challenge.attempts.saturating_sub(1);
                challenge.answers.retain(|answer| answer.key != self.key);
                challenge.log(at.time, EventKind::CheckUnconfirmed, Some(asking.attempt.option), "");
                Self::pause(challenge, at);
                AskStep::Refunded
            }
            AskResult::NotJudged => {
                leave_unknown(challenge, asking, false, at.time);
                Self::pause(challenge, at);
                AskStep::Unknown
            }
            AskResult::Unknown => {
                leave_unknown(challenge, asking, true, at.time);
                AskStep::Unknown
            }
        }
    }

    /// Leaves a provider alone that has failed repeatedly.
    fn pause(challenge: &mut Challenge, at: &Judged<'_>) {
        let pause = pause_after(challenge.refunded_attempts);
        if let Phase::Open(open) = &mut challenge.phase {
            open.asks_from = if pause.is_zero() { Timestamp::default() } else { at.time.plus(pause) };
        }
    }

    /// A match is judged by the lockout of this moment, without the attempt's own pending failure. Under a lock the attempt
    /// keeps its chance: after the lock its request may ask again.
    fn matched(&self, state: &mut State, asking: &Asking, evidence: &Evidence, at: &Judged<'_>) -> AskStep {
        let option = asking.attempt.option;
        if let Some(locked) = state.locked(Some(option), at.now) {
            leave_unknown(state.challenge_mut(), asking, true, at.time);
            return AskStep::Answer(Verified::AccountLocked(locked));
        }
        AskStep::Answer(succeed(state, self.key, option, asking.attempt.sandbox, evidence.clone(), at))
    }

    /// The ask is not in flight any more: its lease has ended, the challenge has, or this settle is repeated. Nothing that
    /// is recorded is taken back.
    fn settle_late(&self, state: &mut State, at: &Judged<'_>) -> AskStep {
        let challenge = &state.challenge;
        let attempt = match seen(challenge, &self.key) {
            Seen::Answered(Reply::Unknown(attempt)) => Some(*attempt),
            Seen::Asking(asking) => Some(asking.attempt),
            Seen::Answered(reply) => return recorded(challenge, reply).map_or(AskStep::Unknown, AskStep::Answer),
            _ => None,
        };
        let status = Status::of(challenge, at.time);
        let is_open = challenge.open().is_some() && status != Status::Expired;
        match (attempt, &self.result) {
            (Some(attempt), AskResult::Matched(evidence)) if is_open => {
                if let Some(locked) = state.locked(Some(attempt.option), at.now) {
                    return AskStep::Answer(Verified::AccountLocked(locked));
                }
                AskStep::Answer(succeed(state, self.key, attempt.option, attempt.sandbox, evidence.clone(), at))
            }
            // After the end as well: a code that was compared and differed is a failure.
            (Some(attempt), AskResult::NotMatched { .. }) if challenge.asking().is_none() => {
                AskStep::Answer(fail(state, self.key, attempt.option, at))
            }
            (None, AskResult::NotJudged) if is_open => AskStep::Refunded,
            _ if is_open => AskStep::Unknown,
            _ => AskStep::Answer(match status {
                Status::Verified => Verified::AlreadyUsed,
                Status::Exhausted => Verified::AttemptsExceeded,
                _ => Verified::Expired,
            }),
        }
    }
}

/// The provider compares only so many more codes.
fn limit_checks(challenge: &mut Challenge, left: u32) {
    let attempts = challenge.attempts;
    if let Phase::Open(open) = &mut challenge.phase
        && let Some(code) = &mut open.code
    {
        let most = attempts.saturating_sub(code.attempts_before).saturating_add(left);
        code.max_checks = Some(code.max_checks.map_or(most, |told| told.min(most)));
    }
}

/// The provider knows of no open verification, or says that the code was used.
///
/// Where its check may not be repeated, it may have accepted the code in answer to an ask before: never a success, and the
/// end of the challenge. While another attempt that may be repeated has no outcome, the challenge stays open, and the code
/// that it would be compared with stays live.
fn gone(challenge: &mut Challenge, asking: &Asking, reply: Reply, time: Timestamp) -> Verified {
    let attempt = asking.attempt;
    let doubtful = asking.repeated && !attempt.repeatable;
    let others = || challenge.unknown_attempts().filter(|other| other.key != attempt.key);
    let of_this_code = |other: &Attempt| other.generation == attempt.generation;
    let keeps_code = others().any(|other| other.repeatable && of_this_code(other));
    let ends = doubtful || (others().any(of_this_code) && !others().any(|other| other.repeatable));
    let reply = if doubtful { Reply::CodeExpired } else { reply };
    let verified = if reply == Reply::AlreadyUsed { Verified::AlreadyUsed } else { Verified::Expired };
    challenge.answer(attempt.key, reply);
    challenge.log(time, EventKind::CodeExpired, Some(attempt.option), "");
    if ends {
        challenge.end(Ended::Cancelled);
    } else if !keeps_code {
        if let Phase::Open(open) = &mut challenge.phase
            && let Some(code) = &mut open.code
        {
            code.expires_at = code.expires_at.min(time);
        }
        challenge.end_if_exhausted(time);
    }
    verified
}
