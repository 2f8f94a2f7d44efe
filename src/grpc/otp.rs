//! `OtpService`: each method is parse, one use case, render.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::{
    call::Call,
    parse::{self, Context},
    proto::{self, otp_service_server::OtpService},
    render,
};
use crate::{domain::time::Timestamp, ports::clock::Clock, service::Otp};

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
    /// What the request of a call is judged by.
    pub(crate) fn context(&self, call: &Call) -> Context {
        Context { now: self.now(), max_skew: self.max_skew, deadline: call.deadline }
    }

    /// The time of an answer.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

#[tonic::async_trait]
impl OtpService for Handlers {
    async fn create_challenge(
        &self,
        request: Request<proto::CreateChallengeRequest>,
    ) -> Result<Response<proto::CreateChallengeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, request) = call.accept(parse::create_challenge(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let created =
            call.run(&self.tasks, Box::pin(async move { otp.create_challenge(caller, request).await })).await?;
        Ok(call.answer(render::created(self.now(), created)))
    }

    async fn send_otp(
        &self,
        request: Request<proto::SendOtpRequest>,
    ) -> Result<Response<proto::SendOtpResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, request) = call.accept(parse::send_otp(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let sent = call.run(&self.tasks, Box::pin(async move { otp.send_otp(caller, request).await })).await?;
        Ok(call.answer(render::sent(self.now(), &sent)))
    }

    async fn verify_otp(
        &self,
        request: Request<proto::VerifyOtpRequest>,
    ) -> Result<Response<proto::VerifyOtpResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, request) = call.accept(parse::verify_otp(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let verified = call.run(&self.tasks, Box::pin(async move { otp.verify_otp(caller, request).await })).await?;
        Ok(call.answer(render::verified(self.now(), verified)))
    }

    async fn cancel_challenge(
        &self,
        request: Request<proto::CancelChallengeRequest>,
    ) -> Result<Response<proto::CancelChallengeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, challenge) = call.accept(parse::cancel_challenge(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        call.run(&self.tasks, Box::pin(async move { otp.cancel_challenge(caller, challenge).await })).await?;
        Ok(call.answer(render::cancelled(self.now())))
    }

    /// In a task like the others: whoever loads a challenge settles a send that was left behind.
    async fn get_challenge(
        &self,
        request: Request<proto::GetChallengeRequest>,
    ) -> Result<Response<proto::GetChallengeResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, challenge) = call.accept(parse::get_challenge(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let view = call.run(&self.tasks, Box::pin(async move { otp.get_challenge(caller, challenge).await })).await?;
        Ok(call.answer(render::challenge(self.now(), view)))
    }
}
