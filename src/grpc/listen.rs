//! Accepted connections, bounded: so many at once, and each must say within a while that it speaks HTTP/2. Beyond that
//! the keepalive of HTTP/2 finds the dead ones, and those that do nothing give way to new ones.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

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

/// The bytes of a connection, which gathers the answers of one turn of the scheduler.
pub(super) type ConnectionStream = TurnStream<PermitStream<TcpStream>, CallPermits>;

/// Accepts connections. Where all permits are taken by connections with calls at work, new ones are closed at once, so
/// that the caller's balancer looks elsewhere.
pub(super) struct Incoming {
    listener: TcpListener,
    limit: ConnectionLimit,
    calls: CallPermits,
}

impl Incoming {
    /// The calls in flight tell whether the answers of a connection are worth gathering.
    pub(super) fn new(listener: TcpListener, max_connections: usize, calls: CallPermits) -> Self {
        Self { listener, limit: ConnectionLimit::new(max_connections, GivesWay::Idle), calls }
    }

    /// The next connection. Nothing is lost when it is not waited for to the end.
    pub(super) async fn next(&mut self) -> (ConnectionStream, Arc<OpenConnection>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let Some(connection) = self.limit.admit(Some(address.ip())) else {
                        tracing::warn!(target: "otpd::wire", "a connection is refused: too many are open");
                        continue;
                    };
                    // Answers are single small frames; waiting for more to send only delays them. Fails on a dead
                    // connection only.
                    let _ = stream.set_nodelay(true);
                    let stream = PermitStream::new(stream, Arc::clone(&connection), FIRST_BYTES);
                    return (TurnStream::new(stream, self.calls.clone()), connection);
                }
                Err(error) => {
                    tracing::warn!(target: "otpd::wire", %error, "cannot accept a connection");
                    sleep(AFTER_ACCEPT_ERROR).await;
                }
            }
        }
    }
}
