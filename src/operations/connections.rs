//! Connections of the operations server: a bounded number, none silent for long. `axum::serve` bounds neither.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    ports::observer::{ListenerName, ListenerObserver},
    streams::{
        limit::{ConnectionLimit, GivesWay},
        permit::{PermitStream, SilenceLimit},
    },
};

const MAX_CONNECTIONS: usize = 256;

/// Longer than the intervals of most scrapers, which keep their connections.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// Accepts connections; those that have been silent the longest give way to new ones.
pub(super) struct Connections {
    listener: TcpListener,
    limit: ConnectionLimit,
}

impl Connections {
    pub(super) fn of(listener: TcpListener, observer: Arc<dyn ListenerObserver>) -> Self {
        let observer = Some((ListenerName::Operations, observer));
        Self { listener, limit: ConnectionLimit::new(MAX_CONNECTIONS, GivesWay::Silent, observer) }
    }
}

impl Listener for Connections {
    type Io = PermitStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            if let Some(connection) = self.limit.admit(Some(address.ip())) {
                return (PermitStream::new(stream, connection, SilenceLimit::Always(MAX_SILENCE)), address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
