//! A server that answers every call with one status, of the test's choice.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Status, body::Body, server::NamedService, transport::Server};
use tower::Service;

/// Serves until dropped.
pub(crate) struct Refusing {
    pub(crate) port: u16,
    status: Arc<Mutex<Status>>,
    _serving: AbortOnDropHandle<()>,
}

impl Refusing {
    pub(crate) async fn start() -> Self {
        let status = Arc::new(Mutex::new(Status::internal("none was chosen")));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::builder().add_service(Refuse(Arc::clone(&status)));
        let serving = TaskTracker::new().spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { port, status, _serving: AbortOnDropHandle::new(serving) }
    }

    /// From the next call on.
    pub(crate) fn choose(&self, status: Status) {
        *self.status.lock().unwrap() = status;
    }
}

#[derive(Clone)]
struct Refuse(Arc<Mutex<Status>>);

impl NamedService for Refuse {
    const NAME: &'static str = "otp.v1.OtpService";
}

impl Service<http::Request<Body>> for Refuse {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        ready(Ok(self.0.lock().unwrap().clone().into_http()))
    }
}
