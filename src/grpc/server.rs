//! The server: what is served, and within which bounds.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::pin;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    arrival::{Arrivals, RefusedBodies},
    call_layer::{CallLayer, CallRules, Contract, Services},
    callers::CallerDirectory,
    connection::{ServedConnections, http2},
    deadline::RequestTimeout,
    descriptor::descriptor_set,
    framework::Framework,
    listen::Incoming,
    listener::BoundListener,
    method::{Method, ServedServices},
    otp::Handlers,
    proto::{
        otp_admin_service_server::{OtpAdminService, OtpAdminServiceServer},
        otp_service_server::{OtpService, OtpServiceServer},
    },
    shed::CallPermits,
    tls::TlsServer,
};
use crate::{
    ports::{
        clock::Clock,
        observer::{CallObserver, ListenerName, ListenerObserver},
    },
    service::Otp,
    streams::limit::{ConnectionLimit, GivesWay},
};

/// The largest request.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Connections of operators to a listener of their own.
const MAX_ADMIN_CONNECTIONS: usize = 16;
/// The largest answer: a described challenge with a full timeline has a tenth of it.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// The bounds of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcSettings {
    /// How many calls are worked on at once; more are shed. A cancel has as many permits of its own.
    pub(crate) max_in_flight: usize,
    /// How many connections are open at once. One more replaces one without a call at work, or is refused.
    pub(crate) max_connections: usize,
    /// How long a call may take at most, whatever its `grpc-timeout`.
    pub(crate) request_timeout: Duration,
    /// How far `request_timestamp` may be from the clock; `None`: any.
    pub(crate) max_timestamp_skew: Option<Duration>,
    /// When a connection is told to go away once its calls have ended, so that callers find new replicas; `None`:
    /// never. Best jittered by the process, so that replicas started together do not lose their connections together.
    pub(crate) max_connection_age: Option<Duration>,
    /// Whether reflection is served, v1 and v1alpha.
    pub(crate) reflection: bool,
}

/// What the server works with.
#[derive(Clone)]
pub(crate) struct Backend {
    /// The use cases.
    pub(crate) otp: Arc<Otp>,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// Sees every call at its end.
    pub(crate) observer: Arc<dyn CallObserver>,
    /// Sees their connections.
    pub(crate) listeners: Arc<dyn ListenerObserver>,
    /// Who may call.
    pub(crate) callers: Arc<CallerDirectory>,
    /// Runs the use cases. Work may go on in it after `serve` has returned: close it and wait for it then.
    pub(crate) tasks: TaskTracker,
}

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The compiled contract cannot be served by reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Where the server listens.
pub(crate) struct Listeners {
    /// For `OtpService`, and where operators have none of their own, for theirs.
    pub(crate) server: BoundListener,
    /// For `OtpAdminService`.
    pub(crate) admin: Option<BoundListener>,
    /// Encrypts connections to IP addresses.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// Serves on the listeners until `stop`. Then nothing is accepted any more, calls in flight are answered, and
/// `serve` returns when all connections have ended. A client that keeps one open keeps `serve` waiting: the drain of the
/// process sets the limit.
///
/// # Errors
/// The server cannot start.
pub(crate) async fn serve<H: Health>(
    settings: GrpcSettings,
    backend: Backend,
    health: HealthServer<H>,
    listeners: Listeners,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Backend { otp, clock, observer, listeners: seen_by, callers, tasks } = backend;
    let handlers = Arc::new(Handlers { otp, clock, tasks, max_skew: settings.max_timestamp_skew });
    let Listeners { server, admin, tls } = listeners;
    let served = if admin.is_some() { ServedServices::Otp } else { ServedServices::All };
    let layer = layer(settings, contract(Arc::clone(&handlers), handlers), health, (observer, callers))?;
    let for_operators = layer.serving(ServedServices::Admin);
    let serving =
        |layer| ServedConnections { http2: http2(), layer, tls: tls.clone(), max_age: settings.max_connection_age };
    let limit = |max, listener| ConnectionLimit::new(max, GivesWay::Idle, Some((listener, Arc::clone(&seen_by))));
    let serving_admin = async {
        if let Some(listener) = admin {
            let max = MAX_ADMIN_CONNECTIONS.min(settings.max_connections);
            let incoming = Incoming::new(listener, limit(max, ListenerName::Admin));
            serve_on(incoming, serving(Arc::new(for_operators)), stop.clone().cancelled_owned()).await;
        }
    };
    let incoming = Incoming::new(server, limit(settings.max_connections, ListenerName::Server));
    let serving_callers = serve_on(incoming, serving(Arc::new(layer.serving(served))), stop.clone().cancelled_owned());
    tokio::join!(serving_callers, serving_admin);
    Ok(())
}

/// Serves whatever is behind the layer.
async fn serve_on<S: Services>(
    mut incoming: Incoming,
    connections: ServedConnections<S>,
    shutdown: impl Future<Output = ()>,
) {
    let connections = Arc::new(connections);
    let (open, stop) = (TaskTracker::new(), CancellationToken::new());
    pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = incoming.next() => {
                open.spawn(Arc::clone(&connections).serve(accepted, stop.clone()));
            }
        }
    }
    // The port is free from here on: whoever connects is refused at once. What is asked on connections that are open is served
    // until their callers know that they are to go.
    let _limit = incoming.close();
    stop.cancel();
    open.close();
    open.wait().await;
}

/// The services of the contract.
fn contract<O: OtpService, A: OtpAdminService>(otp: Arc<O>, admin: Arc<A>) -> Contract<O, A> {
    // No compression: messages are small, and a secret beside text of an attacker's choice must not be compressed.
    let otp = OtpServiceServer::from_arc(otp)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    let admin = OtpAdminServiceServer::from_arc(admin)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    Contract { otp, admin }
}

/// All that calls pass on their way to these services.
fn layer<S: Services, H: Health>(
    settings: GrpcSettings,
    services: S,
    health: HealthServer<H>,
    (observer, callers): (Arc<dyn CallObserver>, Arc<CallerDirectory>),
) -> Result<CallLayer<S>, tonic_reflection::server::Error> {
    let arrivals = Arrivals::default();
    let framework = Framework::new(framework(settings, health)?, arrivals.clone());
    let permits = CallPermits::new(settings.max_in_flight);
    let used = permits.clone();
    observer.methods_served(&Method::ALL.map(Method::name));
    observer.permits_made(Box::new(move || used.usage()));
    let rules = CallRules {
        permits,
        arrivals,
        refused: RefusedBodies::default(),
        timeout: RequestTimeout(settings.request_timeout),
        max_message_bytes: MAX_MESSAGE_BYTES,
        observer,
        callers,
    };
    Ok(CallLayer { rules: Arc::new(rules), services, served: ServedServices::All, framework })
}

/// Health and reflection.
fn framework<H: Health>(
    settings: GrpcSettings,
    health: HealthServer<H>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let routes = Routes::new(health);
    if !settings.reflection {
        return Ok(routes);
    }
    // With the details of statuses, so that grpcurl prints them and not their bytes.
    let ours = descriptor_set()?;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(&ours)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

#[cfg(test)]
mod tests;
