//! A service of fixed behaviour: verifying takes forever, describing answers too much, the rest answers at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::{Request, Response, Status};

use crate::grpc::proto::{self, otp_admin_service_server::OtpAdminService, otp_service_server::OtpService};

#[derive(Default)]
pub(super) struct Fake {
    /// Calls that have begun to verify.
    pub(super) verifying: AtomicUsize,
}

#[tonic::async_trait]
impl OtpService for Fake {
    async fn create_challenge(
        &self,
        _request: Request<proto::CreateChallengeRequest>,
    ) -> Result<Response<proto::CreateChallengeResponse>, Status> {
        Ok(Response::new(proto::CreateChallengeResponse::default()))
    }

    async fn send_otp(
        &self,
        _request: Request<proto::SendOtpRequest>,
    ) -> Result<Response<proto::SendOtpResponse>, Status> {
        Ok(Response::new(proto::SendOtpResponse::default()))
    }

    async fn verify_otp(
        &self,
        _request: Request<proto::VerifyOtpRequest>,
    ) -> Result<Response<proto::VerifyOtpResponse>, Status> {
        self.verifying.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }

    async fn cancel_challenge(
        &self,
        _request: Request<proto::CancelChallengeRequest>,
    ) -> Result<Response<proto::CancelChallengeResponse>, Status> {
        Ok(Response::new(proto::CancelChallengeResponse::default()))
    }

    async fn get_challenge(
        &self,
        _request: Request<proto::GetChallengeRequest>,
    ) -> Result<Response<proto::GetChallengeResponse>, Status> {
        let account_id = "x".repeat(300 * 1024);
        Ok(Response::new(proto::GetChallengeResponse { account_id, ..Default::default() }))
    }
}

#[tonic::async_trait]
impl OtpAdminService for Fake {
    async fn get_account(
        &self,
        _request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::GetAccountResponse>, Status> {
        Ok(Response::new(proto::GetAccountResponse::default()))
    }

    async fn lock_account(
        &self,
        _request: Request<proto::LockAccountRequest>,
    ) -> Result<Response<proto::LockAccountResponse>, Status> {
        Ok(Response::new(proto::LockAccountResponse::default()))
    }

    async fn unlock_account(
        &self,
        _request: Request<proto::UnlockAccountRequest>,
    ) -> Result<Response<proto::UnlockAccountResponse>, Status> {
        Ok(Response::new(proto::UnlockAccountResponse::default()))
    }
}
