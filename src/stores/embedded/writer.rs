//! The writer thread: it alone changes the database.
//!
//! It takes what is queued, works it out as one batch, commits the batch, and only then answers. While one batch is on its
//! way to the disk the next one gathers, so the cost of a sync is shared by all who wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::{
    batch::{Batch, State},
    command::{Ask, Command, Pending},
};
use crate::ports::{clock::Clock, store::StoreError};

/// The most operations in one batch. Bounds its memory (64 KiB each) and the wait of its first operation.
const BATCH_MAX: usize = 256;
/// The most keys that the sweeper removes in one batch.
const SWEEP_MAX: usize = 256;

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

/// Serves commands until the store is closed or dropped.
pub(super) fn run(mut state: State, clock: &dyn Clock, mut commands: Receiver<Command>, failed: &Failed) {
    let _guard = FailedOnPanic(failed.clone());
    let mut gathered = Vec::with_capacity(BATCH_MAX);
    let mut sweeping = false;
    loop {
        // While there is something to sweep, nobody is waited for.
        let first = if sweeping {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match commands.blocking_recv() {
                Some(command) => Some(command),
                None => return,
            }
        };
        gathered.extend(first);
        while gathered.len() < BATCH_MAX {
            let Ok(command) = commands.try_recv() else { break };
            gathered.push(command);
        }
        let closing = gathered.iter().any(|command| matches!(command.ask, Ask::Close));
        sweeping |= gathered.iter().any(|command| matches!(command.ask, Ask::Sweep));
        sweeping = serve(&mut state, clock, &mut gathered, sweeping, failed);
        if closing {
            // What was queued behind is told that the store is closed.
            return;
        }
    }
}

/// Works out, commits and answers one batch; whether there is more to sweep.
fn serve(state: &mut State, clock: &dyn Clock, gathered: &mut Vec<Command>, sweep: bool, failed: &Failed) -> bool {
    let mut batch = Batch::new(state, clock.now());
    let swept = if sweep { batch.sweep(SWEEP_MAX) } else { Ok(false) };
    let more = swept.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot remove expired records");
        false
    });
    let pending: Vec<Pending> = gathered
        .drain(..)
        // Nobody waits for these any more.
        .filter(|command| !command.deadline.remaining().is_zero())
        .filter_map(|command| batch.apply(command.ask))
        .collect();
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
    for answer in pending {
        answer.send(failure);
    }
    more && failure.is_none()
}
