//! A caller: requests in few words, and the calls.
#![expect(clippy::unnecessary_wraps, reason = "messages in messages are optional, and so are those made here")]

use std::time::Duration;

use otpd::{
    grpc::proto::{
        Amount, CancelChallengeRequest, Channel as By, CreateChallengeRequest, CreateChallengeResponse, Destination,
        EpochTimestamp, GetAccountRequest, GetAccountResponse, GetChallengeRequest, GetChallengeResponse,
        LockAccountRequest, LockAccountResponse, ProtocolVersion, Purpose, RequestHeader, SendOtpRequest,
        SendOtpResponse, Transaction, UnlockAccountRequest, UnlockAccountResponse, VerifyOtpRequest, VerifyOtpResponse,
        destination::Destination as To, otp_admin_service_client::OtpAdminServiceClient,
        otp_service_client::OtpServiceClient,
    },
    ports::clock::{Clock, SystemClock},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::site::Server;

/// The tenant of all requests that name no other.
pub(crate) const TENANT: &str = "tenant-of-the-tests";

/// The option id of [`login`].
pub(crate) const SMS: &str = "option-sms";

/// Both clients of a server, on one connection.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) otp: OtpServiceClient<Channel>,
    pub(crate) admin: OtpAdminServiceClient<Channel>,
    pub(crate) channel: Channel,
}

pub(crate) type Told<T> = Result<T, Status>;

impl Caller {
    pub(crate) async fn of(server: &Server) -> Self {
        Self::at(&server.grpc).await
    }

    pub(crate) async fn at(address: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::over(endpoint.connect().await.unwrap())
    }

    pub(crate) fn over(channel: Channel) -> Self {
        let (otp, admin) = (OtpServiceClient::new(channel.clone()), OtpAdminServiceClient::new(channel.clone()));
        Self { otp, admin, channel }
    }

    pub(crate) async fn create(&self, request: CreateChallengeRequest) -> Told<CreateChallengeResponse> {
        self.otp.clone().create_challenge(request).await.map(Response::into_inner)
    }

    pub(crate) async fn send(&self, request: SendOtpRequest) -> Told<SendOtpResponse> {
        self.otp.clone().send_otp(request).await.map(Response::into_inner)
    }

    /// With a deadline of the caller's.
    pub(crate) async fn send_within(&self, request: SendOtpRequest, span: Duration) -> Told<SendOtpResponse> {
        let mut request = Request::new(request);
        request.set_timeout(span);
        self.otp.clone().send_otp(request).await.map(Response::into_inner)
    }

    pub(crate) async fn verify(&self, request: VerifyOtpRequest) -> Told<VerifyOtpResponse> {
        self.otp.clone().verify_otp(request).await.map(Response::into_inner)
    }

    pub(crate) async fn cancel(&self, id: &str, challenge: &str) -> Told<()> {
        let request = CancelChallengeRequest { request_header: header(id), authenticate_request_id: challenge.into() };
        self.otp.clone().cancel_challenge(request).await.map(drop)
    }

    pub(crate) async fn challenge(&self, challenge: &str) -> Told<GetChallengeResponse> {
        let request = GetChallengeRequest { request_header: header("get"), authenticate_request_id: challenge.into() };
        self.otp.clone().get_challenge(request).await.map(Response::into_inner)
    }

    /// The lockout of an account.
    pub(crate) async fn account(&self, account: &str) -> Told<GetAccountResponse> {
        self.lockout(GetAccountRequest { account_id: account.into(), ..Default::default() }).await
    }

    /// The lockout of a number that registers.
    pub(crate) async fn number(&self, number: &str) -> Told<GetAccountResponse> {
        self.lockout(GetAccountRequest { phone_number: number.into(), ..Default::default() }).await
    }

    async fn lockout(&self, request: GetAccountRequest) -> Told<GetAccountResponse> {
        let request = GetAccountRequest { request_header: header("get"), ..request };
        self.admin.clone().get_account(request).await.map(Response::into_inner)
    }

    pub(crate) async fn lock(&self, request: LockAccountRequest) -> Told<LockAccountResponse> {
        self.admin.clone().lock_account(request).await.map(Response::into_inner)
    }

    pub(crate) async fn unlock(&self, request: UnlockAccountRequest) -> Told<UnlockAccountResponse> {
        self.admin.clone().unlock_account(request).await.map(Response::into_inner)
    }

    /// Opens a challenge for an account with one number, and sends to it.
    pub(crate) async fn sent(&self, challenge: &str, account: &str, number: &str) {
        let request = CreateChallengeRequest { send_otp: true, ..login(challenge, account, number) };
        let created = self.create(request).await;
        assert_eq!(crate::words::created(&created), "success with success", "{created:?}");
    }
}

pub(crate) fn now() -> i64 {
    i64::try_from(SystemClock.now().as_millis()).unwrap()
}

pub(crate) fn at(epoch_millis: i64) -> Option<EpochTimestamp> {
    Some(EpochTimestamp { epoch_millis })
}

pub(crate) fn header(id: &str) -> Option<RequestHeader> {
    header_of(TENANT, id)
}

pub(crate) fn header_of(tenant: &str, id: &str) -> Option<RequestHeader> {
    Some(RequestHeader {
        protocol_version: Some(ProtocolVersion { major: 1, minor: 0, revision: 0 }),
        request_id: id.into(),
        request_timestamp: at(1_481_899_949_606),
        payment_integrator_account_id: tenant.into(),
    })
}

pub(crate) fn sms(number: &str, option: &str) -> Destination {
    Destination {
        channel: By::Sms.into(),
        destination: Some(To::PhoneNumber(number.into())),
        challenge_option_id: option.into(),
    }
}

pub(crate) fn email(mailbox: &str, option: &str) -> Destination {
    Destination {
        channel: By::Email.into(),
        destination: Some(To::EmailAddress(mailbox.into())),
        challenge_option_id: option.into(),
    }
}

/// A login with one number, as option [`SMS`].
pub(crate) fn login(id: &str, account: &str, number: &str) -> CreateChallengeRequest {
    CreateChallengeRequest {
        request_header: header(id),
        account_id: account.into(),
        purpose: Purpose::Login.into(),
        destinations: vec![sms(number, SMS)],
        ..Default::default()
    }
}

pub(crate) fn payment(micros: i64, payee: &str) -> Option<Transaction> {
    let amount = Some(Amount { amount_micros: micros, currency_code: "EUR".into() });
    Some(Transaction { amount, payee: payee.into(), reference: "invoice 7".into() })
}

pub(crate) fn send(id: &str, challenge: &str) -> SendOtpRequest {
    send_to(id, challenge, SMS)
}

pub(crate) fn send_to(id: &str, challenge: &str, option: &str) -> SendOtpRequest {
    SendOtpRequest {
        request_header: header(id),
        enrollment_request_id: challenge.into(),
        challenge_option_id: option.into(),
        ..Default::default()
    }
}

pub(crate) fn verify(id: &str, challenge: &str, otp: &str) -> VerifyOtpRequest {
    VerifyOtpRequest {
        request_header: header(id),
        authenticate_request_id: challenge.into(),
        otp: otp.into(),
        ..Default::default()
    }
}

pub(crate) fn lock(id: &str, account: &str, until: Option<EpochTimestamp>) -> LockAccountRequest {
    LockAccountRequest {
        request_header: header(id),
        account_id: account.into(),
        reason: "a test".into(),
        unlock_timestamp: until,
        ..Default::default()
    }
}

pub(crate) fn unlock(id: &str, account: &str) -> UnlockAccountRequest {
    UnlockAccountRequest {
        request_header: header(id),
        account_id: account.into(),
        reason: "a test".into(),
        ..Default::default()
    }
}

/// Another code of the same length, for each `n` below 9 another.
pub(crate) fn wrong(code: &str, n: u32) -> String {
    let (first, rest) = code.split_at(1);
    let first: u32 = first.parse().unwrap();
    format!("{}{rest}", (first + 1 + n % 9) % 10)
}
