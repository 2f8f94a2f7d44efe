//! One call in the log, in traces and in metrics: found by one id, and without what is secret.

use otpd::grpc::proto::{CreateChallengeRequest, Purpose};
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};

use crate::{
    caller::{Caller, TENANT, login, send, sms, verify},
    site::{Server, Site, until},
    upstream::{Upstream, gateway, ok, only, to},
};

const X_REQUEST_ID: &str = "0af7651916cd43dd-8448:eb211c80319c";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Lines of the log that hold all of this.
fn lines(server: &Server, parts: &[(&str, &str)]) -> Vec<Value> {
    let parsed = server.log().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    parsed.into_iter().filter(|line| parts.iter().all(|(name, value)| line[*name] == *value)).collect()
}

/// The one line that holds all of this, once it is written.
async fn line(server: &Server, parts: &[(&str, &str)]) -> Value {
    until("the line", async || !lines(server, parts).is_empty()).await;
    let mut found = lines(server, parts);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A request with headers.
fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, MetadataValue::try_from(*value).unwrap());
    }
    request
}

#[tokio::test]
async fn one_id_finds_all_lines_of_a_call_and_one_tag_all_calls_of_a_challenge() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let site = Site::embedded().configured(&format!("routes = [\"sms\"]\n{}", gateway("sms", &upstream.url())));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let request = to(sms("+14155550100", "option"), login("c", "account", ""));
    let request = CreateChallengeRequest { purpose: Purpose::Registration.into(), send_otp: true, ..request };
    let headers = [("x-request-id", X_REQUEST_ID), ("traceparent", TRACEPARENT)];
    let answer = caller.otp.clone().create_challenge(with(request, &headers)).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), X_REQUEST_ID);
    assert!(only(&upstream).header("traceparent").is_none(), "a provider is told nothing of the trace");

    let method = "otp.v1.OtpService/CreateChallenge";
    let created = line(&server, &[("message", "call"), ("rpc.method", method)]).await;
    let asked = line(&server, &[("message", "the provider answered")]).await;
    for line in [&created, &asked] {
        for (name, value) in
            [("x_request_id", X_REQUEST_ID), ("trace_id", TRACE), ("tenant", TENANT), ("request_id", "c")]
        {
            assert_eq!(line[name], value, "{line}");
        }
        assert!(
            ["challenge", "account", "contact"].iter().all(|tag| line[tag].as_str().unwrap().len() == 16),
            "{line}"
        );
    }
    assert_eq!((&created["peer"], &created["rpc.response.status_code"]), (&"127.0.0.1".into(), &"OK".into()));

    // Without an id, and with one that is none of ours in form, otpd makes one, and tells it with failures too.
    for (given, other) in [(&[][..], "v1"), (&[("x-request-id", "two words")], "v2")] {
        let request = with(verify(other, "unknown", "123456"), given);
        let status = caller.otp.clone().verify_otp(request).await.unwrap_err();
        let id = status.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        let failed = line(&server, &[("message", "call"), ("request_id", other)]).await;
        assert_eq!((&failed["x_request_id"], id.len()), (&id.into(), 16));
        assert_ne!(failed["challenge"], created["challenge"]);
        assert_eq!(failed["account"], Value::Null);
    }

    // All calls of a challenge have its tag, and those of its account the account's.
    assert!(caller.verify(verify("wrong", "c", "000")).await.is_ok());
    let verified = line(&server, &[("message", "call"), ("request_id", "wrong")]).await;
    for tag in ["challenge", "account", "contact"] {
        assert_eq!(verified[tag], created[tag], "{tag}");
    }
}

#[tokio::test]
async fn an_operators_line_tells_whose_account_and_who_asked() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    let created = line(&server, &[("message", "call"), ("request_id", "c")]).await;
    let request = with(crate::caller::lock("l", "account", None), &[("x-request-id", X_REQUEST_ID)]);
    caller.admin.clone().lock_account(request).await.unwrap();
    for message in ["call", "an operator locked an account"] {
        let locked = line(&server, &[("message", message), ("request_id", "l")]).await;
        assert_eq!((&locked["account"], &locked["x_request_id"]), (&created["account"], &X_REQUEST_ID.into()));
    }
    assert!(caller.number("+14155550100").await.is_ok());
    let looked = line(&server, &[("message", "call"), ("rpc.method", "otp.v1.OtpAdminService/GetAccount")]).await;
    assert_eq!((looked["contact"].as_str().unwrap().len(), &looked["account"]), (16, &Value::Null));
}

/// The line that tells why a use case failed belongs to a call as well.
#[tokio::test]
async fn a_cause_is_found_by_the_id_of_its_call() {
    let redis = crate::redis_server::RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    drop(redis);
    let request = with(send("s", "c"), &[("x-request-id", X_REQUEST_ID)]);
    assert!(caller.otp.clone().send_otp(request).await.is_err());
    let cause = line(&server, &[("message", "use case failed"), ("x_request_id", X_REQUEST_ID)]).await;
    assert_eq!((&cause["request_id"], &cause["rpc.method"]), (&"s".into(), &"otp.v1.OtpService/SendOtp".into()));
    assert_eq!(cause["challenge"].as_str().unwrap().len(), 16);
}
