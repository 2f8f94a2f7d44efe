//! Wibmo's RuPay pages behind otpd: their example requests leave it, their example answers come back.

use otpd::grpc::proto::{
    Amount, ClientContext, CreateChallengeRequest, Purpose, Transaction, send_otp_result::Result as SendResult,
};
use serde_json::{Value, json};

use crate::{
    caller::{Caller, SMS, login, now, send_to, sms, verify},
    site::Site,
    upstream::{
        Act, Upstream, asked, blamed, body, counted, ok, on_file, only, parameters, send_with, site_of, to, verify_with,
    },
    words::{created, failed, sent, verified},
};

const GENERATE: &str = "/authentication/api/v1/generateOtp";
const VERIFY: &str = "/authentication/api/v1/verifyOtp";

const CARD: [(&str, &str); 4] =
    [("pan", "6075000000004412"), ("expDate", "022024"), ("cvd2", "123"), ("nameOnCard", "Jane Doe")];

fn site(upstream: &Upstream) -> Site {
    site_of(&format!(
        "kind = \"wibmo-rupay\"\nbase_url = \"{}\"\npg_instance_id = \"72702415\"\nheader_pg_instance_id = \"720200\"\n\
         merchant_id = \"12345678\"\napi_key = \"AF165FBD-4E85-4c66-BEB1C54DC16CD48B\"\n",
        upstream.url()
    ))
}

/// A payment of Rs 110.25 under the merchant reference of the pages.
fn payment(id: &str) -> CreateChallengeRequest {
    let amount = Some(Amount { amount_micros: 110_250_000, currency_code: "INR".into() });
    CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction: Some(Transaction { amount, payee: "One bat".into(), reference: "dafa34".into() }),
        ..login(id, id, "+918867772222")
    }
}

fn header() -> Value {
    json!({"version": "1.0.0.0", "pgInstanceId": "72702415", "x-api-key": "AF165FBD-4E85-4c66-BEB1C54DC16CD48B"})
}

fn generated() -> Value {
    json!({
        "status": "success", "errorcode": "00", "errormsg": "", "validityPeriod": "10", "pgTransactionId": "1232324df"
    })
}

fn error(code: &str) -> Act {
    ok(&json!({"status": "failed", "errorcode": code, "errormsg": "as the page says"}))
}

/// The card leaves with the creation's first send.
async fn opened(caller: &Caller, upstream: &Upstream, id: &str) {
    upstream.script([ok(&generated())]);
    let request = CreateChallengeRequest { send_otp: true, provider_parameters: parameters(&CARD), ..payment(id) };
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test]
async fn a_payment_is_authenticated() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let client_context = Some(ClientContext {
        ip_address: "203.0.113.7".into(),
        user_agent: "Mozilla/5.0".into(),
        ..ClientContext::default()
    });
    upstream.script([ok(&generated())]);
    let request = CreateChallengeRequest { send_otp: true, provider_parameters: parameters(&CARD), ..payment("c") };
    let before = now();
    let told = caller.create(CreateChallengeRequest { client_context, ..request }).await;
    assert_eq!(created(&told), "success with success");
    let request = only(&upstream);
    assert_eq!((request.target.as_str(), request.header("pginstanceid")), (GENERATE, Some("720200")));
    let expected = json!({"header": header(), "body": {
        "pgInstanceId": "72702415", "merchantId": "12345678", "pan": "6075000000004412", "expDate": "022024",
        "cvd2": "123", "nameOnCard": "Jane Doe", "currencCode": "356", "amount": "11025",
        "merchantReferenceNo": "dafa34", "orderDesc": "One bat", "mobileNumber": "8867772222", "cardHolderStatus": "NW",
        "browser_user_agent": "Mozilla/5.0", "customerIpAddress": "203.0.113.7"
    }});
    assert_eq!(body(&request), expected);
    // 10 minutes there, 5 by our policy.
    let seen = caller.challenge("c").await.unwrap();
    let life = seen.otp_expiration_timestamp.unwrap().epoch_millis - before;
    assert!((300_000..310_000).contains(&life), "{life}");

    upstream.script([error("450")]);
    assert_eq!(verified(&caller.verify(verify("v1", "c", "654321")).await), "otp_not_matched");
    assert_eq!(asked(&upstream, VERIFY)["body"]["otp"], "654321");
    upstream.script([ok(&json!({
        "authResponseCode": "ACCU000", "pgTransactionId": "26443014", "status": "success",
        "tranCtxId": "100122024103000000000000430451", "errorcode": "00", "errormsg": ""
    }))]);
    let told = caller.verify(verify("v2", "c", "108434")).await;
    assert_eq!(verified(&told), "success");
    assert_eq!(told.unwrap().payment_integrator_verify_otp_id, "100122024103000000000000430451");
    let request = only(&upstream);
    assert_eq!((request.target.as_str(), request.header("pginstanceid")), (VERIFY, Some("720200")));
    let example = json!({"header": header(), "body": {
        "pgInstanceId": "72702415", "merchantId": "12345678", "merchantRefernceNo": "dafa34", "otp": "108434",
        "pgTransactionId": "1232324df"
    }});
    assert_eq!(body(&request), example);
    assert_eq!(verified(&caller.verify(verify("v3", "c", "108434")).await), "otp_already_used");
    assert!(upstream.seen().is_empty());
    assert_eq!(caller.account("c").await.unwrap().failures(), 0, "the success resets the failures");
}

/// A resend is the same call with the card once more: nothing of it was kept.
#[tokio::test]
async fn a_contact_on_file_and_a_resend() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(to(on_file("card"), payment("c"))).await), "success");
    for number in ["1", "2"] {
        upstream.script([ok(&json!({"status": "success", "errorcode": "0", "pgTransactionId": number}))]);
        let request = send_with(send_to(&format!("s{number}"), "c", "card"), &CARD);
        assert_eq!(sent(&caller.send(request).await), "success");
        let body = asked(&upstream, GENERATE);
        assert_eq!((&body["body"]["pan"], &body["body"]["mobileNumber"]), (&"6075000000004412".into(), &Value::Null));
    }
    let status = caller.send(send_to("s3", "c", "card")).await.unwrap_err();
    assert_eq!(
        (failed(&status).as_str(), blamed(&status)),
        ("InvalidArgument MISSING_REQUIRED_FIELD", vec!["provider_parameters[pan]".to_owned()])
    );
    assert_eq!(counted(&caller, "c").await, (2, 0));
    // The second code is the live one.
    upstream.script([error("450")]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "108434")).await), "otp_not_matched");
    assert_eq!(asked(&upstream, VERIFY)["body"]["pgTransactionId"], "2");
}

#[tokio::test]
async fn every_error_of_the_page() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let refused = "FailedPrecondition PROVIDER_REFUSED";
    let invalid = "InvalidArgument INVALID_FIELD_VALUE";
    for (code, ours, failures) in [
        ("450", "otp_not_matched", 1),
        ("451", "otp_expired", 0),
        ("452", "verification_attempts_exceeded", 0),
        ("01", refused, 0),
        ("07", refused, 0),
        ("406", refused, 0),
    ] {
        let challenge = format!("check-{code}");
        opened(&caller, &upstream, &challenge).await;
        upstream.script([error(code)]);
        assert_eq!(verified(&caller.verify(verify("v", &challenge, "108434")).await), ours, "{code}");
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(caller.account(&challenge).await.unwrap().failures(), failures, "{code}");
    }
    for (code, ours, sends) in [
        ("452", "challenge_option_expired", 1),
        ("501", "risk_declined", 1),
        ("502", "risk_declined", 1),
        ("503", "risk_declined", 1),
        ("01", refused, 0),
        ("07", invalid, 0),
        ("13", invalid, 0),
        ("406", refused, 0),
        ("407", refused, 0),
    ] {
        let challenge = format!("send-{code}");
        assert_eq!(created(&caller.create(payment(&challenge)).await), "success");
        upstream.script([error(code)]);
        let request = send_with(send_to("s", &challenge, SMS), &CARD);
        assert_eq!(sent(&caller.send(request).await), ours, "{code}");
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(counted(&caller, &challenge).await, (sends, 0), "{code}");
    }
}

/// A number that the caller hands over and Wibmo does not take proves nothing: the code lives, and no attempt is used up.
#[tokio::test]
async fn a_wrong_parameter_of_a_check() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(payment("c")).await), "success");
    upstream.script([Act::Close]);
    assert_eq!(sent(&caller.send(send_with(send_to("s", "c", SMS), &CARD)).await), "success");
    upstream.script([error("07")]);
    let request = verify_with(verify("v", "c", "108434"), &[("pgTransactionId", "nonsense")]);
    let status = caller.verify(request).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument INVALID_FIELD_VALUE");
    assert_eq!(blamed(&status), ["provider_parameters[pgTransactionId]"]);
    assert_eq!(counted(&caller, "c").await, (1, 0));
    upstream.script([ok(&json!({"status": "success", "errorcode": "00"}))]);
    let request = verify_with(verify("v", "c", "108434"), &[("pgTransactionId", "1232324df")]);
    assert_eq!(verified(&caller.verify(request).await), "success");
}

/// What can only be a payment is refused when the challenge is opened.
#[tokio::test]
async fn other_purposes_are_not_served() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    for purpose in [Purpose::Login, Purpose::Registration] {
        let request = CreateChallengeRequest { purpose: purpose.into(), ..login("c", "person", "+918867772222") };
        assert_eq!(created(&caller.create(request).await), "FailedPrecondition PRECONDITION_VIOLATION");
    }
    assert_eq!(created(&caller.create(payment("c")).await), "success");
}

/// Each parameter of the card is asked for by its name, and a bad one is never repeated.
#[tokio::test]
async fn missing_and_malformed_card_data() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    for (name, _) in CARD {
        assert_eq!(created(&caller.create(to(sms("+918867772222", SMS), payment(name))).await), "success");
        let without: Vec<_> = CARD.into_iter().filter(|(known, _)| *known != name).collect();
        let status = caller.send(send_with(send_to("s", name, SMS), &without)).await.unwrap_err();
        assert_eq!(failed(&status), "InvalidArgument MISSING_REQUIRED_FIELD");
        assert_eq!(blamed(&status), [format!("provider_parameters[{name}]")]);
        assert_eq!(counted(&caller, name).await, (0, 0));
    }
    let bad = CARD.map(|(name, value)| (name, if name == "pan" { "6075-0000" } else { value }));
    let status = caller.send(send_with(send_to("s", "pan", SMS), &bad)).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument INVALID_FIELD_VALUE");
    assert_eq!(blamed(&status), ["provider_parameters[pan]"]);
    assert!(!format!("{status:?}").contains("6075"), "{status:?}");
    assert_eq!(upstream.connections(), 0);
}

/// Where the answer to the send is lost, the payment's number is too; a caller that knows it may hand it over.
#[tokio::test]
async fn a_lost_number_is_handed_over() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(payment("c")).await), "success");
    upstream.script([Act::Close]);
    let told = caller.send(send_with(send_to("s", "c", SMS), &CARD)).await.unwrap();
    let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
    assert_eq!(success.delivery_state(), otpd::grpc::proto::DeliveryState::Unconfirmed);
    assert_eq!(upstream.seen().len(), 1);
    let status = caller.verify(verify("v", "c", "108434")).await.unwrap_err();
    assert_eq!(failed(&status), "InvalidArgument MISSING_REQUIRED_FIELD");
    assert_eq!(blamed(&status), ["provider_parameters[pgTransactionId]"]);
    assert_eq!(counted(&caller, "c").await, (1, 0));
    upstream.script([ok(&json!({"status": "success", "errorcode": "00"}))]);
    let request = verify_with(verify("v", "c", "108434"), &[("pgTransactionId", "1232324df")]);
    assert_eq!(verified(&caller.verify(request).await), "success");
    assert_eq!(asked(&upstream, VERIFY)["body"]["pgTransactionId"], "1232324df");
}

/// What can never be sent is refused at once.
#[tokio::test]
async fn a_payment_in_another_currency() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    let euros = CreateChallengeRequest { transaction: crate::caller::payment(1_000_000, "One bat"), ..payment("c") };
    assert_eq!(created(&caller.create(euros).await), "FailedPrecondition PRECONDITION_VIOLATION");
    assert_eq!(upstream.connections(), 0);
}
