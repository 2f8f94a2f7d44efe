//! A clock that stands still until it is moved. Included with `#[path]` by the test binaries that need one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::{
    domain::time::{Timestamp, millis},
    ports::clock::Clock,
};

/// The time of day of a whole test, as one replica sees it.
#[derive(Clone)]
pub(crate) struct TestClock {
    millis: Arc<AtomicU64>,
    ahead_ms: u64,
    /// What was set by mistake, of which the time that passes knows nothing.
    leap_ms: Arc<AtomicU64>,
}

impl TestClock {
    /// 2030-01-01T00:00:00Z.
    const START: u64 = 1_893_456_000_000;

    /// A clock that nobody has moved yet.
    pub(crate) fn new() -> Self {
        Self { millis: Arc::new(AtomicU64::new(Self::START)), ahead_ms: 0, leap_ms: Arc::default() }
    }

    /// The same clock, running ahead: replicas keep time within a second.
    pub(crate) fn ahead(&self, span: Duration) -> Self {
        Self { millis: self.millis.clone(), ahead_ms: millis(span), leap_ms: Arc::default() }
    }

    /// Moves time forward, for all that share it.
    pub(crate) fn advance(&self, span: Duration) {
        self.millis.fetch_add(millis(span), Ordering::SeqCst);
    }

    /// Makes this clock tell a time that is so much later than it is.
    pub(crate) fn leap(&self, span: Duration) {
        self.leap_ms.store(millis(span), Ordering::SeqCst);
    }

    /// Moves time back, as a correction by NTP does that has been found to be right.
    pub(crate) fn step_back(&self, span: Duration) {
        self.millis.fetch_sub(millis(span), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis.load(Ordering::SeqCst) + self.ahead_ms + self.leap_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::SeqCst))
    }
}
