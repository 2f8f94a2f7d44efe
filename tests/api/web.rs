//! Web pages and clients of Connect, through a real Envoy: grpc-web in both forms, Connect in both, and who may call from a page.

use base64::{Engine, prelude::BASE64_STANDARD};
use otpd::grpc::proto::{
    CreateChallengeRequest, CreateChallengeResponse, GetChallengeRequest, GetChallengeResponse, SendOtpRequest,
};
use prost::Message;
use serde_json::{Value, json};
use tonic_health::pb::HealthCheckRequest;

use crate::{
    caller::{SMS, header, login, send},
    envoy::Replicas,
    http_client::{HttpAnswer, ask},
    raw_http2::message,
    site::until,
};

const NUMBER: &str = "+14155550100";
const PAGE: (&str, &str) = ("origin", "https://web-page.invalid");
const OTHER_PAGE: (&str, &str) = ("origin", "https://other.invalid");
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text+proto";
const CREATE_AT: &str = "/otp.v1.OtpService/CreateChallenge";
const SEND_AT: &str = "/otp.v1.OtpService/SendOtp";
const GET_AT: &str = "/otp.v1.OtpService/GetChallenge";

/// The frames of an answer of grpc-web, each with its flag: 0 of a message, 128 of trailers.
fn frames(kind: &str, body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    // Pieces of base64 follow one another, each padded.
    let pieces = |body: &[u8]| body.chunks(4).flat_map(|piece| BASE64_STANDARD.decode(piece).unwrap()).collect();
    let body: Vec<u8> = if kind == TEXT { pieces(body) } else { body.to_vec() };
    let (mut frames, mut rest) = (Vec::new(), &body[..]);
    while let [flag, a, b, c, d, after @ ..] = rest {
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap();
        frames.push((*flag, after[..length].to_vec()));
        rest = &after[length..];
    }
    assert!(rest.is_empty());
    frames
}

async fn call(at: &str, kind: &str, target: &str, request: &impl Message) -> HttpAnswer {
    let framed = message(&request.encode_to_vec());
    let framed = if kind == TEXT { BASE64_STANDARD.encode(framed).into_bytes() } else { framed };
    let answer =
        ask(at, "POST", target, &[("content-type", kind), ("accept", kind), ("x-grpc-web", "1"), PAGE], framed).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, kind), "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), PAGE.1);
    answer
}

#[tokio::test]
async fn web_pages_call_by_grpc_web() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let at = envoy.address();
    for (kind, challenge) in [(BINARY, "binary"), (TEXT, "text")] {
        let answer = call(&at, kind, CREATE_AT, &login(challenge, "person", NUMBER)).await;
        let frames = frames(kind, &answer.body);
        let [(0, response), (128, trailers)] = &frames[..] else { panic!("{frames:?}") };
        let response = CreateChallengeResponse::decode(&response[..]).unwrap();
        assert!(response.result.is_some_and(|result| result.result.is_some()));
        let trailers = String::from_utf8(trailers.clone()).unwrap();
        assert!(trailers.contains("grpc-status:0\r\n"), "{trailers}");

        // A status comes in headers, which the page is allowed to read.
        let answer = call(&at, kind, SEND_AT, &send("s", "never")).await;
        assert_eq!(answer.header("grpc-status"), "5");
        let details = BASE64_STANDARD.decode(padded(answer.header("grpc-status-details-bin"))).unwrap();
        assert!(String::from_utf8_lossy(&details).contains("INVALID_IDENTIFIER"));
        for name in ["grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"] {
            assert!(
                answer.header("access-control-expose-headers").split(", ").any(|exposed| exposed == name),
                "{name}"
            );
        }
    }
    // Whether its caller reads trailers or not, the log has what became of a call.
    until("the lines of the calls", async || envoy.access().lines().count() == 4).await;
    for (line, expected) in envoy.access().lines().zip(["OK", "NotFound", "OK", "NotFound"]) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["grpc_status"], expected, "{line}");
    }
    let health = HealthCheckRequest { service: "otp.v1.OtpService".to_owned() };
    let answer = call(&at, BINARY, "/grpc.health.v1.Health/Check", &health).await;
    assert_eq!(frames(BINARY, &answer.body).len(), 2, "{answer:?}");
}

#[tokio::test]
async fn content_types_that_only_begin_like_grpc_are_json() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let body = message(&send("s", "never").encode_to_vec());
    for (kind, expected) in [
        ("application/grpc", (200, "5")),
        ("application/grpc+proto", (200, "5")),
        ("application/grpc-web", (200, "5")),
        ("application/grpc-web+proto", (200, "5")),
        ("application/grpc;a=b", (400, "")),
        ("application/grpcx", (400, "")),
        ("application/grpc-web;a=b", (400, "")),
        ("application/grpc-webx", (400, "")),
    ] {
        let answer = ask(&envoy.address(), "POST", SEND_AT, &[("content-type", kind)], body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), expected, "{kind}: {answer:?}");
        if expected.1.is_empty() {
            assert_eq!(answer.json()["code"], 3, "{kind}");
        }
    }
}

/// A message of so many bytes, about a challenge that nobody has opened: the most of it is a field that the contract does not know.
fn padded_to(length: usize) -> Vec<u8> {
    let mut bytes =
        GetChallengeRequest { request_header: header("get"), authenticate_request_id: "never".into() }.encode_to_vec();
    // Field 1000, whose length takes three bytes from 16 KiB on.
    prost::encoding::encode_key(1000, prost::encoding::WireType::LengthDelimited, &mut bytes);
    let rest = length - bytes.len() - 3;
    prost::encoding::encode_varint(rest as u64, &mut bytes);
    bytes.resize(length, 0);
    bytes
}

#[tokio::test]
async fn the_largest_message_of_otpd_arrives_with_its_frame() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let at = envoy.address();
    for (length, http, status) in [(65_536, 404, "5"), (65_537, 400, "3")] {
        let answer = ask(&at, "POST", GET_AT, &[PROTO, VERSION], padded_to(length)).await;
        assert_eq!(answer.status, http, "{answer:?}");
        let framed = message(&padded_to(length));
        let answer = ask(&at, "POST", GET_AT, &[("content-type", BINARY)], framed).await;
        assert_eq!(answer.header("grpc-status"), status, "{answer:?}");
    }
}

/// With the padding that gRPC leaves out.
fn padded(text: &str) -> String {
    format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4))
}

#[tokio::test]
async fn only_the_pages_that_are_named_may_call() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let at = envoy.address();
    let wants = ("access-control-request-method", "POST");
    let asked =
        ask(&at, "OPTIONS", SEND_AT, &[PAGE, wants, ("access-control-request-headers", "x-grpc-web")], "").await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (200, PAGE.1));
    for name in ["authorization", "connect-protocol-version", "connect-timeout-ms", "content-type", "x-grpc-web"] {
        assert!(asked.header("access-control-allow-headers").split(", ").any(|allowed| allowed == name), "{name}");
    }
    let get = ("access-control-request-method", "GET");
    let asked = ask(&at, "OPTIONS", &format!("{GET_AT}?connect=v1&encoding=json"), &[PAGE, get], "").await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (200, PAGE.1));
    let asked = ask(&at, "OPTIONS", SEND_AT, &[OTHER_PAGE, wants], "").await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (403, ""));
    // By grpc-web it is told a status, which browsers keep from it.
    let web = ("content-type", BINARY);
    let answer = ask(&at, "POST", SEND_AT, &[OTHER_PAGE, web], message(&[])).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "7"), "{answer:?}");
    assert_eq!(answer.header("grpc-message"), "this web page, or this kind of connection, is not allowed to call");
    let answer = ask(&at, "POST", SEND_AT, &[PAGE, web], message(&vec![b'x'; 70_000])).await;
    assert_eq!((answer.status.as_u16(), answer.header("grpc-status")), (200, "3"), "{answer:?}");
    assert_eq!(answer.header("grpc-message"), "the request is too large");
    // A page may send what looks like a form without asking before.
    let body = json!({
        "requestHeader": {
            "protocolVersion": {"major": 1}, "requestId": "c", "requestTimestamp": {"epochMillis": "1"},
            "paymentIntegratorAccountId": "tenant"
        },
        "accountId": "person", "purpose": "PURPOSE_LOGIN", "sendOtp": true,
        "destinations": [{"channel": "CHANNEL_SMS", "phoneNumber": NUMBER}]
    });
    let form = ("content-type", "text/plain");
    for (page, expected) in [(OTHER_PAGE, 403), (("origin", "null"), 403), (PAGE, 200)] {
        assert!(replicas.site.codes(NUMBER).is_empty(), "{page:?}");
        assert_eq!(ask(&at, "POST", CREATE_AT, &[page, form], body.to_string()).await.status, expected, "{page:?}");
    }
    assert_eq!(replicas.site.codes(NUMBER).len(), 1);
}

const VERSION: (&str, &str) = ("connect-protocol-version", "1");
const PROTO: (&str, &str) = ("content-type", "application/proto");
const JSON: (&str, &str) = ("content-type", "application/json");

fn request_header(id: &str) -> Value {
    json!({
        "protocolVersion": {"major": 1}, "requestId": id, "requestTimestamp": {"epochMillis": "1481899949606"},
        "paymentIntegratorAccountId": crate::caller::TENANT
    })
}

#[tokio::test]
async fn connect_calls_in_both_forms() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let at = envoy.address();
    let request: CreateChallengeRequest = login("c", "person", NUMBER);
    let answer = ask(&at, "POST", CREATE_AT, &[PROTO, VERSION], request.encode_to_vec()).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/proto"), "{answer:?}");
    assert!(CreateChallengeResponse::decode(answer.body).unwrap().result.is_some());

    let body = json!({"requestHeader": request_header("s"), "enrollmentRequestId": "c", "challengeOptionId": SMS});
    let answer = ask(&at, "POST", SEND_AT, &[JSON, VERSION], body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["result"]["success"]["otpLength"], "6");

    // The one call that changes nothing, by GET.
    let get = GetChallengeRequest { request_header: header("get"), authenticate_request_id: "c".into() };
    let encoded = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(get.encode_to_vec());
    let target = format!("{GET_AT}?connect=v1&encoding=proto&base64=1&message={encoded}");
    let answer = ask(&at, "GET", &target, &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/proto"), "{answer:?}");
    assert_eq!(GetChallengeResponse::decode(answer.body).unwrap().account_id, "person");
    let message = json!({"requestHeader": request_header("get"), "authenticateRequestId": "c"}).to_string();
    let message: String = form_urlencoded::byte_serialize(message.as_bytes()).collect();
    let target = format!("{GET_AT}?connect=v1&encoding=json&message={message}");
    let answer = ask(&at, "GET", &target, &[], "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["accountId"]), (200, &json!("person")), "{answer:?}");

    // A time that is over already reaches otpd as such. What is wrong has Connect's shape, by POST and by GET.
    let over = ("connect-timeout-ms", "0");
    let never: SendOtpRequest = send("s", "never");
    let never_json =
        json!({"requestHeader": request_header("s"), "enrollmentRequestId": "never", "challengeOptionId": SMS});
    for (kind, body) in [(PROTO, never.encode_to_vec()), (JSON, never_json.to_string().into_bytes())] {
        for (headers, expected) in
            [(&[kind, VERSION][..], (404, "not_found")), (&[kind, VERSION, over], (504, "deadline_exceeded"))]
        {
            let answer = ask(&at, "POST", SEND_AT, headers, body.clone()).await;
            assert_eq!((answer.status.as_u16(), answer.json()["code"].as_str().unwrap()), expected, "{headers:?}");
        }
    }
    for query in
        ["encoding=proto&message=", "encoding=json&message=%7B%7D", "encoding=json&message=%7B", "encoding=json"]
    {
        let answer = ask(&at, "GET", &format!("{GET_AT}?connect=v1&{query}"), &[], "").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &json!("invalid_argument")), "{query}");
    }
    let answer = ask(&at, "GET", &format!("{GET_AT}?connect=v1&encoding=json&base64=1&message=e30"), &[], "").await;
    assert_eq!(answer.json()["message"], "JSON is taken as it is, without base64");
    let logged = || envoy.access().lines().filter(|line| line.contains("\"status\":200")).map(str::to_owned).collect();
    until("the lines of what was done", async || Vec::len(&logged()) == 4).await;
    for line in logged() {
        assert!(line.contains(r#""grpc_status":"OK""#) && line.contains(r#""reason":null"#), "{line}");
    }
    assert!(!envoy.access().contains("message="), "{}", envoy.access());
    assert!(!envoy.log().contains("script log"), "{}", envoy.log());
}
