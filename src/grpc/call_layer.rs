//! What every call passes on its way in and out. Of the contract: call log, caller, deadline, arrival of the message,
//! limit of calls in flight, and the rewriting of the framework's own statuses. Health and reflection have bounds of their own.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method as HttpMethod, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::Full;
use tokio::time::{timeout, timeout_at};
use tonic::{Status, body::Body};
use tower::Service;

use super::{
    answer::AnswerBody,
    arrival::{Arrivals, NoMessage, RefusedBodies},
    call::Call,
    call_log::InFlightCall,
    callers::{CallerDirectory, KnownCaller},
    connection::ConnectedPeer,
    deadline::RequestTimeout,
    framework::Framework,
    method::{Method, RpcTarget, ServedServices},
    origin::arrived,
    proto::{
        otp_admin_service_server::{OtpAdminService, OtpAdminServiceServer},
        otp_service_server::{OtpService, OtpServiceServer},
    },
    rewrite::rewrite,
    shed::{CallPermits, CallerCalls, Counted},
    status,
};
use crate::{
    ports::{
        clock::{Deadline, Stopwatch},
        observer::{CallObserver, ShedCause},
    },
    streams::limit::OpenCall,
};

/// What stands before a message in the body of a call.
const MESSAGE_HEAD: usize = 5;
/// How long the end of a request is waited for that is no gRPC, or whose caller is refused.
const REFUSED_BODY: Duration = Duration::from_secs(1);

/// The services behind the layer. Calls are handed to them directly: the router of the framework would look up again what
/// the path has told already, and box the call twice more.
pub(crate) trait Services: Clone + Send + Sync + 'static {
    /// What a path asks for.
    fn target(path: &str) -> RpcTarget;

    /// Answers a call of a method whose whole body is there.
    fn answer(&self, method: Method, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}

/// Those of the contract.
pub(crate) struct Contract<O, A> {
    pub(crate) otp: OtpServiceServer<O>,
    pub(crate) admin: OtpAdminServiceServer<A>,
}

impl<O, A> Clone for Contract<O, A> {
    fn clone(&self) -> Self {
        Self { otp: self.otp.clone(), admin: self.admin.clone() }
    }
}

impl<O: OtpService, A: OtpAdminService> Services for Contract<O, A> {
    fn target(path: &str) -> RpcTarget {
        RpcTarget::of(path)
    }

    async fn answer(&self, method: Method, request: Request<Body>) -> Response<Body> {
        let answering =
            if method.is_for_operators() { self.admin.clone().call(request) } else { self.otp.clone().call(request) };
        match answering.await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// What holds for every call.
pub(crate) struct CallRules {
    pub(crate) permits: CallPermits,
    pub(crate) arrivals: Arrivals,
    pub(crate) refused: RefusedBodies,
    pub(crate) timeout: RequestTimeout,
    pub(crate) max_message_bytes: usize,
    pub(crate) observer: Arc<dyn CallObserver>,
    /// Who may call.
    pub(crate) callers: Arc<CallerDirectory>,
}

/// The layer, over the services of a port.
pub(crate) struct CallLayer<S> {
    pub(crate) rules: Arc<CallRules>,
    pub(crate) services: S,
    /// Which of them this listener serves.
    pub(crate) served: ServedServices,
    /// Health and reflection. They need no caller that is known: probes have no name, and tell nothing of anybody.
    pub(crate) framework: Framework,
}

/// An answer on its way. Boxed: a call that is refused takes no more memory than it must, and the others are large.
pub(super) type Calling = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, h2::Error>> + Send>>;

/// A call of the contract, as it came.
struct Arriving<B> {
    request: Request<B>,
    method: Method,
    deadline: Deadline,
    caller: Arc<KnownCaller>,
    /// Among the open calls of the caller.
    counted: Option<Counted>,
    call: InFlightCall,
    open: OpenCall,
}

impl<S: Services> CallLayer<S> {
    /// The same for a listener that serves these services.
    pub(super) fn serving(&self, served: ServedServices) -> Self {
        let (rules, services, framework) = (Arc::clone(&self.rules), self.services.clone(), self.framework.clone());
        Self { rules, services, served, framework }
    }

    /// Answers a call. Its time starts here, before its task has had a turn.
    pub(super) fn call<B>(self: &Arc<Self>, request: Request<B>, peer: &ConnectedPeer) -> Calling
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError>,
    {
        let Some(open) = peer.connection.open_call() else {
            self.rules.observer.call_shed(ShedCause::OpenCalls);
            // Safe to repeat at once, and clients do: nothing of the call was looked at.
            return Box::pin(ready(Err(h2::Reason::REFUSED_STREAM.into())));
        };
        let target = match S::target(request.uri().path()) {
            RpcTarget::Contract(method) if !self.served.has(method) => RpcTarget::Unknown,
            target => target,
        };
        let seen = target != RpcTarget::Framework;
        let caller = match target {
            // Before anything of its message is looked at.
            RpcTarget::Contract(_) => self.rules.callers.of_call(&peer.identity, request.headers()),
            RpcTarget::Framework | RpcTarget::Unknown => None,
        };
        let call = seen.then(|| {
            let name = caller.as_ref().and_then(|caller| caller.name.clone());
            // Where callers are known, strangers have nothing recorded.
            let may_trace = caller.is_some() || self.rules.callers.is_everybody();
            let arrived = arrived(target, request.headers(), open.connection().peer(), may_trace);
            InFlightCall::start(target, name, arrived, Arc::clone(&self.rules.observer))
        });
        let layer = Arc::clone(self);
        if let Some(mut refusal) = refusal(&request) {
            if let Some(call) = call {
                call.end(&mut refusal, Some(&status::unimplemented()));
            }
            return Box::pin(async move {
                // To its end: an answer before that would hide from the caller that the rest breaks the protocol.
                let _ = timeout(REFUSED_BODY, layer.rules.refused.discard(request.into_body(), MESSAGE_HEAD)).await;
                Ok(refusal.map(|()| AnswerBody::of_framework(Body::empty(), open)))
            });
        }
        match (target, call) {
            (RpcTarget::Contract(method), Some(call)) => match allowed(method, caller) {
                Ok(caller) => {
                    let deadline = self.rules.timeout.deadline(request.headers());
                    let counted = caller.counted().map(CallerCalls::opened);
                    let arriving = Arriving { request, method, deadline, caller, counted, call, open };
                    Box::pin(async move { Ok(layer.rules.pass(&layer.services, arriving).await) })
                }
                Err(refusal) => {
                    let mut answer = refusal.clone().into_http::<Body>();
                    call.end(&mut answer, Some(&refusal));
                    Box::pin(async move {
                        let max = layer.rules.max_message_bytes + MESSAGE_HEAD;
                        let _ = timeout(REFUSED_BODY, layer.rules.refused.discard(request.into_body(), max)).await;
                        Ok(answer.map(|body| AnswerBody::of_framework(body, open)))
                    })
                }
            },
            (RpcTarget::Framework, _) => {
                let came = Stopwatch::start();
                Box::pin(async move {
                    let is_too_late = layer.rules.permits.is_too_late(came.elapsed(), open.connection(), None);
                    Ok(layer.framework.clone().call(request, open, is_too_late).await)
                })
            }
            (RpcTarget::Contract(_) | RpcTarget::Unknown, call) => {
                let status = status::unimplemented();
                let mut answer = status.clone().into_http::<Body>();
                if let Some(call) = call {
                    call.end(&mut answer, Some(&status));
                }
                Box::pin(ready(Ok(answer.map(|body| AnswerBody::of_framework(body, open)))))
            }
        }
    }
}

impl CallRules {
    async fn pass<S: Services, B>(&self, services: &S, arriving: Arriving<B>) -> Response<AnswerBody>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    {
        let Arriving { request, method, deadline, caller, counted: _counted, call, open } = arriving;
        // The deadline covers reading the request, too: a caller may send its headers and then nothing.
        let mut is_whole = false;
        let answered = timeout_at(deadline.instant(), async {
            let is_too_late = self.permits.is_too_late(call.elapsed(), open.connection(), caller.counted());
            let (head, body) = request.into_parts();
            // Read even where the call is shed: an answer before its request is over resets the stream, and of many such resets
            // HTTP/2 blames the caller and closes its connection.
            let message = match self.arrivals.whole(body, self.max_message_bytes + MESSAGE_HEAD).await {
                Ok(message) => message,
                Err(error) => return self.no_message(error).into_http(),
            };
            is_whole = true;
            if deadline.remaining().is_zero() {
                // Nobody waits for what would be done: nothing is.
                return status::too_late().into_http();
            }
            if is_too_late {
                return self.shed(ShedCause::WaitingTime).into_http();
            }
            let permit = match self.permits.admit(method, open.connection(), caller.counted()) {
                Ok(permit) => permit,
                Err(cause) => return self.shed(cause).into_http(),
            };
            let mut request = Request::from_parts(head, Body::new(Full::new(message)));
            let (rights, record) = (Arc::clone(&caller.rights), Arc::clone(&call.record));
            let span = call.span.clone();
            request.extensions_mut().insert(Call { method, deadline, permit, rights, record, span });
            services.answer(method, request).await
        });
        let response = match answered.await {
            Ok(response) => response,
            Err(_) if is_whole => status::deadline_exceeded().into_http(),
            Err(_) => status::too_late().into_http(),
        };
        let (mut response, failure) = rewrite(response, self.max_message_bytes);
        call.end(&mut response, failure.as_ref());
        response.map(|body| AnswerBody::of_contract(body, open))
    }

    fn no_message(&self, error: NoMessage) -> Status {
        match error {
            NoMessage::TooLarge => status::too_large(self.max_message_bytes),
            NoMessage::Broken => status::undecodable(),
            NoMessage::Shed => self.shed(ShedCause::PartialMessages),
        }
    }

    fn shed(&self, cause: ShedCause) -> Status {
        self.observer.call_shed(cause);
        status::overloaded()
    }
}

/// The caller, if it is known and may make this call.
fn allowed(method: Method, caller: Option<Arc<KnownCaller>>) -> Result<Arc<KnownCaller>, Status> {
    let caller = caller.ok_or_else(status::unauthenticated)?;
    if method.is_for_operators() && !caller.rights.admin {
        return Err(status::forbidden());
    }
    Ok(caller)
}

/// What the specification of gRPC asks for where a client does not speak it: a status of HTTP.
fn refusal<B>(request: &Request<B>) -> Option<Response<()>> {
    let (status, allowed) = if request.method() != HttpMethod::POST {
        (StatusCode::METHOD_NOT_ALLOWED, Some(HeaderValue::from_static("POST")))
    } else if !is_grpc(request) {
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, None)
    } else {
        return None;
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    if let Some(allowed) = allowed {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    Some(response)
}

/// Whether the body is gRPC's: `application/grpc`, alone, as `+proto`, or with parameters. Any other format would be read as a
/// message.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|content_type| content_type.strip_prefix(b"application/grpc"));
    let rest = rest.map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b';')))
}
