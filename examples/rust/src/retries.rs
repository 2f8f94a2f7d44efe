//! Time-outs and retries as a gRPC service config tells them, which tonic does not read: `timeout`, `waitForReady`,
//! `retryPolicy` and `retryThrottling` (gRFC A6), and the server's word on when to come again, `grpc-retry-pushback-ms`.

use std::{
    error::Error,
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, ConnectError, Request, Response, Status, TimeoutExpired};

/// How long the server wants the client to wait, in milliseconds. Any other value forbids another attempt (gRFC A6).
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// How long to wait before connecting anew where no server could be reached: a restarted server is found within a second,
/// and one that is away is not flooded.
const RECONNECT: Duration = Duration::from_millis(500);
/// More attempts are cut to this (gRFC A6).
const MOST_ATTEMPTS: u32 = 5;

/// The parts of a service config that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceConfig {
    #[serde(default)]
    method_config: Vec<MethodConfig>,
    retry_throttling: Option<RetryThrottling>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MethodConfig {
    name: Vec<MethodName>,
    #[serde(deserialize_with = "optional_span")]
    timeout: Option<Duration>,
    wait_for_ready: bool,
    retry_policy: Option<RetryPolicy>,
}

/// Without a method: all methods of the service. Without a service: all methods of all services.
#[derive(Default, Deserialize)]
#[serde(default)]
struct MethodName {
    service: String,
    method: String,
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

fn optional_span<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    span(from).map(Some)
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
    /// A failure that might be repeated takes one token, an answer gives back `tokenRatio`. While half of `maxTokens` or
    /// fewer are left, nothing is repeated, so that a server in trouble is not asked even more.
    tokens: Mutex<f64>,
}

impl Retries {
    /// Reads the rules for `service` out of a service config in JSON.
    pub fn of(config: &str, service: &str) -> Result<Self, serde_json::Error> {
        let config: ServiceConfig = serde_json::from_str(config)?;
        let tokens = Mutex::new(config.retry_throttling.as_ref().map_or(0.0, |throttling| throttling.max_tokens));
        Ok(Self { service: service.to_owned(), config, tokens })
    }

    /// Calls until there is an answer, a status that is not to be repeated, or no time left: the time-out of the service
    /// config, or `within`, if that is shorter. Every try sends the same message and with it the same request id, so that
    /// otpd counts it once.
    pub async fn call<Message: Clone, Answer>(
        &self,
        method: &str,
        message: Message,
        within: Option<Duration>,
        call: impl AsyncFn(Request<Message>) -> Result<Response<Answer>, Status>,
    ) -> Result<Answer, Status> {
        let none = MethodConfig::default();
        let rules = self.rules_for(method).unwrap_or(&none);
        let deadline = [rules.timeout, within].into_iter().flatten().min().map(|span| Instant::now() + span);
        let mut last = None;
        let tries = self.tries(rules, message, deadline, call, &mut last);
        let Some(deadline) = deadline else { return tries.await };
        match timeout_at(deadline, tries).await {
            // tonic ends a try by the same deadline, and may be the first to see it.
            Ok(Err(status)) if has_cause::<TimeoutExpired>(&status) => Err(out_of_time(last)),
            Ok(answered) => answered,
            Err(_) => Err(out_of_time(last)),
        }
    }

    /// `last` is the status of the last try that failed.
    async fn tries<Message: Clone, Answer>(
        &self,
        rules: &MethodConfig,
        message: Message,
        deadline: Option<Instant>,
        call: impl AsyncFn(Request<Message>) -> Result<Response<Answer>, Status>,
        last: &mut Option<Status>,
    ) -> Result<Answer, Status> {
        let (mut attempt, mut backoff) = (1, None);
        loop {
            let mut request = Request::new(message.clone());
            if let Some(deadline) = deadline {
                // otpd is told how long its caller waits, and answers before.
                request.set_timeout(deadline.saturating_duration_since(Instant::now()));
            }
            let status = match call(request).await {
                Ok(answer) => {
                    if let Some(throttling) = &self.config.retry_throttling {
                        self.add_tokens(throttling, throttling.token_ratio);
                    }
                    return Ok(answer.into_inner());
                }
                Err(status) => status,
            };
            // Out of time: `call` tells so.
            if has_cause::<TimeoutExpired>(&status) {
                return Err(status);
            }
            let wait = match &rules.retry_policy {
                // Nothing was sent, so that this is no attempt.
                _ if rules.wait_for_ready && has_cause::<ConnectError>(&status) => jittered(RECONNECT),
                Some(policy) => match self.wait_after(&status, policy, &mut backoff) {
                    Some(wait) if attempt < policy.max_attempts.min(MOST_ATTEMPTS) => {
                        attempt += 1;
                        wait
                    }
                    _ => return Err(status),
                },
                None => return Err(status),
            };
            *last = Some(status);
            sleep(wait).await;
        }
    }

    /// The entry that names the method, else the one that names its service alone, else the one for everything.
    fn rules_for(&self, method: &str) -> Option<&MethodConfig> {
        let named = |service: &str, method: &str| {
            let fits = |name: &MethodName| name.service == service && name.method == method;
            self.config.method_config.iter().find(|entry| entry.name.iter().any(fits))
        };
        named(&self.service, method).or_else(|| named(&self.service, "")).or_else(|| named("", ""))
    }

    /// How long to wait before the next attempt. `None`: there is none. `backoff` is the next wait where the server tells
    /// none; `None`: `initialBackoff`.
    fn wait_after(&self, status: &Status, policy: &RetryPolicy, backoff: &mut Option<Duration>) -> Option<Duration> {
        let told = status.metadata().get(PUSHBACK);
        let pushback = told.map(|told| told.to_str().ok().and_then(|millis| millis.parse().ok()));
        // A status with a source was made here, as the connection broke: tonic gives it the code UNKNOWN or CANCELLED.
        // Whether the call was decided is not known, and the same request id asks.
        let repeatable = status.source().is_some() || policy.retryable_status_codes.contains(&status.code());
        if !repeatable && pushback != Some(None) {
            return None;
        }
        let throttling = self.config.retry_throttling.as_ref();
        let enough =
            throttling.is_none_or(|throttling| self.add_tokens(throttling, -1.0) > throttling.max_tokens / 2.0);
        let wait = match pushback {
            Some(told) => {
                *backoff = None;
                told.map(Duration::from_millis)
            }
            None => {
                let wait = backoff.unwrap_or(policy.initial_backoff);
                *backoff = Some(wait.mul_f64(policy.backoff_multiplier).min(policy.max_backoff));
                Some(jittered(wait))
            }
        };
        wait.filter(|_| enough)
    }

    fn add_tokens(&self, throttling: &RetryThrottling, added: f64) -> f64 {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        *tokens = (*tokens + added).clamp(0.0, throttling.max_tokens);
        *tokens
    }
}

/// A fifth more or less, so that callers do not come again all at once.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.8..1.2))
}

fn has_cause<Cause: Error + 'static>(status: &Status) -> bool {
    iter::successors(status.source(), |&error| error.source()).any(|error| error.is::<Cause>())
}

/// Has the last failure as its source, which tells why: no connection, for instance.
fn out_of_time(last: Option<Status>) -> Status {
    let mut status = Status::deadline_exceeded("no answer in time; the same request id asks what became of the call");
    if let Some(last) = last {
        status.set_source(Arc::new(last));
    }
    status
}

#[cfg(test)]
mod tests;
