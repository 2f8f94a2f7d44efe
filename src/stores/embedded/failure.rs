//! What the store does when it cannot go on: it says so once, for good, and everything that waits is told.
//!
//! Nothing is tried again: after a failed sync nobody knows what is on the disk, and only a new start reads it. The process
//! ends (`app.rs`), so that whoever supervises it starts it again.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ports::store::StoreError;

/// How long one batch may be under way. The engine's own waits, for tables to be merged and written, have no bound.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a batch is looked at in that time.
const LOOKS: u32 = 10;

/// Why the store cannot go on, once it cannot.
#[derive(Clone, Default)]
pub(super) struct StoreFailure(Arc<FailureState>);

#[derive(Default)]
struct FailureState {
    cause: OnceLock<String>,
    told: CancellationToken,
}

impl StoreFailure {
    /// From now on the store does nothing any more. The first cause counts.
    pub(super) fn set(&self, cause: impl fmt::Display) {
        let cause = cause.to_string();
        if self.0.cause.set(cause.clone()).is_ok() {
            tracing::error!(cause, "the embedded store cannot go on; only a new start helps");
            self.0.told.cancel();
        }
    }

    /// An error where the store cannot go on.
    pub(super) fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        self.0.cause.get().map_or(Ok(()), |cause| Err(StoreError::lasting(operation, cause)))
    }

    /// Ends with the reason once the store cannot go on.
    pub(super) async fn wait(&self, operation: &'static str) -> StoreError {
        self.0.told.cancelled().await;
        StoreError::lasting(operation, self.0.cause.get().map_or("it has failed", String::as_str))
    }
}

/// Which batch is under way: counts up when one begins and when it ends, so that the count is odd in between.
#[derive(Clone, Default)]
pub(super) struct Underway(Arc<AtomicU64>);

impl Underway {
    /// A batch begins.
    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// It is done.
    pub(super) fn end(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the batch that is under way.
    fn batch(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|count| count % 2 == 1)
    }
}

/// Fails the store when one batch takes too long, since the thread that is stuck in it cannot.
///
/// It takes too long when it was seen again at each look of that time. The time alone does not tell: a process that was
/// stopped and goes on finds that much time has passed, in which the batch could not go on either.
pub(super) async fn watch(underway: Underway, failure: StoreFailure, timeout: Duration, closed: CancellationToken) {
    let overdue = async {
        let (mut seen, mut again) = (None, 0);
        while again < LOOKS {
            sleep(timeout / LOOKS).await;
            let batch = underway.batch();
            again = if batch.is_some() && batch == seen { again + 1 } else { 0 };
            seen = batch;
        }
    };
    tokio::select! {
        () = closed.cancelled() => {}
        _ = failure.wait("watch") => {}
        () = overdue => failure.set(format_args!("one write has lasted {} s", timeout.as_secs())),
    }
}

/// Fails the store if the thread that has it panics.
pub(super) struct FailsOnPanic(pub(super) StoreFailure);

impl Drop for FailsOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set("the writer ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        task::yield_now,
        time::{advance, timeout},
    };
    use tokio_util::task::TaskTracker;

    use super::*;

    const LOOK: Duration = Duration::from_secs(3);

    /// Lets the watcher look this often.
    async fn look(times: u32) {
        for _ in 0..times {
            advance(LOOK).await;
            yield_now().await;
        }
    }

    /// The process is stopped in the middle of a batch, for much longer than a batch may take, and again and again.
    #[tokio::test(start_paused = true)]
    async fn a_process_that_was_stopped_does_not_fail() {
        let (underway, failure) = (Underway::default(), StoreFailure::default());
        let watching = watch(underway.clone(), failure.clone(), LOOK * LOOKS, CancellationToken::new());
        let watching = TaskTracker::new().spawn(watching);
        yield_now().await;
        for _ in 0..3 * LOOKS {
            underway.begin();
            look(2).await;
            advance(LOOK * LOOKS * 20).await;
            yield_now().await;
            failure.check("go on").unwrap();
            underway.end();
        }
        // One batch after the other, each for as long as it may take.
        for _ in 0..5 {
            underway.begin();
            look(LOOKS).await;
            failure.check("go on").unwrap();
            underway.end();
        }
        underway.begin();
        look(LOOKS + 1).await;
        timeout(LOOK, watching).await.unwrap().unwrap();
        assert_eq!(failure.check("go on").unwrap_err().cause, "one write has lasted 30 s");
    }
}
