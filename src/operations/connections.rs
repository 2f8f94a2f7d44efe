//! Connections of the operations server: a bounded number, none silent for long. `axum::serve` bounds neither.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::{
    ports::observer::{ListenerName, ListenerObserver},
    streams::{
        counted::CountedConnection,
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
    observer: Arc<dyn ListenerObserver>,
}

/// A connection, counted as long as it is open.
pub(super) struct CountedStream {
    stream: PermitStream<TcpStream>,
    _counted: CountedConnection,
}

impl Connections {
    pub(super) fn of(listener: TcpListener, observer: Arc<dyn ListenerObserver>) -> Self {
        Self { listener, limit: ConnectionLimit::new(MAX_CONNECTIONS, GivesWay::Silent), observer }
    }
}

impl Listener for Connections {
    type Io = CountedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let Some(connection) = self.limit.admit(Some(address.ip())) else {
                self.observer.connection_refused(ListenerName::Operations);
                continue;
            };
            let counted = CountedConnection::open(ListenerName::Operations, &self.observer);
            let stream = PermitStream::new(stream, connection, SilenceLimit::Always(MAX_SILENCE));
            return (CountedStream { stream, _counted: counted }, address);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
