//! The composition root: a configuration becomes a running service. Only [`parts`] and [`backup`] name adapters.

mod audit;
pub mod backup;
pub mod certificates;
mod descriptors;
mod health;
mod keys;
mod listen;
mod parts;
pub mod probe;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;

use crate::{
    audit::Audit,
    config::{Config, Listen},
    grpc::server::{self, Listeners},
    lifecycle::{Closing, DrainTimeouts, Draining},
    metrics::Metrics,
    operations,
    ports::{
        clock::{Deadline, SystemClock},
        store::{Store, StoreError},
    },
    readiness::{Readiness, ServingState, StoreRefused},
};
use certificates::{CertificateErrors, CertificateWatch, Certificates};
use health::Reported;
use listen::Addresses;
use parts::Inputs;

pub use crate::audit::verify::AuditReport;
pub use crate::service::key_usage::{KeyRow, KeyUsage};
pub use audit::TagOwner;

/// How long the operations server has to end its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long the audit has to write its last events where nothing else is waited for.
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
        address: Listen,
        /// Why not.
        cause: io::Error,
    },
    /// The certificate of the server cannot be read or used.
    #[error(transparent)]
    Certificate(#[from] CertificateErrors),
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

/// Why a service is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It is replaced or moved: balancers are given `server.drain_delay` to notice.
    Replaced,
    /// Somebody who works with it by hand is done: nobody needs time to notice.
    ByHand,
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
        let bound = listen::all(config).await?;
        let files = config.server.tls.as_ref();
        let certificates = files.map(|files| Certificates::load(files, Arc::new(SystemClock))).transpose()?;
        let health = HealthReporter::new();
        let readiness = Arc::new(Readiness::new(Reported(health.clone())).await);
        let (work, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (stop_grpc, stop_operations) = (CancellationToken::new(), CancellationToken::new());

        let parts = parts::assemble(Inputs { config, health, work: work.clone() }).await?;

        // Keys that are not the store's end the start before anything is served. A store that is away does not.
        readiness.begin(&parts.examined).await?;
        let (follows, witness) = (Arc::clone(&readiness), parts.examined);
        let following = tasks.spawn(async move { follows.follow(&witness).await });
        let reload = Arc::new(Notify::new());
        let tls = certificates.map(|certificates| {
            let (listeners, asked, tls) = (bound.encrypted(), Arc::clone(&reload), certificates.server());
            let observer = parts.metrics.clone();
            tasks.spawn(certificates.follow(CertificateWatch { listeners, observer, asked }));
            tls
        });
        let state = readiness.subscribe();
        parts.metrics.sources.readiness(move || state.borrow().reasons());
        let router = operations::router(readiness.subscribe(), Arc::clone(&parts.metrics));
        let serving = operations::serve(bound.operations, router, parts.metrics.clone(), stop_operations.clone());
        let operations = tasks.spawn(serving);
        let listeners = Listeners { server: bound.server, admin: bound.admin, tls };
        let serving = server::serve(parts.grpc, parts.backend, parts.health, listeners, stop_grpc.clone());
        let grpc = tasks.spawn(async move {
            if let Err(cause) = serving.await {
                tracing::error!(%cause, "the gRPC server failed");
            }
        });
        let (drain_delay, drain_timeout) = (config.server.drain_delay, config.server.drain_timeout);
        Ok(RunningApp {
            addresses: bound.addresses,
            reload,
            readiness,
            work,
            store: parts.store,
            audit: parts.audit,
            metrics: parts.metrics,
            following,
            grpc,
            operations,
            cancellations: Cancellations { grpc: stop_grpc, operations: stop_operations },
            timeouts: DrainTimeouts { drain_delay, drain_timeout },
        })
    }
}

/// What ends the servers.
struct Cancellations {
    grpc: CancellationToken,
    operations: CancellationToken,
}

/// A service that runs.
pub struct RunningApp {
    addresses: Addresses,
    reload: Arc<Notify>,
    readiness: Arc<Readiness>,
    work: TaskTracker,
    store: Arc<dyn Store>,
    audit: Option<Arc<Audit>>,
    metrics: Arc<Metrics>,
    /// Ends with an error where the store was never ready, and waiting does not help.
    following: JoinHandle<Result<(), StoreRefused>>,
    grpc: JoinHandle<()>,
    operations: JoinHandle<()>,
    cancellations: Cancellations,
    timeouts: DrainTimeouts,
}

impl RunningApp {
    /// Where gRPC is served.
    pub fn grpc_address(&self) -> &Listen {
        &self.addresses.server
    }

    /// Where operators call, if not there.
    pub fn admin_address(&self) -> Option<&Listen> {
        self.addresses.admin.as_ref()
    }

    /// Has the files of the server's certificate looked at, whenever it is notified.
    pub fn reload(&self) -> Arc<Notify> {
        Arc::clone(&self.reload)
    }

    /// Whether it should get calls.
    pub(crate) fn serving(&self) -> watch::Receiver<ServingState> {
        self.readiness.subscribe()
    }

    /// Where probes are answered.
    pub fn operations_address(&self) -> SocketAddr {
        self.addresses.operations
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Has the audit write its last events: what is left to do where the rest of the end is not waited for.
    pub fn last_events(&self) -> impl Future<Output = ()> + use<> {
        let audit = self.audit.clone();
        async move { close(audit.as_deref(), Deadline::after(LAST_EVENTS)).await }
    }

    /// Runs until asked to stop, and then stops everything in order. A store that cannot go on ends it at once, also while
    /// it stops: what such a store still holds is not waited for.
    ///
    /// # Errors
    /// The gRPC server ended before it was asked to, or the store turned out to be of no use, and what is left has been stopped in
    /// order all the same; or the store has failed.
    pub async fn run_until(self, shutdown: impl Future<Output = Shutdown>) -> Result<(), RunError> {
        let (store, audit) = (Arc::clone(&self.store), self.audit.clone());
        tokio::select! {
            ended = self.serve_until(shutdown) => ended,
            error = store.failed() => {
                // Never dropped: that would wait for what the store is stuck in. The process is about to end.
                Box::leak(Box::new(Arc::clone(&store)));
                close(audit.as_deref(), Deadline::after(LAST_EVENTS)).await;
                Err(RunError::StoreFailed(error))
            }
        }
    }

    async fn serve_until(mut self, shutdown: impl Future<Output = Shutdown>) -> Result<(), RunError> {
        let ended = tokio::select! {
            why = shutdown => {
                if why == Shutdown::ByHand {
                    self.timeouts.drain_delay = Duration::ZERO;
                }
                Ok(())
            }
            _ = &mut self.grpc => Err(RunError::ServerEnded),
            refused = refusal(&mut self.following) => Err(RunError::Refused(refused)),
        };
        let grpc = ended.is_ok().then_some(self.grpc);
        let (readiness, store) = (&*self.readiness, &*self.store);
        let (stop_grpc, work, audit) = (&self.cancellations.grpc, &self.work, self.audit.as_deref());
        let close_audit = Box::new(move |deadline| Box::pin(close(audit, deadline)) as Closing<'_>);
        Draining { readiness, stop_grpc, grpc, work, store, close_audit }.run(self.timeouts).await;
        self.cancellations.operations.cancel();
        // A probe that asks later finds the process gone.
        let _ = timeout(LAST_ANSWERS, self.operations).await;
        ended
    }
}

/// Has the last events written.
async fn close(audit: Option<&Audit>, deadline: Deadline) {
    if let Some(audit) = audit {
        audit.close(deadline).await;
    }
}

/// Why the store is of no use, if it was never ready.
async fn refusal(following: &mut JoinHandle<Result<(), StoreRefused>>) -> StartError {
    match following.await {
        Ok(Err(refused)) => refused.into(),
        _ => std::future::pending().await,
    }
}
