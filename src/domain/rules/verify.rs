//! Verifying a code: at most so many codes are ever compared, and at most one ever succeeds.

use std::time::Duration;

use super::{
    Command, Judged, Seen, State, Status, VerifyRefusal,
    ask::{self, Asked},
    judgement::{fail, recorded, succeed},
    seen,
};
use crate::domain::{
    challenge::{Attempt, Challenge, LiveCode, Reply},
    code::CodeOwner,
    ids::{AccountId, IdempotencyKey, Token},
    outcome::{Evidence, Verified},
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// Verify a code.
#[derive(Clone, Debug)]
pub struct Verify {
    pub key: IdempotencyKey,
    /// Of the reservation, where a provider is to be asked.
    pub token: Token,
    /// What the caller believes the challenge to be.
    pub expectation: Expectation,
    /// How the typed code compares with the live one.
    pub comparison: Comparison,
}

/// What a caller believes a challenge to be; what it does not say is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    pub account: Option<AccountId>,
    pub purpose: Option<Purpose>,
    pub transaction: Option<Transaction>,
}

/// How the typed code compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Matches,
    Differs,
    /// The provider of the live code is to say, within this lease.
    Ask {
        lease: Duration,
    },
    /// The live code cannot be judged now: its key is missing, or its provider cannot be asked.
    CannotJudge,
    NoCode,
}

/// What a verification comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// The challenge is not what the caller believes.
    Mismatch,
    /// The request id was used for other content.
    Conflict,
    Recorded(Verified),
    /// The answer: a refusal that changes nothing, or an attempt that is used up.
    Answer(Verified),
    NothingSent,
    /// A provider is judging an attempt that must be settled first, until then at the latest.
    InProgress {
        until: Timestamp,
    },
    /// The live code cannot be judged; nothing was used up.
    CannotJudge,
    /// The provider has failed so often that it is left alone until then. Nothing was used up.
    Paused {
        until: Timestamp,
    },
    /// The attempt is reserved: ask the provider.
    Ask(Asked),
}

impl Command for Verify {
    type Outcome = VerifyStep;

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> VerifyStep {
        let challenge = &state.challenge;
        if !self.expectation.holds(challenge) {
            return VerifyStep::Mismatch;
        }
        let own = match seen(challenge, &self.key) {
            Seen::New => None,
            Seen::Answered(Reply::Unknown(attempt)) => Some(*attempt),
            Seen::Answered(reply) => {
                return recorded(challenge, reply).map_or(VerifyStep::Conflict, VerifyStep::Recorded);
            }
            Seen::Asking(asking) if asking.token == self.token => return asks(ask::reserved(challenge, asking)),
            Seen::Asking(asking) => return VerifyStep::InProgress { until: asking.lease_until },
            Seen::Conflict | Seen::Created | Seen::Sending(_) => return VerifyStep::Conflict,
        };
        let option = own.map(|attempt| attempt.option).or_else(|| challenge.option_of_attempt());
        if let Some(locked) = state.locked(option, at.now) {
            return VerifyStep::Answer(Verified::AccountLocked(locked));
        }
        match Status::of(challenge, at.time).refuses_verify() {
            Some(VerifyRefusal::Answer(verified)) => return VerifyStep::Answer(verified),
            Some(VerifyRefusal::NothingSent) => return VerifyStep::NothingSent,
            None => {}
        }
        let Some(code) = challenge.live_code().cloned() else { return VerifyStep::NothingSent };
        let contact = challenge.contact(option.unwrap_or(code.option));
        if let Some(until) = judging(challenge, &code).or_else(|| state.lockout.denied_by_pending(contact, at.policy)) {
            return VerifyStep::InProgress { until };
        }
        let pause = challenge.open().filter(|_| code.owner != CodeOwner::Otpd).map(|open| open.asks_from);
        match (own, pause.filter(|until| at.time < *until)) {
            (None, _) if challenge.attempts_left() == 0 => VerifyStep::Answer(Verified::AttemptsExceeded),
            (_, Some(until)) => VerifyStep::Paused { until },
            (Some(attempt), None) => self.again(state, attempt, &code, at),
            (None, None) => self.attempt(state, &code, at),
        }
    }

    fn may_rest_on_memory(outcome: &VerifyStep) -> bool {
        matches!(outcome, VerifyStep::Recorded(_))
    }
}

impl Verify {
    fn attempt(&self, state: &mut State, code: &LiveCode, at: &Judged<'_>) -> VerifyStep {
        let attempts = state.challenge.attempts + 1;
        match self.comparison {
            Comparison::NoCode => VerifyStep::NothingSent,
            Comparison::CannotJudge => VerifyStep::CannotJudge,
            Comparison::Matches => {
                state.challenge_mut().attempts = attempts;
                VerifyStep::Answer(succeed(state, self.key, code.option, code.sandbox, Evidence::default(), at))
            }
            Comparison::Differs => {
                state.challenge_mut().attempts = attempts;
                VerifyStep::Answer(fail(state, self.key, code.option, at))
            }
            Comparison::Ask { lease } => {
                state.challenge_mut().attempts = attempts;
                let repeatable = code.owner == CodeOwner::Provider { check_repeatable: true };
                let (key, generation, option, sandbox) = (self.key, code.generation, code.option, code.sandbox);
                let attempt = Attempt { key, generation, option, repeatable, judged: false, sandbox };
                asks(ask::reserve(state, attempt, self.token, false, lease, at))
            }
        }
    }

    /// The same request asks about an attempt that has no outcome, while its code is live. A code that was replaced is
    /// void: the attempt fails, so that one attempt never compares two codes.
    fn again(&self, state: &mut State, attempt: Attempt, code: &LiveCode, at: &Judged<'_>) -> VerifyStep {
        match self.comparison {
            Comparison::Ask { lease } if code.generation == attempt.generation => {
                asks(ask::reserve(state, attempt, self.token, true, lease, at))
            }
            Comparison::CannotJudge if code.generation == attempt.generation => VerifyStep::CannotJudge,
            _ => VerifyStep::Answer(fail(state, self.key, attempt.option, at)),
        }
    }
}

/// Until when a provider cannot be asked: it is being asked already, or has not yet said by what reference it knows the
/// code. Without that it would answer "gone", and end what is about to begin. While it is asked again about an unconfirmed
/// send it can be asked about the code as before: the first request may well have arrived.
fn judging(challenge: &Challenge, code: &LiveCode) -> Option<Timestamp> {
    let managed = code.owner != CodeOwner::Otpd;
    let unsettled =
        challenge.sending.as_ref().filter(|sending| managed && !sending.resumed && sending.number == code.send);
    challenge.asking().map(|asking| asking.lease_until).or(unsettled.map(|sending| sending.lease_until))
}

impl Expectation {
    fn holds(&self, challenge: &Challenge) -> bool {
        self.account.as_ref().is_none_or(|account| *account == challenge.account)
            && self.purpose.is_none_or(|purpose| purpose == challenge.purpose)
            && self.transaction.as_ref().is_none_or(|transaction| challenge.transaction.as_ref() == Some(transaction))
    }
}

fn asks(asked: Option<Asked>) -> VerifyStep {
    asked.map_or(VerifyStep::NothingSent, VerifyStep::Ask)
}
