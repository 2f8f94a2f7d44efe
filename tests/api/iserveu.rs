//! iServeU's pages behind otpd: their example requests leave it, their example answers come back.

use otpd::grpc::proto::{
    Amount, ClientContext, CreateChallengeRequest, DeliveryState, Purpose, SendOtpRequest, Transaction,
    send_otp_result::Result as SendResult,
};
use serde_json::{Value, json};
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, SMS, login, send, verify},
    site::Site,
    upstream::{Act, Upstream, blamed, body, counted, ok, only, parameters, send_with, site_of, text, verify_with},
    words::{created, failed, sent, verified},
};

const SEND: &str = "/common/dmt-lite/unified/otp/send";
const REGISTER: &str = "/common/dmt-lite/unified/customer/process-customer-registration";
const NUMBER: &str = "+918144094480";

/// The examples of the page's table.
const SENDING: [(&str, &str); 8] = [
    ("externalRefNumber", "1432452"),
    ("latLong", "123.23,21.345"),
    ("publicIP", "192.168.1.1"),
    ("ovdType", "Aadhaar Card"),
    ("ovdData", "765386439745"),
    ("paramA", "to be used as per descretion"),
    ("paramB", "to be used as per descretion"),
    ("paramC", "to be used as per descretion"),
];

const REGISTERING: [(&str, &str); 3] =
    [("name", "Swagatika"), ("latlong", "123.23.24_123.43.5"), ("publicIP", "192.168.1.1")];

fn site(upstream: &Upstream) -> Site {
    site_of(&format!(
        "kind = \"iserveu\"\nbase_url = \"{}\"\nclient_id = \"the-client\"\nclient_secret = \"the-secret\"\n\
         username = \"isutestapi1\"\n",
        upstream.url()
    ))
}

/// Of the one request: its document, where it went, and that it said who we are.
fn asked(upstream: &Upstream, path: &str) -> Value {
    let request = only(upstream);
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", path));
    assert_eq!(request.header("client_id"), Some("the-client"));
    assert_eq!(request.header("client_secret"), Some("the-secret"));
    body(&request)
}

fn registration(id: &str) -> CreateChallengeRequest {
    CreateChallengeRequest { purpose: Purpose::Registration.into(), ..login(id, id, NUMBER) }
}

/// The page's success. Its example lacks a comma and is no JSON; this one has it.
fn success() -> Act {
    ok(&json!({
        "status": "SUCCESS", "statusCode": "0", "statusDesc": "OTP Sent Successfully.", "paramA": " ", "paramB": " ",
        "paramC": " "
    }))
}

/// The page's failure, mended likewise.
fn failure() -> Act {
    ok(&json!({
        "status": "FAILED", "statusCode": "1", "statusDesc": "Failed to send OTP", "paramA": "", "paramB": "",
        "paramC": ""
    }))
}

fn refused(description: &str) -> Act {
    ok(&json!({"status": "FAILED", "statusCode": "-1", "statusDesc": description}))
}

async fn opened(caller: &Caller, upstream: &Upstream, id: &str) {
    assert_eq!(created(&caller.create(registration(id)).await), "success");
    upstream.script([success()]);
    assert_eq!(sent(&caller.send(send_with(send("s", id), &SENDING)).await), "success");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_customer_is_registered() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(registration("c")).await), "success");
    upstream.script([success()]);
    assert_eq!(sent(&caller.send(send_with(send("s", "c"), &SENDING)).await), "success");
    let example = json!({
        "customerMobileNumber": "8144094480", "externalRefNumber": "1432452", "username": "isutestapi1", "otpType": "1",
        "latLong": "123.23,21.345", "publicIP": "192.168.1.1", "ovdType": "Aadhaar Card", "ovdData": "765386439745",
        "paramA": "to be used as per descretion", "paramB": "to be used as per descretion",
        "paramC": "to be used as per descretion"
    });
    assert_eq!(asked(&upstream, SEND), example);
    // The person's device, in the fields of ours, comes before what the parameters say of it.
    assert_eq!(created(&caller.create(registration("d")).await), "success");
    upstream.script([success()]);
    let client_context =
        Some(ClientContext { ip_address: "203.0.113.7".into(), lat_long: "12.97,77.59".into(), ..Default::default() });
    let request = SendOtpRequest { client_context, ..send_with(send("s", "d"), &SENDING) };
    assert_eq!(sent(&caller.send(request).await), "success");
    let body = asked(&upstream, SEND);
    assert_eq!((&body["publicIP"], &body["latLong"]), (&json!("203.0.113.7"), &json!("12.97,77.59")));

    upstream.script([refused("Invalid OTP")]);
    let guess = verify_with(verify("v1", "c", "654321"), &REGISTERING);
    assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
    assert_eq!(asked(&upstream, REGISTER)["otp"], "654321");
    upstream.script([ok(&json!({
        "status": "SUCCESS", "statusCode": "0", "statusDesc": "Customer registered successfully", "name": "Swagatika",
        "mobileNumber": "8144094480", "KYCTypeFlag": true
    }))]);
    let right = verify_with(verify("v2", "c", "123456"), &REGISTERING);
    assert_eq!(verified(&caller.verify(right.clone()).await), "success");
    let expected = json!({
        "mobileNumber": "8144094480", "name": "Swagatika", "otp": "123456", "username": "isutestapi1",
        "latlong": "123.23.24_123.43.5", "publicIP": "192.168.1.1"
    });
    assert_eq!(asked(&upstream, REGISTER), expected);
    // A customer is registered once, however often we are asked.
    assert_eq!(verified(&caller.verify(right).await), "success");
    let other = verify_with(verify("v3", "c", "123456"), &REGISTERING);
    assert_eq!(verified(&caller.verify(other).await), "otp_already_used");
    assert!(upstream.seen().is_empty());
}

/// iServeU knows Indian numbers and rupees alone.
#[tokio::test]
async fn what_can_never_be_sent_is_refused_at_once() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let payment = |id, currency: &str, number| CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction: Some(Transaction {
            amount: Some(Amount { amount_micros: 1_000_000, currency_code: currency.into() }),
            payee: "Ravi".into(),
            reference: "1432452".into(),
        }),
        ..login(id, "person", number)
    };
    assert_eq!(created(&caller.create(payment("a", "INR", NUMBER)).await), "success");
    let refused = "FailedPrecondition PRECONDITION_VIOLATION";
    assert_eq!(created(&caller.create(payment("b", "USD", NUMBER)).await), refused);
    assert_eq!(created(&caller.create(payment("c", "INR", "+14155557200")).await), refused);
    assert_eq!(upstream.connections(), 0);
}

/// A transaction's code is sent. What checks it is the transaction itself, which is none of ours.
#[tokio::test]
async fn a_code_for_a_transaction_is_sent_but_not_checked() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let amount = Some(Amount { amount_micros: 1_001_000_000, currency_code: "INR".into() });
    let request = CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction: Some(Transaction { amount, payee: "Ravi".into(), reference: "1432452".into() }),
        ..login("c", "person", NUMBER)
    };
    assert_eq!(created(&caller.create(request).await), "success");
    let status = caller.send(send("s", "c")).await.unwrap_err();
    assert_eq!(blamed(&status), ["provider_parameters[ovdType]"]);
    let mut expected = json!({
        "customerMobileNumber": "8144094480", "externalRefNumber": "1432452", "requestedAmount": "1001",
        "username": "isutestapi1", "otpType": "2", "ovdType": "BioAuth"
    });
    upstream.script([success()]);
    assert_eq!(sent(&caller.send(send_with(send("s", "c"), &[("ovdType", "BioAuth")])).await), "success");
    assert_eq!(asked(&upstream, SEND), expected);
    // A resend needs a new reference, also after one that failed.
    let resend = send_with(send("s2", "c"), &[("ovdType", "BioAuth")]);
    for (act, told, reference) in
        [(failure(), "Aborted PROVIDER_UNAVAILABLE", "1432452-2"), (success(), "success", "1432452-3")]
    {
        expected["externalRefNumber"] = reference.into();
        upstream.script([act]);
        assert_eq!(sent(&caller.send(resend.clone()).await), told);
        assert_eq!(asked(&upstream, SEND), expected);
    }
    // The failed one may have gone out under any.
    expected["externalRefNumber"] = "new-reference-4".into();
    upstream.script([success()]);
    let given = [("ovdType", "BioAuth"), ("externalRefNumber", "new-reference")];
    assert_eq!(sent(&caller.send(send_with(send("s3", "c"), &given)).await), "success");
    assert_eq!(asked(&upstream, SEND), expected);
    let status = caller.verify(verify_with(verify("v", "c", "123456"), &REGISTERING)).await.unwrap_err();
    assert_eq!(failed(&status), "FailedPrecondition PRECONDITION_VIOLATION");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata.get("condition").map(String::as_str), Some("UNSUPPORTED_BY_PROVIDER"));
    assert!(upstream.seen().is_empty());
    assert_eq!(counted(&caller, "c").await, (3, 0));
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);
}

#[tokio::test]
async fn answers_to_a_send() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(registration("c")).await), "success");
    upstream.script([failure(), refused("Requested Amount Must Not be EMPTY Or Only Number Allowed")]);
    for told in ["Aborted PROVIDER_UNAVAILABLE", "InvalidArgument MISSING_REQUIRED_FIELD"] {
        assert_eq!(sent(&caller.send(send_with(send("s", "c"), &SENDING)).await), told);
        assert_eq!(counted(&caller, "c").await, (0, 0));
    }
    // The example as the page prints it is no JSON: the message may be on its way, so no second one is sent.
    let printed = "{\n\"status\": \"SUCCESS\", \"statusCode\": \"0\", \"statusDesc\": \"OTP Sent Successfully.\" \
                   \"paramA\": \" \", \"paramB\": \" \", \"paramC\": \" \" }";
    upstream.script([text(200, "", printed)]);
    let told = caller.send(send_with(send("s", "c"), &SENDING)).await.unwrap();
    let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
    assert_eq!(success.delivery_state(), DeliveryState::Unconfirmed);
    assert_eq!(upstream.seen().len(), 3);
    assert_eq!(counted(&caller, "c").await, (1, 0));
}

#[tokio::test]
async fn answers_to_a_check() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    for (challenge, description, ours) in [
        ("wrong", "OTP does not match", "otp_not_matched"),
        ("late", "OTP has expired, please regenerate", "otp_expired"),
        ("other", "Customer already exists", "Aborted VERIFICATION_OUTCOME_UNKNOWN"),
    ] {
        opened(&caller, &upstream, challenge).await;
        upstream.script([refused(description)]);
        let guess = verify_with(verify("v", challenge, "123456"), &REGISTERING);
        assert_eq!(verified(&caller.verify(guess).await), ours);
        assert_eq!(upstream.seen().len(), 1);
    }
    // 2 stands for a customer who is registered and verified.
    opened(&caller, &upstream, "known").await;
    upstream.script([ok(&json!({"status": "SUCCESS", "statusCode": "2", "statusDesc": "Customer verified"}))]);
    let right = verify_with(verify("v", "known", "123456"), &REGISTERING);
    assert_eq!(verified(&caller.verify(right).await), "success");
}

/// There is no code for a login there.
#[tokio::test]
async fn a_login_is_not_served() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let told = created(&caller.create(login("c", "person", NUMBER)).await);
    assert_eq!(told, "FailedPrecondition PRECONDITION_VIOLATION");
}

#[tokio::test]
async fn missing_parameters_cost_nothing() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(registration("c")).await), "success");
    for name in ["ovdType", "ovdData"] {
        let without: Vec<_> = SENDING.into_iter().filter(|(known, _)| *known != name).collect();
        let status = caller.send(send_with(send("s", "c"), &without)).await.unwrap_err();
        assert_eq!(failed(&status), "InvalidArgument MISSING_REQUIRED_FIELD");
        assert_eq!(blamed(&status), [format!("provider_parameters[{name}]")]);
        assert_eq!(counted(&caller, "c").await, (0, 0));
    }
    opened(&caller, &upstream, "d").await;
    for (name, _) in REGISTERING {
        let without: Vec<_> = REGISTERING.into_iter().filter(|(known, _)| *known != name).collect();
        let status = caller.verify(verify_with(verify("v", "d", "123456"), &without)).await.unwrap_err();
        assert_eq!(failed(&status), "InvalidArgument MISSING_REQUIRED_FIELD");
        assert_eq!(blamed(&status), [format!("provider_parameters[{name}]")]);
        assert_eq!(counted(&caller, "d").await, (1, 0));
    }
    assert!(upstream.seen().is_empty());
    let option = caller.challenge("d").await.unwrap().options.remove(0).option.unwrap();
    assert_eq!(option.challenge_option_id, SMS);
}

/// What iServeU answers for its client is handed on once, and kept nowhere.
#[tokio::test]
async fn free_texts_are_handed_on() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(registration("c")).await), "success");
    let said = json!({
        "status": "SUCCESS", "statusCode": "0", "statusDesc": "OTP Sent Successfully.", "paramA": "ticket 7", "paramB": " ",
        "paramC": 12
    });
    let expected = parameters(&[("paramA", "ticket 7"), ("paramC", "12")]);
    upstream.script([ok(&said), ok(&said)]);
    for values in [&expected, &parameters(&[])] {
        let told = caller.send(send_with(send("s", "c"), &SENDING)).await.unwrap();
        let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
        assert!(success.provider_values == *values);
    }
    for values in [&expected, &parameters(&[])] {
        let told = caller.verify(verify_with(verify("v", "c", "123456"), &REGISTERING)).await.unwrap();
        assert!(told.verified.is_some() && told.provider_values == *values);
    }
    assert!(!server.log().contains("ticket 7"));
}
