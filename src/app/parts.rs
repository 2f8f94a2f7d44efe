//! Which adapters a configuration means.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::{
    Cause, StartError,
    audit::{self, AuditInputs},
    descriptors,
    health::Examined,
};
use crate::{
    audit::Audit,
    config::{Config, Keys, Sandboxes},
    domain::route::Scope,
    grpc::{
        callers::CallerDirectory,
        server::{Backend, GrpcSettings},
    },
    keys::{generate, ring::KeyRing},
    metrics::{MasterKeyUse, Metrics},
    ports::{
        clock::{Clock, SystemClock},
        decisions::DecisionObserver,
        entropy::{Entropy, SystemEntropy},
        provider::Provider,
        store::Store,
    },
    providers::{ProviderDeps, sandbox::Sandbox},
    secret::Secret,
    service::{
        Otp, Ports,
        gate::Gate,
        route::Routes,
        witness::{Witness, WitnessPorts},
    },
    stores::{self, StoreConfig, StoreUrl},
};

/// What parts are made from.
pub(crate) struct Inputs<'a> {
    /// The settings.
    pub(crate) config: &'a Config,
    /// What the health service answers.
    pub(crate) health: HealthReporter,
    /// Tracks what calls leave behind: the process ends after it.
    pub(crate) work: TaskTracker,
}

/// What runs.
pub(crate) struct Parts {
    /// Where state lives.
    pub(crate) store: Arc<dyn Store>,
    /// What calls rest on, to be examined.
    pub(crate) examined: Examined,
    /// Where decisions are kept.
    pub(crate) audit: Option<Arc<Audit>>,
    /// What the gRPC server works with, and within which bounds.
    pub(crate) backend: Backend,
    pub(crate) grpc: GrpcSettings,
    pub(crate) health: HealthServer<HealthService>,
    /// What the operations server shows of calls.
    pub(crate) metrics: Arc<Metrics>,
}

/// The parts that the configuration means.
///
/// # Errors
/// The keys, the store or a provider cannot be had.
pub(crate) async fn assemble(inputs: Inputs<'_>) -> Result<Parts, StartError> {
    let config = inputs.config;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let url: StoreUrl = config.store.url.expose().parse().map_err(|cause| StartError::Store(Box::new(cause)))?;
    let folder = url.directory().map(Path::to_owned);
    let metrics = Arc::new(Metrics::default());
    let store = open_store(config, url.clone(), Arc::clone(&clock)).await?;
    let store = stores::measured(store, &url, metrics.clone());
    let keys = Arc::new(key_ring(config, folder.as_deref(), entropy.as_ref())?);
    let used = Arc::clone(&keys);
    metrics.sources.keys(move || key_use(&used));
    let gate = Arc::new(Gate::new(Arc::clone(&clock)));
    let (store_of, keys_of, entropy_of) = (Arc::clone(&store), Arc::clone(&keys), Arc::clone(&entropy));
    let examined = WitnessPorts { store: store_of, keys: keys_of, entropy: entropy_of, observer: metrics.clone() };
    let witness = Witness::new(examined, Arc::clone(&gate));
    let deps = ProviderDeps { clock: Arc::clone(&clock), observer: metrics.clone(), proxies: config.proxies.clone() };
    let routes = routes(config, &deps)?;
    let messages = config.messages.clone();
    // A tracker of its own: the stream goes on until the audit is closed, after all calls have ended.
    let tasks = TaskTracker::new();
    let (clock_of, keys_of) = (Arc::clone(&clock), Arc::clone(&keys));
    let audit = AuditInputs { clock: clock_of, keys: keys_of, observer: metrics.clone(), tasks };
    let audit = audit::start(config, audit)?;
    let counted: Arc<dyn DecisionObserver> = metrics.clone();
    let kept = audit.iter().map(|audit| Arc::clone(audit) as Arc<dyn DecisionObserver>);
    let observers = kept.chain([counted]).collect();
    let ports = Ports {
        store: Arc::clone(&store),
        keys,
        gate,
        entropy,
        routes,
        messages,
        observers,
        tasks: inputs.work.clone(),
    };
    let otp = Arc::new(Otp::new(ports, config.tenants.clone()));
    let needs_certificate = config.server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    let callers = CallerDirectory::new(&config.callers, config.server.sidecar.clone(), needs_certificate);
    let callers = Arc::new(callers);
    let backend =
        Backend { otp, clock, observer: metrics.clone(), listeners: metrics.clone(), callers, tasks: inputs.work };
    let health = HealthServer::new(HealthService::from_health_reporter(inputs.health));
    let examined = Examined { witness, audit: audit.clone() };
    Ok(Parts { store, examined, audit, backend, grpc: grpc_settings(config), health, metrics })
}

/// The store of the configuration.
///
/// # Errors
/// It cannot be opened.
pub(super) async fn open_store(
    config: &Config,
    url: StoreUrl,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Store>, StartError> {
    let store = store_config(config, url);
    // A tracker of its own: the store's background work goes on until the store is closed, after all calls have ended.
    stores::open(store, clock, &TaskTracker::new()).await.map_err(|cause| StartError::Store(Box::new(cause)))
}

/// How to reach the store of the configuration.
pub(super) fn store_config(config: &Config, url: StoreUrl) -> StoreConfig {
    StoreConfig {
        url,
        operation_timeout: config.store.timeout,
        connect_timeout: config.store.connect_timeout,
        require_noeviction: config.store.require_noeviction,
        tls: config.store.tls.clone(),
        sentinel: config.store.sentinel.clone(),
        confirmation: config.store.confirmation,
        accept_loss: config.store.accept_loss,
    }
}

/// The master keys of the configuration; with an embedded store and none, those in its folder.
///
/// # Errors
/// They cannot be read or made.
pub(super) fn key_ring(config: &Config, folder: Option<&Path>, entropy: &dyn Entropy) -> Result<KeyRing, StartError> {
    let failed = |cause: Cause| StartError::Keys(cause);
    let text = match (&config.keys, folder) {
        (Keys::Generated, Some(folder)) => {
            let may_generate = !stores::was_written(folder);
            generate::kept_in(folder, may_generate, entropy).map_err(|cause| failed(cause.into()))?
        }
        (Keys::Generated, None) => return Err(failed("none is set, and only an embedded store keeps its own".into())),
        (given, _) => given.text().map_err(|cause| failed(cause.into()))?.unwrap_or_else(|| Secret::new(String::new())),
    };
    KeyRing::parse(&text, config.force.missing_lowest_key).map_err(|cause| failed(cause.into()))
}

/// What each master key is for, and how many records were opened with it.
fn key_use(keys: &KeyRing) -> Vec<MasterKeyUse> {
    let role = |id| match id {
        id if id == keys.active_id() => "active",
        id if id == keys.lowest_id() => "index",
        _ => "other",
    };
    keys.opened().into_iter().map(|(id, opened)| MasterKeyUse { id, role: role(id), opened }).collect()
}

/// Every provider that is configured, the routes over them, and the sandbox before all.
fn routes(config: &Config, deps: &ProviderDeps) -> Result<Routes, StartError> {
    let mut by_name: BTreeMap<&str, Arc<dyn Provider>> = BTreeMap::new();
    for (name, provider) in &config.providers.by_name {
        let built = provider.build(name, deps);
        let built = built.map_err(|cause| StartError::Provider { name: name.clone(), cause: cause.into() })?;
        by_name.insert(name, built);
    }
    let route = |names: &[String]| names.iter().filter_map(|name| by_name.get(name.as_str()).cloned()).collect();
    let scoped = config.providers.scoped.iter().map(|(scope, names)| (scope.clone(), route(names)));
    let everything = (Scope::default(), route(&config.providers.routes));
    let routes = Routes::new(by_name.values().cloned().collect(), scoped.chain([everything]).collect())
        .resend_elsewhere(config.providers.resend_elsewhere);
    if config.sandboxes.is_empty() {
        return Ok(routes);
    }
    let Sandboxes { common, by_tenant } = config.sandboxes.clone();
    Ok(routes.with_sandbox(Arc::new(Sandbox::new(common, by_tenant))))
}

fn grpc_settings(config: &Config) -> GrpcSettings {
    GrpcSettings {
        max_in_flight: usize::try_from(config.server.max_in_flight).unwrap_or(usize::MAX),
        max_connections: descriptors::max_connections(config.server.max_connections),
        request_timeout: config.server.request_timeout,
        max_timestamp_skew: config.requests.max_timestamp_skew,
        max_connection_age: config.server.max_connection_age.map(jittered),
        reflection: config.server.reflection,
    }
}

/// Up to a tenth less, by process: replicas started together do not send their callers away together.
fn jittered(age: Duration) -> Duration {
    let share = std::process::id() % 1000;
    age.saturating_sub(age / 10_000 * share)
}
