//! What every call to the contract passes on its way in and out: call log, limit of calls in flight, deadline, and the
//! rewriting of the framework's own statuses. Health and reflection go to the framework untouched.

use std::{
    convert::Infallible,
    future::{self, Future},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::{Status, body::Body, service::Routes};
use tower::Service;

use super::{
    call::Call,
    call_log::InFlightCall,
    deadline::RequestTimeout,
    method::{Method, RpcTarget},
    proto::{
        otp_admin_service_server::{OtpAdminService, OtpAdminServiceServer},
        otp_service_server::{OtpService, OtpServiceServer},
    },
    rewrite::rewrite,
    shed::{Admission, CallPermit, CallPermits},
    status,
};
use crate::{ports::observer::CallObserver, streams::limit::OpenConnection};

/// An answer on its way. Nothing here fails: what goes wrong is a status.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// What holds for every call.
#[derive(Clone)]
pub(crate) struct CallRules {
    pub(crate) permits: CallPermits,
    pub(crate) timeout: RequestTimeout,
    pub(crate) max_message_bytes: usize,
    pub(crate) observer: Arc<dyn CallObserver>,
}

/// The services of a port. Calls to the contract are handed to its services directly: the router of the framework would
/// look up again what the path has told already, and box the call twice more.
pub(crate) struct CallLayer<O, A> {
    pub(crate) rules: Arc<CallRules>,
    pub(crate) otp: OtpServiceServer<O>,
    pub(crate) admin: OtpAdminServiceServer<A>,
    /// Health and reflection.
    pub(crate) framework: Routes,
}

impl<O, A> Clone for CallLayer<O, A> {
    fn clone(&self) -> Self {
        let (otp, admin) = (self.otp.clone(), self.admin.clone());
        Self { rules: Arc::clone(&self.rules), otp, admin, framework: self.framework.clone() }
    }
}

impl<O: OtpService, A: OtpAdminService> Service<Request<Body>> for CallLayer<O, A> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The services of the contract are always ready.
        Service::<Request<Body>>::poll_ready(&mut self.framework, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        if let Some(connection) = request.extensions().get::<Arc<OpenConnection>>() {
            connection.mark_used();
        }
        let target = RpcTarget::of(request.uri().path());
        if target == RpcTarget::Framework {
            return Box::pin(self.framework.call(request));
        }
        let call = InFlightCall::start(target, Arc::clone(&self.rules.observer));
        if !is_grpc(&request) {
            call.end(Some(&status::unimplemented()));
            return Box::pin(future::ready(Ok(unsupported_media_type())));
        }
        match (target, self.rules.permits.admit(target)) {
            (_, Admission::Shed) => refuse(call, &status::overloaded()),
            (RpcTarget::Contract(method), Admission::Admitted(permit)) => self.pass(request, method, call, permit),
            (_, Admission::Admitted(_) | Admission::Exempt) => refuse(call, &status::unimplemented()),
        }
    }
}

impl<O: OtpService, A: OtpAdminService> CallLayer<O, A> {
    fn pass(
        &mut self,
        mut request: Request<Body>,
        method: Method,
        call: InFlightCall,
        permit: CallPermit,
    ) -> Answering {
        let deadline = self.rules.timeout.deadline(request.headers());
        let record = Arc::clone(&call.record);
        request.extensions_mut().insert(Call { method, deadline, permit, record });
        let answer = if method.is_for_operators() { self.admin.call(request) } else { self.otp.call(request) };
        let max_message_bytes = self.rules.max_message_bytes;
        Box::pin(async move {
            // The deadline covers reading the request, too: a caller may send its headers and then nothing.
            let response = match tokio::time::timeout_at(deadline.instant(), answer).await {
                Ok(answer) => answer?,
                Err(_) => status::deadline_exceeded().into_http(),
            };
            let (response, failure) = rewrite(response, max_message_bytes);
            call.end(failure.as_ref());
            Ok(response)
        })
    }
}

/// Whether the body is gRPC's: `application/grpc`, alone or with a suffix or parameters. JSON would be read as a message.
fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What the specification of gRPC asks for: a status of HTTP, since the client does not speak gRPC.
fn unsupported_media_type() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

/// Answers without looking at the request.
fn refuse(call: InFlightCall, status: &Status) -> Answering {
    call.end(Some(status));
    Box::pin(future::ready(Ok(status.clone().into_http())))
}
