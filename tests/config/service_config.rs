//! `examples/service-config.json`, by which clients repeat and end calls, goes with the contract and the server's times.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and says then where")]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use otpd::config::{Config, Source};
use serde_json::{Value, json};

/// gRPC Core, which Python and C++ use, ends a call up to 2 s before the time-out of its service config
/// (<https://github.com/grpc/grpc/issues/34547>). With a second more the server's own answer comes first.
const EARLY: Duration = Duration::from_secs(3);
/// More attempts are cut to this by every client (gRFC A6).
const MOST_ATTEMPTS: u64 = 5;
/// As many calls of one client as may fail at once and still have all their attempts: docs/clients.md names it.
const AT_ONCE: u64 = 150;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn service_config() -> Value {
    serde_json::from_str(&text("examples/service-config.json")).unwrap()
}

fn entries(config: &Value) -> &[Value] {
    config["methodConfig"].as_array().unwrap()
}

/// `("otp.v1.OtpService", "VerifyOtp")` for every method of the contract.
fn methods() -> BTreeSet<(String, String)> {
    let mut service = String::new();
    let mut methods = BTreeSet::new();
    for line in text("proto/otp/v1/otp.proto").lines() {
        if let Some(name) = line.strip_prefix("service ") {
            service = format!("otp.v1.{}", name.trim_end_matches(" {"));
        } else if let Some(method) = line.trim_start().strip_prefix("rpc ") {
            methods.insert((service.clone(), method.split_once('(').unwrap().0.to_owned()));
        }
    }
    assert!(methods.len() >= 8, "{methods:?}");
    methods
}

fn span(value: &Value) -> Duration {
    let seconds = value.as_str().unwrap().strip_suffix('s').unwrap();
    Duration::from_secs_f64(seconds.parse().unwrap())
}

#[test]
fn every_method_of_the_contract_has_an_entry_and_every_entry_names_what_exists() {
    let (config, methods) = (service_config(), methods());
    let mut named = BTreeSet::new();
    for name in entries(&config).iter().flat_map(|entry| entry["name"].as_array().unwrap()) {
        let service = name["service"].as_str().unwrap();
        let method = name["method"].as_str();
        let exists = methods.iter().any(|(s, m)| s == service && method.is_none_or(|method| m == method));
        assert!(exists, "{name} is not in the contract");
        assert!(named.insert((service.to_owned(), method)), "{name} is there twice, which clients refuse");
    }
    for (service, method) in methods {
        let covered = [None, Some(method.as_str())].iter().any(|method| named.contains(&(service.clone(), *method)));
        assert!(covered, "{service}/{method}");
    }
    let health = config["healthCheckConfig"]["serviceName"].as_str().unwrap();
    assert!(named.iter().any(|(service, _)| service == health), "{health}");
}

#[test]
fn the_servers_own_time_limit_answers_before_a_client_gives_up() {
    let server = Config::load(&Source::default()).unwrap().server;
    for entry in entries(&service_config()) {
        let timeout = span(&entry["timeout"]);
        assert!(timeout >= server.request_timeout + EARLY, "{entry}");
        assert!(timeout <= 3 * server.request_timeout, "a person waits for it: {entry}");
    }
}

#[test]
fn only_what_may_be_decided_a_little_later_is_repeated_and_only_so_often() {
    let config = service_config();
    for entry in entries(&config) {
        let policy = &entry["retryPolicy"];
        assert_eq!(policy["retryableStatusCodes"], json!(["UNAVAILABLE", "ABORTED", "RESOURCE_EXHAUSTED"]));
        assert!((2..=MOST_ATTEMPTS).contains(&policy["maxAttempts"].as_u64().unwrap()), "{policy}");
        assert!(span(&policy["initialBackoff"]) < span(&policy["maxBackoff"]), "{policy}");
        assert!(policy["backoffMultiplier"].as_f64().unwrap() > 1.0, "{policy}");
    }
}

#[test]
fn calls_that_fail_together_have_all_their_attempts() {
    let config = service_config();
    let tokens = config["retryThrottling"]["maxTokens"].as_u64().unwrap();
    assert!((1..=1000).contains(&tokens), "the range of gRFC A6");
    // Each failed attempt takes a token, and nothing is repeated with half of them or fewer.
    for entry in entries(&config) {
        let repetitions = entry["retryPolicy"]["maxAttempts"].as_u64().unwrap() - 1;
        assert!(repetitions * AT_ONCE < tokens / 2, "{tokens} tokens, {repetitions} repetitions of {AT_ONCE} calls");
    }
    assert!(text("docs/clients.md").contains(&format!("{AT_ONCE} calls at once")));
    let ratio = config["retryThrottling"]["tokenRatio"].as_f64().unwrap();
    assert!((0.001..=1.0).contains(&ratio), "repetitions stop while more attempts fail than succeed: {ratio}");
}
