//! Providers over HTTP, played by local servers: their settings, their answers, what they were asked.

use std::collections::BTreeMap;

use otpd::grpc::proto::{
    ContactOnFile, CreateChallengeRequest, Destination, SendOtpRequest, VerifyOtpRequest,
    destination::Destination as To,
};
use serde_json::{Value, json};
use tonic::Status;
use tonic_types::StatusExt;

pub(crate) use crate::http_server::{Act, Request, Server as Upstream};
use crate::{
    caller::{Caller, sms},
    site::Site,
};

/// A provider that takes our codes at `/NAME`, and is given up after half a second.
pub(crate) fn gateway(name: &str, url: &str) -> String {
    format!(
        "[providers.{name}]\nkind = \"http-json\"\nbase_url = \"{url}\"\npath = \"/{name}\"\ntimeout = \"500ms\"\n\
         connect_timeout = \"500ms\"\njson = '{{\"to\": \"{{{{to}}}}\", \"code\": \"{{{{code}}}}\"}}'\n"
    )
}

/// A server of one provider, which is called `upstream`, without gaps between sends.
pub(crate) fn site_of(settings: &str) -> Site {
    let common = "routes = [\"upstream\"]\n[policy]\nresend_gaps = []\n[policy.quotas]\ndestination_sends = []\n";
    Site::embedded().configured(&format!("{common}[providers.upstream]\n{settings}"))
}

/// This status and document.
pub(crate) fn answer(status: u16, body: &Value) -> Act {
    text(status, "", &body.to_string())
}

/// 200 with this document.
pub(crate) fn ok(body: &Value) -> Act {
    answer(200, body)
}

/// This status, further headers, each with its line end, and body.
pub(crate) fn text(status: u16, headers: &str, body: &str) -> Act {
    let head = format!("HTTP/1.1 {status} Told\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    Act::Send(format!("{head}\r\n{headers}\r\n{body}").into_bytes())
}

/// 503, to come again in 7 s.
pub(crate) fn down() -> Act {
    text(503, "retry-after: 7\r\n", "{}")
}

/// The one request since the last look.
pub(crate) fn only(upstream: &Upstream) -> Request {
    let mut seen = upstream.seen();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

/// The document of a request.
pub(crate) fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).expect("a document")
}

/// The code that a [`gateway`] was handed.
pub(crate) fn code(request: &Request) -> String {
    body(request)["code"].as_str().expect("a code").to_owned()
}

/// Of a request to a provider: what it was asked where.
pub(crate) fn asked(upstream: &Upstream, path: &str) -> Value {
    let request = only(upstream);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", path));
    assert_eq!(request.header("content-type"), Some("application/json"));
    body(&request)
}

pub(crate) fn parameters(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A send with parameters.
pub(crate) fn send_with(request: SendOtpRequest, given: &[(&str, &str)]) -> SendOtpRequest {
    SendOtpRequest { provider_parameters: parameters(given), ..request }
}

/// A check with parameters.
pub(crate) fn verify_with(request: VerifyOtpRequest, given: &[(&str, &str)]) -> VerifyOtpRequest {
    VerifyOtpRequest { provider_parameters: parameters(given), ..request }
}

/// The contact that the provider has on file.
pub(crate) fn on_file(option: &str) -> Destination {
    Destination { destination: Some(To::ContactOnFile(ContactOnFile {})), ..sms("", option) }
}

/// The same request to another destination.
pub(crate) fn to(destination: Destination, request: CreateChallengeRequest) -> CreateChallengeRequest {
    CreateChallengeRequest { destinations: vec![destination], ..request }
}

/// The fields that a status blames.
pub(crate) fn blamed(status: &Status) -> Vec<String> {
    let request = status.get_details_bad_request().expect("field violations");
    request.field_violations.into_iter().map(|violation| violation.field).collect()
}

/// Sends of the first option, and attempts, as GetChallenge counts them.
pub(crate) async fn counted(caller: &Caller, challenge: &str) -> (i64, i64) {
    let seen = caller.challenge(challenge).await.unwrap();
    (seen.options[0].sends, seen.verification_attempts)
}

/// What the integrator of the Google pages answers to `verifyOtp`.
pub(crate) fn google_result(member: &str) -> Act {
    ok(&json!({"responseHeader": {"responseTimestamp": {"epochMillis": "1481899949611"}}, "result": {member: {}}}))
}
