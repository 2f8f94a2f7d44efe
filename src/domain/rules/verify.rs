//! Verifying a code: at most so many codes are ever compared, and at most one ever succeeds.

use std::time::Duration;

use super::{
    Command, check,
    recall::{Recall, pending_check, recall},
};
use crate::domain::{
    challenge::{Challenge, Ended, EventKind, LiveCode, Phase, Reply},
    code::CodeOwner,
    ids::{AccountId, Request, Tag},
    outcome::{Proof, Verified},
    purpose::Purpose,
    subject::Standing,
    time::Timestamp,
    transaction::Transaction,
};

/// Verify a code.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Who asks.
    pub request: Request,
    /// What the caller believes the challenge to be.
    pub expectation: Expectation,
    /// How the code compares with the live one.
    pub comparison: Comparison,
    /// How the subject stands, for a charged attempt: after the charge.
    pub standing: Standing,
}

/// What a caller believes a challenge to be; what it does not say is not compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The account.
    pub account: Option<AccountId>,
    /// The purpose.
    pub purpose: Option<Purpose>,
    /// The transaction, as a whole.
    pub transaction: Option<Transaction>,
}

/// How the typed code compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// With a live code of ours.
    Ours {
        /// Whether it is the code.
        matches: bool,
    },
    /// The provider is to say.
    Managed {
        /// How long asking may take.
        lease: Duration,
    },
    /// There is no live code.
    Nothing,
}

/// What a verification comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyStep {
    /// The challenge is not what the caller believes.
    Mismatch,
    /// The request id was used for other content.
    Conflict,
    /// The recorded answer.
    Replay(Verified),
    /// The recorded success, with what it forgives.
    ReplaySuccess {
        /// The answer.
        proof: Proof,
        /// The number of the attempt.
        attempt: u32,
        /// The subject's failures that it saw.
        through: u64,
        /// Whose failures those are, for a registration.
        subject: Option<Tag>,
    },
    /// A refusal that changes nothing.
    Refused(Verified),
    /// No code has been sent.
    NothingSent,
    /// A provider is being asked, about this attempt or another, or is still making the code, until then at the latest.
    Busy {
        /// When the lease ends.
        until: Timestamp,
    },
    /// The attempt of that number has been used up: charge the subject, then store and tell.
    Attempt {
        /// From 1.
        number: u32,
        /// What it comes to.
        verdict: Verified,
    },
    /// The attempt has been used up: charge the subject, store, and ask the provider.
    Ask(Asked),
}

/// What a provider is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Who is asked.
    pub provider: String,
    /// What the provider answered when it sent the code.
    pub reference: String,
    /// The option that the code was sent to.
    pub option: u8,
    /// Whether it may have been asked about this attempt before.
    pub repeated: bool,
}

impl Command for Verify {
    type Outcome = VerifyStep;

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> VerifyStep {
        if !self.expectation.holds(challenge) {
            return VerifyStep::Mismatch;
        }
        let unanswered = match recall(challenge, &self.request) {
            Recall::New => None,
            Recall::Conflict | Recall::Creation | Recall::Sending(_) => return VerifyStep::Conflict,
            Recall::Checking(check) => return VerifyStep::Busy { until: check.lease_until },
            Recall::Reply(Reply::CheckUnanswered { attempt, send_number }) => Some((attempt, send_number)),
            Recall::Reply(reply) => return replay(challenge, &reply),
        };
        if let Some(locked) = self.standing.locked {
            return VerifyStep::Refused(Verified::AccountLocked(locked));
        }
        let code = match live_code(challenge, now) {
            Ok(code) => code.clone(),
            Err(barrier) => return barrier.into(),
        };
        if let Some(until) = busy(challenge, &code) {
            return VerifyStep::Busy { until };
        }
        if let Some((attempt, send_number)) = unanswered {
            return self.ask_again(challenge, &code, attempt, send_number, now);
        }
        if challenge.attempts_left() == 0 {
            return VerifyStep::Refused(Verified::AttemptsExceeded);
        }
        self.attempt(challenge, &code, now)
    }
}

/// Until when a provider cannot be asked: it is being asked already, or has not yet said by what reference it knows the
/// code. Without that it would answer "gone", and end what is about to begin.
fn busy(challenge: &Challenge, code: &LiveCode) -> Option<Timestamp> {
    let managed = matches!(code.owner, CodeOwner::Provider { .. });
    let unconfirmed = challenge.pending_send.as_ref().filter(|send| managed && send.number == code.send_number);
    let asked = pending_check(challenge).map(|check| check.lease_until);
    asked.or(unconfirmed.map(|send| send.lease_until))
}

/// The number of the attempt that a provider is being asked about.
pub(super) fn asked(challenge: &Challenge) -> Option<u32> {
    pending_check(challenge).map(|check| check.attempt)
}

/// Why there is no live code to compare with, in order of precedence.
enum Barrier {
    AlreadyUsed,
    Expired,
    NothingSent,
    AttemptsExceeded,
}

impl From<Barrier> for VerifyStep {
    fn from(barrier: Barrier) -> Self {
        match barrier {
            Barrier::AlreadyUsed => Self::Refused(Verified::AlreadyUsed),
            Barrier::Expired => Self::Refused(Verified::Expired),
            Barrier::NothingSent => Self::NothingSent,
            Barrier::AttemptsExceeded => Self::Refused(Verified::AttemptsExceeded),
        }
    }
}

fn live_code(challenge: &Challenge, now: Timestamp) -> Result<&LiveCode, Barrier> {
    match &challenge.phase {
        Phase::Ended(Ended::Verified { .. }) => Err(Barrier::AlreadyUsed),
        Phase::Ended(Ended::Cancelled | Ended::Expired) => Err(Barrier::Expired),
        _ if now >= challenge.expires_at() => Err(Barrier::Expired),
        Phase::Ended(Ended::AttemptsExceeded { code_expires_at }) if now >= *code_expires_at => Err(Barrier::Expired),
        Phase::Ended(Ended::AttemptsExceeded { .. }) => Err(Barrier::AttemptsExceeded),
        Phase::Open(open) => match &open.code {
            None => Err(Barrier::NothingSent),
            Some(code) if now >= code.expires_at => Err(Barrier::Expired),
            Some(code) => Ok(code),
        },
    }
}

impl Verify {
    /// Uses an attempt up.
    fn attempt(&self, challenge: &mut Challenge, code: &LiveCode, now: Timestamp) -> VerifyStep {
        let number = challenge.attempts + 1;
        match self.comparison {
            Comparison::Nothing => VerifyStep::NothingSent,
            Comparison::Managed { lease } => {
                challenge.attempts = number;
                check::ask(challenge, self.request, code, number, false, now.plus(lease), now)
            }
            Comparison::Ours { matches: true } => {
                challenge.attempts = number;
                let proof =
                    succeed(challenge, self.request, code.option, self.standing.through, Proof::of(challenge), now);
                VerifyStep::Attempt { number, verdict: Verified::Success(proof) }
            }
            Comparison::Ours { matches: false } => {
                challenge.attempts = number;
                let verdict = fail(challenge, self.request, code, self.standing.budget, now);
                VerifyStep::Attempt { number, verdict }
            }
        }
    }

    /// The same request asks a provider again that did not answer. The attempt is used up already.
    fn ask_again(
        &self,
        challenge: &mut Challenge,
        code: &LiveCode,
        attempt: u32,
        send_number: u32,
        now: Timestamp,
    ) -> VerifyStep {
        match self.comparison {
            // A code that has been replaced since is void.
            Comparison::Managed { lease } if code.send_number == send_number => {
                challenge.answers.retain(|answer| answer.request != self.request);
                check::ask(challenge, self.request, code, attempt, true, now.plus(lease), now)
            }
            _ => VerifyStep::Refused(Verified::Expired),
        }
    }
}

impl Expectation {
    fn holds(&self, challenge: &Challenge) -> bool {
        self.account.as_ref().is_none_or(|account| *account == challenge.account)
            && self.purpose.is_none_or(|purpose| purpose == challenge.purpose)
            && self.transaction.as_ref().is_none_or(|transaction| challenge.transaction.as_ref() == Some(transaction))
    }
}

impl Proof {
    fn of(challenge: &Challenge) -> Self {
        Self {
            account: challenge.account.clone(),
            purpose: challenge.purpose,
            transaction: challenge.transaction.clone(),
            eci: String::new(),
            verification_id: String::new(),
        }
    }
}

/// Records the one success of a challenge, and ends it.
pub(super) fn succeed(
    challenge: &mut Challenge,
    request: Request,
    option: u8,
    through: u64,
    proof: Proof,
    now: Timestamp,
) -> Proof {
    let subject = challenge.option_at(option).and_then(|option| option.subject);
    let (eci, verification_id) = (proof.eci.clone(), proof.verification_id.clone());
    challenge.answer(request, Reply::Matched { forgives_through: through, subject, eci, verification_id });
    challenge.log(now, EventKind::Verified, Some(option), "");
    challenge.end(Ended::Verified { attempt: challenge.attempts });
    proof
}

/// Records a code that did not match, and ends the challenge with its last attempt.
pub(super) fn fail(
    challenge: &mut Challenge,
    request: Request,
    code: &LiveCode,
    subject_budget: u32,
    now: Timestamp,
) -> Verified {
    let remaining = challenge.attempts_left().min(subject_budget);
    challenge.answer(request, Reply::NotMatched { remaining });
    challenge.log(now, EventKind::NotMatched, Some(code.option), "");
    if challenge.attempts_left() == 0 {
        challenge.end(Ended::AttemptsExceeded { code_expires_at: code.expires_at });
    }
    Verified::NotMatched { remaining }
}

/// A recorded answer of a verification, as it was given.
pub(super) fn replay(challenge: &Challenge, reply: &Reply) -> VerifyStep {
    match reply {
        Reply::Matched { forgives_through, subject, eci, verification_id } => {
            let attempt = match challenge.phase {
                Phase::Ended(Ended::Verified { attempt }) => attempt,
                Phase::Ended(_) | Phase::Open(_) => challenge.attempts,
            };
            let (eci, verification_id) = (eci.clone(), verification_id.clone());
            let proof = Proof { eci, verification_id, ..Proof::of(challenge) };
            VerifyStep::ReplaySuccess { proof, attempt, through: *forgives_through, subject: *subject }
        }
        Reply::NotMatched { remaining } => VerifyStep::Replay(Verified::NotMatched { remaining: *remaining }),
        Reply::CodeExpired | Reply::CheckUnanswered { .. } => VerifyStep::Replay(Verified::Expired),
        Reply::AttemptsExceeded => VerifyStep::Replay(Verified::AttemptsExceeded),
        Reply::AlreadyUsed => VerifyStep::Replay(Verified::AlreadyUsed),
        Reply::Sent { .. } | Reply::DestinationRejected | Reply::SendFailed { .. } | Reply::Declined(_) => {
            VerifyStep::Conflict
        }
    }
}
