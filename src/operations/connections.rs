//! Connections of the operations server: a bounded number, none silent for long. `axum::serve` bounds neither.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::serve::Listener;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::streams::permit::{PermitStream, SilenceLimit};

const MAX_CONNECTIONS: usize = 256;

/// Longer than the intervals of most scrapers, which keep their connections.
const MAX_SILENCE: Duration = Duration::from_secs(90);

/// Accepts a connection when there is a permit for it.
pub(super) struct Connections {
    listener: TcpListener,
    permits: Arc<Semaphore>,
}

impl Connections {
    pub(super) fn of(listener: TcpListener) -> Self {
        Self { listener, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for Connections {
    type Io = PermitStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // The semaphore is never closed; if it were, connections would be served without a bound.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (PermitStream::new(stream, permit, SilenceLimit::Always(MAX_SILENCE)), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
