//! The time by which the embedded store judges times to live.
//!
//! The clock of the machine is read once, when the store opens. From then on the time passes as it really passes: a clock
//! that leaps a day ahead and back makes nothing expire, and one that goes back keeps nothing for ever.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    domain::time::Timestamp,
    ports::clock::{Clock, Stopwatch},
};

/// The store's own time.
#[derive(Clone)]
pub struct StoreTime {
    opened_at: Timestamp,
    elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl StoreTime {
    /// Starts at the time of the clock.
    pub fn starting_at(clock: &dyn Clock) -> Self {
        let watch = Stopwatch::start();
        Self::with_elapsed(clock.now(), move || watch.elapsed())
    }

    /// Starts at a time, and is as much later as `elapsed` tells.
    pub fn with_elapsed(opened_at: Timestamp, elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { opened_at, elapsed: Arc::new(elapsed) }
    }

    /// The time now.
    pub(super) fn now(&self) -> Timestamp {
        self.opened_at.plus((self.elapsed)())
    }
}

impl fmt::Debug for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreTime").field(&self.now()).finish()
    }
}
