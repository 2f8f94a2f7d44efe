//! Accepted connections, bounded: so many at once, and each must say within a while that it speaks HTTP/2. Beyond that
//! the keepalive of HTTP/2 finds the dead ones.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Sleep,
};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::shed::CallPermits;
use crate::streams::turn::TurnStream;

/// How long a new connection may take for its first bytes.
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(10);
/// What the client sends first in HTTP/2 has 24 bytes and is followed by a frame head of 9.
const FIRST_BYTES: usize = 33;
/// How long to wait when the system cannot accept, as without free file descriptors.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// Accepts connections while there is room, and closes those for which there is none at once, so that the caller's
/// balancer looks elsewhere.
pub(super) struct Incoming {
    listener: TcpListener,
    permits: Arc<Semaphore>,
    calls: CallPermits,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// The calls in flight tell whether the answers of a connection are worth gathering.
    pub(super) fn new(listener: TcpListener, max_connections: usize, calls: CallPermits) -> Self {
        let max = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Self { listener, permits: Arc::new(Semaphore::new(max)), calls, pause: None }
    }

    fn take_in(&self, stream: TcpStream) -> Option<Connection> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            tracing::warn!("connection refused: too many are open");
            return None;
        };
        // Answers are single small frames; waiting for more to send only delays them. Fails on a dead connection only.
        let _ = stream.set_nodelay(true);
        Some(Connection {
            stream: TurnStream::new(stream, self.calls.clone()),
            _permit: permit,
            first: Some(FirstBytes { left: FIRST_BYTES, timer: Box::pin(tokio::time::sleep(FIRST_BYTES_WITHIN)) }),
        })
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

/// An accepted connection.
pub(super) struct Connection {
    stream: TurnStream<TcpStream, CallPermits>,
    _permit: OwnedSemaphorePermit,
    first: Option<FirstBytes>,
}

struct FirstBytes {
    left: usize,
    timer: Pin<Box<Sleep>>,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let Some(first) = &mut self.first else { return read };
        match read {
            Poll::Ready(read) => {
                first.left = first.left.saturating_sub(buf.filled().len() - before);
                if first.left == 0 {
                    self.first = None;
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(first.timer.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}
