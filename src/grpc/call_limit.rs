//! How many calls may be at work: as many as the setting says, and fewer while this process has more to do than it can do in time.
//!
//! Where calls are shed for want of permits and whatever can run stands in line, more permits would only make the line longer:
//! everybody waits, and nobody is served more. So the limit falls until the line is short. Whoever is admitted is served in about
//! the usual time then, and whoever is not is told so at once. Callers who together never ask for all permits are never limited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};
use tokio_util::task::TaskTracker;

use crate::ports::clock::Stopwatch;

/// How long what can run may stand in line. A call stands there about ten times, at each step that it takes, and takes a few
/// milliseconds in all where nobody else does.
const TARGET: Duration = Duration::from_micros(250);
/// The limit changes once in so long, by the shortest of so many waits: a single long one is chance.
const SPAN: Duration = Duration::from_millis(40);
const SAMPLES: u32 = 4;
/// So many calls at work are always admitted: fewer would not keep the processors and the store busy.
const LEAST: usize = 64;
/// The limit falls to no less than one part in so many at a time, and rises by one part while calls are shed.
const FALL: u128 = 4;
const RISE: usize = 8;

/// How many calls may be at work now.
#[derive(Debug)]
pub(super) struct CallLimit {
    max: usize,
    limit: AtomicUsize,
    /// Calls shed in this span.
    shed: AtomicUsize,
    /// A task follows what becomes of the limit. None does while nothing is shed.
    is_followed: AtomicBool,
    /// Of that task and what it measures with. None is waited for: they change nothing but the limit.
    tasks: TaskTracker,
}

impl CallLimit {
    pub(super) fn new(max: usize) -> Self {
        let (limit, shed) = (AtomicUsize::new(max), AtomicUsize::new(0));
        Self { max, limit, shed, is_followed: AtomicBool::new(false), tasks: TaskTracker::new() }
    }

    /// At most so many calls.
    pub(super) fn get(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A call is shed for want of a permit.
    pub(super) fn note_shed(self: &Arc<Self>) {
        self.shed.fetch_add(1, Ordering::Relaxed);
        if !self.is_followed.load(Ordering::Relaxed)
            && Handle::try_current().is_ok()
            && !self.is_followed.swap(true, Ordering::Relaxed)
        {
            drop(self.tasks.spawn(Arc::clone(self).follow()));
        }
    }

    /// Until nothing is shed any longer.
    async fn follow(self: Arc<Self>) {
        loop {
            let mut shortest = Duration::MAX;
            for _ in 0..SAMPLES {
                sleep(SPAN / SAMPLES).await;
                shortest = shortest.min(line(&self.tasks).await);
            }
            let shed = self.shed.swap(0, Ordering::Relaxed);
            let limit = next(self.get(), self.max, shed, shortest);
            self.limit.store(limit, Ordering::Relaxed);
            if shed == 0 && limit == self.max {
                break;
            }
        }
        self.is_followed.store(false, Ordering::Relaxed);
    }
}

/// How long what can run stands in line now.
async fn line(tasks: &TaskTracker) -> Duration {
    let came = Stopwatch::start();
    let last = tasks.spawn(async move { came.elapsed() });
    // The task that is spawned last runs next, out of turn; the one before it goes to the end of the line.
    drop(tasks.spawn(async {}));
    last.await.unwrap_or(Duration::MAX)
}

/// The limit after a span in which so many calls were shed, and the shortest line was so long.
fn next(limit: usize, max: usize, shed: usize, shortest: Duration) -> usize {
    let least = LEAST.min(max);
    if shed == 0 {
        return limit.saturating_mul(2).min(max);
    }
    // As many tenths of the target as the line was long: it is as long as there are calls at work.
    let tenths = (shortest.as_micros() * 10 / TARGET.as_micros()).min(10 * FALL);
    match usize::try_from(tenths) {
        Ok(tenths @ 11..) => (limit.saturating_mul(10) / tenths).max(least),
        _ => (limit + limit / RISE + 1).min(max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_falls_with_the_length_of_the_line_and_rises_with_the_end_of_shedding() {
        for (limit, shed, shortest, expected) in [
            // Nothing is shed: whatever the line, callers are not too many.
            (512, 0, TARGET * 50, 512),
            (64, 0, TARGET * 50, 128),
            (300, 0, Duration::ZERO, 512),
            // A burst: calls are shed, and those at work end in time.
            (512, 900, TARGET / 2, 512),
            (100, 900, TARGET, 113),
            // A line: in proportion, and step by step.
            (512, 1, TARGET * 2, 256),
            (512, 1, TARGET * 3 / 2, 341),
            (512, 1, TARGET * 50, 128),
            (128, 1, TARGET * 50, LEAST),
            (LEAST, 1, TARGET * 50, LEAST),
        ] {
            assert_eq!(next(limit, 512, shed, shortest), expected, "{limit} {shed} {shortest:?}");
        }
        assert_eq!(next(8, 8, 9, TARGET * 9), 8, "a limit that is small already stays");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_followed_until_nothing_is_shed() {
        let limit = Arc::new(CallLimit::new(512));
        limit.limit.store(64, Ordering::Relaxed);
        limit.note_shed();
        limit.note_shed();
        assert!(limit.is_followed.load(Ordering::Relaxed));
        sleep(SPAN * 8).await;
        assert_eq!(limit.get(), 512);
        assert!(!limit.is_followed.load(Ordering::Relaxed));
        limit.note_shed();
        assert!(limit.is_followed.load(Ordering::Relaxed));
    }
}
