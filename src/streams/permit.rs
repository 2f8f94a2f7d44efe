//! An accepted connection: it holds a permit for as long as it lives. It fails once the other side has been silent for too
//! long, does not read what is written to it, or has to give way. While nothing can be written nothing is read either, so
//! that a caller that does not read its answers cannot ask for more of them.

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

use super::limit::OpenConnection;

/// How long the other side may leave unread what fills the buffers in between.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing is read after the other side has asked for more than there is room for, or than it takes.
const PAUSE: Duration = Duration::from_millis(250);
/// So much is read at most before other tasks have a turn: a flood of small frames is long work.
const TURN_BYTES: usize = 8 * 1024;

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
    /// Runs while nothing can be written.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Reading was put off until something can be written.
    read_put_off: bool,
    /// Runs while nothing is read.
    pause: Option<Pin<Box<Sleep>>>,
    /// What was read in this turn.
    turn: usize,
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
        Self { stream, connection, silence, blocked: None, read_put_off: false, pause: None, turn: 0 }
    }

    /// Ready with the reason when there is no point in waiting for the other side any longer.
    fn poll_given_up(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.connection.poll_closing(cx).is_ready() {
            return Poll::Ready(io::ErrorKind::ConnectionAborted.into());
        }
        let silence = self.silence.as_mut().map(|silence| silence.timer.as_mut());
        let blocked = self.blocked.as_mut().map(Pin::as_mut);
        let has_passed = silence.into_iter().chain(blocked).any(|timer| timer.poll(cx).is_ready());
        if has_passed { Poll::Ready(io::ErrorKind::TimedOut.into()) } else { Poll::Pending }
    }

    /// Ready when reading may go on.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.connection.takes_pause() {
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        if self.turn < TURN_BYTES {
            return Poll::Ready(());
        }
        self.turn = 0;
        if self.connection.is_burden() {
            self.connection.pause();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn note_heard(&mut self, bytes: usize) {
        self.connection.mark_heard();
        if self.silence.as_mut().is_some_and(|silence| !silence.heard(bytes)) {
            self.silence = None;
        }
    }

    /// What came of writing. The other side has to read within [`UNREAD_TIMEOUT`].
    fn note_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            if std::mem::take(&mut self.read_put_off) {
                cx.waker().wake_by_ref();
            }
            return written;
        }
        if self.blocked.is_none() {
            self.blocked = Some(Box::pin(sleep(UNREAD_TIMEOUT)));
        }
        self.poll_given_up(cx).map(Err)
    }
}

impl<S> Drop for PermitStream<S> {
    fn drop(&mut self) {
        self.connection.end();
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
        if self.blocked.is_some() {
            self.read_put_off = true;
            return self.poll_given_up(cx).map(Err);
        }
        if self.poll_turn(cx).is_pending() {
            return self.poll_given_up(cx).map(Err);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_pending() || self.connection.is_closing() {
            self.turn = 0;
            return self.poll_given_up(cx).map(Err);
        }
        let bytes = buffer.filled().len() - before;
        self.turn += bytes;
        self.note_heard(bytes);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PermitStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.connection.note_flushed();
        }
        flushed
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
        let connection = ConnectionLimit::new(1, GivesWay::Silent, None).admit(None).unwrap();
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
        let limit = ConnectionLimit::new(1, GivesWay::Idle, None);
        let connection = limit.admit(None).unwrap();
        let work = connection.work();
        let stream = PermitStream::new(duplex(1).0, connection, SilenceLimit::Always(SPAN));
        assert!(limit.admit(None).is_none());
        drop((stream, work));
        assert!(limit.admit(None).is_some());
    }

    #[tokio::test]
    async fn a_connection_that_gives_way_ends() {
        let limit = ConnectionLimit::new(1, GivesWay::Silent, None);
        let (_peer, stream) = duplex(64);
        let mut stream = PermitStream::new(stream, limit.admit(None).unwrap(), SilenceLimit::Always(SPAN));
        let (read, newcomer) = tokio::join!(stream.read_u8(), async { limit.admit(None) });
        assert!(newcomer.is_some());
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_is_not_read_from_and_ends() {
        let (mut peer, mut stream) = accepted(SilenceLimit::FirstBytes(1, SPAN));
        peer.write_all(b"more").await.unwrap();
        let filled = stream.write_all(&[7; 100]).await;
        assert_eq!(filled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Had it been read, it would have found what the peer has said.
        let (mut peer, mut stream) = accepted(SilenceLimit::FirstBytes(1, SPAN));
        peer.write_all(b"more").await.unwrap();
        assert!(tokio::time::timeout(SPAN / 10, stream.write_all(&[7; 100])).await.is_err());
        assert!(tokio::time::timeout(SPAN / 10, stream.read_u8()).await.is_err());
        let mut taken = [0; 64];
        peer.read_exact(&mut taken).await.unwrap();
        stream.write_all(&[7; 8]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'm');
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_refused_is_not_read_for_a_while() {
        let (mut peer, mut stream) = accepted(SilenceLimit::Always(SPAN));
        peer.write_all(b"xy").await.unwrap();
        stream.connection.pause();
        assert!(tokio::time::timeout(PAUSE * 9 / 10, stream.read_u8()).await.is_err());
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        assert_eq!(stream.read_u8().await.unwrap(), b'y');
    }
}
