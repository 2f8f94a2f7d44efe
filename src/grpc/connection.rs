//! One connection: HTTP/2 within bounds, its calls handed to the call layer, until the caller goes or the server stops.
//!
//! Served by hyper directly. tonic's own server would enforce `grpc-timeout` around all our layers and answer CANCELLED,
//! which meshes take as an invitation to retry.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http2::Builder, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::server::TlsStream;
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    call_layer::{CallLayer, Services},
    callers::{PeerIdentity, ShownIdentity},
    listen::Accepted,
    listener::Wire,
    shed::CallPermits,
    tls::{self, TlsServer},
};
use crate::streams::{
    limit::OpenConnection,
    permit::{PermitStream, SilenceLimit},
    turn::TurnStream,
};

/// What the client sends first in HTTP/2 has 24 bytes and is followed by a frame head of 9.
const FIRST_BYTES: SilenceLimit = SilenceLimit::FirstBytes(33, Duration::from_secs(10));

/// Streams of one connection, in whatever state: each takes memory as soon as it is opened. Clients let further calls wait, and
/// proxies open further connections.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// Streams that the caller has reset before they were looked at; with more, the connection is closed. After a pause of ours
/// these may be many of a sidecar's one connection, so fewer would punish callers for our lateness.
const MAX_PENDING_RESETS: usize = 1024;
/// Streams that broke the protocol; with more, the connection is closed. What still comes for a stream that was refused or
/// answered early counts as such.
const MAX_ERROR_RESETS: usize = 1024;
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// What may arrive before it is read: of one call, and of all calls of a connection. Calls read at once what arrives. h2
/// closes a connection with `too_many_data_frames` where small frames that wait count for more than half of the window, each
/// for up to 256 bytes: that is room for the messages of all streams, and of those that are reset while they wait.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 256 * 2048;
/// What a stream may have written before it has to wait. An answer of more is one message, and waits as a whole.
const MAX_SEND_BUFFER: usize = 16 * 1024;
/// A peer that answers no ping for [`KEEPALIVE_TIMEOUT`] is dead. Clients of gRPC are told not to be pinged much more
/// often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The other side of a connection.
pub(super) struct ConnectedPeer {
    pub(super) connection: Arc<OpenConnection>,
    pub(super) identity: PeerIdentity,
}

/// The bytes of a connection, in plain text, which gathers the answers of one turn of the scheduler. The calls in flight tell
/// whether they are worth gathering.
type ConnectionStream = TurnStream<PermitStream<Either<Wire, Box<TlsStream<TcpStream>>>>, CallPermits>;

/// What all connections of a listener are served with.
pub(super) struct ServedConnections<S> {
    pub(super) http2: Builder<TokioExecutor>,
    pub(super) layer: Arc<CallLayer<S>>,
    /// Encrypts connections to an IP address. A Unix socket is a matter of this machine.
    pub(super) tls: Option<Arc<TlsServer>>,
    /// When the caller is asked to go; `None`: never.
    pub(super) max_age: Option<Duration>,
}

/// HTTP/2 for all connections.
pub(super) fn http2() -> Builder<TokioExecutor> {
    let mut http2 = Builder::new(TokioExecutor::new());
    http2
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(MAX_SEND_BUFFER);
    http2
}

impl<S: Services> ServedConnections<S> {
    /// Serves until the caller closes the connection. At its greatest age, or when the server stops, the caller is asked to go
    /// and its calls may end.
    pub(super) async fn serve(self: Arc<Self>, accepted: Accepted, stop: CancellationToken) {
        let opened = tokio::select! {
            opened = self.open(accepted) => opened,
            () = stop.cancelled() => return,
        };
        let Some((stream, peer)) = opened else { return };
        let layer = Arc::clone(&self.layer);
        let service = service_fn(move |request| layer.call(request, &peer));
        let mut serving = pin!(self.http2.serve_connection(TokioIo::new(stream), service));
        let asked_to_go = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = age(self.max_age) => {}
            }
        };
        tokio::select! {
            _ = &mut serving => return,
            () = asked_to_go => serving.as_mut().graceful_shutdown(),
        }
        // Errors are the caller's: a connection that is cut, or breaks the protocol.
        let _ = serving.await;
    }

    /// Encrypts where that is asked for, and finds out who is there. `None`: that failed, or the connection gives way.
    async fn open(&self, accepted: Accepted) -> Option<(ConnectionStream, ConnectedPeer)> {
        let Accepted { wire, connection, is_local } = accepted;
        let (stream, certificate) = match (&self.tls, wire) {
            (Some(tls), Either::Left(wire)) => {
                let encrypted = tokio::select! {
                    encrypted = tls.accept(wire) => encrypted,
                    () = connection.closing() => return None,
                };
                let encrypted = encrypted.inspect_err(|error| {
                    tracing::warn!(target: "otpd::wire", %error, "a TLS handshake failed");
                });
                let encrypted = encrypted.ok()?;
                let certificate = tls::shown(&encrypted, &self.layer.rules.callers);
                (Either::Right(Box::new(encrypted)), certificate)
            }
            (_, wire) => {
                let shown = match wire {
                    Either::Left(_) => ShownIdentity::Nothing,
                    Either::Right(_) => self.layer.rules.callers.of_socket(),
                };
                (Either::Left(wire), shown)
            }
        };
        let stream = PermitStream::new(stream, Arc::clone(&connection), FIRST_BYTES);
        let stream = TurnStream::new(stream, self.layer.rules.permits.clone());
        Some((stream, ConnectedPeer { connection, identity: PeerIdentity { is_local, certificate } }))
    }
}

async fn age(max: Option<Duration>) {
    match max {
        Some(max) => sleep(max).await,
        None => pending().await,
    }
}
