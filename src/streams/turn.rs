//! A stream that writes once per turn of the scheduler: what several tasks write at about the same time leaves in one
//! system call.
//!
//! HTTP/2 and redis-rs flush after each frame or command, because their task runs again before the next task has
//! produced anything. A flush here first lets the other tasks run, and then writes what all of them have added. That
//! costs one more poll, so it is only done while other work is about to write to the stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that waits to be written. More is passed on before anything is added.
const MAX_BUFFERED: usize = 64 * 1024;
/// What an idle stream keeps of its buffer: enough for the answers of a quiet connection.
const KEPT_WHEN_IDLE: usize = 1024;

/// Knows whether other work is about to write to the same stream.
pub(crate) trait Busy {
    fn is_busy(&self) -> bool;
}

/// A stream with a buffer in front of it. The buffer is empty whenever a flush has ended.
pub(crate) struct TurnStream<S, B> {
    stream: S,
    busy: B,
    buffer: Vec<u8>,
    /// The flush has let others run once; it writes when it is polled again.
    gave_way: bool,
}

impl<S, B> TurnStream<S, B> {
    pub(crate) fn new(stream: S, busy: B) -> Self {
        Self { stream, busy, buffer: Vec::new(), gave_way: false }
    }
}

impl<S: AsyncWrite + Unpin, B: Busy> TurnStream<S, B> {
    /// Whether so many bytes join the buffer. Those that do not go to the stream itself, once the buffer is empty.
    fn gathers(&self, length: usize) -> bool {
        length < MAX_BUFFERED && (!self.buffer.is_empty() || self.busy.is_busy())
    }

    /// Makes room for so many bytes, or for all.
    fn poll_room(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<()>> {
        if self.buffer.len() + length <= MAX_BUFFERED { Poll::Ready(Ok(())) } else { self.poll_drain(cx) }
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.buffer.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.buffer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.buffer.drain(..written);
        }
        self.buffer.shrink_to(KEPT_WHEN_IDLE);
        self.gave_way = false;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin, B: Unpin> AsyncRead for TurnStream<S, B> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, B: Busy + Unpin> AsyncWrite for TurnStream<S, B> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.gathers(bytes.len()) {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        }
        ready!(self.poll_room(cx, bytes.len()))?;
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !self.gathers(length) {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        ready!(self.poll_room(cx, length))?;
        for slice in slices {
            self.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.buffer.is_empty() && !self.gave_way && self.busy.is_busy() {
            self.gave_way = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Wake, Waker},
        time::Duration,
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;

    /// Takes at most so many bytes per write, and remembers each write.
    #[derive(Default)]
    struct Sink {
        writes: Vec<Vec<u8>>,
        /// What it takes before it is full; `None`: everything.
        room: Option<usize>,
    }

    impl AsyncWrite for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let taken = self.room.map_or(bytes.len(), |room| room.min(bytes.len()));
            if taken == 0 {
                return Poll::Pending;
            }
            self.room = self.room.map(|room| room - taken);
            self.writes.push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Busy for &Cell<bool> {
        fn is_busy(&self) -> bool {
            self.get()
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls with a waker that counts.
    fn with_context<T>(counter: &Arc<Wakes>, poll: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = Waker::from(Arc::clone(counter));
        poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn a_busy_stream_writes_once_for_all_that_was_added_in_between() {
        let (busy, wakes) = (Cell::new(true), Arc::default());
        let mut stream = TurnStream::new(Sink::default(), &busy);
        with_context(&wakes, |cx| {
            assert!(Pin::new(&mut stream).poll_write(cx, b"a").is_ready());
            assert!(Pin::new(&mut stream).poll_flush(cx).is_pending());
            assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
            let slices = [IoSlice::new(b"b"), IoSlice::new(b"c")];
            assert!(matches!(Pin::new(&mut stream).poll_write_vectored(cx, &slices), Poll::Ready(Ok(2))));
            assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
            assert_eq!(stream.stream.writes, [b"abc"]);
            assert!(Pin::new(&mut stream).poll_write(cx, b"d").is_ready());
            assert!(Pin::new(&mut stream).poll_flush(cx).is_pending());
        });
    }

    #[test]
    fn a_quiet_stream_writes_at_once_and_in_order() {
        let (busy, wakes) = (Cell::new(true), Arc::default());
        let mut stream = TurnStream::new(Sink::default(), &busy);
        with_context(&wakes, |cx| {
            assert!(Pin::new(&mut stream).poll_write(cx, b"a").is_ready());
            busy.set(false);
            assert!(Pin::new(&mut stream).poll_write(cx, b"b").is_ready());
            assert!(Pin::new(&mut stream).poll_flush(cx).is_ready());
            assert!(Pin::new(&mut stream).poll_write(cx, b"c").is_ready());
            assert_eq!(stream.stream.writes, [&b"ab"[..], b"c"]);
        });
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_buffer_is_bounded_and_given_back() {
        let (busy, wakes) = (Cell::new(true), Arc::default());
        let mut stream = TurnStream::new(Sink { room: Some(10), ..Sink::default() }, &busy);
        let block = [7; 1000];
        with_context(&wakes, |cx| {
            let taken = (0..100).take_while(|_| Pin::new(&mut stream).poll_write(cx, &block).is_ready()).count();
            assert_eq!(taken, MAX_BUFFERED / block.len());
            // One of more than the whole buffer is never copied.
            assert!(Pin::new(&mut stream).poll_write(cx, &vec![7; 2 * MAX_BUFFERED]).is_pending());
            assert!(stream.buffer.len() <= MAX_BUFFERED);
            stream.stream.room = None;
            assert!(Pin::new(&mut stream).poll_shutdown(cx).is_ready());
            assert_eq!(stream.stream.writes.concat().len(), taken * block.len());
            assert!(stream.buffer.capacity() <= KEPT_WHEN_IDLE);
        });
    }

    struct Always;

    impl Busy for Always {
        fn is_busy(&self) -> bool {
            true
        }
    }

    /// The reader takes less than a write brings, so that every way through the buffer is taken.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_or_left_behind_when_the_reader_is_slow() {
        const WRITES: usize = 2_000;
        let (ours, mut theirs) = duplex(1_000);
        let mut stream = TurnStream::new(ours, Always);
        let block: Vec<u8> = (0..=u8::MAX).cycle().take(MAX_BUFFERED / 2).collect();
        let lengths = || (0..WRITES).map(|write| 1 + write * 37 % 3_000);
        let writing = async {
            for length in lengths() {
                stream.write_all(&block[..length]).await.unwrap();
                stream.flush().await.unwrap();
                assert!(stream.buffer.is_empty());
            }
        };
        let reading = async {
            let mut seen = vec![0; block.len()];
            for length in lengths() {
                theirs.read_exact(&mut seen[..length]).await.unwrap();
                assert_eq!(seen[..length], block[..length]);
            }
        };
        timeout(Duration::from_secs(60), async { tokio::join!(writing, reading) }).await.unwrap();
    }
}
