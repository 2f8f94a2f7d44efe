//! CancelChallenge: ends a challenge.

use super::{
    Otp,
    error::{Error, Precondition},
    fingerprint,
    request::Caller,
};
use crate::domain::{
    ids::RequestId,
    rules::{Cancel, CancelStep},
};

impl Otp {
    /// Ends a challenge.
    ///
    /// Ends a challenge. One that is verified cannot be cancelled.
    pub async fn cancel_challenge(&self, caller: Caller, challenge: RequestId) -> Result<(), Error> {
        let cancelled = self.cancel(&caller, &challenge).await;
        self.decisions.conclude(&caller, "cancel_challenge", cancelled).await
    }

    async fn cancel(&self, caller: &Caller, challenge: &RequestId) -> Result<(), Error> {
        let target = self.states.challenge(caller, challenge)?;
        let key = self.states.key(&target, caller, fingerprint::cancel(challenge));
        let changed = self.states.change(&target, caller.deadline, |_| Ok(Cancel { key })).await?;
        self.decisions.tell_cancelled(&target, &changed);
        match changed.outcome {
            CancelStep::Done => Ok(()),
            CancelStep::Conflict => Err(Error::IdempotencyViolation),
            CancelStep::Verified => Err(Error::Precondition(Precondition::Verified)),
        }
    }
}
