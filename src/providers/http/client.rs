//! One HTTP exchange, and where it failed: before anything was sent, or at a point from which nobody can tell.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::time::timeout_at;

use super::{Inbound, Outbound};
use crate::ports::clock::Deadline;

/// Idle connections are kept this long; most servers close theirs after a minute.
const IDLE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was sent: no name, no connection, no TLS, or no time before the body left.
    NothingSent(&'static str),
    /// Something may have arrived.
    Unknown(&'static str),
}

/// Connections to one provider.
pub(super) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Watched>,
    connect_timeout: Duration,
}

impl Client {
    pub(super) fn new(tls: rustls::ClientConfig, connect_timeout: Duration, max_idle: usize) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(max_idle)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { pool, connect_timeout }
    }

    /// Sends a request and reads the whole answer, until the deadline.
    pub(super) async fn exchange(&self, outbound: &Outbound, deadline: Deadline) -> Result<Inbound, Failure> {
        let left = Arc::new(AtomicBool::new(false));
        let request = request(outbound, &left).ok_or(Failure::NothingSent("the request is malformed"))?;
        let fate = |reason| {
            if left.load(Ordering::Acquire) || outbound.body.expose().is_empty() {
                Failure::Unknown(reason)
            } else {
                Failure::NothingSent(reason)
            }
        };
        let mut asking = self.pool.request(request);
        let connect_by = deadline.at_most(self.connect_timeout);
        let answered = match timeout_at(connect_by.instant(), &mut asking).await {
            Ok(answered) => answered,
            Err(_) if !left.load(Ordering::Acquire) => return Err(Failure::NothingSent("no connection in time")),
            Err(_) => timeout_at(deadline.instant(), asking).await.map_err(|_| fate("no answer in time"))?,
        };
        let answer = answered.map_err(|error| {
            if error.is_connect() { Failure::NothingSent("no connection") } else { fate("the connection broke") }
        })?;
        let (head, body) = answer.into_parts();
        let read = timeout_at(deadline.instant(), Limited::new(body, Inbound::MAX_BODY).collect()).await;
        let body = read.map_err(|_| Failure::Unknown("the answer was too slow"))?;
        let body = body.map_err(|_| Failure::Unknown("the answer was cut off or too long"))?;
        Ok(Inbound { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes().to_vec() })
    }
}

fn request(outbound: &Outbound, left: &Arc<AtomicBool>) -> Option<Request<Watched>> {
    let mut request = Request::builder().method(&outbound.method).uri(outbound.url.expose());
    let agent = concat!("otpd/", env!("CARGO_PKG_VERSION"));
    request = request.header(header::USER_AGENT, agent).header(header::ACCEPT, "application/json, */*;q=0.1");
    for (name, value) in &outbound.headers {
        let mut value = HeaderValue::from_str(value.expose()).ok()?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let body = Bytes::copy_from_slice(outbound.body.expose());
    request.body(Watched { body: Some(body), left: Arc::clone(left) }).ok()
}

/// A body that notes when it leaves: from then on nobody can prove that nothing was sent.
struct Watched {
    body: Option<Bytes>,
    left: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.left.store(true, Ordering::Release);
        let body = self.body.take().filter(|body| !body.is_empty());
        Poll::Ready(body.map(|body| Ok(Frame::data(body))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.as_ref().map_or(0, |body| u64::try_from(body.len()).unwrap_or(u64::MAX)))
    }
}
