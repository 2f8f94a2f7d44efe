//! `OtpService`: each method is parse, one use case, render.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::{
    call::{Call, Work},
    parse::{self, Context, Parsed},
    proto::{self, otp_service_server::OtpService},
    render::{self, Rendered},
    status,
};
use crate::{
    domain::time::Timestamp,
    ports::clock::Clock,
    service::{Otp, request::Caller},
};

/// What the methods of both services work with.
#[derive(Clone)]
pub(crate) struct Handlers {
    /// The use cases.
    pub(crate) otp: Arc<Otp>,
    /// The time of day.
    pub(crate) clock: Arc<dyn Clock>,
    /// Runs the use cases.
    pub(crate) tasks: TaskTracker,
    /// How far `request_timestamp` may be from the clock, if that matters.
    pub(crate) max_skew: Option<Duration>,
}

impl Handlers {
    /// Parses a request, runs its use case in a task of its own, and renders the outcome. Those that only look run so, too:
    /// what they load is opened and remembered whether or not the caller still waits.
    pub(super) async fn handle<M, R, O: Send + 'static, A>(
        &self,
        request: Request<M>,
        parse: fn(&Context, M) -> Parsed<R>,
        use_case: fn(Arc<Otp>, Caller, R) -> Work<O>,
        render: fn(Timestamp, O) -> Rendered<A>,
    ) -> Result<Response<A>, Status> {
        let (call, message) = Call::open(request)?;
        let now = self.otp.now().map_err(|error| status::of_error(&error))?;
        let (rights, record) = (Arc::clone(&call.rights), Arc::clone(&call.record));
        let context = Context { now, max_skew: self.max_skew, deadline: call.deadline, rights, record };
        let (caller, request) = parse(&context, message).map_err(status::of_violations)?;
        let outcome = call.run(&self.tasks, use_case(Arc::clone(&self.otp), caller, request)).await?;
        Ok(call.answer(render(self.clock.now(), outcome)))
    }
}

#[tonic::async_trait]
impl OtpService for Handlers {
    async fn create_challenge(
        &self,
        request: Request<proto::CreateChallengeRequest>,
    ) -> Result<Response<proto::CreateChallengeResponse>, Status> {
        self.handle(
            request,
            parse::create_challenge,
            |otp, caller, request| Box::pin(async move { otp.create_challenge(caller, request).await }),
            render::created,
        )
        .await
    }

    async fn send_otp(
        &self,
        request: Request<proto::SendOtpRequest>,
    ) -> Result<Response<proto::SendOtpResponse>, Status> {
        self.handle(
            request,
            parse::send_otp,
            |otp, caller, request| Box::pin(async move { otp.send_otp(caller, request).await }),
            render::sent,
        )
        .await
    }

    async fn verify_otp(
        &self,
        request: Request<proto::VerifyOtpRequest>,
    ) -> Result<Response<proto::VerifyOtpResponse>, Status> {
        self.handle(
            request,
            parse::verify_otp,
            |otp, caller, request| Box::pin(async move { otp.verify_otp(caller, request).await }),
            render::verified,
        )
        .await
    }

    async fn cancel_challenge(
        &self,
        request: Request<proto::CancelChallengeRequest>,
    ) -> Result<Response<proto::CancelChallengeResponse>, Status> {
        self.handle(
            request,
            parse::cancel_challenge,
            |otp, caller, request| Box::pin(async move { otp.cancel_challenge(caller, request).await }),
            render::cancelled,
        )
        .await
    }

    async fn get_challenge(
        &self,
        request: Request<proto::GetChallengeRequest>,
    ) -> Result<Response<proto::GetChallengeResponse>, Status> {
        self.handle(
            request,
            parse::get_challenge,
            |otp, caller, request| Box::pin(async move { otp.get_challenge(caller, request).await }),
            render::challenge,
        )
        .await
    }
}
