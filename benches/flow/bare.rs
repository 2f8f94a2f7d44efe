//! The yardstick: tonic as it comes, one script call to Redis per call, and otpd's log line through otpd's log. Answers
//! everything with success.

use std::{env, net::Ipv4Addr};

use otpd::{
    grpc::proto::{
        CancelChallengeRequest, CancelChallengeResponse, ChallengeOption, Channel, CreateChallengeRequest,
        CreateChallengeResponse, CreateChallengeResult, CreateChallengeSuccess, DeliveryState, EpochTimestamp,
        GetChallengeRequest, GetChallengeResponse, Purpose, RequestHeader, ResponseHeader, SendOtpRequest,
        SendOtpResponse, SendOtpResult, SendOtpSuccess, Verified, VerifyOtpRequest, VerifyOtpResponse,
        VerifyOtpResultCode, VerifyOtpSuccess, create_challenge_result,
        otp_service_server::{OtpService, OtpServiceServer},
        send_otp_result, verify_otp_result_code,
    },
    ports::clock::Stopwatch,
    telemetry,
};
use redis::{
    AsyncConnectionConfig, IntoConnectionInfo, Script, Value, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::caller::OPTION;

/// In the environment of the process that is to be the bare server: its port and the address of its Redis.
pub(crate) const ROLE: &str = "OTPD_BENCH_BARE";

/// Writes one record, if there is none.
const SCRIPT: &str = "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0";

/// As large as a challenge that has been sent.
const RECORD: [u8; 300] = [7; 300];

#[expect(clippy::disallowed_methods, reason = "the role of this process is no setting")]
fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Whether this process is to be the bare server.
pub(crate) fn is_asked_for() -> bool {
    role().is_some()
}

pub(crate) fn run() {
    let role = role().expect("a role");
    let (port, redis) = role.split_once(' ').expect("a port and an address");
    let port = port.parse().expect("a port");
    telemetry::install(false, "info");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("the port");
        serve(listener, redis).await;
    });
}

/// Serves until the process ends.
pub(crate) async fn serve(listener: TcpListener, redis: &str) {
    let tcp = TcpSettings::default().set_nodelay(true);
    let server = redis.into_connection_info().expect("an address").set_tcp_settings(tcp);
    let config = AsyncConnectionConfig::new().set_pipeline_buffer_size(1024);
    let client = redis::Client::open(server).expect("an address");
    let connection = client.get_multiplexed_async_connection_with_config(&config).await.expect("redis");
    let service = OtpServiceServer::new(Bare { connection, script: Script::new(SCRIPT) });
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
    serving.await.expect("a server");
}

struct Bare {
    connection: MultiplexedConnection,
    script: Script,
}

impl Bare {
    async fn store(&self, method: &'static str, header: Option<RequestHeader>) -> Result<(), Status> {
        let began = Stopwatch::start();
        let header = header.ok_or_else(|| Status::invalid_argument("no header"))?;
        let id = header.request_id;
        let mut connection = self.connection.clone();
        let mut script = self.script.key(format!("bare:{id}"));
        script.arg(&RECORD[..]).arg(600_000);
        let stored = script.invoke_async::<Value>(&mut connection).await;
        tracing::info!(
            target: "otpd::rpc",
            {
                rpc.method = method,
                otp.tenant = header.payment_integrator_account_id,
                otp.outcome = "success",
                rpc.status_code = "OK",
                duration_ms = began.elapsed().as_secs_f64() * 1000.0,
            },
            "call"
        );
        stored.map(drop).map_err(|error| Status::internal(error.to_string()))
    }
}

const NOW: EpochTimestamp = EpochTimestamp { epoch_millis: 1_481_899_949_606 };
const HEADER: Option<ResponseHeader> = Some(ResponseHeader { response_timestamp: Some(NOW) });

#[tonic::async_trait]
impl OtpService for Bare {
    async fn create_challenge(
        &self,
        request: Request<CreateChallengeRequest>,
    ) -> Result<Response<CreateChallengeResponse>, Status> {
        self.store("otp.v1.OtpService/CreateChallenge", request.into_inner().request_header).await?;
        let option = ChallengeOption {
            challenge_option_id: OPTION.to_owned(),
            channel: Channel::Sms.into(),
            masked_destination: "+*********00".to_owned(),
        };
        let success = create_challenge_result::Result::Success(CreateChallengeSuccess {
            challenge_options: vec![option],
            expiration_timestamp: Some(NOW),
            send_result: None,
        });
        let result = Some(CreateChallengeResult { result: Some(success) });
        Ok(Response::new(CreateChallengeResponse { response_header: HEADER, result }))
    }

    async fn send_otp(&self, request: Request<SendOtpRequest>) -> Result<Response<SendOtpResponse>, Status> {
        self.store("otp.v1.OtpService/SendOtp", request.into_inner().request_header).await?;
        let success = send_otp_result::Result::Success(SendOtpSuccess {
            max_verification_attempts: 5,
            max_send_attempts: 3,
            expiration_timestamp: Some(NOW),
            remaining_send_attempts: Some(2),
            next_send_timestamp: Some(NOW),
            delivery_state: DeliveryState::Unconfirmed.into(),
            otp_length: 6,
            provider_values: std::collections::BTreeMap::new(),
        });
        let result = Some(SendOtpResult { result: Some(success) });
        Ok(Response::new(SendOtpResponse { response_header: HEADER, result }))
    }

    async fn verify_otp(&self, request: Request<VerifyOtpRequest>) -> Result<Response<VerifyOtpResponse>, Status> {
        self.store("otp.v1.OtpService/VerifyOtp", request.into_inner().request_header).await?;
        let success = verify_otp_result_code::VerifyOtpResultCode::Success(VerifyOtpSuccess {});
        Ok(Response::new(VerifyOtpResponse {
            response_header: HEADER,
            result: Some(VerifyOtpResultCode { verify_otp_result_code: Some(success) }),
            verified: Some(Verified {
                account_id: "person-000000000000".to_owned(),
                purpose: Purpose::Login.into(),
                transaction: None,
                challenge_option_id: OPTION.to_owned(),
                channel: Channel::Sms.into(),
                masked_destination: "+*********00".to_owned(),
                verified_timestamp: Some(NOW),
            }),
            ..VerifyOtpResponse::default()
        }))
    }

    async fn cancel_challenge(
        &self,
        _: Request<CancelChallengeRequest>,
    ) -> Result<Response<CancelChallengeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_challenge(&self, _: Request<GetChallengeRequest>) -> Result<Response<GetChallengeResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
