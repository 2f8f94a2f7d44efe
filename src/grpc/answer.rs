//! The body of an answer on its way to the caller: it counts as untaken until it has been written, and a stream that stays
//! open ends at its limits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep, sleep_until};
use tonic::{Status, body::Body};

use super::{rewrite::rewrite_trailers, status};
use crate::{
    ports::clock::Deadline,
    streams::{
        limit::{OpenCall, OpenStream},
        untaken::Untaken,
    },
};

/// An answer that is written.
pub(super) struct AnswerBody {
    body: Body,
    kind: AnswerKind,
    _untaken: Untaken,
    _open: OpenCall,
}

enum AnswerKind {
    /// Of the contract: what the framework says of it is rewritten.
    Contract,
    /// Of health or reflection, whose statuses are their own.
    Framework,
    /// The same, of a stream that stays open.
    Stream(Box<StreamLimits>),
    /// A stream that was ended.
    Ended,
}

/// When a stream that stays open ends, however often there is something to say.
pub(super) struct StreamLimits {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
    /// How long a byte keeps the next message back.
    pause_per_byte: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// Given back when the stream ends.
    _permits: (OpenStream, Option<Arc<tokio::sync::OwnedSemaphorePermit>>),
}

impl StreamLimits {
    pub(super) fn new(
        until: Deadline,
        max_bytes: usize,
        pause_per_byte: Duration,
        permits: (OpenStream, Option<Arc<tokio::sync::OwnedSemaphorePermit>>),
    ) -> Self {
        let until = Box::pin(sleep_until(until.instant()));
        Self { until, bytes_left: max_bytes, pause_per_byte, pause: None, _permits: permits }
    }

    /// Ready with an error when the stream is over, and without one when the next message may go.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        if self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(status::stream_over()));
        }
        if self.bytes_left == 0 {
            return Poll::Ready(Err(status::overloaded()));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(Ok(()))
    }

    fn note(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        let pause = self.pause_per_byte.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        if !pause.is_zero() {
            self.pause = Some(Box::pin(sleep(pause)));
        }
    }
}

impl AnswerBody {
    pub(super) fn of_contract(body: Body, open: OpenCall) -> Self {
        Self::new(body, AnswerKind::Contract, open)
    }

    pub(super) fn of_framework(body: Body, open: OpenCall) -> Self {
        Self::new(body, AnswerKind::Framework, open)
    }

    pub(super) fn of_stream(body: Body, limits: StreamLimits, open: OpenCall) -> Self {
        Self::new(body, AnswerKind::Stream(Box::new(limits)), open)
    }

    fn new(body: Body, kind: AnswerKind, mut open: OpenCall) -> Self {
        open.mark_answered();
        Self { body, kind, _untaken: Untaken::on(open.connection()), _open: open }
    }

    /// The stream ends with a status of ours.
    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.kind = AnswerKind::Ended;
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        // Our texts are plain ASCII, so this cannot fail; without a status the caller sees UNKNOWN.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let AnswerKind::Stream(limits) = &mut self.kind
            && let Err(over) = ready!(limits.poll(cx))
        {
            return Poll::Ready(Some(Ok(self.end(&over))));
        }
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else { return Poll::Ready(None) };
        match (&mut self.kind, frame.data_ref()) {
            (AnswerKind::Stream(limits), Some(data)) => limits.note(data.len()),
            // A failure after the headers: the answer could not be encoded, which is our fault.
            (AnswerKind::Contract, None) => {
                let rewritten = frame.into_trailers().map(|trailers| Frame::trailers(rewrite_trailers(trailers)));
                return Poll::Ready(Some(Ok(rewritten.unwrap_or_else(|frame| frame))));
            }
            _ => {}
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
