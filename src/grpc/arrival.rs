//! Messages that arrive. A call is admitted once its message is there, so that a caller who sends headers and nothing else
//! takes no permit from others. What has arrived in part is bounded over all calls: where it is too much, the call that has
//! waited the longest is shed. Most messages are there at once, and cost nothing here.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use bytes::Bytes;
use http_body::Body;
use tokio::sync::Semaphore;

use crate::streams::signal::Signal;

/// What all calls that wait for the rest of their message may take.
const MAX_WAITING_BYTES: usize = 24 * 1024 * 1024;
/// What a call takes that has sent its headers only: the stream, its task, its timer.
const STREAM_BYTES: usize = 6 * 1024;

/// Calls that are refused and wait for the end of their request. They are strangers', and take nothing from others: of the calls that
/// may be open they are a small part.
const MAX_REFUSED_WAITING: usize = 256;

/// The calls that wait for the rest of their message.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrivals(Arc<Mutex<PartialMessages>>);

#[derive(Debug, Default)]
struct PartialMessages {
    next: u64,
    bytes: usize,
    /// In the order of their arrival: what each takes, and how it is told to end.
    calls: BTreeMap<u64, (usize, Arc<Signal>)>,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoMessage {
    /// It is larger than it may be.
    TooLarge,
    /// The caller has gone, or broken the protocol.
    Broken,
    /// Others wait, and this one has waited the longest.
    Shed,
}

/// A call among those that wait.
struct PartialMessage<'a> {
    arrivals: &'a Arrivals,
    number: u64,
    shed: Arc<Signal>,
}

impl Arrivals {
    /// The whole body, of at most `max` bytes.
    pub(super) async fn whole<B: Body<Data = Bytes> + Unpin>(
        &self,
        mut body: B,
        max: usize,
    ) -> Result<Bytes, NoMessage> {
        let (mut first, mut more) = (Bytes::new(), Vec::new());
        let mut partial: Option<PartialMessage<'_>> = None;
        loop {
            let arrived = first.len() + more.len();
            let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => {
                    let partial = partial.get_or_insert_with(|| self.enter());
                    partial.note(arrived);
                    partial.shed.poll(cx).map(|()| Err(NoMessage::Shed))
                }
            });
            let Some(frame) = frame.await? else { break };
            let Ok(data) = frame.map_err(|_| NoMessage::Broken)?.into_data() else { continue };
            if arrived + data.len() > max {
                return Err(NoMessage::TooLarge);
            }
            if arrived == 0 {
                first = data;
            } else {
                more.extend_from_slice(&data);
            }
        }
        Ok(if more.is_empty() { first } else { [first.as_ref(), &more].concat().into() })
    }

    fn enter(&self) -> PartialMessage<'_> {
        let shed = Arc::new(Signal::default());
        let mut waiting = self.waiting();
        let number = waiting.next;
        waiting.next += 1;
        waiting.calls.insert(number, (0, Arc::clone(&shed)));
        PartialMessage { arrivals: self, number, shed }
    }

    fn waiting(&self) -> MutexGuard<'_, PartialMessages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bodies of calls that are refused.
#[derive(Debug)]
pub(super) struct RefusedBodies(Semaphore);

impl Default for RefusedBodies {
    fn default() -> Self {
        Self(Semaphore::new(MAX_REFUSED_WAITING))
    }
}

impl RefusedBodies {
    /// Reads a body of at most `max` bytes to its end, and keeps nothing of it. Where too many wait, what is there must be enough.
    pub(super) async fn discard<B: Body<Data = Bytes> + Unpin>(&self, mut body: B, max: usize) {
        let (mut read, mut waiting) = (0, None);
        while read <= max {
            let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                Poll::Pending if waiting.is_none() => {
                    waiting = self.0.try_acquire().ok();
                    if waiting.is_some() { Poll::Pending } else { Poll::Ready(None) }
                }
                polled => polled,
            });
            let Some(Ok(frame)) = frame.await else { return };
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    }
}

impl PartialMessage<'_> {
    /// So much of the message has arrived.
    fn note(&self, arrived: usize) {
        let takes = arrived + STREAM_BYTES;
        let mut waiting = self.arrivals.waiting();
        let Some((bytes, _)) = waiting.calls.get_mut(&self.number) else { return };
        let before = std::mem::replace(bytes, takes);
        waiting.bytes = waiting.bytes - before + takes;
        while waiting.bytes > MAX_WAITING_BYTES
            && let Some((_, (bytes, shed))) = waiting.calls.pop_first()
        {
            waiting.bytes -= bytes;
            shed.raise();
        }
    }
}

impl Drop for PartialMessage<'_> {
    fn drop(&mut self) {
        let mut waiting = self.arrivals.waiting();
        if let Some((bytes, _)) = waiting.calls.remove(&self.number) {
            waiting.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Frame;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    type Chunk = Result<Frame<Bytes>, std::convert::Infallible>;

    fn in_parts() -> (mpsc::UnboundedSender<Chunk>, impl Body<Data = Bytes> + Unpin) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, StreamBody::new(UnboundedReceiverStream::new(receiver)))
    }

    fn chunk(length: usize) -> Frame<Bytes> {
        Frame::data(vec![7; length].into())
    }

    #[tokio::test]
    async fn a_message_is_taken_whole_up_to_its_bound() {
        let arrivals = Arrivals::default();
        assert_eq!(arrivals.whole(Full::new(Bytes::from_static(b"all")), 3).await.unwrap(), "all");
        assert_eq!(arrivals.whole(Full::new(Bytes::from_static(b"more")), 3).await, Err(NoMessage::TooLarge));
        for (lengths, expected) in [(&[][..], Ok(0)), (&[1, 2, 3], Ok(6)), (&[6, 1], Err(NoMessage::TooLarge))] {
            let (sender, body) = in_parts();
            for length in lengths {
                sender.send(Ok(chunk(*length))).unwrap();
            }
            drop(sender);
            assert_eq!(arrivals.whole(body, 6).await.map(|message| message.len()), expected);
        }
        let broken = Full::new(Bytes::new())
            .map_err(|never| match never {})
            .with_trailers(async { Some(Err(std::io::Error::other("cut"))) });
        assert_eq!(arrivals.whole(Box::pin(broken), 6).await, Err(NoMessage::Broken));
        assert!(arrivals.waiting().calls.is_empty());
    }

    #[tokio::test]
    async fn so_many_refused_calls_wait_for_their_end_and_no_more() {
        let refused = RefusedBodies::default();
        let mut waiting = Vec::new();
        for _ in 0..MAX_REFUSED_WAITING {
            let (sender, body) = in_parts();
            let mut discarded = Box::pin(refused.discard(body, 10));
            assert!(poll_fn(|cx| Poll::Ready(discarded.as_mut().poll(cx).is_pending())).await);
            waiting.push((sender, discarded));
        }
        // Nothing more comes of it, and it is not waited for.
        let (_sender, body) = in_parts();
        refused.discard(body, 10).await;
        // It ends, or is too long, and others may wait.
        let (sender, ended) = waiting.pop().unwrap();
        drop(sender);
        ended.await;
        let (sender, too_long) = waiting.pop().unwrap();
        sender.send(Ok(chunk(11))).unwrap();
        too_long.await;
        assert_eq!(refused.0.available_permits(), 2);
        drop(waiting);
        assert_eq!(refused.0.available_permits(), MAX_REFUSED_WAITING);
    }

    #[tokio::test]
    async fn where_too_much_waits_the_first_is_shed() {
        let arrivals = Arrivals::default();
        let part = MAX_WAITING_BYTES / 4;
        let (first, body) = in_parts();
        first.send(Ok(chunk(part))).unwrap();
        let oldest = arrivals.whole(body, usize::MAX);
        let others = async {
            let mut waiting = Vec::new();
            for _ in 0..3 {
                let (sender, body) = in_parts();
                sender.send(Ok(chunk(part))).unwrap();
                let mut whole = Box::pin(arrivals.whole(body, usize::MAX));
                assert!(poll_fn(|cx| Poll::Ready(whole.as_mut().poll(cx).is_pending())).await);
                waiting.push((sender, whole));
            }
            assert_eq!(arrivals.waiting().calls.len(), 3);
            for (sender, whole) in waiting {
                drop(sender);
                assert_eq!(whole.await.unwrap().len(), part);
            }
        };
        let (shed, ()) = tokio::join!(oldest, others);
        assert_eq!(shed, Err(NoMessage::Shed));
        assert_eq!(arrivals.waiting().bytes, 0);
    }
}
