//! The caller: a closed loop of so many calls in flight over so many connections, and what it measures.

use std::{
    collections::HashMap,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use otpd::grpc::proto::{
    Channel, CreateChallengeRequest, Destination, EpochTimestamp, ProtocolVersion, Purpose, RequestHeader,
    SendOtpRequest, VerifyOtpRequest, create_challenge_result, destination, otp_service_client::OtpServiceClient,
    send_otp_result, verify_otp_result_code::VerifyOtpResultCode,
};
use tokio::task::JoinSet;
use tonic::transport;

pub(crate) type Client = OtpServiceClient<transport::Channel>;

/// The code that each destination was sent.
pub(crate) type Codes = HashMap<String, String>;

/// The option of every challenge.
pub(crate) const OPTION: &str = "G1MQ0YERJ0Q7LPM";

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
}

/// What a flow is made of, in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Send,
    Verify,
}

impl Step {
    pub(crate) const ALL: [Self; 3] = [Self::Create, Self::Send, Self::Verify];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Create => "CreateChallenge",
            Self::Send => "SendOtp",
            Self::Verify => "VerifyOtp",
        }
    }
}

/// How long one step of many flows took.
pub(crate) struct Timing {
    pub(crate) calls: u64,
    pub(crate) span: Duration,
    pub(crate) microseconds: Histogram<u64>,
}

/// One step of one round, with the processor time that the servers used.
pub(crate) struct Measured {
    pub(crate) timing: Timing,
    pub(crate) cpu: Duration,
    pub(crate) redis_cpu: Duration,
}

pub(crate) async fn connect(url: &str, connections: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let endpoint = transport::Endpoint::from_shared(url.to_owned()).expect("an address").tcp_nodelay(true);
        clients.push(OtpServiceClient::new(endpoint.connect().await.expect("a connection")));
    }
    clients
}

/// Makes one step of many flows.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) async fn walk(
    clients: &[Client],
    in_flight: usize,
    step: Step,
    flows: RangeInclusive<u64>,
    codes: &Arc<Codes>,
) -> Timing {
    let (first, end) = (*flows.start(), *flows.end());
    let next = Arc::new(AtomicU64::new(first));
    let began = Instant::now();
    let mut lanes = JoinSet::new();
    for client in clients.iter().cycle().take(in_flight).cloned() {
        let (mut client, next, codes) = (client, Arc::clone(&next), Arc::clone(codes));
        lanes.spawn(async move {
            let mut microseconds = histogram();
            loop {
                let flow = next.fetch_add(1, Ordering::Relaxed);
                if flow > end {
                    return microseconds;
                }
                let began = Instant::now();
                call(&mut client, step, flow, &codes).await;
                microseconds.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
            }
        });
    }
    let mut microseconds = histogram();
    while let Some(lane) = lanes.join_next().await {
        microseconds.add(lane.expect("a lane")).expect("the same bounds");
    }
    Timing { calls: end + 1 - first, span: began.elapsed(), microseconds }
}

impl Timing {
    /// The fastest call.
    pub(crate) fn fastest(&self) -> Duration {
        Duration::from_micros(self.microseconds.min())
    }
}

pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds")
}

/// Makes one call, and insists on its success.
async fn call(client: &mut Client, step: Step, flow: u64, codes: &Codes) {
    let succeeded = match step {
        Step::Create => {
            let answer = client.create_challenge(create(flow)).await.expect("CreateChallenge");
            let result = answer.into_inner().result.and_then(|result| result.result);
            matches!(result, Some(create_challenge_result::Result::Success(_)))
        }
        Step::Send => {
            let answer = client.send_otp(send(flow)).await.expect("SendOtp");
            let result = answer.into_inner().result.and_then(|result| result.result);
            matches!(result, Some(send_otp_result::Result::Success(_)))
        }
        Step::Verify => {
            let code = codes.get(&number(flow)).map_or("000000", String::as_str);
            let answer = client.verify_otp(verify(flow, code)).await.expect("VerifyOtp");
            let result = answer.into_inner().result.and_then(|result| result.verify_otp_result_code);
            matches!(result, Some(VerifyOtpResultCode::Success(_)))
        }
    };
    assert!(succeeded, "{} of flow {flow} was refused", step.name());
}

/// One wrong guess at the code of a flow.
pub(crate) async fn guess_wrong(client: &mut Client, flow: u64) {
    let request_header = Some(header("guess", flow));
    // A code that is never made: codes have six digits.
    client.verify_otp(VerifyOtpRequest { request_header, ..verify(flow, "0000000") }).await.expect("VerifyOtp");
}

fn create(flow: u64) -> CreateChallengeRequest {
    CreateChallengeRequest {
        request_header: Some(header("create", flow)),
        account_id: format!("person-{flow:012}"),
        purpose: Purpose::Login.into(),
        destinations: vec![Destination {
            channel: Channel::Sms.into(),
            destination: Some(destination::Destination::PhoneNumber(number(flow))),
            challenge_option_id: OPTION.to_owned(),
        }],
        ..CreateChallengeRequest::default()
    }
}

fn send(flow: u64) -> SendOtpRequest {
    SendOtpRequest {
        request_header: Some(header("send", flow)),
        enrollment_request_id: id("create", flow),
        challenge_option_id: OPTION.to_owned(),
        ..SendOtpRequest::default()
    }
}

fn verify(flow: u64, code: &str) -> VerifyOtpRequest {
    VerifyOtpRequest {
        request_header: Some(header("verify", flow)),
        authenticate_request_id: id("create", flow),
        otp: code.to_owned(),
        ..VerifyOtpRequest::default()
    }
}

fn header(what: &str, flow: u64) -> RequestHeader {
    RequestHeader {
        protocol_version: Some(ProtocolVersion { major: 1, minor: 0, revision: 0 }),
        request_id: id(what, flow),
        request_timestamp: Some(EpochTimestamp { epoch_millis: 1_481_899_949_606 }),
        payment_integrator_account_id: "abcdef123456".to_owned(),
    }
}

fn id(what: &str, flow: u64) -> String {
    format!("{what}-{flow:016}")
}

/// Each flow has a destination of its own.
fn number(flow: u64) -> String {
    format!("+49151{flow:08}")
}
