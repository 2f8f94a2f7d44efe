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
        let target = self.states.challenge(&caller, &challenge)?;
        let key = self.states.key(&target, &caller, fingerprint::cancel(&challenge));
        match self.states.change(&target, caller.deadline, |_| Ok(Cancel { key })).await?.outcome {
            CancelStep::Done => Ok(()),
            CancelStep::Conflict => Err(Error::IdempotencyViolation),
            CancelStep::Verified => Err(Error::Precondition(Precondition::Verified)),
        }
    }
}
