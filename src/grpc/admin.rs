//! `OtpAdminService`: each method is parse, one use case, render.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    call::Call,
    otp::Handlers,
    parse,
    proto::{self, otp_admin_service_server::OtpAdminService},
    render,
};

#[tonic::async_trait]
impl OtpAdminService for Handlers {
    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, account) = call.accept(parse::get_account(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let view = call.run(&self.tasks, Box::pin(async move { otp.get_account(caller, account).await })).await?;
        Ok(call.answer(render::account(self.now(), view)))
    }

    async fn lock_account(
        &self,
        request: Request<proto::LockAccountRequest>,
    ) -> Result<Response<proto::LockAccountResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, request) = call.accept(parse::lock_account(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let view = call.run(&self.tasks, Box::pin(async move { otp.lock_account(caller, request).await })).await?;
        Ok(call.answer(render::locked_account(self.now(), view)))
    }

    async fn unlock_account(
        &self,
        request: Request<proto::UnlockAccountRequest>,
    ) -> Result<Response<proto::UnlockAccountResponse>, Status> {
        let (call, message) = Call::open(request)?;
        let (caller, request) = call.accept(parse::unlock_account(&self.context(&call), message))?;
        let otp = Arc::clone(&self.otp);
        let view = call.run(&self.tasks, Box::pin(async move { otp.unlock_account(caller, request).await })).await?;
        Ok(call.answer(render::unlocked_account(self.now(), view)))
    }
}
