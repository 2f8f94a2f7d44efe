//! Decisions that wait for a sink, in memory and within bounds.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{domain::time::Timestamp, ports::clock::Stopwatch};

use super::encode::Encoder;

/// The most decisions that wait; more are dropped and counted, and a line says so where they are missing.
const MAX_COUNT: u64 = 32 * 1024;
/// The most bytes of them.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Where decisions must be kept, no new ones are made when so much waits. The rest is for calls that are at work.
const SOFT_COUNT: u64 = MAX_COUNT / 2;
const SOFT_BYTES: usize = MAX_BYTES / 2;

/// See the module.
pub(super) struct EventQueue {
    state: Mutex<WaitingEvents>,
    encoder: Encoder,
    /// Told to a thread.
    added: Condvar,
    /// Told to a task.
    noticed: Notify,
}

#[derive(Default)]
struct WaitingEvents {
    batch: EventBatch,
    /// How many were ever accepted, and lie before the end of the queue.
    accepted: u64,
    /// How many are missing since the last that was accepted.
    missing: u64,
    /// What was taken last is being written since then.
    writing: Option<(Stopwatch, u64)>,
    is_closed: bool,
}

/// Bodies, each with a line break.
#[derive(Default)]
pub(super) struct EventBatch {
    pub(super) bodies: Vec<u8>,
    pub(super) count: u64,
}

impl EventQueue {
    pub(super) fn new(encoder: Encoder) -> Self {
        Self { state: Mutex::default(), encoder, added: Condvar::new(), noticed: Notify::new() }
    }

    /// Adds one, unless the queue is full. Whether it was added.
    pub(super) fn push(&self, body: &[u8], at: Timestamp) -> bool {
        let mut state = self.state();
        let is_full = state.waiting() >= MAX_COUNT || state.batch.bodies.len() + body.len() > MAX_BYTES;
        if is_full || state.is_closed {
            state.missing += 1;
            return false;
        }
        let was_empty = state.batch.count == 0;
        if state.missing > 0 {
            let missing = mem::take(&mut state.missing);
            state.add(&self.encoder.gap(at, missing));
        }
        state.add(body);
        drop(state);
        if was_empty {
            self.wake();
        }
        true
    }

    /// Says what is missing, and lets the sink end once it has written what waits.
    pub(super) fn close(&self, at: Timestamp) {
        let mut state = self.state();
        if state.missing > 0 {
            let missing = mem::take(&mut state.missing);
            state.add(&self.encoder.gap(at, missing));
        }
        state.is_closed = true;
        drop(state);
        self.wake();
    }

    fn wake(&self) {
        self.added.notify_one();
        self.noticed.notify_one();
    }

    /// Waits for something to write, or the end, at most so long; and `gathers` more for a moment.
    pub(super) fn wait(&self, at_most: Duration, gathers: Duration) -> bool {
        let is_idle = |state: &mut WaitingEvents| state.batch.count == 0 && !state.is_closed;
        let waited = self.added.wait_timeout_while(self.state(), at_most, is_idle);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.batch.count > 0 && !gathers.is_zero() {
            let gathered = self.added.wait_timeout_while(state, gathers, |state| !state.is_closed);
            let (state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
            return state.is_over();
        }
        state.is_over()
    }

    /// The same for a task, without a limit.
    pub(super) async fn noticed(&self) -> bool {
        loop {
            let noticed = self.noticed.notified();
            {
                let state = self.state();
                if state.batch.count > 0 || state.is_closed {
                    return state.is_over();
                }
            }
            noticed.await;
        }
    }

    /// Takes what waits.
    pub(super) fn take(&self) -> EventBatch {
        let mut state = self.state();
        let batch = mem::take(&mut state.batch);
        state.writing = (batch.count > 0).then(|| (Stopwatch::start(), batch.count));
        batch
    }

    /// So many of what was taken are written.
    pub(super) fn written(&self, count: u64) {
        let mut state = self.state();
        let left = state.writing.map_or(0, |(_, left)| left.saturating_sub(count));
        state.writing = (left > 0).then(|| (Stopwatch::start(), left));
    }

    /// How many wait, or are being written.
    pub(super) fn waiting(&self) -> u64 {
        self.state().waiting()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// How many were ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.state().accepted
    }

    /// Whether there is room, and what is being written has been so for no longer than that.
    pub(super) fn accepts(&self, longest: Duration) -> bool {
        let state = self.state();
        let has_room = state.waiting() < SOFT_COUNT && state.batch.bodies.len() < SOFT_BYTES;
        has_room && state.writing.is_none_or(|(since, _)| since.elapsed() < longest)
    }

    fn state(&self) -> MutexGuard<'_, WaitingEvents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WaitingEvents {
    fn add(&mut self, body: &[u8]) {
        self.batch.bodies.extend_from_slice(body);
        self.batch.bodies.push(b'\n');
        self.batch.count += 1;
        self.accepted += 1;
    }

    fn waiting(&self) -> u64 {
        self.batch.count + self.writing.map_or(0, |(_, left)| left)
    }

    fn is_over(&self) -> bool {
        self.is_closed && self.batch.count == 0
    }
}
