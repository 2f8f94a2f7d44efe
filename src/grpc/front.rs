//! What every call passes before the generated code sees it, and its answer on the way back: call log, shedding,
//! deadline, rewriting. Health and reflection pass untouched.

use std::{
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    call::Call,
    call_log::{CallObserver, OpenCall},
    deadline::RequestTime,
    method::Target,
    rewrite::rewrite,
    shed::{Admission, Place, Places},
    status,
};

/// Puts the front before a service.
#[derive(Clone)]
pub(crate) struct FrontLayer {
    pub(crate) places: Places,
    pub(crate) time: RequestTime,
    pub(crate) max_message_bytes: usize,
    pub(crate) observer: Arc<dyn CallObserver>,
}

impl<S> Layer<S> for FrontLayer {
    type Service = Front<S>;

    fn layer(&self, inner: S) -> Front<S> {
        Front { rules: self.clone(), inner }
    }
}

/// A service behind the front.
#[derive(Clone)]
pub(crate) struct Front<S> {
    rules: FrontLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let target = Target::of(request.uri().path());
        if target == Target::Framework {
            return Box::pin(self.inner.call(request));
        }
        let open = OpenCall::start(target, Arc::clone(&self.rules.observer));
        match self.rules.places.admit(target) {
            Admission::Admitted(place) => self.pass(request, target, open, Some(place)),
            Admission::Exempt => self.pass(request, target, open, None),
            Admission::Shed => {
                let shed = status::overloaded();
                open.end(Some(&shed));
                Box::pin(future::ready(Ok(shed.into_http())))
            }
        }
    }
}

impl<S> Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    fn pass(
        &mut self,
        mut request: Request<Body>,
        target: Target,
        open: OpenCall,
        place: Option<Place>,
    ) -> <Self as Service<Request<Body>>>::Future {
        let deadline = self.rules.time.deadline(request.headers());
        let notes = Arc::clone(&open.notes);
        request.extensions_mut().insert(Call { target, deadline, place, notes });
        let answer = self.inner.call(request);
        let max_message_bytes = self.rules.max_message_bytes;
        Box::pin(async move {
            // The deadline covers reading the request, too: a caller may send its headers and then nothing.
            let response = match tokio::time::timeout_at(deadline.instant(), answer).await {
                Ok(answer) => answer?,
                Err(_) => status::deadline_exceeded().into_http(),
            };
            let (response, failure) = rewrite(response, max_message_bytes);
            open.end(failure.as_ref());
            Ok(response)
        })
    }
}
