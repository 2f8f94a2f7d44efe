//! How the process ends: signals, and the order in which things stop.
//!
//! 1. Health turns to `NOT_SERVING` while calls are still served, for `drain_delay`: callers' load balancers notice.
//! 2. No new connections, GOAWAY on the open ones; calls, and the work they left behind, have `drain_timeout` to end.
//! 3. The store writes what is queued, and closes.
//!
//! The operations server answers until the end. Calls that are cut off have recorded what they did: their repetition, or
//! whoever loads their challenge after the lease, settles them.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    domain::time::millis,
    ports::{clock::Deadline, store::Store},
    readiness::Readiness,
};

/// How long the store has to write what is queued.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The signals that end the process.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal and gives its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// How long each step may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Serving on after health has turned.
    pub delay: Duration,
    /// Ending calls and their work.
    pub timeout: Duration,
}

/// What has to be stopped.
pub struct Draining<'a> {
    /// Tells that no new calls are wanted.
    pub readiness: &'a Readiness,
    /// Stops the gRPC server.
    pub stop_grpc: &'a CancellationToken,
    /// The gRPC server, where it still runs.
    pub grpc: Option<JoinHandle<()>>,
    /// The work that calls leave behind.
    pub work: &'a TaskTracker,
    /// The store.
    pub store: &'a dyn Store,
}

impl Draining<'_> {
    /// Stops everything in order. Takes no longer than its patience and the closing of the store.
    pub async fn run(mut self, patience: Patience) {
        self.readiness.drain().await;
        // A server that ended by itself has nobody left to wait for.
        if self.grpc.is_some() {
            tracing::info!(delay_ms = millis(patience.delay), "draining: still serving");
            sleep(patience.delay).await;
        }
        tracing::info!(timeout_ms = millis(patience.timeout), "draining: calls may end");
        let deadline = Deadline::after(patience.timeout);
        self.stop_grpc.cancel();
        self.readiness.end_watches().await;
        if let Some(mut grpc) = self.grpc.take()
            && timeout(deadline.remaining(), &mut grpc).await.is_err()
        {
            // tonic waits for its connections without a bound, and hyper has been seen to keep one forever.
            tracing::warn!("calls are cut off: server.drain_timeout has passed");
            grpc.abort();
        }
        self.work.close();
        if timeout(deadline.remaining(), self.work.wait()).await.is_err() {
            tracing::warn!(tasks = self.work.len(), "work is cut off: server.drain_timeout has passed");
        }
        let deadline = Deadline::after(CLOSE_TIMEOUT);
        if timeout(deadline.remaining(), self.store.close(deadline)).await.is_err() {
            tracing::warn!("the store did not close in time");
        }
    }
}

#[cfg(test)]
mod tests;
