//! The lines since the last seal, and when the next one is due: after so many lines, or so much time, whichever is first.

use std::time::Duration;

use super::encode::time_of;
use crate::{domain::time::Timestamp, ports::clock::Stopwatch};

/// A seal follows after so many lines at most.
pub(super) const SEAL_EVERY: u64 = 1_000;
/// And after so much time.
pub(super) const SEAL_PAUSE: Duration = Duration::from_secs(60);

/// The lines since the last seal.
#[derive(Clone, Copy, Default)]
pub(super) struct UnsealedLines {
    pub(super) count: u64,
    /// What the first of them says when it was, and since when it waits.
    first: Option<(Timestamp, Stopwatch)>,
}

impl UnsealedLines {
    pub(super) fn add(&mut self, body: &[u8]) {
        self.count += 1;
        self.first = self.first.or_else(|| Some((time_of(body)?, Stopwatch::start())));
    }

    /// Whether the first of them is too old to have this one behind it without a seal between.
    pub(super) fn is_old_for(&self, body: &[u8]) -> bool {
        let Some((first, _)) = self.first else { return false };
        time_of(body).is_some_and(|time| time.since(first) > SEAL_PAUSE)
    }

    /// When a seal is due at the latest.
    pub(super) fn due_in(&self) -> Duration {
        self.first.map_or(SEAL_PAUSE, |(_, since)| SEAL_PAUSE.saturating_sub(since.elapsed()))
    }
}
