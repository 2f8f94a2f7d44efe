//! Cancelling a challenge.

use super::{
    Command,
    recall::{Recall, recall},
};
use crate::domain::{
    challenge::{Challenge, Ended, EventKind, Phase},
    ids::Request,
    time::Timestamp,
};

/// Cancel a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Cancel {
    /// Who asks.
    pub request: Request,
}

/// What a cancel comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelStep {
    /// The request id was used for other content.
    Conflict,
    /// The challenge has been verified.
    Verified,
    /// It is over, now or already.
    Done,
}

impl Command for Cancel {
    type Outcome = CancelStep;

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> CancelStep {
        if recall(challenge, &self.request) != Recall::New {
            return CancelStep::Conflict;
        }
        match challenge.phase {
            Phase::Ended(Ended::Verified { .. }) => CancelStep::Verified,
            Phase::Ended(_) => CancelStep::Done,
            Phase::Open(_) => {
                challenge.log(now, EventKind::Cancelled, None, "");
                challenge.end(Ended::Cancelled);
                CancelStep::Done
            }
        }
    }
}
