//! One HTTP exchange, and when it failed: before anything was sent for certain, or later.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client as Pool,
        connect::{CaptureConnection, HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout_at;
use tracing::{Instrument, Span, field::Empty};

use super::{HttpSettings, Inbound, Outbound, proxy::Connector};
use crate::{
    ports::clock::{Clock, Deadline},
    spans,
};

/// Idle connections are kept this long, a little less than servers keep theirs: the shortest usual time is 5 s (Apache, Node.js).
/// A request that is written while the server closes the connection would have an unknown outcome.
const IDLE: Duration = Duration::from_secs(4);

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 256 * 1024;

/// The most headers of an answer: a hundred, the parser's own bound, are too few behind some proxies.
const MAX_HEADERS: usize = 1000;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nothing was sent: the name was not resolved, no connection or TLS session was made, or the time ran out before the
    /// body left.
    NothingSent(&'static str),
    /// Nothing was sent, because whoever gives out credentials refuses to.
    Denied(&'static str),
    /// The connection broke before the body left.
    Dropped,
    /// The request may have arrived.
    Unknown(&'static str),
}

/// Connections to one provider.
pub(super) struct Client {
    pool: Pool<HttpsConnector<Connector>, Watched>,
    connect_timeout: Duration,
    propagates_trace: bool,
    clock: Arc<dyn Clock>,
}

/// A request that can be sent, and whether it has left.
pub(super) struct Prepared {
    request: Request<Watched>,
    trace: Trace,
}

impl Client {
    /// A client with these settings.
    ///
    /// # Errors
    /// A file of the TLS settings cannot be read.
    pub(super) fn new(settings: &HttpSettings, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let connect_timeout = settings.connect_timeout;
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        // hyper divides this among the addresses of a name, so that a dead address leaves time for the next.
        http.set_connect_timeout(Some(connect_timeout));
        let connector = Connector::new(http, settings.proxy.as_ref(), &settings.variables);
        let tls = HttpsConnectorBuilder::new().with_tls_config(settings.tls()?);
        let connector = tls.https_or_http().enable_http1().wrap_connector(connector);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.guard.max_in_flight)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(MAX_HEAD)
            // As lenient as can be: an answer that cannot be read leaves a send unconfirmed. The buffer bounds the headers.
            .http1_max_headers(MAX_HEADERS)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .build(connector);
        Ok(Self { pool, connect_timeout, propagates_trace: settings.propagate_trace, clock })
    }

    /// The clock that answers are read by.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    /// Sends a request and reads the whole answer, until the deadline.
    pub(super) async fn exchange(&self, mut prepared: Prepared, deadline: Deadline) -> Result<Inbound, NoAnswer> {
        let span = prepared.span();
        if self.propagates_trace {
            prepared.go_on_with_trace(&span);
        }
        let answer = self.ask(prepared, deadline).instrument(span.clone()).await;
        match &answer {
            Ok(answer) => drop(span.record("http.response.status_code", answer.status)),
            Err(error) => drop(span.record("error.type", error.word()).record("otel.status_code", "ERROR")),
        }
        answer
    }

    async fn ask(&self, prepared: Prepared, deadline: Deadline) -> Result<Inbound, NoAnswer> {
        let Prepared { request, trace } = prepared;
        let mut asking = self.pool.request(request);
        let connect_by = deadline.at_most(self.connect_timeout);
        let answered = match timeout_at(connect_by.instant(), &mut asking).await {
            Ok(answered) => answered,
            // The request is dropped without being polled again, so it cannot get a connection later.
            Err(_) if !trace.is_connected() => return Err(NoAnswer::NothingSent("no connection in time")),
            Err(_) => timeout_at(deadline.instant(), asking).await.map_err(|_| trace.fate("no answer in time"))?,
        };
        let answer = answered.map_err(|error| {
            // The pool repeats a request on a new connection only if none of it was written to the old one, so failing
            // to connect then still proves that nothing was sent.
            if error.is_connect() { NoAnswer::NothingSent("no connection") } else { trace.broken() }
        })?;
        let (head, body) = answer.into_parts();
        let read = timeout_at(deadline.instant(), Limited::new(body, Inbound::MAX_BODY).collect()).await;
        let body = match read {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            // What the status says by itself holds without the body; a success says nothing by itself.
            _ if !head.status.is_success() => Vec::new(),
            Ok(Err(_)) => return Err(NoAnswer::Unknown("the answer was cut off or too long")),
            Err(_) => return Err(NoAnswer::Unknown("the answer was too slow")),
        };
        let mut answer = Inbound { status: head.status.as_u16(), headers: head.headers, body };
        answer.count_retry_after_from(self.clock.now());
        Ok(answer)
    }
}

impl Prepared {
    /// `None` where a header or the URL cannot be sent.
    pub(super) fn new(outbound: &Outbound) -> Option<Self> {
        let mut request = Request::builder().method(&outbound.method).uri(outbound.url.expose());
        let agent = concat!("otpd/", env!("CARGO_PKG_VERSION"));
        request = request.header(header::USER_AGENT, agent).header(header::ACCEPT, "application/json, */*;q=0.1");
        // An answer in any other coding could not be read.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        for (name, value) in &outbound.headers {
            let mut value = HeaderValue::from_str(value.expose()).ok()?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let body = Bytes::copy_from_slice(outbound.body.expose());
        let is_bare = body.is_empty();
        if is_bare && matches!(outbound.method, Method::POST | Method::PUT | Method::PATCH) {
            // hyper leaves it out, and some servers refuse a POST without it (RFC 9110, 8.6).
            request = request.header(header::CONTENT_LENGTH, 0);
        }
        let departure = Arc::new(Departure::default());
        let mut request =
            request.body(Watched { length: body.len(), body: Some(body), departure: Arc::clone(&departure) }).ok()?;
        let connection = capture_connection(&mut request);
        Some(Self { request, trace: Trace { departure, connection, is_bare } })
    }
}

impl Prepared {
    /// Its span. Of the URL the host is told only: the rest may hold what the caller sent.
    fn span(&self) -> Span {
        let uri = self.request.uri();
        tracing::info_span!(
            target: spans::TARGET,
            "request",
            otel.name = self.request.method().as_str(),
            otel.kind = "client",
            otel.status_code = Empty,
            http.request.method = self.request.method().as_str(),
            server.address = uri.host(),
            server.port = uri.port_u16(),
            http.response.status_code = Empty,
            error.type = Empty,
        )
    }

    /// Tells the provider of the trace.
    fn go_on_with_trace(&mut self, span: &Span) {
        for (name, value) in spans::propagated(span) {
            if let Ok(value) = HeaderValue::try_from(value) {
                self.request.headers_mut().insert(name, value);
            }
        }
    }
}

impl NoAnswer {
    /// One word for traces.
    fn word(self) -> &'static str {
        match self {
            Self::NothingSent(_) | Self::Dropped => "nothing_sent",
            Self::Denied(_) => "denied",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// How far a request has got.
struct Trace {
    departure: Arc<Departure>,
    connection: CaptureConnection,
    /// Whether it has no body that could be watched leaving: then it may have left as soon as it has a connection.
    is_bare: bool,
}

impl Trace {
    /// Whether it has been given a connection, new or reused.
    fn is_connected(&self) -> bool {
        self.connection.connection_metadata().is_some()
    }

    /// Gives the request up, and says whether it can have been sent.
    fn fate(&self, reason: &'static str) -> NoAnswer {
        let stayed = if self.is_bare { !self.is_connected() } else { self.departure.give_up() };
        if stayed { NoAnswer::NothingSent(reason) } else { NoAnswer::Unknown(reason) }
    }

    /// As [`Trace::fate`], of a connection that broke.
    fn broken(&self) -> NoAnswer {
        match self.fate("the connection broke") {
            NoAnswer::NothingSent(_) => NoAnswer::Dropped,
            other => other,
        }
    }
}

/// Whether a body has left or never will: decided once. The connection runs on a task of its own, and without this common
/// decision it could send a body just after the request was declared unsent.
#[derive(Default)]
struct Departure(AtomicU8);

impl Departure {
    const WAITING: u8 = 0;
    const LEFT: u8 = 1;
    const GIVEN_UP: u8 = 2;

    /// Whether the body may leave. From then on it cannot be proven that nothing was sent.
    fn leave(&self) -> bool {
        self.decide(Self::LEFT)
    }

    /// Whether the body stays here for good.
    fn give_up(&self) -> bool {
        self.decide(Self::GIVEN_UP)
    }

    fn decide(&self, wanted: u8) -> bool {
        match self.0.compare_exchange(Self::WAITING, wanted, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(decided) => decided == wanted,
        }
    }
}

/// A body that records when it leaves, and leaves once.
struct Watched {
    body: Option<Bytes>,
    /// The length of the whole body, also after it has left: a second sending would be too short, which makes hyper abort
    /// it.
    length: usize,
    departure: Arc<Departure>,
}

/// The request was given up before its body left, or its body is to leave again.
#[derive(Debug, thiserror::Error)]
#[error("the request was given up")]
struct GivenUp;

impl Body for Watched {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if !self.departure.leave() {
            return Poll::Ready(Some(Err(GivenUp)));
        }
        Poll::Ready(self.body.take().filter(|body| !body.is_empty()).map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.length == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.length).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> (Watched, Arc<Departure>) {
        let departure = Arc::new(Departure::default());
        (Watched { body: Some(Bytes::from(text)), length: text.len(), departure: Arc::clone(&departure) }, departure)
    }

    fn poll(body: &mut Watched) -> Option<Result<Bytes, ()>> {
        match Pin::new(body).poll_frame(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(frame) => frame.map(|frame| frame.map_err(drop).map(|frame| frame.into_data().unwrap())),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_was_given_up_does_not_leave() {
        let (mut body, departure) = body("code");
        assert!(departure.give_up() && departure.give_up());
        assert_eq!(poll(&mut body), Some(Err(())));
    }

    #[test]
    fn what_has_left_cannot_be_given_up_and_leaves_once() {
        let (mut body, departure) = body("code");
        assert_eq!(poll(&mut body), Some(Ok(Bytes::from("code"))));
        assert!(!departure.give_up());
        assert_eq!(poll(&mut body), None);
        assert!(!body.is_end_stream() && body.size_hint().exact() == Some(4), "a second sending is too short");
    }
}
