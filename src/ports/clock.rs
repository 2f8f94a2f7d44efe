//! The time of day, and deadlines.
//!
//! The rules compare times of day; waits are bounded by deadlines on the monotonic clock. Nothing else in the crate reads
//! a clock (clippy.toml).

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::domain::time::{Timestamp, millis};

/// Tells the time of day. Replicas keep it within a second of each other.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// The time since some moment of this process's past, on a clock that nobody sets: for spans within the process, which
    /// must not change when the time of day is corrected.
    fn monotonic(&self) -> Duration {
        START.elapsed()
    }
}

/// What [`Clock::monotonic`] counts from.
static START: LazyLock<Stopwatch> = LazyLock::new(Stopwatch::start);

/// The operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(millis(since_epoch))
    }
}

/// When an operation must have ended, whatever became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline from now on.
    #[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
    pub fn after(span: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(span).unwrap_or_else(|| now + Duration::from_secs(86_400)))
    }

    /// What is left; zero once it has passed.
    #[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// The earlier of this deadline and one `span` from now.
    #[must_use]
    pub fn at_most(self, span: Duration) -> Self {
        self.min(Self::after(span))
    }

    /// For tokio's timers.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// Measures how long something took.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[expect(clippy::disallowed_methods, reason = "this is the port that the ban points to")]
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self.0)
    }
}
