//! An integrator of the Google pages behind otpd: their example requests leave it, their example answers come back.

use otpd::grpc::proto::{
    CreateChallengeRequest, DeliveryState, SendOtpRequest, VerifyOtpRequest,
    create_challenge_result::Result as CreateResult, send_otp_result::Result as SendResult,
    verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
};
use serde_json::{Value, json};

use crate::{
    caller::{Caller, header_of, login, now, send, send_to, verify},
    site::Site,
    upstream::{
        Act, Upstream, answer, asked, blamed, body, counted, google_result, ok, on_file, send_with, site_of, to,
        verify_with,
    },
    words::{created, failed, sent, verified},
};

const SEND: &str = "/integrator-base-path/virtual-cards-v1/sendOtp";
const RESEND: &str = "/integrator-base-path/v1/payment-integrator-authenticated-card-fop-api/resendOtp";
const VERIFY: &str = "/integrator-base-path/v1/payment-integrator-authenticated-card-fop-api/verifyOtp";

fn site(upstream: &Upstream) -> Site {
    let url = upstream.url();
    site_of(&format!("kind = \"google-payment-integrator\"\nbase_url = \"{url}/integrator-base-path\"\n"))
}

/// The example answer of `sendOtp`.
fn example_sent() -> Value {
    json!({
        "responseHeader": {"responseTimestamp": {"epochMillis": "1481899950236"}},
        "result": {"success": {
            "maxVerificationAttempts": "5", "maxSendAttempts": "3",
            "expirationTimestamp": {"epochMillis": "1481899960236"}
        }}
    })
}

/// The same with a life that a slow machine does not outlast.
fn sent_for_a_while() -> Value {
    let mut body = example_sent();
    body["result"]["success"]["expirationTimestamp"]["epochMillis"] = "1481900250236".into();
    body
}

/// With the time of the pages in place of ours, which must be about now, and their id in place of ours.
fn as_on_the_page(mut body: Value, ours: &str, theirs: &str) -> Value {
    let stamp = &mut body["requestHeader"]["requestTimestamp"]["epochMillis"];
    let millis: i64 = stamp.as_str().expect("a number as a text").parse().unwrap();
    assert!((now() - millis).abs() < 60_000, "{millis}");
    *stamp = "1481899949606".into();
    let id = &mut body["requestHeader"]["requestId"];
    // Between the challenge's name and the operation stands when it was opened, and after it which request it is.
    let (challenge, operation) = ours.split_once("..").expect("two parts");
    let sent = id.as_str().expect("a text");
    assert!(sent.starts_with(challenge) && sent.contains(operation), "{sent}");
    *id = theirs.into();
    body
}

#[tokio::test]
async fn a_virtual_card_is_enrolled() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let (tenant, challenge, option) = ("abcdef123456", "SFLKJS23542ALFJ", "G1MQ0YERJ0Q7LPM");
    let request =
        CreateChallengeRequest { request_header: header_of(tenant, challenge), ..login(challenge, "person", "") };
    assert_eq!(created(&caller.create(to(on_file(option), request)).await), "success");

    upstream.script([ok(&example_sent())]);
    let request = SendOtpRequest { request_header: header_of(tenant, "BKD0GF23KSD8S23"), ..send("", challenge) };
    let request = SendOtpRequest { challenge_option_id: option.into(), ..request };
    let before = now();
    let told = caller.send(request.clone()).await.unwrap();
    let after = now();
    let example = json!({
        "requestHeader": {
            "protocolVersion": {"major": 1}, "requestId": "BKD0GF23KSD8S23",
            "requestTimestamp": {"epochMillis": "1481899949606"}, "paymentIntegratorAccountId": "abcdef123456"
        },
        "enrollmentRequestId": "SFLKJS23542ALFJ", "challengeOptionId": "G1MQ0YERJ0Q7LPM"
    });
    assert_eq!(as_on_the_page(asked(&upstream, SEND), "SFLKJS23542ALFJ-..-send-", "BKD0GF23KSD8S23"), example);
    let Some(SendResult::Success(success)) = told.result.clone().unwrap().result else { panic!("{told:?}") };
    assert_eq!((success.max_verification_attempts, success.max_send_attempts), (5, 3));
    assert_eq!(success.delivery_state(), DeliveryState::Accepted);
    // The integrator's codes live 10 s, whatever its clock says.
    let expires = success.expiration_timestamp.unwrap().epoch_millis;
    assert!((before + 10_000..=after + 10_000).contains(&expires), "{before} {expires} {after}");
    // Asked again, we answer as before, and the integrator is not asked.
    assert_eq!(caller.send(request).await.unwrap().result, told.result);
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_authentication_is_resent_and_verified() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let (tenant, challenge) = ("SpeedyPaymentsIndia_INR", "G112YZH4XPDV88J");
    let header = |id: &str| header_of(tenant, id);
    let request = CreateChallengeRequest { request_header: header(challenge), ..login("", "person", "") };
    assert_eq!(created(&caller.create(to(on_file("card"), request)).await), "success");

    upstream.script([google_result("success")]);
    let request = SendOtpRequest { request_header: header("s1"), ..send_to("", challenge, "card") };
    let request = send_with(request, &[("authenticate_request_id", challenge)]);
    assert_eq!(sent(&caller.send(request).await), "success");
    let body = as_on_the_page(asked(&upstream, RESEND), "G112YZH4XPDV88J-..-send-", "1");
    assert_eq!(body["authenticateRequestId"], "G112YZH4XPDV88J");

    let guess = |id: &str, otp: &str| VerifyOtpRequest { request_header: header(id), ..verify("", challenge, otp) };
    upstream.script([google_result("otpNotMatched")]);
    let told = caller.verify(guess("v1", "654321")).await;
    assert_eq!(verified(&told), "otp_not_matched");
    let result = told.unwrap().result.unwrap().verify_otp_result_code;
    let Some(VerifyResult::OtpNotMatched(missed)) = result else { panic!("{result:?}") };
    assert_eq!(missed.remaining_verification_attempts, Some(4));
    assert_eq!(asked(&upstream, VERIFY)["otp"], "654321");

    upstream.script([ok(&json!({
        "responseHeader": {"responseTimestamp": {"epochMillis": "1481899949611"}},
        "eci": "07", "result": {"success": {}}
    }))]);
    let told = caller.verify(guess("cmVxdWVzdDE", "123456")).await;
    assert_eq!(verified(&told), "success");
    let told = told.unwrap();
    assert_eq!((told.eci.as_str(), told.payment_integrator_verify_otp_id.as_str()), ("07", ""));
    let example = json!({
        "requestHeader": {
            "protocolVersion": {"major": 1}, "requestId": "cmVxdWVzdDE",
            "requestTimestamp": {"epochMillis": "1481899949606"},
            "paymentIntegratorAccountId": "SpeedyPaymentsIndia_INR"
        },
        "authenticateRequestId": "G112YZH4XPDV88J", "otp": "123456"
    });
    assert_eq!(as_on_the_page(asked(&upstream, VERIFY), "G112YZH4XPDV88J-..-check-", "cmVxdWVzdDE"), example);
    // The answer again with its indicator, and nothing for anybody else. The integrator is asked neither time.
    let again = caller.verify(guess("cmVxdWVzdDE", "123456")).await;
    assert_eq!((verified(&again).as_str(), again.unwrap().eci.as_str()), ("success", "07"));
    assert_eq!(verified(&caller.verify(guess("v3", "123456")).await), "otp_already_used");
    assert!(upstream.seen().is_empty());
}

/// What the integrator decides about a send is our caller's answer, one to one, and is told again without asking it.
#[tokio::test]
async fn declined_sends() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    for (theirs, ours) in [
        ("challengeOptionExpired", "challenge_option_expired"),
        ("sendLimitExceeded", "send_limit_exceeded"),
        ("accountLocked", "account_locked"),
        ("riskDeclined", "risk_declined"),
    ] {
        assert_eq!(created(&caller.create(to(on_file("card"), login(theirs, "person", ""))).await), "success");
        upstream.script([google_result(theirs)]);
        let request = send_with(send_to("s", theirs, "card"), &[("challenge_option_id", "G1MQ0YERJ0Q7LPM")]);
        for _ in 0..2 {
            assert_eq!(sent(&caller.send(request.clone()).await), ours);
        }
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(counted(&caller, theirs).await, (1, 0));
        assert_eq!(
            verified(&caller.verify(verify("v", theirs, "123456")).await),
            "FailedPrecondition PRECONDITION_VIOLATION"
        );
    }
}

/// Every answer to a check. A failure is counted only where the code was wrong.
#[tokio::test]
async fn checks() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let error = |code: &str| json!({"errorResponseCode": code, "responseHeader": {}});
    let unknown = "Aborted VERIFICATION_OUTCOME_UNKNOWN";
    for (challenge, act, ours, failures, attempts) in [
        ("wrong", google_result("otpNotMatched"), "otp_not_matched", 1, 1),
        ("used", google_result("otpAlreadyUsed"), "otp_already_used", 0, 1),
        ("gone", answer(404, &error("INVALID_IDENTIFIER")), "otp_expired", 0, 1),
        ("barred", answer(400, &error("PRECONDITION_VIOLATION")), "otp_expired", 0, 1),
        // Nothing was judged: the attempt is refunded.
        ("refused", answer(403, &error("FORBIDDEN")), "FailedPrecondition PROVIDER_REFUSED", 0, 0),
        ("broken", answer(500, &json!({})), unknown, 0, 1),
        ("both", ok(&json!({"result": {"success": {}, "otpNotMatched": {}}})), unknown, 0, 1),
    ] {
        let request = CreateChallengeRequest { send_otp: true, ..login(challenge, challenge, "") };
        let option = crate::upstream::parameters(&[("challenge_option_id", "G1MQ0YERJ0Q7LPM")]);
        let request = CreateChallengeRequest { provider_parameters: option, ..request };
        upstream.script([ok(&sent_for_a_while()), act]);
        assert_eq!(created(&caller.create(to(on_file("card"), request)).await), "success with success");
        assert_eq!(verified(&caller.verify(verify("v", challenge, "123456")).await), ours, "{challenge}");
        assert_eq!(upstream.seen().len(), 2);
        assert_eq!(caller.account(challenge).await.unwrap().failures(), failures, "{challenge}");
        assert_eq!(counted(&caller, challenge).await, (1, attempts), "{challenge}");
    }
}

/// What the caller left out costs nothing, and the same request may bring it.
#[tokio::test]
async fn missing_and_malformed_parameters() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    // The id of an option that otpd made is nobody's upstream.
    let told = caller.create(to(on_file(""), login("c", "person", ""))).await.unwrap();
    let Some(CreateResult::Success(opened)) = told.result.unwrap().result else { panic!("not opened") };
    let option = opened.challenge_options[0].challenge_option_id.as_str();
    let status = caller.send(send_to("s", "c", option)).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument MISSING_REQUIRED_FIELD");
    assert_eq!(blamed(&status), ["provider_parameters[challenge_option_id]"]);
    assert_eq!(counted(&caller, "c").await, (0, 0));
    upstream.script([ok(&sent_for_a_while())]);
    let request = send_with(send_to("s", "c", option), &[("challenge_option_id", "G1MQ0YERJ0Q7LPM")]);
    assert_eq!(sent(&caller.send(request).await), "success");
    assert_eq!(upstream.seen().len(), 1);

    let request = verify_with(verify("v", "c", "123456"), &[("authenticate_request_id", "two words")]);
    let status = caller.verify(request).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument INVALID_FIELD_VALUE");
    assert_eq!(blamed(&status), ["provider_parameters[authenticate_request_id]"]);
    assert_eq!(counted(&caller, "c").await, (1, 0));
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);
    upstream.script([google_result("success")]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "success");
    assert_eq!(upstream.seen().len(), 1);
}

/// An authentication, an enrolment or an option that the caller names and the integrator does not know proves nothing.
#[tokio::test]
async fn unknown_parameters() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let unknown = || answer(404, &json!({"errorResponseCode": "INVALID_IDENTIFIER", "responseHeader": {}}));
    assert_eq!(created(&caller.create(to(on_file("card"), login("c", "person", ""))).await), "success");
    for name in ["enrollment_request_id", "challenge_option_id", "authenticate_request_id"] {
        upstream.script([unknown()]);
        let status = caller.send(send_with(send_to("s", "c", "card"), &[(name, "nobody")])).await.unwrap_err();
        assert_eq!(failed(&status), "InvalidArgument INVALID_FIELD_VALUE");
        assert_eq!(blamed(&status), [format!("provider_parameters[{name}]")]);
    }
    upstream.script([ok(&sent_for_a_while())]);
    assert_eq!(sent(&caller.send(send_to("s", "c", "card")).await), "success");
    upstream.script([unknown()]);
    let request = verify_with(verify("v", "c", "123456"), &[("authenticate_request_id", "nobody")]);
    let status = caller.verify(request).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument INVALID_FIELD_VALUE");
    assert_eq!(blamed(&status), ["provider_parameters[authenticate_request_id]"]);
    assert_eq!(counted(&caller, "c").await, (1, 0));
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);
    upstream.script([google_result("success")]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "success");
}

/// The smaller of our limits and the integrator's is told, and told again.
#[tokio::test]
async fn limits_of_the_integrator() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let mut answered = sent_for_a_while();
    answered["result"]["success"]["maxVerificationAttempts"] = "2".into();
    answered["result"]["success"]["maxSendAttempts"] = "1".into();
    assert_eq!(created(&caller.create(to(on_file("card"), login("c", "person", ""))).await), "success");
    upstream.script([ok(&answered), google_result("otpNotMatched")]);
    for _ in 0..2 {
        let told = caller.send(send_to("s", "c", "card")).await.unwrap();
        let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
        assert_eq!((success.max_verification_attempts, success.max_send_attempts), (2, 1));
        assert_eq!(success.remaining_send_attempts, Some(0));
    }
    let seen = caller.challenge("c").await.unwrap();
    assert_eq!((seen.max_verification_attempts, seen.max_send_attempts), (2, 1));
    let told = caller.verify(verify("v", "c", "654321")).await.unwrap().result.unwrap().verify_otp_result_code;
    let Some(VerifyResult::OtpNotMatched(missed)) = told else { panic!("{told:?}") };
    assert_eq!(missed.remaining_verification_attempts, Some(1));
}

/// A send without an answer is asked about again under the same id upstream, and settles as the answer says.
#[tokio::test]
async fn an_unconfirmed_send_is_asked_about_again() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let state = async |request: &SendOtpRequest| {
        let told = caller.send(request.clone()).await.unwrap();
        let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
        success.delivery_state()
    };
    let ids = || {
        let seen = upstream.seen();
        let ids = seen.iter().map(|request| body(request)["requestHeader"]["requestId"].clone());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(created(&caller.create(to(on_file("card"), login("c", "person", ""))).await), "success");
    let request = send_to("s", "c", "card");
    // Down, for which nothing is used up; then without an answer; then broken, which says nothing of the request before.
    upstream.script([answer(503, &json!({})), Act::Close, answer(500, &json!({})), answer(503, &json!({}))]);
    assert_eq!(sent(&caller.send(request.clone()).await), "Aborted PROVIDER_UNAVAILABLE");
    for _ in 0..3 {
        assert_eq!(state(&request).await, DeliveryState::Unconfirmed);
    }
    upstream.script([ok(&sent_for_a_while())]);
    assert_eq!(state(&request).await, DeliveryState::Accepted);
    let asked = ids();
    assert_eq!((asked.len(), asked.iter().all(|id| *id == asked[0])), (5, true), "{asked:?}");
    assert_eq!(state(&request).await, DeliveryState::Accepted);
    assert!(ids().is_empty());
    assert_eq!(counted(&caller, "c").await, (1, 0));
    upstream.script([google_result("success")]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "success");
    assert_eq!(upstream.seen().len(), 1);
    // The same with the creation's send, which turns out to have been declined.
    upstream.script([Act::Close, google_result("sendLimitExceeded")]);
    let request = to(on_file("card"), CreateChallengeRequest { send_otp: true, ..login("d", "person", "") });
    assert_eq!(created(&caller.create(request.clone()).await), "success with success");
    for _ in 0..2 {
        assert_eq!(created(&caller.create(request.clone()).await), "success with send_limit_exceeded");
    }
    assert_eq!(ids().len(), 2);
}
