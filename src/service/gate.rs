//! The gate in front of everything that is served or dated: open while the clock of this machine is known to be right, and the
//! store to be the one that the keys belong to.
//!
//! [`Witness`](super::witness::Witness) examines both once a second, and opens or closes the gate. In between, the gate itself
//! notices a clock that is set: the time of day must go on as the monotonic clock does.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use crate::{
    domain::time::{Timestamp, millis},
    ports::clock::Clock,
};

/// How far the clock may be from the store's, and from where it was a second ago. Leases and quotas allow for as much.
pub(super) const MAX_SKEW_MS: i64 = 1_000;

/// Why calls are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateClosed {
    /// The store has not been examined yet.
    #[error("the store has not been examined yet")]
    Unexamined,
    /// The clock of this machine is not the store's, or was set a moment ago.
    #[error("the clock of this machine is off")]
    Clock,
    /// The keys do not belong to the store.
    #[error("the store belongs to other master keys")]
    Keys,
}

/// See the module.
pub struct Gate {
    clock: Arc<dyn Clock>,
    state: RwLock<GateState>,
}

#[derive(Clone, Copy)]
enum GateState {
    Closed(GateClosed),
    /// The time of day is this much ahead of the monotonic clock, in milliseconds.
    Open(i64),
}

/// The time of day, read between two looks at the monotonic clock: a thread may be stopped between any two of them.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    pub(super) time: Timestamp,
    before: Duration,
    after: Duration,
}

impl Gate {
    /// A gate that is closed until the store has been examined.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: RwLock::new(GateState::Closed(GateClosed::Unexamined)) }
    }

    /// The time of day, by which anything may be dated.
    ///
    /// # Errors
    /// The gate is closed.
    pub fn now(&self) -> Result<Timestamp, GateClosed> {
        let state = *self.state.read().unwrap_or_else(PoisonError::into_inner);
        let ahead = match state {
            GateState::Open(ahead) => ahead,
            GateState::Closed(why) => return Err(why),
        };
        let reading = self.read();
        if reading.fits(ahead) { Ok(reading.time) } else { Err(GateClosed::Clock) }
    }

    /// Opens, and takes the clock to be right as it was read.
    pub fn open(&self, reading: ClockReading) {
        self.set(GateState::Open(reading.ahead_of(reading.before)));
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self, why: GateClosed) {
        self.set(GateState::Closed(why));
    }

    /// Reads the clock as it is, right or not.
    pub fn read(&self) -> ClockReading {
        let before = self.clock.monotonic();
        let time = self.clock.now();
        ClockReading { time, before, after: self.clock.monotonic() }
    }

    fn set(&self, state: GateState) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

impl ClockReading {
    /// The span since an earlier reading, on the monotonic clock, at least.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        self.after.saturating_sub(earlier.before)
    }

    fn ahead_of(&self, monotonic: Duration) -> i64 {
        signed(self.time.as_millis()).saturating_sub(signed(millis(monotonic)))
    }

    /// Whether the time of day is where it was, but for the time that has passed.
    fn fits(&self, ahead: i64) -> bool {
        self.ahead_of(self.before) >= ahead.saturating_sub(MAX_SKEW_MS)
            && self.ahead_of(self.after) <= ahead.saturating_add(MAX_SKEW_MS)
    }
}

/// Milliseconds, to be subtracted from each other.
pub(super) fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}
