//! GetChallenge: describes a challenge, and changes nothing.

use super::{Otp, error::Error, request::Caller};
use crate::domain::{ids::RequestId, outcome::ChallengeView, rules};

impl Otp {
    /// Describes a challenge.
    pub async fn get_challenge(&self, caller: Caller, challenge: RequestId) -> Result<ChallengeView, Error> {
        let described = self.describe(&caller, &challenge).await;
        // It decides nothing, and tells of what others have decided.
        self.decisions.conclude(&caller, "get_challenge", described).await
    }

    async fn describe(&self, caller: &Caller, challenge: &RequestId) -> Result<ChallengeView, Error> {
        let target = self.states.challenge(caller, challenge)?;
        let state = self.states.read(&target, caller.deadline).await?;
        Ok(rules::view(&state.challenge, self.states.now()?))
    }
}
