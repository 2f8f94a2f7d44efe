//! VerifyOtp: load, compare, decide, commit, answer.

use super::{
    Otp,
    challenge_ref::ChallengeRef,
    decisions::verified_name,
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
        if let VerifyStep::Answer(verified) = &changed.outcome {
            self.decisions.tell_attempt(&target, &changed, verified_name(verified));
        }
        let Changed { partition, before, after, command, outcome } = changed;
        match outcome {
            VerifyStep::Answer(verified) => self.answer(&target, partition, &before.challenge, verified),
            VerifyStep::Recorded(verified) => Ok(verified),
            VerifyStep::Ask(asked) => {
                let asked = self.asks.ask(caller, &target, &after.challenge, &command, &asked, request);
                let (verified, before) = Box::pin(asked).await?;
                self.answer(&target, partition, &before, verified)
            }
            VerifyStep::Paused { until } => {
                Err(Error::ProviderUnavailable { retry_after: Some(after_pause(until.since(self.states.now()?))) })
            }
            VerifyStep::CannotJudge => Err(self.obstacle(&target, &after.challenge, &command, request)),
            VerifyStep::InProgress { until } => {
                Err(Error::RequestInProgress { retry_after: retry_after(until.since(self.states.now()?)) })
            }
            VerifyStep::Mismatch => Err(Error::InvalidIdentifier),
            VerifyStep::Conflict => Err(Error::IdempotencyViolation),
            VerifyStep::NothingSent => Err(Error::Precondition(Precondition::NothingSent)),
        }
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
