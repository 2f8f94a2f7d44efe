//! Cancelling a challenge.

use super::{CancelRefusal, Command, Judged, Seen, State, Status, seen};
use crate::domain::{
    challenge::{Ended, EventKind},
    ids::IdempotencyKey,
};

/// Cancel a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Cancel {
    pub key: IdempotencyKey,
}

/// What a cancel comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelStep {
    /// The request id was used for other content.
    Conflict,
    Verified,
    /// It is over, now or already.
    Done,
}

impl Command for Cancel {
    type Outcome = CancelStep;

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> CancelStep {
        let challenge = &state.challenge;
        if seen(challenge, &self.key) != Seen::New {
            return CancelStep::Conflict;
        }
        match Status::of(challenge, at.time).refuses_cancel() {
            Some(CancelRefusal::Verified) => return CancelStep::Verified,
            Some(CancelRefusal::Done) => return CancelStep::Done,
            None => {}
        }
        let challenge = state.challenge_mut();
        challenge.log(at.time, EventKind::Cancelled, None, "");
        challenge.end(Ended::Cancelled);
        CancelStep::Done
    }
}
