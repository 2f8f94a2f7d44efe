//! Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed until otpd
//! says that it is right. Exits with 0 when it was, 1 when it was not, and 2 when a call could not be decided.

mod retries;

/// The contract's messages and client, made by build.rs.
mod otp {
    tonic::include_proto!("otp.v1");
}

use std::{
    env, fs,
    io::{self, Write},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use otp::{
    AccountLocked, Channel as MessageChannel, CreateChallengeRequest, CreateChallengeSuccess, DeliveryState,
    Destination, EpochTimestamp, ProtocolVersion, Purpose, RequestHeader, VerifyOtpRequest, create_challenge_result,
    destination, otp_service_client::OtpServiceClient, send_otp_result, verify_otp_result_code,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::retries::Retries;

/// Why the program ends without "verified".
enum Ended {
    /// otpd has decided, and the person was not verified.
    NotVerified(String),
    /// A call could not be decided.
    Undecided(Box<Status>),
    /// The program could not start, or its input could not be read.
    Broken(Box<dyn std::error::Error>),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Undecided(Box::new(status))
    }
}

fn not_verified<T>(why: impl Into<String>) -> Result<T, Ended> {
    Err(Ended::NotVerified(why.into()))
}

fn broken(error: impl Into<Box<dyn std::error::Error>>) -> Ended {
    Ended::Broken(error.into())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Ended::NotVerified(why)) => {
            println!("not verified: {why}");
            ExitCode::from(1)
        }
        Err(Ended::Undecided(status)) => {
            explain(&status);
            ExitCode::from(2)
        }
        Err(Ended::Broken(error)) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Ended> {
    let caller = Caller::connect(&setting("OTPD_ADDRESS", "127.0.0.1:50051")).map_err(Ended::Broken)?;
    // The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
    // same id then finds the challenge that was opened, where a new one would send a second message.
    let challenge = Uuid::new_v4().to_string();
    caller.open(&challenge, setting("OTPD_PHONE_NUMBER", "+14155550100")).await?;
    let mut input = io::stdin().lines();
    loop {
        print!("code: ");
        io::stdout().flush().map_err(broken)?;
        let Some(typed) = input.next() else { return not_verified("no more codes were typed") };
        if caller.verify(&challenge, typed.map_err(broken)?).await? {
            return Ok(());
        }
    }
}

/// One connection to otpd, and the rules by which calls are repeated.
///
/// A `Channel` is one connection to one address, which is all it takes behind a mesh, Envoy or another balancer of calls.
/// For the addresses of several replicas tonic has `Channel::balance_list`; it does not read `loadBalancingConfig` and
/// `healthCheckConfig` of the service config.
struct Caller {
    client: OtpServiceClient<InterceptedService<Channel, Bearer>>,
    retries: Retries,
}

impl Caller {
    fn connect(address: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let config = fs::read_to_string("../service-config.json")?;
        let authorities = env::var_os("OTPD_CA_FILE");
        let endpoint = match &authorities {
            None => Endpoint::from_shared(format!("http://{address}"))?,
            Some(file) => {
                let authorities = Certificate::from_pem(fs::read(file)?);
                Endpoint::from_shared(format!("https://{address}"))?
                    .tls_config(ClientTlsConfig::new().ca_certificate(authorities))?
            }
        };
        let token = match setting("OTPD_CALLER_TOKEN", "") {
            token if token.is_empty() => None,
            _ if authorities.is_none() => {
                return Err("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: the token could be read on the way".into());
            }
            token => Some(format!("Bearer {token}").parse()?),
        };
        Ok(Self {
            // Connects with the first call, and again whenever the connection is lost.
            client: OtpServiceClient::with_interceptor(endpoint.connect_lazy(), Bearer(token)),
            retries: Retries::of(&config, "otp.v1.OtpService")?,
        })
    }

    /// Opens the challenge and sends its first code in one call.
    async fn open(&self, challenge: &str, phone_number: String) -> Result<(), Ended> {
        let request = CreateChallengeRequest {
            request_header: Some(header(challenge)),
            // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
            account_id: format!("person-{challenge:.8}"),
            purpose: Purpose::Login.into(),
            destinations: vec![Destination {
                channel: MessageChannel::Sms.into(),
                destination: Some(destination::Destination::PhoneNumber(phone_number)),
                ..Destination::default()
            }],
            send_otp: true,
            ..CreateChallengeRequest::default()
        };
        let call = async |request| self.client.clone().create_challenge(request).await;
        let response = self.retries.call("CreateChallenge", request, call).await?;
        match response.result.and_then(|result| result.result) {
            Some(create_challenge_result::Result::Success(success)) => sent(success),
            Some(create_challenge_result::Result::AccountLocked(lock)) => not_verified(locked(lock)),
            Some(create_challenge_result::Result::RiskDeclined(_)) => not_verified("declined due to risk"),
            // A later otpd may decline for a reason that this program does not know.
            None => not_verified("the challenge was declined"),
        }
    }

    /// Asks about one typed code. Each typed code is a request of its own, with an id of its own.
    async fn verify(&self, challenge: &str, typed: String) -> Result<bool, Ended> {
        use verify_otp_result_code::VerifyOtpResultCode as Outcome;

        let request = VerifyOtpRequest {
            request_header: Some(header(&Uuid::new_v4().to_string())),
            authenticate_request_id: challenge.to_owned(),
            otp: typed,
            ..VerifyOtpRequest::default()
        };
        let call = async |request| self.client.clone().verify_otp(request).await;
        let response = self.retries.call("VerifyOtp", request, call).await?;
        match response.result.and_then(|result| result.verify_otp_result_code) {
            Some(Outcome::Success(_)) => {
                let proven = response.verified.unwrap_or_default();
                println!("verified: {} by {}", proven.account_id, proven.masked_destination);
                Ok(true)
            }
            Some(Outcome::OtpNotMatched(wrong)) => {
                println!("wrong code, {} attempts left", wrong.remaining_verification_attempts());
                Ok(false)
            }
            Some(Outcome::OtpAlreadyUsed(_)) => not_verified("another request has verified this challenge"),
            Some(Outcome::OtpExpired(_)) => not_verified("the code has expired, send a new one"),
            Some(Outcome::VerificationAttemptsExceeded(_)) => {
                not_verified("too many codes were tried, open a new challenge")
            }
            Some(Outcome::AccountLocked(lock)) => not_verified(locked(lock)),
            None => not_verified("otpd did not accept the code"),
        }
    }
}

/// The token that otpd knows this caller by, if it has one.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Begins every request. A repetition has the id of the call that it repeats: otpd gives the recorded answer again, and
/// neither sends nor counts twice.
fn header(request_id: &str) -> RequestHeader {
    RequestHeader {
        protocol_version: Some(ProtocolVersion { major: 1, ..ProtocolVersion::default() }),
        request_id: request_id.to_owned(),
        request_timestamp: Some(EpochTimestamp { epoch_millis: now_millis() }),
        payment_integrator_account_id: setting("OTPD_TENANT", "example"),
    }
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Tells what became of the message: the challenge is open even where none was sent.
fn sent(opened: CreateChallengeSuccess) -> Result<(), Ended> {
    use send_otp_result::Result as Outcome;

    match opened.send_result.and_then(|result| result.result) {
        Some(Outcome::Success(success)) => {
            let to = opened.challenge_options.first().map_or("", |option| &option.masked_destination);
            println!("a code of {} digits was sent to {to}", success.otp_length);
            if success.delivery_state() == DeliveryState::Unconfirmed {
                println!("(the provider did not say whether it took the message)");
            }
            Ok(())
        }
        Some(Outcome::AccountLocked(lock)) => not_verified(locked(lock)),
        Some(Outcome::RiskDeclined(_)) => not_verified("too many messages, try later"),
        Some(Outcome::DestinationRejected(_)) => not_verified("the number takes no messages, choose another"),
        other => not_verified(format!("no code was sent: {other:?}")),
    }
}

fn locked(lock: AccountLocked) -> String {
    match lock.unlock_timestamp {
        None => "the account is locked".to_owned(),
        Some(end) => {
            let minutes = (end.epoch_millis - now_millis()).max(0) / 60_000 + 1;
            format!("the account is locked for {minutes} more minutes")
        }
    }
}

/// Tells why a call could not be decided. `ErrorInfo` has the reason that a program acts on, a name of `Reason` in the
/// contract without its prefix; the message is for people.
fn explain(status: &Status) {
    eprintln!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        eprintln!("  reason {} ({})", info.reason, info.domain);
    }
    for violation in details.bad_request().iter().flat_map(|request| &request.field_violations) {
        eprintln!("  field {}: {}", violation.field, violation.description);
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        eprintln!("  try again in {delay:?}, with the same request id");
    }
}

fn setting(name: &str, otherwise: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.to_owned())
}
