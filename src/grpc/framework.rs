//! Health and reflection, within bounds of their own: they need no permit of the contract's calls, and take none.
//!
//! A check is answered at once. Watches and reflection are streams: a few on each connection, and each ends after a while.
//! Reflection answers with much more than it is asked with, so only a few streams of all connections are served at once, each
//! with a bound on its bytes and slowly enough that what a caller does not read stays little.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body::{Body as HttpBody, Frame};
use http_body_util::Full;
use tokio::{
    sync::Semaphore,
    time::{Sleep, sleep, sleep_until, timeout_at},
};
use tokio_util::task::TaskTracker;
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

use super::{
    answer::{AnswerBody, StreamLimits},
    arrival::{Arrivals, NoMessage},
    deadline::RequestTimeout,
    status,
};
use crate::{
    ports::clock::Deadline,
    streams::limit::{OpenCall, OpenConnection},
};

/// Streams of one connection.
const MAX_STREAMS: usize = 16;
/// Checks at once that are answered however late the process is: probes and balancers judge it by them.
const MAX_URGENT_CHECKS: usize = 64;
/// The longest request of health.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
/// How long a check may take.
const CHECK: RequestTimeout = RequestTimeout(Duration::from_secs(5));
/// How long a watch lasts. Its caller watches anew.
const WATCH: RequestTimeout = RequestTimeout(Duration::from_secs(3600));
/// How long reflection lasts: as long as somebody who calls by hand needs for one call.
const REFLECTION: RequestTimeout = RequestTimeout(Duration::from_secs(30));
/// Streams of reflection, of all connections.
const MAX_REFLECTIONS: usize = 16;
/// What one of them may be asked and answer. The whole contract has about a tenth of it.
const MAX_ASKED_BYTES: usize = 64 * 1024;
const MAX_REFLECTED_BYTES: usize = 2 * 1024 * 1024;
/// Each answers 1 MiB a second.
const PAUSE_PER_BYTE: Duration = Duration::from_micros(1);
/// A stream that has not ended so long after its time is not read; its connection is closed.
const UNREAD: Duration = Duration::from_secs(5);

/// Answers health and reflection.
#[derive(Clone)]
pub(super) struct Framework {
    routes: Routes,
    arrivals: Arrivals,
    reflections: Arc<Semaphore>,
    urgent_checks: Arc<Semaphore>,
    /// Close connections whose streams are not read. None outlives its stream's time, and none is waited for.
    watchers: TaskTracker,
}

/// An answer, and the limits of one that is a stream.
type Answered = Result<(Response<Body>, Option<StreamLimits>), Status>;

impl Framework {
    pub(super) fn new(routes: Routes, arrivals: Arrivals) -> Self {
        Self {
            routes: routes.prepare(),
            arrivals,
            reflections: Arc::new(Semaphore::new(MAX_REFLECTIONS)),
            urgent_checks: Arc::new(Semaphore::new(MAX_URGENT_CHECKS)),
            watchers: TaskTracker::new(),
        }
    }

    /// Answers a call. Where calls of its connection come too late, all are shed but some checks.
    pub(super) async fn call<B>(self, request: Request<B>, open: OpenCall, is_too_late: bool) -> Response<AnswerBody>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let (head, body) = request.into_parts();
        let connection = Arc::clone(open.connection());
        let answered = match head.uri.path() {
            "/grpc.health.v1.Health/Check" => self.check(head, body, is_too_late).await,
            _ if is_too_late => Err(status::overloaded()),
            "/grpc.health.v1.Health/Watch" => self.watch(head, body, &connection).await,
            path if path.starts_with("/grpc.reflection.") => self.reflect(head, body, &connection).await,
            _ => self.check(head, body, false).await,
        };
        match answered {
            Ok((answer, None)) => answer.map(|body| AnswerBody::of_framework(body, open)),
            Ok((answer, Some(limits))) => answer.map(|body| AnswerBody::of_stream(body, limits, open)),
            Err(refused) => refused.into_http::<Body>().map(|body| AnswerBody::of_framework(body, open)),
        }
    }

    async fn check<B>(self, head: Parts, body: B, is_too_late: bool) -> Answered
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let urgent = Arc::clone(&self.urgent_checks).try_acquire_owned();
        if is_too_late && urgent.is_err() {
            return Err(status::overloaded());
        }
        let deadline = CHECK.deadline(&head.headers);
        Ok((self.unary(head, body, deadline).await?, None))
    }

    async fn watch<B>(self, head: Parts, body: B, connection: &Arc<OpenConnection>) -> Answered
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let opened = connection.stream(MAX_STREAMS).ok_or_else(status::overloaded)?;
        let until = WATCH.deadline(&head.headers);
        let answer = self.unary(head, body, until.at_most(CHECK.0)).await?;
        Ok((answer, Some(StreamLimits::new(until, usize::MAX, Duration::ZERO, (opened, None)))))
    }

    /// A call with one message, up to the headers of its answer.
    async fn unary<B>(mut self, head: Parts, body: B, deadline: Deadline) -> Result<Response<Body>, Status>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let answered = timeout_at(deadline.instant(), async {
            let message = self.arrivals.whole(body, MAX_MESSAGE_BYTES).await.map_err(|error| match error {
                NoMessage::Shed => status::overloaded(),
                NoMessage::TooLarge => status::too_large(MAX_MESSAGE_BYTES),
                NoMessage::Broken => status::undecodable(),
            })?;
            let body = Body::new(Full::new(message));
            Ok(infallible(self.routes.call(Request::from_parts(head, body)).await))
        });
        answered.await.unwrap_or_else(|_| Err(status::deadline_exceeded()))
    }

    async fn reflect<B>(mut self, head: Parts, body: B, connection: &Arc<OpenConnection>) -> Answered
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let opened = connection.stream(MAX_STREAMS).ok_or_else(status::overloaded)?;
        let permit = Arc::clone(&self.reflections).try_acquire_owned().map_err(|_| status::overloaded())?;
        let permit = Arc::new(permit);
        let until = REFLECTION.deadline(&head.headers);
        let asked =
            ReflectionRequests { body, until: Box::pin(sleep_until(until.instant())), bytes_left: MAX_ASKED_BYTES };
        let answer = infallible(self.routes.call(Request::from_parts(head, Body::new(asked))).await);
        let (watched, closed) = (Arc::downgrade(&permit), Arc::downgrade(connection));
        // The answer ends by itself where it is polled, which it is only while its caller takes it.
        self.watchers.spawn(async move {
            sleep(until.remaining() + UNREAD).await;
            if let (Some(_), Some(connection)) = (watched.upgrade(), closed.upgrade()) {
                connection.close();
            }
        });
        let limits = StreamLimits::new(until, MAX_REFLECTED_BYTES, PAUSE_PER_BYTE, (opened, Some(permit)));
        Ok((answer, Some(limits)))
    }
}

fn infallible<T>(answer: Result<T, Infallible>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// What reflection is asked.
struct ReflectionRequests<B> {
    body: B,
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for ReflectionRequests<B>
where
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = tonic::codegen::StdError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(status::stream_over().into())));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.bytes_left.checked_sub(bytes) else {
                return Poll::Ready(Some(Err(status::overloaded().into())));
            };
            self.bytes_left = left;
        }
        polled.map_err(Into::into)
    }
}
