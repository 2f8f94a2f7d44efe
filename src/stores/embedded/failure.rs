//! What the store does when it cannot go on: it says so once, for good, and everything that waits is told.
//!
//! Nothing is tried again: after a failed sync nobody knows what is on the disk, and only a new start reads it. The process
//! ends (`app.rs`), so that whoever supervises it starts it again.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::ports::{clock::Stopwatch, store::StoreError};

/// How long one batch may be under way. The engine's own waits, for tables to be merged and written, have no bound.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Since when a batch has been under way.
#[derive(Clone, Default)]
pub(super) struct Underway(Arc<Mutex<Option<Stopwatch>>>);

impl Underway {
    /// A batch begins.
    pub(super) fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopwatch::start());
    }

    /// It is done.
    pub(super) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn elapsed(&self) -> Duration {
        let began = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        began.map_or(Duration::ZERO, Stopwatch::elapsed)
    }
}

/// Fails the store when one batch takes too long, since the thread that is stuck in it cannot.
pub(super) async fn watch(underway: Underway, failure: StoreFailure, timeout: Duration, closed: CancellationToken) {
    let every = timeout / 10;
    let overdue = async {
        while underway.elapsed() < timeout {
            sleep(every).await;
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
