//! Points in time, as the rules see them: whole milliseconds, handed in from outside.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 9999-12-31T23:59:59.999Z, the last time that every JSON and protobuf library can print.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// A point in time, brought down to [`Timestamp::MAX`].
    pub const fn from_millis(millis: u64) -> Self {
        if millis > Self::MAX.0 { Self::MAX } else { Self(millis) }
    }

    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This time and a span later, at most [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(millis(span)))
    }

    /// The span from `earlier` to this time; zero where `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A span as a person is told it, in minutes: rounded down, so that no more is promised than there is, and at least 1.
pub fn whole_minutes(span: Duration) -> u64 {
    (span.as_secs() / 60).max(1)
}

/// A span in whole seconds, rounded up. The code of a send lives some milliseconds less when it is delivered than when it was
/// made, and those must not cost a minute of what the person is told.
pub fn to_whole_seconds(span: Duration) -> Duration {
    Duration::from_secs(span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0)))
}

/// A span in whole milliseconds, saturating.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
