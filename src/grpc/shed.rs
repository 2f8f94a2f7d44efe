//! Limits the calls in flight: a call is admitted or shed at once, before anything of it is decoded. Nothing queues.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::method::{Method, RpcTarget};
use crate::streams::turn::Busy;

/// One of the calls in flight. Held until the work has ended, even when the caller has long gone: otherwise callers that
/// hang up would leave work behind without bound.
pub(crate) type CallPermit = Arc<OwnedSemaphorePermit>;

/// The permits of the server.
#[derive(Clone, Debug)]
pub(crate) struct CallPermits {
    max: usize,
    common: Arc<Semaphore>,
    /// A cancel ends work and guesses, so a flood of other calls must not keep it out: cancels have as many permits of
    /// their own.
    cancel: Arc<Semaphore>,
}

/// What becomes of a call on arrival.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It may go on while it holds this.
    Admitted(CallPermit),
    /// It needs no permit: health, reflection, and methods that do not exist.
    Exempt,
    /// No permit is left.
    Shed,
}

impl CallPermits {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let max = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self { max, common: Arc::new(Semaphore::new(max)), cancel: Arc::new(Semaphore::new(max)) }
    }

    pub(crate) fn admit(&self, target: RpcTarget) -> Admission {
        let permits = match target {
            RpcTarget::Contract(Method::CancelChallenge) => &self.cancel,
            RpcTarget::Contract(_) => &self.common,
            RpcTarget::Framework | RpcTarget::Unknown => return Admission::Exempt,
        };
        match Arc::clone(permits).try_acquire_owned() {
            Ok(permit) => Admission::Admitted(Arc::new(permit)),
            Err(_) => Admission::Shed,
        }
    }
}

impl Busy for CallPermits {
    /// With two more calls in flight, more answers follow soon.
    fn is_busy(&self) -> bool {
        self.max.saturating_sub(self.common.available_permits()) >= 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFY: RpcTarget = RpcTarget::Contract(Method::VerifyOtp);

    #[test]
    fn without_a_permit_all_but_cancels_and_health_are_shed() {
        let permits = CallPermits::new(1);
        let Admission::Admitted(permit) = permits.admit(VERIFY) else { panic!("no permit on an idle server") };
        assert!(matches!(permits.admit(VERIFY), Admission::Shed));
        assert!(matches!(permits.admit(RpcTarget::Contract(Method::CancelChallenge)), Admission::Admitted(_)));
        assert!(matches!(permits.admit(RpcTarget::Framework), Admission::Exempt));
        let work_that_goes_on = Arc::clone(&permit);
        drop(permit);
        assert!(matches!(permits.admit(VERIFY), Admission::Shed));
        drop(work_that_goes_on);
        assert!(matches!(permits.admit(VERIFY), Admission::Admitted(_)));
    }

    #[test]
    fn two_calls_make_the_server_busy() {
        let permits = CallPermits::new(10);
        let first = permits.admit(VERIFY);
        assert!(!permits.is_busy());
        let second = permits.admit(VERIFY);
        assert!(permits.is_busy());
        drop((first, second));
        assert!(!permits.is_busy());
    }
}
