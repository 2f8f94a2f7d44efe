//! The server: what is served, and within which bounds.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{net::TcpListener, pin};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    arrival::Arrivals,
    call_layer::{CallLayer, CallRules, Contract, Services},
    connection,
    deadline::RequestTimeout,
    framework::Framework,
    listen::Incoming,
    otp::Handlers,
    proto::{
        self,
        otp_admin_service_server::{OtpAdminService, OtpAdminServiceServer},
        otp_service_server::{OtpService, OtpServiceServer},
    },
    shed::CallPermits,
};
use crate::{
    domain::caller::CallerRights,
    ports::{clock::Clock, observer::CallObserver},
    service::Otp,
};

/// The largest request.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
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

/// Serves on a listener until `shutdown` ends. Then nothing is accepted any more, calls in flight are answered, and
/// `serve` returns when all connections have ended. A client that keeps one open keeps `serve` waiting: the drain of the
/// process sets the limit.
///
/// # Errors
/// The server cannot start.
pub(crate) async fn serve<H: Health>(
    settings: GrpcSettings,
    backend: Backend,
    health: HealthServer<H>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let observer = Arc::clone(&backend.observer);
    let Backend { otp, clock, tasks, .. } = backend;
    let handlers = Arc::new(Handlers { otp, clock, tasks, max_skew: settings.max_timestamp_skew });
    let layer = layer(settings, contract(Arc::clone(&handlers), handlers), health, observer)?;
    serve_layer(settings, layer, listener, shutdown).await;
    Ok(())
}

/// Serves whatever is behind the layer.
async fn serve_layer<S: Services>(
    settings: GrpcSettings,
    layer: CallLayer<S>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let mut incoming = Incoming::new(listener, settings.max_connections, layer.rules.permits.clone());
    let (layer, http2) = (Arc::new(layer), connection::http2());
    let (connections, stop) = (TaskTracker::new(), CancellationToken::new());
    pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = incoming.next() => {
                let (layer, max_age, stop) = (Arc::clone(&layer), settings.max_connection_age, stop.clone());
                connections.spawn(connection::serve(http2.clone(), accepted, layer, max_age, stop));
            }
        }
    }
    // The port is free from here on: whoever connects is refused at once.
    drop(incoming);
    stop.cancel();
    connections.close();
    connections.wait().await;
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
    observer: Arc<dyn CallObserver>,
) -> Result<CallLayer<S>, tonic_reflection::server::Error> {
    let arrivals = Arrivals::default();
    let framework = Framework::new(framework(settings, health)?, arrivals.clone());
    let permits = CallPermits::new(settings.max_in_flight);
    let used = permits.clone();
    observer.permits_made(Box::new(move || used.usage()));
    let rules = CallRules {
        permits,
        arrivals,
        timeout: RequestTimeout(settings.request_timeout),
        max_message_bytes: MAX_MESSAGE_BYTES,
        observer,
        everybody: Arc::new(CallerRights::of_everybody()),
    };
    Ok(CallLayer { rules: Arc::new(rules), services, framework })
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
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl prints the details of a status and not their bytes.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}

#[cfg(test)]
mod tests;
