//! Codes that a provider makes and checks: one question in flight per challenge, under a lease.

use super::{
    Command,
    recall::{Recall, recall},
    verify::{Asked, VerifyStep, fail, replay, succeed},
};
use crate::domain::{
    challenge::{Challenge, Ended, EventKind, LiveCode, PendingCheck, Phase, Reply},
    code::CodeOwner,
    ids::Request,
    outcome::{Proof, Verified},
    subject::Standing,
    time::Timestamp,
};

/// What a provider said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The code matched.
    Matched {
        /// Electronic Commerce Indicator, or empty.
        eci: String,
        /// The provider's id of the verification, or empty.
        verification_id: String,
    },
    /// It did not.
    NotMatched,
    /// It is past its time, or the provider knows of no open verification.
    Gone,
    /// The provider compares no more codes.
    AttemptsExceeded,
    /// The code was used before.
    AlreadyUsed,
    /// No answer.
    Unknown,
}

/// Settle an attempt that a provider was asked about.
#[derive(Clone, Debug)]
pub struct SettleCheck {
    /// Who asked.
    pub request: Request,
    /// The number of the attempt.
    pub attempt: u32,
    /// What the provider said.
    pub result: CheckResult,
    /// How the subject stood after the attempt was charged.
    pub standing: Standing,
}

/// What settling comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckStep {
    /// The final answer. A failure stays charged only where a code was truly compared.
    Answer {
        /// The answer.
        verdict: Verified,
        /// Whether the subject gets the failure back.
        give_back: bool,
    },
    /// The provider did not answer; the same request asks it again.
    Unanswered,
    /// Somebody else settled it, and this is what the record shows now.
    Superseded(VerifyStep),
}

/// Puts the question on record.
pub(super) fn ask(
    challenge: &mut Challenge,
    request: Request,
    code: &LiveCode,
    attempt: u32,
    repeated: bool,
    lease_until: Timestamp,
    now: Timestamp,
) -> VerifyStep {
    let CodeOwner::Provider { .. } = code.owner else { return VerifyStep::NothingSent };
    let Phase::Open(open) = &mut challenge.phase else { return VerifyStep::NothingSent };
    let send_number = code.send_number;
    open.pending_check = Some(PendingCheck { request, attempt, send_number, lease_until, repeated });
    challenge.log(now, EventKind::CheckAsked, Some(code.option), &code.provider);
    let (provider, reference) = (code.provider.clone(), code.reference.clone());
    VerifyStep::Ask(Asked { attempt, provider, reference, option: code.option, repeated })
}

impl Command for SettleCheck {
    type Outcome = CheckStep;

    fn settles_check(&self) -> bool {
        true
    }

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> CheckStep {
        match take_pending(challenge, |check| check.request == self.request && check.attempt == self.attempt) {
            Some((check, code)) => self.settle(challenge, &check, &code, now),
            None => superseded(challenge, &self.request),
        }
    }
}

impl SettleCheck {
    fn settle(&self, challenge: &mut Challenge, check: &PendingCheck, code: &LiveCode, now: Timestamp) -> CheckStep {
        // A provider that may not be asked twice says "gone" of a code that it accepted the first time: no success, and
        // nothing that could still become one.
        let repeatable = matches!(code.owner, CodeOwner::Provider { check_repeatable: true, .. });
        let doubtful = check.repeated && !repeatable;
        match &self.result {
            CheckResult::Matched { eci, verification_id } => {
                let (eci, verification_id) = (eci.clone(), verification_id.clone());
                let proof = Proof {
                    account: challenge.account.clone(),
                    purpose: challenge.purpose,
                    transaction: challenge.transaction.clone(),
                    eci,
                    verification_id,
                };
                let proof = succeed_check(challenge, check, code.option, self.standing.through, proof, now);
                CheckStep::Answer { verdict: Verified::Success(proof), give_back: false }
            }
            CheckResult::NotMatched => {
                let verdict = fail(challenge, check.request, code, self.standing.budget, now);
                CheckStep::Answer { verdict, give_back: false }
            }
            CheckResult::Gone => self.gone(challenge, code, doubtful, now),
            CheckResult::AlreadyUsed if doubtful => self.gone(challenge, code, true, now),
            CheckResult::AlreadyUsed => {
                challenge.answer(check.request, Reply::AlreadyUsed);
                expire_code(challenge, now);
                CheckStep::Answer { verdict: Verified::AlreadyUsed, give_back: true }
            }
            CheckResult::AttemptsExceeded => {
                challenge.answer(check.request, Reply::AttemptsExceeded);
                challenge.end(Ended::AttemptsExceeded { code_expires_at: code.expires_at });
                CheckStep::Answer { verdict: Verified::AttemptsExceeded, give_back: true }
            }
            CheckResult::Unknown => {
                leave_unanswered(challenge, check, now);
                CheckStep::Unanswered
            }
        }
    }

    fn gone(&self, challenge: &mut Challenge, code: &LiveCode, ends: bool, now: Timestamp) -> CheckStep {
        challenge.answer(self.request, Reply::CodeExpired);
        challenge.log(now, EventKind::CodeExpired, Some(code.option), &code.provider);
        if ends {
            challenge.end(Ended::Cancelled);
        } else {
            expire_code(challenge, now);
        }
        CheckStep::Answer { verdict: Verified::Expired, give_back: true }
    }
}

/// The attempt that matched may be an earlier one than the last.
fn succeed_check(
    challenge: &mut Challenge,
    check: &PendingCheck,
    option: u8,
    through: u64,
    proof: Proof,
    now: Timestamp,
) -> Proof {
    let proof = succeed(challenge, check.request, option, through, proof, now);
    challenge.phase = Phase::Ended(Ended::Verified { attempt: check.attempt });
    proof
}

/// Settles a question whose lease has run out. Says which attempt it was.
pub(super) fn settle_overdue(challenge: &mut Challenge, now: Timestamp) -> Option<u32> {
    let (check, _) = take_pending(challenge, |check| now >= check.lease_until)?;
    leave_unanswered(challenge, &check, now);
    Some(check.attempt)
}

fn take_pending(challenge: &mut Challenge, which: impl Fn(&PendingCheck) -> bool) -> Option<(PendingCheck, LiveCode)> {
    let Phase::Open(open) = &mut challenge.phase else { return None };
    let code = open.code.clone()?;
    let check = open.pending_check.take_if(|check| which(check))?;
    Some((check, code))
}

fn leave_unanswered(challenge: &mut Challenge, check: &PendingCheck, now: Timestamp) {
    let (attempt, send_number) = (check.attempt, check.send_number);
    challenge.answer(check.request, Reply::CheckUnanswered { attempt, send_number });
    challenge.log(now, EventKind::CheckUnconfirmed, None, "");
}

fn expire_code(challenge: &mut Challenge, now: Timestamp) {
    if let Phase::Open(open) = &mut challenge.phase
        && let Some(code) = &mut open.code
    {
        code.expires_at = code.expires_at.min(now);
    }
}

/// What the record shows of a question that is no longer pending.
fn superseded(challenge: &Challenge, request: &Request) -> CheckStep {
    CheckStep::Superseded(match recall(challenge, request) {
        Recall::Reply(Reply::CheckUnanswered { .. }) => return CheckStep::Unanswered,
        Recall::Reply(reply) => replay(challenge, &reply),
        _ => match challenge.phase {
            Phase::Ended(Ended::Verified { .. }) => VerifyStep::Refused(Verified::AlreadyUsed),
            _ => VerifyStep::Refused(Verified::Expired),
        },
    })
}
