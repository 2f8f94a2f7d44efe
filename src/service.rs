//! The use cases: each loads, lets the rules decide, swaps, and only then answers. Knows no gRPC type and no adapter.

pub mod error;
pub mod request;

use std::sync::Arc;

use error::Error;
use request::{Caller, CreateChallenge, LockAccount, SendOtp, UnlockAccount, VerifyOtp};

use crate::domain::{
    ids::{AccountId, OptionId, RequestId},
    outcome::{AccountView, ChallengeView, Created, Sent, Verified},
};

/// The use cases of otpd.
pub struct Otp {}

impl Otp {
    /// Opens a challenge.
    pub async fn create_challenge(
        self: &Arc<Self>,
        caller: Caller,
        request: CreateChallenge,
    ) -> Result<Created, Error> {
        Err(Error::Forbidden)
    }
    /// Sends a code.
    pub async fn send_otp(self: &Arc<Self>, caller: Caller, request: SendOtp) -> Result<Sent, Error> {
        Err(Error::Forbidden)
    }
    /// Checks a code.
    pub async fn verify_otp(self: &Arc<Self>, caller: Caller, request: VerifyOtp) -> Result<Verified, Error> {
        Err(Error::Forbidden)
    }
    /// Ends a challenge.
    pub async fn cancel_challenge(self: &Arc<Self>, caller: Caller, challenge: RequestId) -> Result<(), Error> {
        Err(Error::Forbidden)
    }
    /// Describes a challenge.
    pub async fn get_challenge(self: &Arc<Self>, caller: Caller, challenge: RequestId) -> Result<ChallengeView, Error> {
        Err(Error::Forbidden)
    }
    /// Shows an account.
    pub async fn get_account(self: &Arc<Self>, caller: Caller, account: AccountId) -> Result<AccountView, Error> {
        Err(Error::Forbidden)
    }
    /// Locks an account.
    pub async fn lock_account(self: &Arc<Self>, caller: Caller, request: LockAccount) -> Result<AccountView, Error> {
        Err(Error::Forbidden)
    }
    /// Unlocks an account.
    pub async fn unlock_account(
        self: &Arc<Self>,
        caller: Caller,
        request: UnlockAccount,
    ) -> Result<AccountView, Error> {
        Err(Error::Forbidden)
    }
}
