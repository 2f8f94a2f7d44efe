//! Opens connections to the server. redis-rs writes each command by itself; over a stream of ours, the commands of one
//! turn of the scheduler leave in one write, which Redis also reads at once.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, ErrorKind, RedisResult,
    aio::MultiplexedConnection,
    io::tcp::{TcpSettings, socket2::SockRef},
};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
    sync::{Semaphore, SemaphorePermit},
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::connection::{Connection, Opened};
use crate::streams::turn::{Busy, TurnStream};

/// Operations under way on the connection; more wait for their turn within their deadlines.
const IN_FLIGHT_MAX: usize = 1_024;

/// The operations under way.
#[derive(Clone)]
pub(super) struct InFlight(Arc<Semaphore>);

impl InFlight {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(IN_FLIGHT_MAX)))
    }

    /// Waits for a permit. The semaphore is never closed.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.0.acquire().await.ok()
    }
}

impl Busy for InFlight {
    fn is_busy(&self) -> bool {
        IN_FLIGHT_MAX - self.0.available_permits() >= 2
    }
}

/// Encryption for a connection, and the name that the server's certificate must be for.
pub(super) type Tls = (TlsConnector, ServerName<'static>);

/// The host of a server that has one.
pub(super) fn host(server: &ConnectionInfo) -> Option<&str> {
    match server.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
        _ => None,
    }
}

/// Opens a connection to one server.
pub(super) async fn open(
    server: &ConnectionInfo,
    tls: Option<Tls>,
    in_flight: &InFlight,
    tracker: &TaskTracker,
) -> RedisResult<Opened> {
    match server.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            let stream = connect((host, *port), server.tcp_settings()).await?;
            match tls {
                Some((tls, name)) => over(tls.connect(name, stream).await?, server, in_flight, tracker).await,
                None => over(stream, server, in_flight, tracker).await,
            }
        }
        ConnectionAddr::Unix(path) => over(UnixStream::connect(path).await?, server, in_flight, tracker).await,
        _ => Err((ErrorKind::InvalidClientConfig, "an unknown kind of address").into()),
    }
}

async fn over(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    server: &ConnectionInfo,
    in_flight: &InFlight,
    tracker: &TaskTracker,
) -> RedisResult<Opened> {
    // Each operation has its deadline, and so has connecting; more timers would only cost.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(IN_FLIGHT_MAX);
    let heard = Heard::default();
    let stream = TurnStream::new(HeardStream { stream, heard: heard.clone() }, in_flight.clone());
    let (connection, driver) = MultiplexedConnection::new_with_config(server.redis_settings(), stream, config).await?;
    let driver = Some(AbortOnDropHandle::new(tracker.spawn(driver)));
    Ok(Opened { connection: Connection::One(connection), driver, heard })
}

/// How often a connection has brought something: the server lives, however late its answers are.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<AtomicU64>);

impl Heard {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that counts what it brings.
struct HeardStream<S> {
    stream: S,
    heard: Heard,
}

impl<S: AsyncRead + Unpin> AsyncRead for HeardStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.heard.0.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeardStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Tries all addresses of a name at once, and takes the first that answers: one that is silent costs no time.
async fn connect(server: (&str, u16), settings: &TcpSettings) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    for address in lookup_host(server).await? {
        attempts.spawn(TcpStream::connect(address));
    }
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    while let Some(attempt) = attempts.join_next().await {
        match attempt.map_err(io::Error::from).flatten() {
            Ok(stream) => {
                stream.set_nodelay(settings.nodelay())?;
                if let Some(keepalive) = settings.keepalive() {
                    SockRef::from(&stream).set_tcp_keepalive(keepalive)?;
                }
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}
