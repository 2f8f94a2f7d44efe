//! JSON over HTTP/1.1, through a real Envoy: the seeds' requests as they stand, and otpd's statuses in each shape.

use std::{collections::BTreeSet, time::Duration};

use otpd::grpc::proto::Reason;
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    caller::{Caller, send, wrong},
    envoy::Replicas,
    envoy_server::{CHECKED_OFTEN, Envoy},
    http_client::{HttpAnswer, ask, post},
    refusing::Refusing,
    seeds::{SEND, VERIFY},
    site::until,
};

/// Where Google sends, below the base path of the seeds' example.
pub(crate) const SEND_AT: &str = "/integrator-base-path/virtual-cards-v1/sendOtp";
pub(crate) const VERIFY_AT: &str = "/v1/payment-integrator-authenticated-card-fop-api/verifyOtp";
pub(crate) const CONNECT: &[(&str, &str)] = &[("content-type", "application/json"), ("connect-protocol-version", "1")];
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
pub(crate) fn refused(answer: &HttpAnswer) -> (u16, Option<String>) {
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
