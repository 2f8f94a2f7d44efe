//! Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed until otpd
//! says that it is right. Exits with 0 when it was, 1 when it was not, and 2 when a call could not be decided.

mod retries;

/// The contract's messages and client, made by build.rs.
mod otp {
    tonic::include_proto!("otp.v1");
}

use std::{
    env,
    error::Error,
    fmt::Display,
    fs,
    io::{self, Write},
    iter,
    path::Path,
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use otp::{
    AccountLocked, Channel as MessageChannel, CreateChallengeRequest, CreateChallengeSuccess, DeliveryState,
    Destination, EpochTimestamp, ProtocolVersion, Purpose, RequestHeader, VerifyOtpRequest, create_challenge_result,
    destination, otp_service_client::OtpServiceClient, send_otp_result, verify_otp_result_code,
};
use prost_types::Timestamp;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::retries::Retries;

/// Applies to every call: how long it may take, and when it is repeated.
const SERVICE_CONFIG: &str = include_str!("../../service-config.json");

/// Why the program ends without "verified".
enum Ended {
    /// otpd has decided, and the person was not verified.
    NotVerified(String),
    /// A call could not be decided.
    Undecided(Box<Status>),
    /// The program could not start, or its input could not be read.
    Broken(Box<dyn Error>),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Undecided(Box::new(status))
    }
}

fn not_verified<T>(why: impl Into<String>) -> Result<T, Ended> {
    Err(Ended::NotVerified(why.into()))
}

fn broken(error: impl Into<Box<dyn Error>>) -> Ended {
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
            tell_causes(&*error);
            ExitCode::from(2)
        }
    }
}

async fn run() -> Result<(), Ended> {
    let caller = Caller::connect(&setting("OTPD_ADDRESS", "127.0.0.1:50051")).map_err(Ended::Broken)?;
    // The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
    // same id then finds the challenge that was opened, where a new one would send a second message.
    let challenge = Uuid::new_v4().to_string();
    // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
    let account = format!("person-{challenge:.8}");
    caller.open(&challenge, &account, setting("OTPD_PHONE_NUMBER", "+14155550100")).await?;
    let mut input = io::stdin().lines();
    loop {
        print!("code: ");
        io::stdout().flush().map_err(broken)?;
        let Some(typed) = input.next() else { return not_verified("no more codes were typed") };
        if caller.verify(&challenge, &account, typed.map_err(broken)?).await? {
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
    fn connect(address: &str) -> Result<Self, Box<dyn Error>> {
        let authorities = setting("OTPD_CA_FILE", "");
        let endpoint = if authorities.is_empty() {
            Endpoint::from_shared(format!("http://{address}"))?
        } else {
            let tls = ClientTlsConfig::new().ca_certificate(certificate(Path::new(&authorities))?);
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(tls)?
        };
        let token = match setting("OTPD_CALLER_TOKEN", "") {
            token if token.is_empty() => None,
            _ if authorities.is_empty() => {
                return Err("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: the token could be read on the way".into());
            }
            token => Some(format!("Bearer {token}").parse()?),
        };
        Ok(Self {
            // Connects with the first call, and again whenever the connection is lost.
            client: OtpServiceClient::with_interceptor(endpoint.connect_lazy(), Bearer(token)),
            retries: Retries::of(SERVICE_CONFIG, "otp.v1.OtpService")?,
        })
    }

    /// Opens the challenge and sends its first code in one call.
    async fn open(&self, challenge: &str, account: &str, phone_number: String) -> Result<(), Ended> {
        let request = CreateChallengeRequest {
            request_header: Some(header(challenge)),
            account_id: account.to_owned(),
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
        let response = self.retries.call("CreateChallenge", request, None, call).await?;
        match response.result.and_then(|result| result.result) {
            Some(create_challenge_result::Result::Success(success)) => sent(success),
            Some(create_challenge_result::Result::AccountLocked(lock)) => not_verified(locked(lock)),
            Some(create_challenge_result::Result::RiskDeclined(_)) => not_verified("declined for now, try later"),
            // A later otpd may decline for a reason that this program does not know.
            None => not_verified("the challenge was declined"),
        }
    }

    /// Asks about one typed code. Each typed code is a request of its own, with an id of its own.
    async fn verify(&self, challenge: &str, account: &str, typed: String) -> Result<bool, Ended> {
        use verify_otp_result_code::VerifyOtpResultCode as Outcome;

        let request = VerifyOtpRequest {
            request_header: Some(header(&Uuid::new_v4().to_string())),
            authenticate_request_id: challenge.to_owned(),
            otp: typed,
            // otpd compares these with the challenge, and refuses a code of another account or purpose.
            account_id: account.to_owned(),
            purpose: Purpose::Login.into(),
            ..VerifyOtpRequest::default()
        };
        let call = async |request| self.client.clone().verify_otp(request).await;
        let response = match self.retries.call("VerifyOtp", request, None, call).await {
            Ok(response) => response,
            Err(status) => {
                let Some(why) = mistyped(&status) else { return Err(status.into()) };
                println!("not a code: {why}");
                return Ok(false);
            }
        };
        match response.result.and_then(|result| result.verify_otp_result_code) {
            Some(Outcome::Success(_)) => {
                let proven = response.verified.unwrap_or_default();
                if proven.account_id != account || proven.purpose() != Purpose::Login {
                    return not_verified("otpd verified something else");
                }
                println!("verified: {} by {}", proven.account_id, proven.masked_destination);
                Ok(true)
            }
            Some(Outcome::OtpNotMatched(wrong)) => {
                println!("wrong code, attempts left: {}", wrong.remaining_verification_attempts());
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

/// Begins every request. A repetition has the id of the call that it repeats: otpd neither sends nor counts twice. All
/// repetitions by [`Retries`] are such, as they send the same message.
fn header(request_id: &str) -> RequestHeader {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    RequestHeader {
        protocol_version: Some(ProtocolVersion { major: 1, ..ProtocolVersion::default() }),
        request_id: request_id.to_owned(),
        request_timestamp: Some(EpochTimestamp { epoch_millis: i64::try_from(now.as_millis()).unwrap_or(i64::MAX) }),
        payment_integrator_account_id: setting("OTPD_TENANT", "example"),
    }
}

/// Tells what became of the message: the challenge is open even where none was sent.
fn sent(opened: CreateChallengeSuccess) -> Result<(), Ended> {
    use send_otp_result::Result as Outcome;

    match opened.send_result.and_then(|result| result.result) {
        Some(Outcome::Success(success)) => {
            // 0 where the provider makes the code and does not say.
            let length = match success.otp_length {
                0 => String::new(),
                length => format!(" of {length} characters"),
            };
            let masked = opened.challenge_options.first().map(|option| option.masked_destination.as_str());
            let to = masked.filter(|masked| !masked.is_empty()).unwrap_or("the contact on file");
            println!("a code{length} was sent to {to}");
            if success.delivery_state() == DeliveryState::Unconfirmed {
                println!("(the provider did not say whether it took the message)");
            }
            Ok(())
        }
        Some(Outcome::AccountLocked(lock)) => not_verified(locked(lock)),
        Some(Outcome::RiskDeclined(_)) => not_verified("declined for now, try later"),
        Some(Outcome::DestinationRejected(_)) => not_verified("the number takes no messages, choose another"),
        _ => not_verified("no code was sent"),
    }
}

fn locked(lock: AccountLocked) -> String {
    match lock.unlock_timestamp {
        None => "the account is locked".to_owned(),
        Some(end) => {
            let seconds = end.epoch_millis.div_euclid(1000);
            format!("the account is locked until {}", Timestamp { seconds, nanos: 0 })
        }
    }
}

/// What is wrong with a text that cannot be a code, such as an empty line. It is neither compared nor counted.
fn mistyped(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    match details.bad_request()?.field_violations.as_slice() {
        [violation] if violation.field == "otp" => Some(violation.description.clone()),
        _ => None,
    }
}

/// Tells why a call could not be decided. `ErrorInfo` has the reason that a program acts on, a name of `Reason` in the
/// contract without its prefix; the message is for people.
fn explain(status: &Status) {
    tell_causes(status);
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

fn tell_causes(error: &(dyn Error + 'static)) {
    let mut last = String::new();
    for cause in iter::successors(Some(error), |&error| error.source()) {
        let text = match cause.downcast_ref::<Status>() {
            Some(status) => format!("{:?}: {}", status.code(), status.message()),
            None => cause.to_string(),
        };
        // Some errors show their cause as their own text.
        if text != last {
            eprintln!("{text}");
        }
        last = text;
    }
}

/// tonic takes a file without a certificate, and trusts nobody then.
fn certificate(file: &Path) -> Result<Certificate, String> {
    let wrong = |why: &dyn Display| format!("OTPD_CA_FILE ({}): {why}", file.display());
    let pem = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(wrong(&"holds no certificate in PEM"));
    }
    Ok(Certificate::from_pem(pem))
}

fn setting(name: &str, otherwise: &str) -> String {
    env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| otherwise.to_owned())
}
