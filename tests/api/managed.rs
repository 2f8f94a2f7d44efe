//! Providers that check their own codes: who is asked, and what a question without an answer comes to.

use std::time::Duration;

use otpd::grpc::proto::{ChallengeState, CreateChallengeRequest};
use serde_json::json;

use crate::{
    caller::{Caller, login, send, verify},
    site::Site,
    upstream::{Act, Upstream, body, counted, google_result, ok, parameters, send_with},
    words::{created, sent, verified},
};

const UNKNOWN: &str = "Aborted VERIFICATION_OUTCOME_UNKNOWN";
const NUMBER: &str = "+918867772222";
const OPTION: [(&str, &str); 1] = [("challenge_option_id", "G1MQ0YERJ0Q7LPM")];

const TIMES: &str = "timeout = \"500ms\"\nconnect_timeout = \"500ms\"\nbreaker_failures = 100\n";

fn google(name: &str, upstream: &Upstream) -> String {
    format!("[providers.{name}]\nkind = \"google-payment-integrator\"\nbase_url = \"{}\"\n{TIMES}", upstream.url())
}

fn wibmo(name: &str, upstream: &Upstream) -> String {
    format!(
        "[providers.{name}]\nkind = \"wibmo-rupay\"\nbase_url = \"{}\"\npg_instance_id = \"1\"\nmerchant_id = \"2\"\n\
         api_key = \"KEY\"\n{TIMES}",
        upstream.url()
    )
}

/// A success of `sendOtp` whose code lives five minutes.
fn accepted() -> Act {
    ok(&json!({
        "responseHeader": {"responseTimestamp": {"epochMillis": "1481899950236"}},
        "result": {"success": {
            "maxVerificationAttempts": "5", "maxSendAttempts": "3",
            "expirationTimestamp": {"epochMillis": "1481900250236"}
        }}
    }))
}

/// The same act, later than anybody waits.
fn late(act: &Act) -> Act {
    let Act::Send(bytes) = act else { panic!("{act:?}") };
    Act::Slowly(Duration::from_secs(1), vec![bytes.clone()])
}

async fn opened(caller: &Caller, upstream: &Upstream, challenge: &str) {
    upstream.script([accepted()]);
    let request = CreateChallengeRequest { send_otp: true, ..login(challenge, challenge, NUMBER) };
    let request = CreateChallengeRequest { provider_parameters: parameters(&OPTION), ..request };
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(upstream.seen().len(), 1);
}

/// The provider that made a code checks it, whatever the route says by then.
#[tokio::test]
async fn the_provider_of_a_code_is_pinned() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let providers = google("a", &a) + &google("b", &b);
    let policy = "[policy]\nresend_gaps = []\n";
    let mut site = Site::embedded().configured(&format!("routes = [\"a\"]\n{policy}{providers}"));
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    opened(&caller, &a, "c").await;
    opened(&caller, &a, "d").await;
    server.kill();
    site.configure(&format!("routes = [\"b\"]\n{policy}{providers}"));
    let server = site.start();
    let caller = Caller::of(&server).await;
    a.script([google_result("success")]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "success");
    assert_eq!((a.seen().len(), b.seen().len()), (1, 0));
    // A resend goes by the new route, and its code is checked there.
    b.script([accepted(), google_result("success")]);
    assert_eq!(sent(&caller.send(send_with(send("s", "d"), &OPTION)).await), "success");
    assert_eq!(verified(&caller.verify(verify("v", "d", "123456")).await), "success");
    assert_eq!((a.seen().len(), b.seen().len()), (0, 2));
}

/// No answer, or one that comes too late: neither is a verdict. The same request asks again, under the same id upstream, so
/// that an integrator which had answered answers as before.
#[tokio::test]
async fn a_check_without_an_answer_is_asked_again() {
    let upstream = Upstream::start().await;
    let site = Site::embedded()
        .configured(&format!("routes = [\"a\"]\n[policy.quotas]\ndestination_sends = []\n{}", google("a", &upstream)));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let success = google_result("success");
    for (challenge, acts, ours, failures) in [
        ("none-then-success", [Act::Silence, success.clone()], "success", 0),
        ("late-then-success", [late(&success), success], "success", 0),
        ("none-then-wrong", [Act::Silence, google_result("otpNotMatched")], "otp_not_matched", 1),
        (
            "late-then-wrong",
            [late(&google_result("otpNotMatched")), google_result("otpNotMatched")],
            "otp_not_matched",
            1,
        ),
        ("cut-then-used", [Act::Close, google_result("otpAlreadyUsed")], "otp_already_used", 0),
    ] {
        opened(&caller, &upstream, challenge).await;
        upstream.script(acts);
        let request = verify("v", challenge, "123456");
        assert_eq!(verified(&caller.verify(request.clone()).await), UNKNOWN, "{challenge}");
        assert_eq!(caller.account(challenge).await.unwrap().failures(), 0, "{challenge}");
        assert_eq!(counted(&caller, challenge).await, (1, 1));
        // Other content under the id is still refused.
        let other = verify("v", challenge, "654321");
        assert_eq!(verified(&caller.verify(other).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
        assert_eq!(verified(&caller.verify(request.clone()).await), ours, "{challenge}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 2);
        let ids: Vec<_> = seen.iter().map(|asked| body(asked)["requestHeader"]["requestId"].clone()).collect();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(verified(&caller.verify(request).await), ours, "told again without asking");
        assert!(upstream.seen().is_empty());
        assert_eq!(caller.account(challenge).await.unwrap().failures(), failures, "{challenge}");
        assert_eq!(counted(&caller, challenge).await, (1, 1), "one attempt, asked twice");
    }
}

/// Where a check may not be repeated, "expired" in answer to the second may mean that the first had matched: never a success.
#[tokio::test]
async fn a_check_that_may_not_be_repeated() {
    let upstream = Upstream::start().await;
    let site = Site::embedded().configured(&format!("routes = [\"a\"]\n{}", wibmo("a", &upstream)));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let says = |status: &str, code: &str| ok(&json!({"status": status, "errorcode": code, "pgTransactionId": "7"}));
    let card = [("pan", "6075000000004412"), ("expDate", "022024"), ("cvd2", "123"), ("nameOnCard", "Jane Doe")];
    for (challenge, first, second, ours, state) in [
        ("none-then-gone", Act::Silence, says("failed", "451"), "otp_expired", ChallengeState::Cancelled),
        (
            "late-then-gone",
            late(&says("success", "00")),
            says("failed", "451"),
            "otp_expired",
            ChallengeState::Cancelled,
        ),
        ("none-then-success", Act::Silence, says("success", "00"), "success", ChallengeState::Verified),
    ] {
        let amount = otpd::grpc::proto::Amount { amount_micros: 110_250_000, currency_code: "INR".into() };
        let transaction =
            otpd::grpc::proto::Transaction { amount: Some(amount), payee: "One bat".into(), reference: String::new() };
        let request = CreateChallengeRequest {
            purpose: otpd::grpc::proto::Purpose::Transaction.into(),
            transaction: Some(transaction),
            send_otp: true,
            provider_parameters: parameters(&card),
            ..login(challenge, challenge, NUMBER)
        };
        upstream.script([says("success", "00"), first, second]);
        assert_eq!(created(&caller.create(request).await), "success with success");
        let request = verify("v", challenge, "123456");
        assert_eq!(verified(&caller.verify(request.clone()).await), UNKNOWN, "{challenge}");
        for _ in 0..2 {
            assert_eq!(verified(&caller.verify(request.clone()).await), ours, "{challenge}");
        }
        assert_eq!(upstream.seen().len(), 3);
        assert_eq!(caller.challenge(challenge).await.unwrap().state(), state);
        assert_eq!(caller.account(challenge).await.unwrap().failures(), 0, "{challenge}");
    }
}
