//! The server: what is served, and within which bounds.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::{service::Routes, transport::Server};
use tonic_health::pb::health_server::{Health, HealthServer};

use super::{
    call_layer::{CallLayer, CallRules},
    deadline::RequestTimeout,
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
    ports::{clock::Clock, observer::CallObserver},
    service::Otp,
};

/// The largest request.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The largest answer: a described challenge with a full timeline has a tenth of it.
const MAX_ANSWER_BYTES: usize = 256 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
const MAX_CONCURRENT_STREAMS: u32 = 1024;
/// A peer that answers no ping for [`KEEPALIVE_TIMEOUT`] is dead. Clients of gRPC are told not to be pinged much more
/// often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The bounds of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcSettings {
    /// How many calls are worked on at once; more are shed. A cancel has as many permits of its own.
    pub(crate) max_in_flight: usize,
    /// How many connections are open at once. One more replaces one that has never made a call, or is refused.
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

/// The server could not start or died.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The compiled contract cannot be served by reflection.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves on a listener until `shutdown` ends. Then nothing is accepted any more, calls in flight are answered, and
/// `serve` returns when all connections have ended. A client that keeps one open keeps `serve` waiting: the drain of the
/// process sets the limit.
///
/// # Errors
/// The server cannot start or died.
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
    let services = services(settings, Arc::clone(&handlers), handlers, health, observer)?;
    serve_services(settings, services, listener, shutdown).await
}

async fn serve_services<O: OtpService, A: OtpAdminService>(
    settings: GrpcSettings,
    services: CallLayer<O, A>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let incoming = Incoming::new(listener, settings.max_connections, services.rules.permits.clone());
    Ok(builder(settings).serve_with_incoming_shutdown(services, incoming, shutdown).await?)
}

fn builder(settings: GrpcSettings) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_LIST_BYTES);
    match settings.max_connection_age {
        // No grace: with one, tonic sends no GOAWAY at the age but cuts calls off at age and grace.
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

fn services<O: OtpService, A: OtpAdminService, H: Health>(
    settings: GrpcSettings,
    otp: Arc<O>,
    admin: Arc<A>,
    health: HealthServer<H>,
    observer: Arc<dyn CallObserver>,
) -> Result<CallLayer<O, A>, tonic_reflection::server::Error> {
    let rules = CallRules {
        permits: CallPermits::new(settings.max_in_flight),
        timeout: RequestTimeout(settings.request_timeout),
        max_message_bytes: MAX_MESSAGE_BYTES,
        observer,
    };
    // No compression: messages are small, and a secret beside text of an attacker's choice must not be compressed.
    let otp = OtpServiceServer::from_arc(otp)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    let admin = OtpAdminServiceServer::from_arc(admin)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    Ok(CallLayer { rules: Arc::new(rules), otp, admin, framework: framework(settings, health)? })
}

/// Health and reflection.
fn framework<H: Health>(
    settings: GrpcSettings,
    health: HealthServer<H>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let routes = Routes::new(health);
    if !settings.reflection {
        return Ok(routes.prepare());
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that grpcurl prints the details of a status and not their bytes.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?).prepare())
}

#[cfg(test)]
mod tests;
