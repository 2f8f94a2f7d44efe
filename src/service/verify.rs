//! VerifyOtp: load, compare, decide, commit, answer.

use super::{
    Otp,
    challenge_ref::ChallengeRef,
    decisions::{error_name, verified_name},
    error::{Error, Precondition},
    request::{Caller, VerifyOtp},
    states::Changed,
    timing::{after_pause, retry_after},
};
use crate::{
    domain::{
        challenge::Challenge,
        code::{self, CodeOwner},
        ids::{IdempotencyKey, Token},
        outcome::Verified,
        rules::{Comparison, Expectation, State, Verify, VerifyStep},
    },
    ports::store::Partition,
};

impl Otp {
    /// Checks a code.
    pub async fn verify_otp(&self, caller: Caller, request: VerifyOtp) -> Result<Verified, Error> {
        let verified = self.verify(&caller, &request).await;
        self.decisions.conclude(&caller, "verify_otp", verified).await
    }

    async fn verify(&self, caller: &Caller, request: &VerifyOtp) -> Result<Verified, Error> {
        let target = self.states.challenge(caller, &request.challenge)?;
        let key = self.states.key(&target, caller, request.content());
        let token = Token(self.states.records.random()?);
        let compared = |state: &State| Ok(self.compare(&target, state, key, token, request));
        let changed = self.states.change(&target, caller.deadline, compared).await?;
        if let Some(refusal) = self.refusal(&target, &changed, request)? {
            self.decisions.tell_attempt(&target, &changed, error_name(&refusal));
            return Err(refusal);
        }
        let Changed { partition, ref before, ref after, ref command, ref outcome } = changed;
        match outcome {
            VerifyStep::Answer(verified) => {
                self.decisions.tell_attempt(&target, &changed, verified_name(verified));
                self.answer(&target, partition, &before.challenge, verified.clone())
            }
            VerifyStep::Recorded(verified) => Ok(verified.clone()),
            VerifyStep::Ask(asked) => {
                let asked = self.asks.ask(caller, &target, &after.challenge, command, asked, request);
                let (verified, before) = Box::pin(asked).await?;
                self.answer(&target, partition, &before, verified)
            }
            VerifyStep::InProgress { until } => {
                Err(Error::RequestInProgress { retry_after: retry_after(until.since(self.states.now()?)) })
            }
            VerifyStep::Conflict => Err(Error::IdempotencyViolation),
            // Refused above.
            VerifyStep::Paused { .. } | VerifyStep::CannotJudge | VerifyStep::Mismatch | VerifyStep::NothingSent => {
                Err(Error::Internal("an attempt that is refused".to_owned()))
            }
        }
    }

    /// Why the attempt is refused before anything judges it.
    fn refusal(
        &self,
        target: &ChallengeRef,
        changed: &Changed<Verify>,
        request: &VerifyOtp,
    ) -> Result<Option<Error>, Error> {
        Ok(Some(match changed.outcome {
            VerifyStep::Paused { until } => {
                Error::ProviderUnavailable { retry_after: Some(after_pause(until.since(self.states.now()?))) }
            }
            VerifyStep::CannotJudge => self.obstacle(target, &changed.after.challenge, &changed.command, request),
            VerifyStep::Mismatch => Error::InvalidIdentifier,
            VerifyStep::NothingSent => Error::Precondition(Precondition::NothingSent),
            VerifyStep::Answer(_)
            | VerifyStep::Recorded(_)
            | VerifyStep::Ask(_)
            | VerifyStep::InProgress { .. }
            | VerifyStep::Conflict => return Ok(None),
        }))
    }

    /// Answers what is committed. A success has the quotas of its challenge refunded afterwards.
    fn answer(
        &self,
        target: &ChallengeRef,
        partition: Partition,
        before: &Challenge,
        verified: Verified,
    ) -> Result<Verified, Error> {
        if let Verified::Success(_) = verified {
            let policy = &self.states.policy(&target.tenant)?.quotas;
            self.quotas.refund_verified(&target.tenant, policy, (target.name, partition), before);
        }
        Ok(verified)
    }

    /// Compares in memory. Nothing of it is told before the commit.
    fn compare(
        &self,
        target: &ChallengeRef,
        state: &State,
        key: IdempotencyKey,
        token: Token,
        request: &VerifyOtp,
    ) -> Verify {
        let expectation = Expectation {
            account: request.account.clone(),
            purpose: request.purpose,
            transaction: request.transaction.clone(),
        };
        let mut verify = Verify { key, token, expectation, comparison: Comparison::NoCode };
        let Some(live) = state.challenge.live_code() else { return verify };
        verify.comparison = if live.owner == CodeOwner::Otpd {
            match self.keys.code(&state.challenge, live) {
                Ok(Some(code)) if code::matches(&code, &request.otp) => Comparison::Matches,
                Ok(_) => Comparison::Differs,
                Err(_) => Comparison::CannotJudge,
            }
        } else if self.asks.obstacle(target, &state.challenge, live, &verify, request).is_some() {
            Comparison::CannotJudge
        } else {
            Comparison::Ask { lease: self.asks.lease(live) }
        };
        verify
    }

    /// Why the live code cannot be judged.
    fn obstacle(&self, target: &ChallengeRef, challenge: &Challenge, verify: &Verify, request: &VerifyOtp) -> Error {
        let Some(live) = challenge.live_code() else { return Error::VerificationOutcomeUnknown };
        if live.owner == CodeOwner::Otpd {
            return Error::Internal("the key of a live code is not in the ring".to_owned());
        }
        // What was in the way may be gone: the same request may ask now.
        let obstacle = self.asks.obstacle(target, challenge, live, verify, request);
        obstacle.unwrap_or(Error::VerificationOutcomeUnknown)
    }
}
