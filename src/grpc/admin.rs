//! `OtpAdminService`: each method is parse, one use case, render.

use tonic::{Request, Response, Status};

use super::{
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
        self.handle(
            request,
            parse::get_account,
            |otp, caller, request| Box::pin(async move { otp.get_account(caller, request).await }),
            render::account,
        )
        .await
    }

    async fn lock_account(
        &self,
        request: Request<proto::LockAccountRequest>,
    ) -> Result<Response<proto::LockAccountResponse>, Status> {
        self.handle(
            request,
            parse::lock_account,
            |otp, caller, request| Box::pin(async move { otp.lock_account(caller, request).await }),
            render::locked_account,
        )
        .await
    }

    async fn unlock_account(
        &self,
        request: Request<proto::UnlockAccountRequest>,
    ) -> Result<Response<proto::UnlockAccountResponse>, Status> {
        self.handle(
            request,
            parse::unlock_account,
            |otp, caller, request| Box::pin(async move { otp.unlock_account(caller, request).await }),
            render::unlocked_account,
        )
        .await
    }
}
