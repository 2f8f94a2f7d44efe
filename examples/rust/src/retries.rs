//! Time-outs and retries as a gRPC service config tells them, which tonic does not read: `timeout`, `retryPolicy` and
//! `retryThrottling` (gRFC A6), and the server's word on when to come again, `grpc-retry-pushback-ms`.

use std::{
    error::Error,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status};

/// The server's wait before the next try in milliseconds; anything but such a number forbids one.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// The parts of a service config that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceConfig {
    method_config: Vec<MethodConfig>,
    retry_throttling: RetryThrottling,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MethodConfig {
    name: Vec<MethodName>,
    #[serde(deserialize_with = "span")]
    timeout: Duration,
    retry_policy: RetryPolicy,
}

#[derive(Deserialize)]
struct MethodName {
    service: String,
    /// Absent: all methods of the service that are not named elsewhere.
    method: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetryPolicy {
    max_attempts: u32,
    #[serde(deserialize_with = "span")]
    initial_backoff: Duration,
    #[serde(deserialize_with = "span")]
    max_backoff: Duration,
    backoff_multiplier: f64,
    #[serde(deserialize_with = "codes")]
    retryable_status_codes: Vec<Code>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RetryThrottling {
    max_tokens: f64,
    token_ratio: f64,
}

/// `"0.1s"`, as JSON has a `google.protobuf.Duration`.
fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let seconds = text.strip_suffix('s').and_then(|seconds| seconds.parse().ok());
    let span = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    span.ok_or_else(|| de::Error::custom(format!("{text} is no span of time")))
}

/// `["UNAVAILABLE"]`
fn codes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Code>, D::Error> {
    let of_name = |name: &String| {
        let plain = name.replace('_', "");
        let code = (1..=16).map(Code::from).find(|code| plain.eq_ignore_ascii_case(&format!("{code:?}")));
        code.ok_or_else(|| de::Error::custom(format!("{name} is no code")))
    };
    Vec::<String>::deserialize(from)?.iter().map(of_name).collect()
}

/// The rules for the calls of one service.
pub struct Retries {
    service: String,
    config: ServiceConfig,
    /// Each failure takes one and each answer gives `tokenRatio`. While half of `maxTokens` or fewer are left, nothing is
    /// repeated, so that a server in trouble is not asked even more.
    tokens: Mutex<f64>,
}

impl Retries {
    /// Reads the rules for `service` out of a service config in JSON.
    pub fn of(config: &str, service: &str) -> Result<Self, Box<dyn Error>> {
        let config: ServiceConfig = serde_json::from_str(config)?;
        let tokens = Mutex::new(config.retry_throttling.max_tokens);
        Ok(Self { service: service.to_owned(), config, tokens })
    }

    /// Calls until there is an answer, a status that is not to be repeated, or no time left. Every try sends the same
    /// message and with it the same request id, so that otpd counts it once.
    pub async fn call<Message: Clone, Answer>(
        &self,
        method: &str,
        message: Message,
        call: impl AsyncFn(Request<Message>) -> Result<Response<Answer>, Status>,
    ) -> Result<Answer, Status> {
        let Some(MethodConfig { timeout, retry_policy: policy, .. }) = self.of_method(method) else {
            return Ok(call(Request::new(message)).await?.into_inner());
        };
        let deadline = Instant::now() + *timeout;
        let tries = async {
            let (mut attempt, mut backoff) = (1, policy.initial_backoff);
            loop {
                let mut request = Request::new(message.clone());
                // otpd is told how long its caller waits, and answers before.
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
                let status = match call(request).await {
                    Ok(answer) => {
                        self.add_tokens(self.config.retry_throttling.token_ratio);
                        return Ok(answer.into_inner());
                    }
                    Err(status) => status,
                };
                match self.wait_after(&status, policy, backoff) {
                    Some(wait) if attempt < policy.max_attempts => sleep(wait).await,
                    _ => return Err(status),
                }
                attempt += 1;
                backoff = backoff.mul_f64(policy.backoff_multiplier).min(policy.max_backoff);
            }
        };
        match timeout_at(deadline, tries).await {
            Ok(answered) if answered.is_ok() || Instant::now() < deadline => answered,
            _ => Err(Status::deadline_exceeded("no answer in time; the same request id asks what became of the call")),
        }
    }

    /// The entry that names the method, else the one that names the service alone.
    fn of_method(&self, method: &str) -> Option<&MethodConfig> {
        let named = |wanted: Option<&str>| {
            let fits = |name: &MethodName| name.service == self.service && name.method.as_deref() == wanted;
            self.config.method_config.iter().find(|entry| entry.name.iter().any(fits))
        };
        named(Some(method)).or_else(|| named(None))
    }

    /// How long to wait before the next try. `None`: there is none.
    fn wait_after(&self, status: &Status, policy: &RetryPolicy, backoff: Duration) -> Option<Duration> {
        let told = status.metadata().get(PUSHBACK);
        let pushback = told.map(|told| told.to_str().ok().and_then(|millis| millis.parse().ok()));
        if !policy.retryable_status_codes.contains(&status.code()) && pushback != Some(None) {
            return None;
        }
        let enough = self.add_tokens(-1.0) > self.config.retry_throttling.max_tokens / 2.0;
        // Without the server's word, a fifth more or less than the backoff, so that callers do not come again all at once.
        let otherwise = || Some(backoff.mul_f64(rand::random_range(0.8..1.2)));
        pushback.map_or_else(otherwise, |told| told.map(Duration::from_millis)).filter(|_| enough)
    }

    fn add_tokens(&self, added: f64) -> f64 {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens = (*tokens + added).clamp(0.0, self.config.retry_throttling.max_tokens);
        *tokens
    }
}
