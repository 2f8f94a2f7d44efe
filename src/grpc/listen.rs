//! Accepted connections, bounded: so many at once, and each must say within a while that it speaks HTTP/2. Beyond that
//! the keepalive of HTTP/2 finds the dead ones, and those without a call give way to new ones.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::shed::CallPermits;
use crate::streams::{
    limit::{ConnectionLimit, GivesWay, OpenConnection},
    permit::{PermitStream, SilenceLimit},
    turn::TurnStream,
};

/// What the client sends first in HTTP/2 has 24 bytes and is followed by a frame head of 9.
const FIRST_BYTES: SilenceLimit = SilenceLimit::FirstBytes(33, Duration::from_secs(10));
/// How long to wait when the system cannot accept, as without free file descriptors.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// An accepted connection, which gathers the answers of one turn of the scheduler.
type Connection = PermitStream<TurnStream<TcpStream, CallPermits>>;

/// Accepts connections. Where all permits are taken by connections in use, new ones are closed at once, so that the
/// caller's balancer looks elsewhere.
pub(super) struct Incoming {
    listener: TcpListener,
    limit: ConnectionLimit,
    calls: CallPermits,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// The calls in flight tell whether the answers of a connection are worth gathering.
    pub(super) fn new(listener: TcpListener, max_connections: usize, calls: CallPermits) -> Self {
        Self { listener, limit: ConnectionLimit::new(max_connections, GivesWay::Unused), calls, pause: None }
    }

    fn take_in(&self, stream: TcpStream) -> Option<Connection> {
        let Some(connection) = self.limit.admit() else {
            tracing::warn!("connection refused: too many are open");
            return None;
        };
        // Answers are single small frames; waiting for more to send only delays them. Fails on a dead connection only.
        let _ = stream.set_nodelay(true);
        Some(PermitStream::new(TurnStream::new(stream, self.calls.clone()), connection, FIRST_BYTES))
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    if let Some(connection) = self.take_in(stream) {
                        return Poll::Ready(Some(Ok(connection)));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(tokio::time::sleep(AFTER_ACCEPT_ERROR)));
                }
            }
        }
    }
}

impl Connected for Connection {
    /// In the extensions of every request.
    type ConnectInfo = Arc<OpenConnection>;

    fn connect_info(&self) -> Arc<OpenConnection> {
        Arc::clone(self.connection())
    }
}
