//! VerifyOtp: load, compare, charge the subject, swap, and only then tell.

use super::{
    FINISH, MAX_RACES, Otp,
    challenges::ChallengeRef,
    check::{Ask, CheckAsk},
    deliver::provider_deadline,
    error::{Error, Precondition},
    records::Held,
    request::{Caller, VerifyOtp},
    route::check_lease,
    send::retry_after,
};
use crate::{
    domain::{
        challenge::Challenge,
        code,
        code::CodeOwner,
        ids::{Request, Tag},
        outcome::{Proof, Verified},
        rules::{self, Asked, Comparison, Decision, Expectation, Verify, VerifyStep},
        subject::{Attempt, Command, Standing},
    },
    ports::{clock::Deadline, store::Name},
};

/// Races for the subject that an attempt loses before it looks at its challenge again.
const CHARGE_RACES: usize = 3;

/// One VerifyOtp at work.
struct Work {
    caller: Caller,
    target: ChallengeRef,
    identity: Request,
    request: VerifyOtp,
    /// A failure that was charged although no failed attempt of that number is on record yet.
    charged: Option<(Name, u32)>,
}

/// What one round of the loop came to.
enum Round {
    /// Told, resting on what is stored.
    Answer(Verified),
    /// A provider must be asked; the question is on record.
    Ask(Box<Ask>),
    /// Somebody else was first.
    Again(Box<Held<Challenge>>),
}

impl Otp {
    /// Checks a code.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn verify_otp(&self, caller: Caller, request: VerifyOtp) -> Result<Verified, Error> {
        let target = self.challenge_ref(&caller, &request.challenge)?;
        let identity = self.request(&caller, &target, request.content());
        let mut held = self.hold(target.name, caller.deadline).await?;
        let mut work = Work { caller, target, identity, request, charged: None };
        for _ in 0..MAX_RACES {
            match self.verify_once(&mut work, &held).await? {
                Round::Answer(verified) => {
                    self.settle_charge(&work, &held.value).await?;
                    return Ok(verified);
                }
                Round::Ask(ask) => return self.ask(*ask).await,
                Round::Again(other) => held = *other,
            }
        }
        Err(Error::Contention)
    }

    async fn verify_once(&self, work: &mut Work, held: &Held<Challenge>) -> Result<Round, Error> {
        let comparison = self.compare(&held.value, &work.request)?;
        // First as if nothing stood in the way: only an answer that uses an attempt up charges the subject.
        let decision = self.judge(work, &held.value, comparison, Standing::CLEAN);
        match &decision.outcome {
            VerifyStep::Attempt { number, verdict } => {
                let number = *number;
                let matched = matches!(verdict, Verified::Success(_));
                self.attempt(work, held, comparison, number, matched).await
            }
            VerifyStep::Ask(asked) => {
                if let Err(error) = self.may_ask(&work.target, &decision.record, asked, &call(&work.request)) {
                    // That uses nothing up, so it rests on a fresh challenge too.
                    if held.fresh {
                        return Err(error);
                    }
                    return self.reload(work.target.name, work.caller.deadline).await.map(Round::again);
                }
                self.attempt(work, held, comparison, asked.attempt, false).await
            }
            _ if !held.fresh => self.reload(work.target.name, work.caller.deadline).await.map(Round::again),
            _ => self.refuse(work, held, comparison, decision).await,
        }
    }

    fn judge(
        &self,
        work: &Work,
        challenge: &Challenge,
        comparison: Comparison,
        standing: Standing,
    ) -> Decision<VerifyStep> {
        let expectation = Expectation {
            account: work.request.account.clone(),
            purpose: work.request.purpose,
            transaction: work.request.transaction.clone(),
        };
        let command = Verify { request: work.identity, expectation, comparison, standing };
        rules::decide(challenge, &command, self.now())
    }

    /// Compares in memory. Nothing of it is told before the swap.
    fn compare(&self, challenge: &Challenge, request: &VerifyOtp) -> Result<Comparison, Error> {
        let Some(live) = challenge.live_code() else { return Ok(Comparison::Nothing) };
        if let CodeOwner::Provider { .. } = live.owner {
            let provider = self.routes.named(&live.provider);
            let lease = provider.map_or(FINISH, |provider| check_lease(provider.as_ref()));
            return Ok(Comparison::Managed { lease });
        }
        let code = self.keys.code(challenge, live).map_err(|missing| Error::Internal(missing.to_string()))?;
        let matches = code.is_some_and(|code| code::matches(&code, &request.otp));
        Ok(Comparison::Ours { matches })
    }

    /// An attempt would be used up: charges the subject, then stores it.
    async fn attempt(
        &self,
        work: &mut Work,
        held: &Held<Challenge>,
        comparison: Comparison,
        number: u32,
        matched: bool,
    ) -> Result<Round, Error> {
        let Some(subject) = self.subject_of_attempt(&work.target, &held.value) else {
            return Err(Error::Internal("an attempt without a subject".to_owned()));
        };
        let attempt = self.attempt_of(&work.target, &held.value, number);
        // A resend has won the race, and the code that lives now belongs to another destination.
        if work.charged.is_some_and(|(charged, _)| charged != subject) {
            self.settle_charge(work, &held.value).await?;
            work.charged = None;
        }
        let command = if matched { Command::Pass(attempt) } else { Command::Fail(attempt) };
        let policy = self.lock_policy(&work.target)?;
        let finish = Deadline::after(FINISH);
        let (_, standing) = match self.change_subject_in(CHARGE_RACES, subject, &command, policy, finish).await {
            // Whoever was first there may have ended the challenge, and then there is nothing left to charge.
            Err(Error::Contention) => {
                return self.reload(work.target.name, work.caller.deadline).await.map(Round::again);
            }
            charged => charged?,
        };
        if let Some(locked) = standing.locked {
            // Not used up. What was judged from memory might be out of date, and then be answered otherwise.
            if !held.fresh {
                return self.reload(work.target.name, work.caller.deadline).await.map(Round::again);
            }
            return Ok(Round::Answer(Verified::AccountLocked(locked)));
        }
        if !matched {
            work.charged = Some((subject, number));
        }
        let decision = self.judge(work, &held.value, comparison, standing);
        // Time has passed since it was first judged: a code may have expired meanwhile, and nothing is used up.
        if !matches!(decision.outcome, VerifyStep::Attempt { .. } | VerifyStep::Ask(_)) {
            return self.reload(work.target.name, work.caller.deadline).await.map(Round::again);
        }
        // An attempt that was abandoned and is asked about again stays charged.
        let abandoned_attempt = decision.abandoned_attempt.filter(|abandoned| *abandoned != number);
        if let Some(other) = self.commit(&work.target, held, &decision.record, abandoned_attempt).await? {
            return Ok(Round::again(other));
        }
        work.charged = None;
        match decision.outcome {
            VerifyStep::Attempt { verdict: Verified::Success(proof), .. } => {
                self.forgive(&work.target, subject, attempt, standing.through).await?;
                Ok(Round::Answer(Verified::Success(proof)))
            }
            VerifyStep::Attempt { verdict, .. } => Ok(Round::Answer(verdict)),
            VerifyStep::Ask(asked) => {
                Ok(Round::Ask(Box::new(question(work, decision.record, asked, subject, standing))))
            }
            _ => Err(Error::Internal("an attempt that the rules take back".to_owned())),
        }
    }

    /// An answer that uses nothing up. It rests on a fresh challenge, and where a lock comes first, on a fresh subject.
    async fn refuse(
        &self,
        work: &Work,
        held: &Held<Challenge>,
        comparison: Comparison,
        decision: Decision<VerifyStep>,
    ) -> Result<Round, Error> {
        let precedes_lock = matches!(
            decision.outcome,
            VerifyStep::Mismatch | VerifyStep::Conflict | VerifyStep::Replay(_) | VerifyStep::ReplaySuccess { .. }
        );
        let decision = match self.subject_of_attempt(&work.target, &held.value) {
            Some(subject) if !precedes_lock => {
                let policy = self.lock_policy(&work.target)?;
                let standing = self.standing(subject, policy, work.caller.deadline).await?;
                self.judge(work, &held.value, comparison, standing)
            }
            _ => decision,
        };
        // Time has passed since it was first judged: what stood in the way may be gone, and then is no refusal any more.
        if matches!(decision.outcome, VerifyStep::Attempt { .. } | VerifyStep::Ask(_)) {
            return self.reload(work.target.name, work.caller.deadline).await.map(Round::again);
        }
        // Something overdue may have been settled on the way: that is stored before anything is told.
        if let Some(other) = self.commit(&work.target, held, &decision.record, decision.abandoned_attempt).await? {
            return Ok(Round::again(other));
        }
        let now = self.now();
        match decision.outcome {
            VerifyStep::Mismatch => Err(Error::InvalidIdentifier),
            VerifyStep::Conflict => Err(Error::IdempotencyViolation),
            VerifyStep::NothingSent => Err(Error::Precondition(Precondition::NothingSent)),
            VerifyStep::Busy { until } => Err(Error::RequestInProgress { retry_after: retry_after(until.since(now)) }),
            VerifyStep::Replay(verified) | VerifyStep::Refused(verified) => Ok(Round::Answer(verified)),
            VerifyStep::ReplaySuccess { proof, attempt, through, subject } => {
                let proof = self.success_again(&work.target, &held.value, proof, attempt, through, subject).await?;
                Ok(Round::Answer(Verified::Success(proof)))
            }
            VerifyStep::Attempt { .. } | VerifyStep::Ask(_) => {
                Err(Error::Internal("a refusal that the rules take back".to_owned()))
            }
        }
    }

    /// A success told again: its forgiveness may have been cut off the first time.
    pub(super) async fn success_again(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        proof: Proof,
        attempt: u32,
        through: u64,
        subject: Option<Tag>,
    ) -> Result<Proof, Error> {
        let account = || self.keys.account_name(&target.tenant, &challenge.account);
        let subject = subject.map_or_else(account, |destination| Name(destination.0));
        self.forgive(target, subject, self.attempt_of(target, challenge, attempt), through).await?;
        Ok(proof)
    }

    /// A success resets the subject's failures that it saw.
    pub(super) async fn forgive(
        &self,
        target: &ChallengeRef,
        subject: Name,
        attempt: Attempt,
        through: u64,
    ) -> Result<(), Error> {
        let command = Command::Succeed { attempt, through };
        let policy = self.lock_policy(target)?;
        self.change_subject(subject, &command, policy, Deadline::after(FINISH)).await?;
        Ok(())
    }

    /// Gives back a charge whose attempt another request's success, cancel or last attempt has overtaken.
    async fn settle_charge(&self, work: &Work, challenge: &Challenge) -> Result<(), Error> {
        let Some((subject, number)) = work.charged.filter(|(_, number)| !challenge.recorded_failure(*number)) else {
            return Ok(());
        };
        let command = Command::GiveBack(self.attempt_of(&work.target, challenge, number));
        let policy = self.lock_policy(&work.target)?;
        self.change_subject(subject, &command, policy, Deadline::after(FINISH)).await?;
        Ok(())
    }
}

impl Round {
    fn again(held: Held<Challenge>) -> Self {
        Self::Again(Box::new(held))
    }
}

fn question(work: &Work, challenge: Challenge, asked: Asked, subject: Name, standing: Standing) -> Ask {
    Ask {
        target: work.target.clone(),
        identity: work.identity,
        challenge,
        asked,
        subject,
        standing,
        call: call(&work.request),
        deadline: provider_deadline(&work.caller),
    }
}

fn call(request: &VerifyOtp) -> CheckAsk {
    CheckAsk { challenge: request.challenge.clone(), otp: request.otp.clone(), parameters: request.parameters.clone() }
}
