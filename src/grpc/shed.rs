//! Admits a call at once or sheds it at once, before anything of it is decoded. Nothing queues.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::method::{Method, Target};

/// A place among the calls in flight. Held until the work has ended, even when the caller has long gone: otherwise
/// callers that hang up would leave work behind without bound.
pub(crate) type Place = Arc<OwnedSemaphorePermit>;

/// The places there are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    common: Arc<Semaphore>,
    /// A cancel ends work and guesses, so a flood of other calls must not keep it out. It has as many places of its
    /// own.
    cancel: Arc<Semaphore>,
}

/// What becomes of a call at the door.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It has a place.
    Admitted(Place),
    /// It needs none: health, reflection, and what does not exist.
    Exempt,
    /// There is none.
    Shed,
}

impl Places {
    /// So many calls in flight.
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let places = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self { common: Arc::new(Semaphore::new(places)), cancel: Arc::new(Semaphore::new(places)) }
    }

    /// Admits or sheds.
    pub(crate) fn admit(&self, target: Target) -> Admission {
        let places = match target {
            Target::Contract(Method::CancelChallenge) => &self.cancel,
            Target::Contract(_) => &self.common,
            Target::Framework | Target::Unknown => return Admission::Exempt,
        };
        match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => Admission::Admitted(Arc::new(permit)),
            Err(_) => Admission::Shed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_house_sheds_all_but_cancels_and_health() {
        let places = Places::new(1);
        let verify = Target::Contract(Method::VerifyOtp);
        let Admission::Admitted(place) = places.admit(verify) else { panic!("the house is empty") };
        assert!(matches!(places.admit(verify), Admission::Shed));
        assert!(matches!(places.admit(Target::Contract(Method::CancelChallenge)), Admission::Admitted(_)));
        assert!(matches!(places.admit(Target::Framework), Admission::Exempt));
        let work_that_goes_on = Arc::clone(&place);
        drop(place);
        assert!(matches!(places.admit(verify), Admission::Shed));
        drop(work_that_goes_on);
        assert!(matches!(places.admit(verify), Admission::Admitted(_)));
    }
}
