//! The writer thread: it alone changes the database.
//!
//! It gathers what is queued, works it out as one batch, commits the batch, and only then answers. While one batch is on its
//! way to the disk the next one gathers, so the cost of a sync is shared by all who wait.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::{
        mpsc::{Receiver, WeakSender, error::TryRecvError},
        oneshot,
    },
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    batch::{Batch, WriterState},
    failure::{FailsOnPanic, StoreFailure, Underway},
    time::StoreTime,
};
use crate::ports::{clock::Deadline, store::StoreError};

/// The most operations in one batch. Bounds its memory (64 KiB each) and the wait of its first operation.
const BATCH_MAX: usize = 256;
/// The most keys that the sweeper removes in one batch.
const SWEEP_MAX: usize = 256;

/// How often the sweeper looks for expired records.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

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
pub(super) type Unsent = Box<dyn FnOnce(Option<&StoreError>) + Send>;

impl JobKind {
    /// An operation, whose answer goes to the receiver.
    pub(super) fn operation<T: Send + 'static>(
        name: &'static str,
        work_out: impl FnOnce(&mut Batch<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (sender, receiver) = oneshot::channel();
        let operation = move |batch: &mut Batch<'_>| {
            let answer = work_out(batch);
            let send = move |failure: Option<&StoreError>| {
                // The caller may have stopped waiting.
                drop(sender.send(failure.map_or(answer, |failure| Err(StoreError::lasting(name, &failure.cause)))));
            };
            Box::new(send) as Unsent
        };
        (Self::Operation(Box::new(operation)), receiver)
    }
}

/// What the writer tells others of itself.
#[derive(Clone, Default)]
pub(super) struct WriterSigns {
    pub(super) failure: StoreFailure,
    pub(super) underway: Underway,
}

/// The writer thread, and word of its end.
pub(super) struct Writer {
    pub(super) thread: JoinHandle<()>,
    pub(super) ended: oneshot::Receiver<()>,
}

impl Writer {
    pub(super) fn spawn(
        state: WriterState,
        time: StoreTime,
        queue: Receiver<Job>,
        signs: WriterSigns,
    ) -> Result<Self, StoreError> {
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("otpd-store".to_owned())
            .spawn(move || {
                run(state, &time, queue, &signs);
                drop(end);
            })
            .map_err(|cause| StoreError::new("open", cause))?;
        Ok(Self { thread, ended })
    }
}

/// Reminds the writer to sweep, until the store is closed or dropped.
pub(super) async fn sweep(jobs: WeakSender<Job>, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = sleep(SWEEP_EVERY) => {}
        }
        let Some(jobs) = jobs.upgrade() else { return };
        // A full queue means that the writer is busy; the next round will do.
        drop(jobs.try_send(Job { deadline: Deadline::after(SWEEP_EVERY), kind: JobKind::Sweep }));
    }
}

/// Does jobs until the store is closed or dropped.
pub(super) fn run(mut state: WriterState, time: &StoreTime, mut jobs: Receiver<Job>, signs: &WriterSigns) {
    let _guard = FailsOnPanic(signs.failure.clone());
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
        sweeping = match attend(&mut state, time, &mut gathered, sweeping, signs) {
            Ok(more) => more,
            Err(error) => {
                // Those who wait are told by the failure.
                signs.failure.set(&error.cause);
                return;
            }
        };
        if closing {
            if let Err(error) = state.disk.tick(time.both()) {
                tracing::error!(%error, "cannot sync the side record of the embedded store");
            }
            // What was queued behind is told that the store is closed.
            return;
        }
    }
}

/// Serves one batch, unless the store cannot go on; whether there is more to sweep.
fn attend(
    state: &mut WriterState,
    time: &StoreTime,
    gathered: &mut Vec<Job>,
    sweep: bool,
    signs: &WriterSigns,
) -> Result<bool, StoreError> {
    signs.failure.check("commit")?;
    signs.underway.begin();
    let ticks = gathered.iter().any(|job| matches!(job.kind, JobKind::Sweep));
    let more = serve(state, time, gathered, sweep)?;
    if ticks {
        state.disk.tick(time.both())?;
    }
    signs.underway.end();
    Ok(more)
}

/// Works out, commits and answers one batch; whether there is more to sweep.
fn serve(state: &mut WriterState, time: &StoreTime, gathered: &mut Vec<Job>, sweep: bool) -> Result<bool, StoreError> {
    let now = time.now();
    let mut batch = Batch::new(state, now);
    let more = if sweep { batch.sweep(SWEEP_MAX)? } else { false };
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
    let committed = if writes.is_empty() { Ok(()) } else { state.disk.commit(writes, time.both()) };
    for answer in unsent {
        answer(committed.as_ref().err());
    }
    committed.map(|()| more)
}
