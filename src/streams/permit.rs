//! An accepted connection: it holds a permit for as long as it lives, and reading from it fails once the other side has
//! been silent for too long, or another connection needs the permit.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::limit::OpenConnection;

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
    connection: Arc<OpenConnection>,
    silence: Option<Silence>,
    /// Ends when the permit is needed elsewhere; `None` once that cannot be.
    closing: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// A limit that runs.
struct Silence {
    limit: SilenceLimit,
    timer: Pin<Box<Sleep>>,
}

impl<S> PermitStream<S> {
    pub(crate) fn new(stream: S, connection: Arc<OpenConnection>, limit: SilenceLimit) -> Self {
        let (SilenceLimit::Always(span) | SilenceLimit::FirstBytes(_, span)) = limit;
        let silence = Some(Silence { limit, timer: Box::pin(sleep(span)) });
        let closing = Some(Box::pin(connection.closing()));
        Self { stream, connection, silence, closing }
    }

    pub(crate) fn connection(&self) -> &Arc<OpenConnection> {
        &self.connection
    }

    /// Ready with the reason when there is no point in waiting for the other side any longer.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<io::ErrorKind> {
        if !self.connection.may_give_way() && !self.connection.is_closing() {
            self.closing = None;
        }
        if let Some(closing) = &mut self.closing
            && closing.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(io::ErrorKind::ConnectionAborted);
        }
        match &mut self.silence {
            Some(silence) => silence.timer.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut),
            None => Poll::Pending,
        }
    }

    fn note_heard(&mut self, bytes: usize) {
        if self.closing.is_some() {
            self.connection.mark_heard();
        }
        if self.silence.as_mut().is_some_and(|silence| !silence.heard(bytes)) {
            self.silence = None;
        }
    }
}

impl<S> Drop for PermitStream<S> {
    fn drop(&mut self) {
        self.connection.close();
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
        if read.is_pending() {
            return Poll::Ready(Err(ready!(self.poll_given_up(cx)).into()));
        }
        self.note_heard(buffer.filled().len() - before);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::streams::limit::{ConnectionLimit, GivesWay};

    const SPAN: Duration = Duration::from_secs(10);

    fn accepted(limit: SilenceLimit) -> (DuplexStream, PermitStream<DuplexStream>) {
        let (peer, stream) = duplex(64);
        let connection = ConnectionLimit::new(1, GivesWay::Silent).admit().unwrap();
        (peer, PermitStream::new(stream, connection, limit))
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
        let limit = ConnectionLimit::new(1, GivesWay::Unused);
        let connection = limit.admit().unwrap();
        connection.mark_used();
        let stream = PermitStream::new(duplex(1).0, connection, SilenceLimit::Always(SPAN));
        assert!(limit.admit().is_none());
        drop(stream);
        assert!(limit.admit().is_some());
    }

    #[tokio::test]
    async fn a_connection_that_gives_way_ends() {
        let limit = ConnectionLimit::new(1, GivesWay::Silent);
        let (_peer, stream) = duplex(64);
        let mut stream = PermitStream::new(stream, limit.admit().unwrap(), SilenceLimit::Always(SPAN));
        let (read, newcomer) = tokio::join!(stream.read_u8(), async { limit.admit() });
        assert!(newcomer.is_some());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
