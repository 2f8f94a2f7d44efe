//! How the process ends: signals, and the order in which things stop.
//!
//! 1. Health turns to `NOT_SERVING` while calls are still served, for `drain_delay`: callers' load balancers notice.
//! 2. No new connections, GOAWAY on the open ones; calls, and the work they left behind, have `drain_timeout` to end.
//! 3. The store and the audit write what is queued, and close.
//!
//! With the default settings that is less than the 30 s that Kubernetes grants, whatever hangs.
//! The operations server answers until the end. Calls that are cut off have recorded what they did: the next load of their
//! challenge after the lease settles them.

pub(crate) mod supervisor;

use std::{io, pin::Pin, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    domain::time::millis,
    ports::{clock::Deadline, store::Store},
    readiness::Readiness,
};

/// How long the store and the audit have to write what is queued, both at once.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The signals that end the process, and SIGHUP, which does not: a terminal that closes must not end a server.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP.
    ///
    /// # Errors
    /// The operating system refuses.
    pub(crate) fn install() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hang_up: signal(SignalKind::hangup())? })
    }

    /// Waits for the next signal that ends the process. SIGHUP has `reload` notified.
    pub(crate) async fn next(&mut self, reload: &Notify) -> EndSignal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return EndSignal::Terminate,
                _ = self.interrupt.recv() => return EndSignal::Interrupt,
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: the files of server.tls are looked at; settings are read at the start only");
                    reload.notify_one();
                }
            }
        }
    }
}

/// A signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndSignal {
    /// Of whoever supervises the process.
    Terminate,
    /// Of a terminal.
    Interrupt,
}

impl EndSignal {
    /// As the log names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }
}

/// How long each step may take: the settings of these names in `[server]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainTimeouts {
    /// Serving on after health has turned.
    pub(crate) drain_delay: Duration,
    /// Ending calls and their work.
    pub(crate) drain_timeout: Duration,
}

/// What has to be stopped.
pub(crate) struct Draining<'a> {
    /// Tells that no new calls are wanted.
    pub(crate) readiness: &'a Readiness,
    /// Stops the gRPC server.
    pub(crate) stop_grpc: &'a CancellationToken,
    /// The gRPC server, unless it has ended by itself. It ends when its connections have, without a limit of its own.
    pub(crate) grpc: Option<JoinHandle<()>>,
    /// The work that calls leave behind.
    pub(crate) work: &'a TaskTracker,
    /// The store.
    pub(crate) store: &'a dyn Store,
    /// Has the audit write its last events, until the deadline.
    pub(crate) close_audit: Box<dyn FnOnce(Deadline) -> Closing<'a> + Send + 'a>,
}

/// The end of something.
pub(crate) type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Draining<'_> {
    /// Stops everything in order. Takes no longer than the two limits and the closing of store and audit.
    pub(crate) async fn run(mut self, DrainTimeouts { drain_delay, drain_timeout }: DrainTimeouts) {
        self.readiness.drain().await;
        // After a server that has ended by itself there is no caller to wait for.
        if self.grpc.is_some() {
            tracing::info!(delay_ms = millis(drain_delay), "draining: still serving");
            sleep(drain_delay).await;
        }
        tracing::info!(timeout_ms = millis(drain_timeout), "draining: calls may end");
        let deadline = Deadline::after(drain_timeout);
        self.stop_grpc.cancel();
        self.readiness.end_watches().await;
        if let Some(mut grpc) = self.grpc.take()
            && timeout(deadline.remaining(), &mut grpc).await.is_err()
        {
            // The server waits for its connections without a bound, and hyper has been seen to keep one forever.
            tracing::warn!("calls are cut off: server.drain_timeout has passed");
            grpc.abort();
        }
        self.work.close();
        if timeout(deadline.remaining(), self.work.wait()).await.is_err() {
            tracing::warn!(tasks = self.work.len(), "work is cut off: server.drain_timeout has passed");
        }
        // Nothing is decided from here on.
        let deadline = Deadline::after(CLOSE_TIMEOUT);
        let closing = timeout(deadline.remaining(), self.store.close(deadline));
        let (closed, ()) = tokio::join!(closing, (self.close_audit)(deadline));
        if closed.is_err() {
            tracing::warn!("the store did not close in time");
        }
    }
}

#[cfg(test)]
mod tests;
