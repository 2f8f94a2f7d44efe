//! The writer thread: it alone changes the database.
//!
//! It gathers what is queued, works it out as one batch, commits the batch, and only then answers. While one batch is on its
//! way to the disk the next one gathers, so the cost of a sync is shared by all who wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{
    mpsc::{Receiver, error::TryRecvError},
    oneshot,
};

use super::{
    batch::{Batch, WriterState},
    time::StoreTime,
};
use crate::ports::{clock::Deadline, store::StoreError};

/// The most operations in one batch. Bounds its memory (64 KiB each) and the wait of its first operation.
const BATCH_MAX: usize = 256;
/// The most keys that the sweeper removes in one batch.
const SWEEP_MAX: usize = 256;

/// What the writer is asked to do, and the time by which it is of no use any more.
pub(super) struct Job {
    pub(super) deadline: Deadline,
    pub(super) kind: JobKind,
}

/// What a job is.
pub(super) enum JobKind {
    /// Works out an operation of the store.
    Operation(Box<dyn FnOnce(&mut Batch<'_>) -> Unsent + Send>),
    /// Removes what has expired.
    Sweep,
    /// Ends the writer.
    Close,
}

/// An answer that waits for the commit. It is called with the reason why the commit failed, if it did: then nothing that was
/// worked out may be told.
pub(super) type Unsent = Box<dyn FnOnce(Option<&'static str>) + Send>;

impl JobKind {
    /// An operation, whose answer goes to the receiver.
    pub(super) fn operation<T: Send + 'static>(
        name: &'static str,
        work_out: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (sender, receiver) = oneshot::channel();
        let operation = move |batch: &mut Batch<'_>| {
            let answer = work_out(batch);
            let send = move |failure: Option<&'static str>| {
                // The caller may have stopped waiting.
                drop(sender.send(failure.map_or(answer, |cause| Err(StoreError::new(name, cause)))));
            };
            Box::new(send) as Unsent
        };
        (Self::Operation(Box::new(operation)), receiver)
    }
}

/// Set for good once a commit failed: what is on the disk is not known any more, so nothing is served until a restart
/// reads it again.
#[derive(Clone, Default)]
pub(super) struct Failed(Arc<AtomicBool>);

impl Failed {
    const CAUSE: &'static str = "a write to disk has failed; restart to recover";

    pub(super) fn check(&self, operation: &'static str) -> Result<(), StoreError> {
        if self.0.load(Ordering::Acquire) { Err(StoreError::new(operation, Self::CAUSE)) } else { Ok(()) }
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Marks the store as failed if the writer panics.
struct FailedOnPanic(Failed);

impl Drop for FailedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set();
        }
    }
}

/// Does jobs until the store is closed or dropped.
pub(super) fn run(mut state: WriterState, time: &StoreTime, mut jobs: Receiver<Job>, failed: &Failed) {
    let _guard = FailedOnPanic(failed.clone());
    let mut gathered = Vec::with_capacity(BATCH_MAX);
    let mut sweeping = false;
    loop {
        // While there is something to sweep, no job is waited for.
        let first = if sweeping {
            match jobs.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match jobs.blocking_recv() {
                Some(job) => Some(job),
                None => return,
            }
        };
        gathered.extend(first);
        while gathered.len() < BATCH_MAX {
            let Ok(job) = jobs.try_recv() else { break };
            gathered.push(job);
        }
        let closing = gathered.iter().any(|job| matches!(job.kind, JobKind::Close));
        sweeping |= gathered.iter().any(|job| matches!(job.kind, JobKind::Sweep));
        sweeping = serve(&mut state, time, &mut gathered, sweeping, failed);
        if closing {
            // What was queued behind is told that the store is closed.
            return;
        }
    }
}

/// Works out, commits and answers one batch; whether there is more to sweep.
fn serve(state: &mut WriterState, time: &StoreTime, gathered: &mut Vec<Job>, sweep: bool, failed: &Failed) -> bool {
    let mut batch = Batch::new(state, time.now());
    let swept = if sweep { batch.sweep(SWEEP_MAX) } else { Ok(false) };
    let more = swept.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot remove expired records");
        false
    });
    let mut unsent = Vec::with_capacity(gathered.len());
    for job in gathered.drain(..) {
        // A caller whose deadline has passed waits no longer.
        if let JobKind::Operation(operation) = job.kind
            && !job.deadline.remaining().is_zero()
        {
            unsent.push(operation(&mut batch));
        }
    }
    let writes = batch.into_writes();

    let failure = match failed.check("commit") {
        Err(_) => Some(Failed::CAUSE),
        Ok(()) if writes.is_empty() => None,
        Ok(()) => state.disk.commit(writes).err().map(|error| {
            failed.set();
            tracing::error!(%error, "cannot write to the embedded store; it serves nothing until a restart");
            Failed::CAUSE
        }),
    };
    for answer in unsent {
        answer(failure);
    }
    more && failure.is_none()
}
