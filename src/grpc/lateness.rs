//! Whether this process is late: told by how long calls wait for their first turn, which is microseconds on a healthy machine.
//!
//! Two things follow. While even the luckiest call of a span has waited, work stands in line for the processors, and calls at
//! work are limited to as many as keep the line short: whoever is admitted is served in about the usual time, and whoever is
//! not is told so at once. And where calls wait for a quarter of a second, those of callers with many are shed unseen.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::ports::clock::Stopwatch;

/// How long a call may wait for its first turn before those of callers with many are shed.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// How long waits must have been too long before calls are shed: a burst is no overload. Both as in CoDel (RFC 8289),
/// whose target is 5 % of its interval; here a call is worth more, and a turn shorter.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// How long the shortest wait of a span may be. It is about a sixth of the time of a call, which waits so at each step.
const TARGET: Duration = Duration::from_millis(2);
/// The span that the shortest wait is taken of. The first calls of a burst do not wait, so a burst alone limits nothing.
const SPAN: Duration = Duration::from_millis(50);
/// So many calls at work are always admitted: fewer would not keep the processors and the store busy.
const LEAST: usize = 64;
/// The limit falls to no less than one part in so many at a time, and rises by one part.
const FALL: usize = 4;
const RISE: usize = 8;

/// How late this process is, and how many calls it may work on.
#[derive(Debug)]
pub(super) struct Lateness {
    started: Stopwatch,
    /// Since when waits are too long, in milliseconds after the start; zero while they are not.
    since: AtomicU64,
    /// When the span ends, and the shortest wait in it, in microseconds.
    ends: AtomicU64,
    shortest: AtomicU64,
    max: usize,
    limit: AtomicUsize,
}

impl Lateness {
    /// With at most so many calls at work while nothing is late.
    pub(super) fn start(max: usize) -> Self {
        Self {
            started: Stopwatch::start(),
            since: AtomicU64::new(0),
            ends: AtomicU64::new(0),
            shortest: AtomicU64::new(u64::MAX),
            max,
            limit: AtomicUsize::new(max),
        }
    }

    /// How many calls may be at work now.
    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A call has waited so long for its first turn. Tells whether calls have done so for too long.
    pub(super) fn note(&self, waited: Duration) -> bool {
        let now = self.started.elapsed();
        self.note_shortest(micros(waited), micros(now));
        let since = self.since.load(Ordering::Relaxed);
        if waited < MAX_WAIT {
            // Nearly always: nothing is written.
            if since != 0 {
                self.since.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        if since == 0 {
            self.since.store(now, Ordering::Relaxed);
            return false;
        }
        u128::from(now.saturating_sub(since)) >= LATE_AFTER.as_millis()
    }

    fn note_shortest(&self, waited: u64, now: u64) {
        if waited < self.shortest.load(Ordering::Relaxed) {
            self.shortest.fetch_min(waited, Ordering::Relaxed);
        }
        let ends = self.ends.load(Ordering::Relaxed);
        let next = now.saturating_add(micros(SPAN));
        let is_over = now >= ends && self.ends.compare_exchange(ends, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_over {
            let shortest = self.shortest.swap(u64::MAX, Ordering::Relaxed);
            self.limit.store(self.next_limit(shortest), Ordering::Relaxed);
        }
    }

    /// Waits are as long as there are calls at work, so the limit falls in proportion. It rises slowly.
    fn next_limit(&self, shortest: u64) -> usize {
        let limit = self.limit();
        let target = micros(TARGET);
        if shortest <= target {
            return (limit + limit / RISE + 1).min(self.max);
        }
        let times = usize::try_from(shortest / target).unwrap_or(usize::MAX).clamp(1, FALL);
        let fallen = if times == 1 { limit - limit / RISE } else { limit / times };
        fallen.max(LEAST.min(self.max))
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MOMENT: Duration = Duration::from_micros(20);

    #[tokio::test(start_paused = true)]
    async fn calls_are_shed_once_all_have_waited_too_long_for_a_while() {
        let lateness = Lateness::start(1);
        advance(LATE_AFTER).await;
        assert!(!lateness.note(MAX_WAIT));
        advance(LATE_AFTER / 2).await;
        assert!(!lateness.note(MAX_WAIT));
        // One that did not wait long: it was a burst.
        assert!(!lateness.note(MAX_WAIT / 2));
        advance(LATE_AFTER / 2).await;
        assert!(!lateness.note(MAX_WAIT));
        advance(LATE_AFTER).await;
        assert!(lateness.note(MAX_WAIT));
        assert!(!lateness.note(MAX_WAIT / 2));
        assert!(!lateness.note(MAX_WAIT));
    }

    /// Spans with calls that have waited so long each; what the limit is after each of them.
    async fn limits(lateness: &Lateness, spans: &[&[Duration]]) -> Vec<usize> {
        let mut limits = Vec::new();
        for waits in spans {
            for waited in *waits {
                lateness.note(*waited);
            }
            advance(SPAN).await;
            limits.push(lateness.limit());
        }
        limits
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_falls_while_every_call_waits_and_rises_again() {
        let lateness = Lateness::start(512);
        lateness.note(MOMENT);
        advance(SPAN).await;
        let (late, very_late) = (TARGET * 3, TARGET * 30);
        // The call that ends a span is the last one of it.
        let seen = limits(&lateness, &[&[very_late, MOMENT], &[late], &[late], &[late], &[very_late], &[very_late]]).await;
        assert_eq!(seen, [512, 512, 170, 64, 64, 64]);
        for _ in 0..20 {
            limits(&lateness, &[&[late, MOMENT]]).await;
        }
        assert_eq!(lateness.limit(), 512);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_and_a_few_calls_limit_nothing() {
        let lateness = Lateness::start(512);
        let burst: Vec<_> = (0..1_000).map(|n| MOMENT * n).collect();
        assert_eq!(limits(&lateness, &[&burst, &[], &[], &[MOMENT]]).await, [512; 4]);
        let few = Lateness::start(8);
        assert_eq!(limits(&few, &[&[TARGET * 9], &[TARGET * 9], &[TARGET * 9]]).await, [8; 3]);
    }
}
