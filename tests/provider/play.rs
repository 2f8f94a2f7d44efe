//! Plays one scenario: asks the provider, and compares what the server saw and what the provider said.

use std::{fmt::Write, time::Duration};

use otpd::ports::{clock::Deadline, provider::Provider};
use serde_json::Value;

use super::{
    scenario::{Answer, Call, Expected, Outcome, Scenario},
    server::{Act, Request, Server},
};

/// Stands for any value in an expected header or body.
pub(crate) const ANY: &str = "<any>";

const LONGEST_CALL: Duration = Duration::from_secs(10);

/// All that is not as the scenario says.
pub(crate) async fn play(provider: &dyn Provider, scenario: &Scenario, server: &Server) -> Vec<String> {
    let mut complaints = Vec::new();
    if scenario.about.trim().is_empty() {
        complaints.push("about: must say in a line what this shows".to_owned());
    }
    if scenario.request.is_some() != scenario.answer.is_some() {
        complaints.push("an answer goes with a request".to_owned());
    }
    server.script(scenario.answer.iter().map(|answer| Act::Send(bytes(answer))));
    match outcome(provider, scenario).await {
        Ok(said) if said == scenario.outcome => {}
        Ok(said) => complaints.push(format!("outcome: {said:?}, not {:?}", scenario.outcome)),
        Err(wrong) => complaints.push(wrong),
    }
    let seen = server.seen();
    match (&scenario.request, seen.as_slice()) {
        (None, []) => {}
        (Some(expected), [request]) => complaints.extend(differences(expected, request)),
        (expected, seen) => {
            let wanted = usize::from(expected.is_some());
            complaints.push(format!("the server saw {} requests, not {wanted}", seen.len()));
        }
    }
    complaints
}

async fn outcome(provider: &dyn Provider, scenario: &Scenario) -> Result<Outcome, String> {
    let deadline = Deadline::after(LONGEST_CALL);
    match scenario.call {
        Call::Deliver => {
            let delivery = scenario.given.delivery()?;
            // Whatever prints what a provider is handed must not print what is in it.
            tracing::trace!(?delivery, "plays");
            Ok(Outcome::of_delivered(provider.deliver(delivery, deadline).await))
        }
        Call::Check => {
            let check = scenario.given.check()?;
            if let Some(error) = provider.check_error(&check) {
                return Ok(Outcome::of_request_error(error));
            }
            Ok(Outcome::of_checked(provider.check(check, deadline).await))
        }
    }
}

fn bytes(answer: &Answer) -> Vec<u8> {
    let body = match (&answer.json, &answer.body) {
        (Some(json), _) => json.to_string(),
        (None, body) => body.clone().unwrap_or_default(),
    };
    let mut head = format!("HTTP/1.1 {} Fixture\r\ncontent-length: {}\r\n", answer.status, body.len());
    if answer.json.is_some() && !answer.headers.contains_key("content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    format!("{head}\r\n{body}").into_bytes()
}

/// What is not as expected in a request.
pub(crate) fn differences(expected: &Expected, request: &Request) -> Vec<String> {
    let mut complaints = Vec::new();
    if request.method != expected.method {
        complaints.push(format!("method: {}, not {}", request.method, expected.method));
    }
    let ((path, query), (wanted_path, wanted_query)) = (split(&request.target), split(&expected.path));
    if path != wanted_path {
        complaints.push(format!("path: {path}, not {wanted_path}"));
    }
    if pairs(query) != pairs(wanted_query) {
        complaints.push(format!("query: {:?}, not {:?}", pairs(query), pairs(wanted_query)));
    }
    for (name, wanted) in &expected.headers {
        match request.header(name) {
            Some(value) if value == wanted || wanted == ANY => {}
            Some(value) => complaints.push(format!("header {name}: {value}, not {wanted}")),
            None => complaints.push(format!("header {name}: absent, not {wanted}")),
        }
    }
    complaints.extend(body_difference(expected, request));
    complaints
}

fn body_difference(expected: &Expected, request: &Request) -> Option<String> {
    let body = String::from_utf8_lossy(&request.body);
    let content_type = request.header("content-type").unwrap_or_default();
    match (&expected.json, &expected.form, &expected.body) {
        (Some(wanted), None, None) => {
            if !content_type.starts_with("application/json") && !content_type.contains("+json") {
                return Some(format!("content-type: {content_type:?}, not of JSON"));
            }
            match serde_json::from_str::<Value>(&body) {
                Ok(json) if matches_json(wanted, &json) => None,
                Ok(json) => Some(format!("json: {json}, not {wanted}")),
                Err(error) => Some(format!("json: {error} in {body}")),
            }
        }
        (None, Some(wanted), None) => {
            if !content_type.starts_with("application/x-www-form-urlencoded") {
                return Some(format!("content-type: {content_type:?}, not of a form"));
            }
            let mut wanted: Vec<(String, String)> = wanted.iter().flat_map(|(name, value)| form(name, value)).collect();
            wanted.sort();
            let found = pairs(&body);
            let same = |(found, wanted): (&(String, String), &(String, String))| {
                found.0 == wanted.0 && (found.1 == wanted.1 || wanted.1 == ANY)
            };
            let fits = found.len() == wanted.len() && found.iter().zip(&wanted).all(same);
            (!fits).then(|| format!("form: {found:?}, not {wanted:?}"))
        }
        (None, None, wanted) => {
            let wanted = wanted.clone().unwrap_or_default();
            (body != wanted && wanted != ANY).then(|| format!("body: {body:?}, not {wanted:?}"))
        }
        _ => Some("request: at most one of json, form and body".to_owned()),
    }
}

fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// The decoded pairs of a query or form, sorted.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
    pairs.sort();
    pairs
}

/// A field of a form: a text, or a list of texts where the field is there more than once.
fn form(name: &str, value: &Value) -> Vec<(String, String)> {
    let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match value {
        Value::Array(values) => values.iter().map(|value| (name.to_owned(), one(value))).collect(),
        value => vec![(name.to_owned(), one(value))],
    }
}

/// Whether two documents are the same but for the places where anything may stand.
fn matches_json(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (Value::String(text), _) if text == ANY => true,
        (Value::Object(wanted), Value::Object(found)) => {
            let same =
                |(name, value): (&String, &Value)| found.get(name).is_some_and(|found| matches_json(value, found));
            wanted.len() == found.len() && wanted.iter().all(same)
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(wanted, found)| matches_json(wanted, found))
        }
        (wanted, found) => wanted == found,
    }
}
