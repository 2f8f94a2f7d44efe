//! The composition root: a configuration becomes a running service. Only [`parts`] and [`backup`] name adapters.

mod audit;
pub mod backup;
mod descriptors;
mod health;
mod keys;
mod parts;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    audit::Audit,
    config::Config,
    grpc::server,
    lifecycle::{DrainTimeouts, Draining},
    operations,
    ports::{
        clock::Deadline,
        store::{Store, StoreError},
    },
    readiness::{Readiness, StoreRefused},
};
use health::Reported;
use parts::Inputs;

pub use crate::audit::verify::AuditReport;
pub use crate::service::key_usage::{KeyRow, KeyUsage};
pub use audit::TagOwner;

/// How long the operations server has to end its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// What the system keeps of what is written to a connection and not yet received.
const SEND_BUFFER: u32 = 256 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long the audit has to write its last events.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Any cause of an error.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// otpd could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error("{setting}: cannot listen on {address}: {cause}")]
    Listen {
        /// Which listener.
        setting: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// The master keys cannot be read, made or used.
    #[error("master keys: {0}")]
    Keys(Cause),
    /// The store cannot be opened.
    #[error("store.url: {0}")]
    Store(Cause),
    /// The audit cannot be kept, or read.
    #[error("audit: {0}")]
    Audit(io::Error),
    /// A provider cannot be set up.
    #[error("providers.{name}: {cause}")]
    Provider {
        /// Its name.
        name: String,
        /// Why not.
        cause: Cause,
    },
}

impl From<StoreRefused> for StartError {
    fn from(refused: StoreRefused) -> Self {
        match refused {
            StoreRefused::Store(error) => Self::Store(error.into()),
            StoreRefused::Keys(wrong) => Self::Keys(wrong.into()),
        }
    }
}

/// otpd has ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Nobody can call it any more.
    #[error("the gRPC server ended by itself")]
    ServerEnded,
    /// The store cannot go on within this process. Whoever supervises it should start it again.
    #[error("the {0}; start otpd again")]
    StoreFailed(StoreError),
    /// The store was away at the start, and what was found once it answered makes otpd of no use.
    #[error(transparent)]
    Refused(StartError),
}

/// Starts services.
pub struct App;

impl App {
    /// Starts everything, with the adapters that the configuration names.
    ///
    /// # Errors
    /// A listener, the keys, the store or a provider cannot be had. Nothing is left running.
    pub async fn start(config: &Config) -> Result<RunningApp, StartError> {
        descriptors::raise();
        // First of all, so that a second otpd by mistake ends here and does not touch what the first one keeps.
        let (grpc, grpc_address) = listen("server.listen", config.server.listen)?;
        let (http, operations_address) = listen("operations.listen", config.operations.listen)?;
        let health = HealthReporter::new();
        let readiness = Arc::new(Readiness::new(Reported(health.clone())).await);
        let (work, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (stop_grpc, stop_operations) = (CancellationToken::new(), CancellationToken::new());

        let parts = parts::assemble(Inputs { config, health, work: work.clone() }).await?;

        // Keys that are not the store's end the start before anything is served. A store that is away does not.
        readiness.begin(&parts.examined).await?;
        let (follows, witness) = (Arc::clone(&readiness), parts.examined);
        let following = tasks.spawn(async move { follows.follow(&witness).await });
        let router = operations::router(readiness.subscribe(), parts.metrics);
        let operations = tasks.spawn(operations::serve(http, router, stop_operations.clone()));
        let stopped = stop_grpc.clone().cancelled_owned();
        let serving = server::serve(parts.grpc, parts.backend, parts.health, grpc, stopped);
        let grpc = tasks.spawn(async move {
            if let Err(cause) = serving.await {
                tracing::error!(%cause, "the gRPC server failed");
            }
        });
        let (drain_delay, drain_timeout) = (config.server.drain_delay, config.server.drain_timeout);
        Ok(RunningApp {
            grpc_address,
            operations_address,
            readiness,
            work,
            store: parts.store,
            audit: parts.audit,
            following,
            grpc,
            operations,
            cancellations: Cancellations { grpc: stop_grpc, operations: stop_operations },
            timeouts: DrainTimeouts { drain_delay, drain_timeout },
        })
    }
}

fn listen(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Its connections have the same. The system would let them grow to megabytes, of answers that nobody reads.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|cause| StartError::Listen { setting, address, cause })
}

/// What ends the servers.
struct Cancellations {
    grpc: CancellationToken,
    operations: CancellationToken,
}

/// A service that runs.
pub struct RunningApp {
    grpc_address: SocketAddr,
    operations_address: SocketAddr,
    readiness: Arc<Readiness>,
    work: TaskTracker,
    store: Arc<dyn Store>,
    audit: Option<Arc<Audit>>,
    /// Ends with an error where the store was never ready, and waiting does not help.
    following: JoinHandle<Result<(), StoreRefused>>,
    grpc: JoinHandle<()>,
    operations: JoinHandle<()>,
    cancellations: Cancellations,
    timeouts: DrainTimeouts,
}

impl RunningApp {
    /// Where gRPC is served.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where probes are answered.
    pub fn operations_address(&self) -> SocketAddr {
        self.operations_address
    }

    /// Runs until asked to stop, and then stops everything in order. A store that cannot go on ends it at once, also while
    /// it stops: what such a store still holds is not waited for.
    ///
    /// # Errors
    /// The gRPC server ended before it was asked to, or the store turned out to be of no use, and what is left has been stopped in
    /// order all the same; or the store has failed.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let (store, audit) = (Arc::clone(&self.store), self.audit.clone());
        tokio::select! {
            ended = self.serve_until(shutdown) => ended,
            error = store.failed() => {
                // Never dropped: that would wait for what the store is stuck in. The process is about to end.
                Box::leak(Box::new(Arc::clone(&store)));
                close(audit.as_deref()).await;
                Err(RunError::StoreFailed(error))
            }
        }
    }

    async fn serve_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            _ = &mut self.grpc => Err(RunError::ServerEnded),
            refused = refusal(&mut self.following) => Err(RunError::Refused(refused)),
        };
        let grpc = ended.is_ok().then_some(self.grpc);
        let (readiness, store) = (&*self.readiness, &*self.store);
        let draining = Draining { readiness, stop_grpc: &self.cancellations.grpc, grpc, work: &self.work, store };
        draining.run(self.timeouts).await;
        close(self.audit.as_deref()).await;
        self.cancellations.operations.cancel();
        // A probe that asks later finds the process gone.
        let _ = timeout(LAST_ANSWERS, self.operations).await;
        ended
    }
}

/// Has the last events written.
async fn close(audit: Option<&Audit>) {
    if let Some(audit) = audit {
        audit.close(Deadline::after(LAST_EVENTS)).await;
    }
}

/// Why the store is of no use, if it was never ready.
async fn refusal(following: &mut JoinHandle<Result<(), StoreRefused>>) -> StartError {
    match following.await {
        Ok(Err(refused)) => refused.into(),
        _ => std::future::pending().await,
    }
}
