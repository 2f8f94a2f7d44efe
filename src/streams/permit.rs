//! An accepted connection: it holds a permit for as long as it lives, and reading from it fails once the other side has
//! been silent for too long.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

/// How long the other side may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SilenceLimit {
    /// Before each read.
    Always(Duration),
    /// Until so many bytes have come; then without a limit.
    FirstBytes(usize, Duration),
}

/// A stream with its permit.
pub(crate) struct PermitStream<S> {
    stream: S,
    /// Given back when the connection is dropped.
    _permit: Option<OwnedSemaphorePermit>,
    silence: Option<Silence>,
}

/// A limit that runs.
struct Silence {
    limit: SilenceLimit,
    timer: Pin<Box<Sleep>>,
}

impl<S> PermitStream<S> {
    pub(crate) fn new(stream: S, permit: Option<OwnedSemaphorePermit>, limit: SilenceLimit) -> Self {
        let (SilenceLimit::Always(span) | SilenceLimit::FirstBytes(_, span)) = limit;
        Self { stream, _permit: permit, silence: Some(Silence { limit, timer: Box::pin(sleep(span)) }) }
    }

    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl Silence {
    /// So many bytes have come. Returns whether the limit still runs.
    fn heard(&mut self, bytes: usize) -> bool {
        match &mut self.limit {
            SilenceLimit::Always(span) => self.timer.set(sleep(*span)),
            SilenceLimit::FirstBytes(left, _) => *left = left.saturating_sub(bytes),
        }
        !matches!(self.limit, SilenceLimit::FirstBytes(0, _))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PermitStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(silence) = &mut self.silence else { return read };
        if read.is_pending() {
            ready!(silence.timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if !silence.heard(buffer.filled().len() - before) {
            self.silence = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PermitStream<S> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Semaphore,
    };

    use super::*;

    const SPAN: Duration = Duration::from_secs(10);

    fn accepted(limit: SilenceLimit) -> (DuplexStream, PermitStream<DuplexStream>) {
        let (peer, stream) = duplex(64);
        (peer, PermitStream::new(stream, None, limit))
    }

    #[tokio::test(start_paused = true)]
    async fn each_read_has_its_own_limit() {
        let (mut peer, mut stream) = accepted(SilenceLimit::Always(SPAN));
        for _ in 0..3 {
            let (_, read) = tokio::join!(
                async {
                    sleep(SPAN * 9 / 10).await;
                    peer.write_all(b"x").await
                },
                stream.read_u8()
            );
            assert_eq!(read.unwrap(), b'x');
        }
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_bytes_are_waited_for() {
        let (mut peer, mut stream) = accepted(SilenceLimit::FirstBytes(2, SPAN));
        peer.write_all(b"x").await.unwrap();
        stream.read_u8().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut peer, mut stream) = accepted(SilenceLimit::FirstBytes(2, SPAN));
        peer.write_all(b"xy").await.unwrap();
        stream.read_u16().await.unwrap();
        assert!(tokio::time::timeout(100 * SPAN, stream.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn the_permit_comes_back_with_the_end_of_the_connection() {
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::clone(&permits).try_acquire_owned().ok();
        let stream = PermitStream::new(duplex(1).0, permit, SilenceLimit::Always(SPAN));
        assert_eq!(permits.available_permits(), 0);
        drop(stream);
        assert_eq!(permits.available_permits(), 1);
    }
}
