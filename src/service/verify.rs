//! VerifyOtp: load, compare, decide, commit, answer.

use super::{
    Otp,
    error::{Error, Precondition},
    request::{Caller, VerifyOtp},
    states::{ChallengeRef, Changed},
    timing::retry_after,
};
use crate::domain::{
    challenge::Challenge,
    code::{self, CodeOwner},
    ids::{IdempotencyKey, Token},
    outcome::Verified,
    rules::{Comparison, Expectation, State, Verify, VerifyStep},
};

impl Otp {
    /// Checks a code.
    pub async fn verify_otp(&self, caller: Caller, request: VerifyOtp) -> Result<Verified, Error> {
        let target = self.states.challenge(&caller, &request.challenge)?;
        let key = self.states.key(&target, &caller, request.content());
        let token = self.states.records.token()?;
        let compared = |state: &State| self.compare(&target, state, key, token, &request);
        let Changed { partition, before, after, command, outcome } =
            self.states.change(&target, caller.deadline, compared).await?;
        match outcome {
            VerifyStep::Answer(verified) => {
                if let Verified::Success(_) = verified {
                    let policy = &self.states.policy(&target.tenant)?.quotas;
                    let record = (target.name, partition);
                    self.quotas.refund_verified(&target.tenant, policy, record, &before.challenge);
                }
                Ok(verified)
            }
            VerifyStep::Recorded(verified) => Ok(verified),
            VerifyStep::Ask(asked) => {
                Box::pin(self.asks.ask(&caller, &target, &after.challenge, &command, &asked, &request)).await
            }
            VerifyStep::CannotAsk => Err(self.obstacle(&target, &after.challenge, &command, &request)),
            VerifyStep::InProgress { until } => {
                Err(Error::RequestInProgress { retry_after: retry_after(until.since(self.states.now())) })
            }
            VerifyStep::Mismatch => Err(Error::InvalidIdentifier),
            VerifyStep::Conflict => Err(Error::IdempotencyViolation),
            VerifyStep::NothingSent => Err(Error::Precondition(Precondition::NothingSent)),
        }
    }

    /// Compares in memory. Nothing of it is told before the commit.
    fn compare(
        &self,
        target: &ChallengeRef,
        state: &State,
        key: IdempotencyKey,
        token: Token,
        request: &VerifyOtp,
    ) -> Result<Verify, Error> {
        let expectation = Expectation {
            account: request.account.clone(),
            purpose: request.purpose,
            transaction: request.transaction.clone(),
        };
        let mut verify = Verify { key, token, expectation, comparison: Comparison::NoCode };
        let Some(live) = state.challenge.live_code() else { return Ok(verify) };
        verify.comparison = if live.owner == CodeOwner::Otpd {
            let code = self.keys.code(&state.challenge, live);
            match code.map_err(|missing| Error::Internal(missing.to_string()))? {
                Some(code) if code::matches(&code, &request.otp) => Comparison::Matches,
                _ => Comparison::Differs,
            }
        } else if self.asks.obstacle(target, &state.challenge, live, &verify, request).is_some() {
            Comparison::CannotAsk
        } else {
            Comparison::Ask { lease: self.asks.lease(live) }
        };
        Ok(verify)
    }

    fn obstacle(&self, target: &ChallengeRef, challenge: &Challenge, verify: &Verify, request: &VerifyOtp) -> Error {
        let live = challenge.live_code();
        let obstacle = live.and_then(|live| self.asks.obstacle(target, challenge, live, verify, request));
        // What was in the way is gone: the same request may ask now.
        obstacle.unwrap_or(Error::VerificationOutcomeUnknown)
    }
}
