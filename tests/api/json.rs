//! JSON over HTTP/1.1, through a real Envoy: the seeds' requests as they stand, and the shapes of errors.

use std::{collections::BTreeSet, net::TcpListener, time::Duration};

use otpd::grpc::proto::Reason;
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    caller::{Caller, send, wrong},
    envoy::Replicas,
    envoy_server::{CHECKED_OFTEN, Envoy},
    http_client::{HttpAnswer, ask, post},
    raw_http2::message,
    redis_server::Port,
    refusing::Refusing,
    secrecy::find_none,
    seeds::{SEND, VERIFY},
    site::until,
};

/// Where Google sends, below the base path of the seeds' example.
const SEND_AT: &str = "/integrator-base-path/virtual-cards-v1/sendOtp";
const VERIFY_AT: &str = "/v1/payment-integrator-authenticated-card-fop-api/verifyOtp";
const CONNECT: &[(&str, &str)] = &[("content-type", "application/json"), ("connect-protocol-version", "1")];
const CONNECT_BINARY: &[(&str, &str)] = &[("content-type", "application/proto"), ("connect-protocol-version", "1")];

/// The example's header with another request id.
fn header(example: &str, id: &str) -> Value {
    let mut header = serde_json::from_str::<Value>(example).unwrap()["requestHeader"].take();
    header["requestId"] = id.into();
    header
}

/// Opens the challenge that an example is about.
async fn create(address: &str, example: &str, challenge: &str, number: &str) {
    let body = json!({
        "requestHeader": header(example, challenge), "accountId": "person-1", "purpose": "PURPOSE_LOGIN",
        "destinations": [{"channel": "CHANNEL_SMS", "phoneNumber": number, "challengeOptionId": "G1MQ0YERJ0Q7LPM"}]
    });
    let answer = post(address, "/otp.v1.OtpService/CreateChallenge", body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["result"]["success"]["challengeOptions"][0]["channel"], "CHANNEL_SMS");
}

/// Google's HTTP status and code, of an error that has the shape of its `ErrorResponse` and nothing else.
fn refused(answer: &HttpAnswer) -> (u16, Option<String>) {
    let mut error = answer.json();
    let error = error.as_object_mut().unwrap();
    let at = error.remove("responseHeader").unwrap();
    let millis = at["responseTimestamp"]["epochMillis"].as_str().unwrap();
    assert!(millis.parse::<i64>().unwrap() > 1_700_000_000_000, "{millis}");
    assert_eq!(at.to_string(), json!({"responseTimestamp": {"epochMillis": millis}}).to_string());
    assert!(error.remove("errorDescription").unwrap().as_str().is_some_and(|text| !text.is_empty()));
    let code = error.remove("errorResponseCode").map(|code| code.as_str().unwrap().to_owned());
    assert!(error.is_empty(), "{error:?}");
    (answer.status.as_u16(), code)
}

fn is_time(time: &Value) -> bool {
    time["epochMillis"].as_str().is_some_and(|millis| millis.parse::<i64>().is_ok())
}

#[tokio::test]
async fn the_seeds_requests_are_answered_in_their_shape() {
    // No code is as long as the one in the example.
    let replicas = Replicas::configured("[policy]\ncode_digits = 10\n");
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let at = envoy.address();
    let known = |code: &str| Some(code.to_owned());
    assert_eq!(refused(&post(&at, SEND_AT, SEND).await), (404, known("INVALID_IDENTIFIER")));
    assert_eq!(refused(&post(&at, VERIFY_AT, VERIFY).await), (404, known("INVALID_IDENTIFIER")));

    create(&at, SEND, "SFLKJS23542ALFJ", "+14155550100").await;
    let answer = post(&at, SEND_AT, SEND).await.json();
    let success = &answer["result"]["success"];
    assert_eq!((&success["maxVerificationAttempts"], &success["maxSendAttempts"]), (&json!("5"), &json!("3")));
    assert!(is_time(&success["expirationTimestamp"]), "{answer}");
    assert!(is_time(&answer["responseHeader"]["responseTimestamp"]), "{answer}");
    // Again, without the base path and as curl sends it by default: the same answer, and no second message.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let again = ask(&at, "POST", "/virtual-cards-v1/sendOtp", &form, SEND).await.json();
    assert_eq!(again["result"], answer["result"]);
    // Fields that the contract does not know are passed over.
    let newer = SEND.replacen('{', r#"{"newField": {"a": [1]}, "#, 1);
    assert_eq!(post(&at, SEND_AT, newer).await.json()["result"], answer["result"]);
    assert_eq!(replicas.site.codes("+14155550100").len(), 1);

    let number = "+14155550101";
    create(&at, VERIFY, "G112YZH4XPDV88J", number).await;
    assert_eq!(refused(&post(&at, VERIFY_AT, VERIFY).await), (400, known("PRECONDITION_VIOLATION")));
    let mut send: Value = serde_json::from_str(SEND).unwrap();
    send["requestHeader"] = header(VERIFY, "send");
    send["enrollmentRequestId"] = "G112YZH4XPDV88J".into();
    assert_eq!(post(&at, SEND_AT, send.to_string()).await.status, 200);
    let answer = post(&at, VERIFY_AT, VERIFY).await.json();
    assert_eq!(answer["result"], json!({"otpNotMatched": {"remainingVerificationAttempts": "4"}}));
    let code = replicas.site.code(number);
    let guess = |id: &str, otp: &str| VERIFY.replace("cmVxdWVzdDE", id).replace("123456", otp);
    let answer = post(&at, VERIFY_AT, guess("wrong", &wrong(&code, 0))).await.json();
    assert_eq!(answer["result"], json!({"otpNotMatched": {"remainingVerificationAttempts": "3"}}));
    let answer = post(&at, &format!("/base{VERIFY_AT}"), guess("right", &code)).await.json();
    assert_eq!(answer["result"], json!({"success": {}}));
    assert!(is_time(&answer["responseHeader"]["responseTimestamp"]), "{answer}");
    let other = post(&at, VERIFY_AT, guess("right", &wrong(&code, 0))).await;
    assert_eq!(refused(&other), (412, known("IDEMPOTENCY_VIOLATION")));
    let answer = post(&at, VERIFY_AT, guess("late", &code)).await.json();
    assert_eq!(answer["result"], json!({"otpAlreadyUsed": {}}));

    let missing = post(&at, SEND_AT, "{}").await;
    assert_eq!(refused(&missing), (400, known("MISSING_REQUIRED_FIELD")));
    let described = missing.json()["errorDescription"].to_string();
    assert!(described.contains("enrollment_request_id is required; challenge_option_id is required"), "{described}");
    replicas.redis.pause();
    let away = post(&at, VERIFY_AT, guess("away", &code)).await;
    replicas.redis.resume();
    assert_eq!((refused(&away), away.header("retry-after").is_empty()), ((503, None), false));
}

/// What each status is over HTTP: for Google, and in JSON as in Connect, with Connect's name.
const STATUSES: &[(Code, &str, u16, bool, u16, &str)] = &[
    (Code::InvalidArgument, "MISSING_REQUIRED_FIELD", 400, true, 400, "invalid_argument"),
    (Code::InvalidArgument, "INVALID_FIELD_VALUE", 400, true, 400, "invalid_argument"),
    (Code::InvalidArgument, "INVALID_API_VERSION", 400, true, 400, "invalid_argument"),
    (Code::InvalidArgument, "REQUEST_TIMESTAMP_OUT_OF_RANGE", 400, true, 400, "invalid_argument"),
    (Code::NotFound, "INVALID_IDENTIFIER", 404, true, 404, "not_found"),
    (Code::AlreadyExists, "IDEMPOTENCY_VIOLATION", 412, true, 409, "already_exists"),
    (Code::Aborted, "REQUEST_IN_PROGRESS", 409, false, 409, "aborted"),
    (Code::Aborted, "CONTENTION", 409, false, 409, "aborted"),
    (Code::Aborted, "PROVIDER_UNAVAILABLE", 409, false, 409, "aborted"),
    (Code::Aborted, "VERIFICATION_OUTCOME_UNKNOWN", 409, false, 409, "aborted"),
    (Code::FailedPrecondition, "PRECONDITION_VIOLATION", 400, true, 400, "failed_precondition"),
    (Code::FailedPrecondition, "PROVIDER_REFUSED", 400, false, 400, "failed_precondition"),
    (Code::PermissionDenied, "FORBIDDEN", 403, true, 403, "permission_denied"),
    (Code::Unavailable, "STORE_UNAVAILABLE", 503, false, 503, "unavailable"),
    (Code::ResourceExhausted, "OVERLOADED", 429, false, 429, "resource_exhausted"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 504, false, 504, "deadline_exceeded"),
    (Code::Internal, "INTERNAL", 500, false, 500, "internal"),
    (Code::Unimplemented, "UNIMPLEMENTED", 501, false, 501, "unimplemented"),
    // Without any details.
    (Code::Unauthenticated, "", 401, false, 401, "unauthenticated"),
];
/// With all that JSON, headers and percent signs make of a text.
const MESSAGE: &str = "it's \"so\", 50 % of \\ é";

/// As otpd makes it, with a wait of 1.2 s and a field at fault.
fn status_of(code: Code, reason: &str) -> Status {
    if reason.is_empty() {
        return Status::new(code, MESSAGE);
    }
    let mut details = ErrorDetails::with_error_info(reason, "otp.v1", [("condition".to_owned(), "A".to_owned())]);
    details.set_retry_info(Some(Duration::from_millis(1_200)));
    details.add_bad_request_violation("transaction.payee", "is \"required\"");
    let mut status = Status::with_error_details(code, MESSAGE, details);
    status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from(1_200));
    status
}

#[tokio::test]
async fn statuses_have_the_shape_of_the_path_and_the_protocol() {
    let server = Refusing::start().await;
    let Some(envoy) = Envoy::front([server.port; 2], CHECKED_OFTEN) else { return };
    let (at, path) = (envoy.address(), "/otp.v1.OtpService/SendOtp");
    let caller = Caller::at(&at).await;
    for (code, reason, google, is_known, http, name) in STATUSES {
        let status = status_of(*code, reason);
        server.choose(status.clone());
        let (described, wait) = if reason.is_empty() {
            (MESSAGE.to_owned(), "")
        } else {
            (format!("{MESSAGE}: transaction.payee is \"required\""), "2")
        };

        let answer = post(&at, SEND_AT, SEND).await;
        assert_eq!(refused(&answer), (*google, is_known.then(|| (*reason).to_owned())), "{reason}");
        assert_eq!(
            (answer.json()["errorDescription"].as_str(), answer.header("retry-after")),
            (Some(&*described), wait)
        );

        let answer = post(&at, path, SEND).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (*http, wait), "{reason}");
        let error = answer.json();
        assert_eq!((&error["code"], &error["message"]), (&json!(*code as i32), &json!(MESSAGE)));
        let details = json!([
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "otp.v1", "metadata": {"condition": "A"}},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.200s"},
            {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "transaction.payee", "description": "is \"required\""}]},
        ]);
        let sorted = |details: &Value| {
            let texts = details.as_array().map_or_else(Vec::new, |list| list.iter().map(Value::to_string).collect());
            texts.into_iter().collect::<BTreeSet<_>>()
        };
        let expected = if reason.is_empty() { BTreeSet::new() } else { sorted(&details) };
        assert_eq!(sorted(&error["details"]), expected, "{error}");

        let expected = connect_details(&status);
        for headers in [CONNECT, CONNECT_BINARY] {
            let body = if headers == CONNECT { SEND } else { "" };
            let answer = ask(&at, "POST", path, headers, body).await;
            assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (*http, wait), "{reason} {headers:?}");
            assert_eq!(answer.json(), json!({"code": name, "message": MESSAGE, "details": expected}));
            assert_eq!(answer.header("grpc-status"), "", "{answer:?}");
        }
        let told = caller.send(send("s", "c")).await.unwrap_err();
        assert_eq!((told.code(), told.message(), told.details()), (*code, MESSAGE, status.details()));
    }
    // Whatever the shape, the access log has the status and the reason.
    let lines = || envoy.access().lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<Value>>();
    until("the lines of all calls", async || lines().len() == 5 * STATUSES.len()).await;
    let logged = lines();
    for (lines, (code, reason, ..)) in logged.chunks(5).zip(STATUSES) {
        let reason = if reason.is_empty() { Value::Null } else { json!(reason) };
        for line in lines {
            assert_eq!((&line["grpc_status"], &line["reason"]), (&json!(format!("{code:?}")), &reason), "{line}");
        }
    }
    let listed: BTreeSet<_> = STATUSES.iter().map(|row| row.1).filter(|reason| !reason.is_empty()).collect();
    let reasons: BTreeSet<_> =
        (1..).map_while(|n| Reason::try_from(n).ok()).map(|reason| reason.as_str_name()).collect();
    assert_eq!(listed, reasons.iter().map(|name| name.trim_start_matches("REASON_")).collect());
    assert!(!envoy.log().contains("script log"), "{}", envoy.log());
}

/// As the Connect protocol has them: names of types, and messages in base64 without padding.
fn connect_details(status: &Status) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};

    let details = tonic_types::pb::Status::decode(status.details()).unwrap().details;
    let details = details.into_iter().map(|any| {
        let name = any.type_url.trim_start_matches("type.googleapis.com/");
        json!({"type": name, "value": BASE64_STANDARD_NO_PAD.encode(any.value)})
    });
    details.collect()
}

const SECRET: &str = "314159265";

/// What cannot be read, and the code that Google is told; otpd's is INVALID_ARGUMENT.
fn unreadable() -> [(&'static str, String, &'static str); 5] {
    let undecodable = "INVALID_DECRYPTED_REQUEST";
    [
        ("half of a message", format!(r#"{{"otp": "{SECRET}"#), undecodable),
        ("no JSON", SECRET.replace('3', "x"), undecodable),
        ("a message of another type", format!(r#"{{"otp": {{"{SECRET}": "{SECRET}"}}}}"#), undecodable),
        ("a large field that nobody knows", format!(r#"{{"x": "{}"}}"#, SECRET.repeat(8_000)), "INVALID_FIELD_VALUE"),
        ("more than a connection keeps", format!(r#"{{"otp": "{}"}}"#, SECRET.repeat(200_000)), "INVALID_FIELD_VALUE"),
    ]
}

#[tokio::test]
async fn replies_of_envoy_itself_have_the_same_shapes_and_quote_nothing() {
    let replicas = Replicas::start();
    let Some((envoy, _)) = replicas.behind_envoy().await else { return };
    let (at, path) = (envoy.address(), "/otp.v1.OtpService/VerifyOtp");
    let mut answers = Vec::new();
    for (what, body, code) in unreadable() {
        let answer = post(&at, VERIFY_AT, body.clone()).await;
        assert_eq!(refused(&answer), (400, Some(code.to_owned())), "{what}");
        answers.push(answer);
        for (headers, code) in [(&CONNECT[..1], json!(3)), (CONNECT, json!("invalid_argument"))] {
            let answer = ask(&at, "POST", path, headers, body.clone()).await;
            assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (400, &code), "{what}");
            answers.push(answer);
        }
    }
    // No such method, in HTTP or of otpd.
    let answer = ask(&at, "GET", SEND_AT, &[], "").await;
    assert_eq!(refused(&answer), (404, None));
    for (method, target) in [
        ("GET", path),
        ("POST", "/otp.v1.OtpService/Nothing"),
        ("POST", "/otp.v1.OtpAdminService/GetAccount"),
        ("POST", "/grpc.health.v1.Health/Check"),
        ("POST", "/"),
        ("DELETE", "/otp.v1.OtpService/GetChallenge?connect=v1&encoding=json&message=%7B%7D"),
        ("DELETE", "/otp.v1.OtpService/GetChallenge?connect=v1&encoding=proto&message="),
        // By following a link, nobody makes a call that changes something.
        ("GET", "/otp.v1.OtpService/SendOtp?connect=v1&encoding=proto&message="),
        ("GET", "/otp.v1.OtpService/SendOtp?connect=v1&encoding=json&message=%7B%7D"),
    ] {
        let answer = ask(&at, method, target, &[], "{}").await;
        assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (404, &json!(12)), "{method} {target}");
    }
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let answer = ask(&at, "GET", path, &upgrade, "").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["code"]), (403, &json!(7)));
    assert_eq!(answer.json()["message"], "this web page, or this kind of connection, is not allowed to call");
    let secrets = [SECRET.to_owned()];
    for answer in &answers {
        find_none("an answer", &answer.body, &secrets);
    }
    find_none("Envoy's access log", envoy.access().as_bytes(), &secrets);
    find_none("Envoy's log", envoy.log().as_bytes(), &secrets);
    assert!(!envoy.log().contains("script log"), "{}", envoy.log());
}

/// What a caller by HTTP/1 is told, who sends these bytes and no more.
async fn told(envoy: &Envoy, bytes: &str) -> String {
    let mut stream = TcpStream::connect(envoy.address()).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    told
}

#[tokio::test]
async fn a_request_by_http_1_0_is_answered_and_one_that_does_not_arrive_is_told_so() {
    let replicas = Replicas::start();
    let edits = [CHECKED_OFTEN, &[("request_timeout: 15s", "request_timeout: 0.3s")]].concat();
    let Some((envoy, _)) = replicas.behind(&edits).await else { return };
    let answer = told(&envoy, &format!("POST {SEND_AT} HTTP/1.0\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    assert!(answer.contains("400 Bad Request") && answer.contains("MISSING_REQUIRED_FIELD"), "{answer}");
    let late = "the request did not arrive in time";
    for (path, head, expected, message) in [
        (SEND_AT, "", "504 Gateway Timeout", late),
        ("/otp.v1.OtpService/SendOtp", "", "408 Request Timeout", late),
        ("/otp.v1.OtpService/SendOtp", "content-type: application/grpc-web+proto\r\n", "grpc-status: 4", late),
        // Only begins like gRPC.
        ("/otp.v1.OtpService/SendOtp", "content-type: application/grpcx\r\n", "408 Request Timeout", late),
        // Not waited for.
        ("/nothing", "", "404 Not Found", "no such method"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}content-length: 9\r\n\r\n{{");
        let answer = told(&envoy, &head).await;
        assert!(answer.contains(expected) && answer.contains(message), "{answer}");
    }
    // No replica has heard of them.
    assert_eq!(envoy.count("upstream_rq_total"), 1);
}

/// The answers to one call: in Google's shape, in JSON and in Connect's.
async fn three(envoy: &Envoy) -> [HttpAnswer; 3] {
    let (at, path) = (envoy.address(), "/otp.v1.OtpService/SendOtp");
    [post(&at, SEND_AT, SEND).await, post(&at, path, SEND).await, ask(&at, "POST", path, CONNECT, SEND).await]
}

/// gRPC and grpc-web are told a status, in the words that JSON has.
async fn assert_same(envoy: &Envoy, json: &HttpAnswer) {
    let (error, at) = (json.json(), envoy.address());
    let told = Caller::at(&at).await.send(send("s", "c")).await.unwrap_err();
    assert_eq!((json!(told.code() as i32), json!(told.message())), (error["code"].clone(), error["message"].clone()));
    let web = [("content-type", "application/grpc-web+proto")];
    let told = ask(&at, "POST", "/otp.v1.OtpService/SendOtp", &web, message(&[])).await;
    let status = json!(told.header("grpc-status").parse::<i32>().unwrap());
    assert_eq!((told.status.as_u16(), status), (200, error["code"].clone()), "{told:?}");
    assert_eq!(json!(told.header("grpc-message")), error["message"]);
}

#[tokio::test]
async fn an_envoy_whose_memory_is_full_says_that_nobody_takes_the_call() {
    let ports = [Port::reserve(), Port::reserve()];
    // Less than it has at its start.
    let full = [("max_heap_size_bytes: 805306368", "max_heap_size_bytes: 1000000")];
    let Some(envoy) = Envoy::front(ports.each_ref().map(Port::number), &full) else { return };
    let has_noticed = async || {
        let answer = post(&envoy.address(), SEND_AT, SEND).await;
        answer.status == 503 && answer.header("content-type") == "text/plain"
    };
    until("it has noticed", has_noticed).await;
    let message = "no replica takes the call now; try again";
    for answer in three(&envoy).await {
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (503, message.as_bytes()), "{answer:?}");
    }
    let told = Caller::at(&envoy.address()).await.send(send("s", "c")).await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::Unavailable, message));
}

#[tokio::test]
async fn replicas_that_are_away_or_silent_are_told_of_in_the_same_shapes() {
    let ports = [Port::reserve(), Port::reserve()];
    let Some(envoy) = Envoy::front(ports.each_ref().map(Port::number), CHECKED_OFTEN) else { return };
    let [google, status, connect] = three(&envoy).await;
    assert_eq!(refused(&google), (503, None));
    assert_eq!((status.status.as_u16(), &status.json()["code"]), (503, &json!(14)));
    assert_eq!((connect.status.as_u16(), &connect.json()["code"]), (503, &json!("unavailable")));
    assert_same(&envoy, &status).await;
    for answer in [google, status, connect] {
        assert_eq!(answer.header("retry-after"), "1");
    }
    // The largest message that otpd takes is kept for another try, too.
    let mut large = send("s", "");
    large.enrollment_request_id = "c".repeat(64 * 1024 - large.encoded_len() - 4);
    assert_eq!(large.encoded_len(), 64 * 1024);
    assert_eq!(Caller::at(&envoy.address()).await.send(large).await.unwrap_err().code(), Code::Unavailable);

    // The system takes their connections, and nobody reads.
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = silent.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let soon = [CHECKED_OFTEN, &[(" timeout: 15s", " timeout: 0.3s")]].concat();
    let Some(envoy) = Envoy::front(ports, &soon) else { return };
    let [google, status, connect] = three(&envoy).await;
    assert_eq!(refused(&google), (504, None));
    assert_eq!((status.status.as_u16(), &status.json()["code"]), (504, &json!(4)));
    assert_eq!((connect.status.as_u16(), &connect.json()["code"]), (504, &json!("deadline_exceeded")));
    assert_same(&envoy, &status).await;
    until("the lines of the calls", async || envoy.access().lines().count() == 5).await;
}
