//! Vonage runs one verification for each number: what that means for a resend, a challenge opened anew, and another account.

use std::time::Duration;

use otpd::grpc::proto::{CreateChallengeRequest, Purpose};
use serde_json::json;
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, SMS, login, send, sms, verify},
    site::Site,
    upstream::{Act, Request, Upstream, answer, counted, ok, site_of, text},
    words::{created, failed, sent, verified},
};

const NUMBER: &str = "+14155557200";
const FIRST: &str = "11111111-0000-4b89-84ba-88b25df97315";
const SECOND: &str = "22222222-0000-4b89-84ba-88b25df97315";

fn site(upstream: &Upstream) -> Site {
    site_of(&format!(
        "kind = \"vonage-verify\"\nbase_url = \"{}\"\napi_key = \"k\"\napi_secret = \"s\"\nbrand = \"Acme\"\n",
        upstream.url()
    ))
}

fn started(request_id: &str) -> Act {
    answer(202, &json!({"request_id": request_id}))
}

/// The refusal of a start while another verification of the number runs.
fn concurrent(request_id: &str) -> Act {
    answer(
        409,
        &json!({
            "title": "Conflict", "type": "https://developer.vonage.com/api-errors/verify#conflict",
            "detail": "Concurrent verifications to the same number are not allowed",
            "instance": "738f9313-418a-4259-9b0d-6670f06fa82d", "request_id": request_id
        }),
    )
}

fn cancelled() -> Act {
    text(204, "", "")
}

/// What was asked, a word each.
fn story(seen: &[Request]) -> Vec<String> {
    seen.iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

fn opening(id: &str, account: &str) -> CreateChallengeRequest {
    CreateChallengeRequest { send_otp: true, ..login(id, account, NUMBER) }
}

fn cleared_first(request_id: &str) -> Vec<String> {
    let start = || "POST /v2/verify/".to_owned();
    vec![start(), format!("DELETE /v2/verify/{request_id}"), start()]
}

#[tokio::test]
async fn the_same_account_gets_a_code_at_once() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    upstream.script([started(FIRST)]);
    assert_eq!(created(&caller.create(opening("c", "person")).await), "success with success");
    upstream.seen();
    // A second send in the challenge.
    upstream.script([concurrent(FIRST), cancelled(), started(SECOND)]);
    assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
    assert_eq!(story(&upstream.seen()), cleared_first(FIRST));
    // Cancelled, and opened anew.
    caller.cancel("x", "c").await.unwrap();
    upstream.script([concurrent(SECOND), cancelled(), started(FIRST)]);
    assert_eq!(created(&caller.create(opening("d", "person")).await), "success with success");
    assert_eq!(story(&upstream.seen()), cleared_first(SECOND));
    // Opened anew while the challenge before is open; the old request may have ended meanwhile.
    upstream.script([concurrent(FIRST), answer(404, &json!({})), started(SECOND)]);
    assert_eq!(created(&caller.create(opening("e", "person")).await), "success with success");
    assert_eq!(story(&upstream.seen()), cleared_first(FIRST));
    upstream.script([ok(&json!({"request_id": SECOND, "status": "completed"}))]);
    assert_eq!(verified(&caller.verify(verify("v", "e", "123456")).await), "success");
}

/// Cancelled while the provider is asked: its answer tells of a verification that the account's next challenge must end.
#[tokio::test]
async fn a_challenge_cancelled_while_its_code_is_sent() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(login("c", "person", NUMBER)).await), "success");
    let Act::Send(late) = started(FIRST) else { panic!("an answer that is sent") };
    upstream.script([Act::Slowly(Duration::from_secs(1), vec![late])]);
    let cancelling = async {
        while upstream.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        caller.cancel("x", "c").await.unwrap();
    };
    let (told, ()) = tokio::join!(caller.send(send("s", "c")), cancelling);
    assert_eq!(sent(&told), "success");
    upstream.script([concurrent(FIRST), cancelled(), started(SECOND)]);
    assert_eq!(created(&caller.create(opening("d", "person")).await), "success with success");
    assert_eq!(story(&upstream.seen()), cleared_first(FIRST));
}

/// Anybody who knows a number may open a challenge for it. The person's own verification goes on.
#[tokio::test]
async fn another_account_waits() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    upstream.script([started(FIRST)]);
    assert_eq!(created(&caller.create(opening("c", "person")).await), "success with success");
    upstream.seen();
    upstream.script([concurrent(FIRST)]);
    let status = caller.create(opening("d", "somebody")).await.unwrap_err();
    // Neither do those who register a number, although they share its failures.
    let registration = |id, account| CreateChallengeRequest {
        purpose: Purpose::Registration.into(),
        destinations: vec![sms("+14155557201", SMS)],
        ..opening(id, account)
    };
    let told = upstream.seen();
    upstream.script([started(SECOND), concurrent(SECOND)]);
    assert_eq!(created(&caller.create(registration("r1", "person")).await), "success with success");
    assert_eq!(created(&caller.create(registration("r2", "somebody")).await), "Aborted PROVIDER_UNAVAILABLE");
    assert_eq!(story(&upstream.seen()), ["POST /v2/verify/", "POST /v2/verify/"]);
    upstream.script([concurrent(SECOND), cancelled(), started(SECOND)]);
    assert_eq!(created(&caller.create(registration("r3", "person")).await), "success with success");
    upstream.seen();
    assert_eq!(failed(&status), "Aborted PROVIDER_UNAVAILABLE");
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    // The longest that the step can take.
    assert_eq!(wait, Duration::from_secs(180));
    assert_eq!(story(&told), ["POST /v2/verify/"]);
    assert_eq!(counted(&caller, "d").await, (0, 0));
    upstream.script([ok(&json!({"request_id": FIRST, "status": "completed"}))]);
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "success");
}

/// What cannot be cleared, or does not help, leaves the refusal as it is: the rest of the known step is told.
#[tokio::test]
async fn what_cannot_be_cancelled_is_waited_for() {
    let upstream = Upstream::start().await;
    let server = site(&upstream).start();
    let caller = Caller::of(&server).await;
    upstream.script([started(FIRST)]);
    assert_eq!(created(&caller.create(opening("c", "person")).await), "success with success");
    upstream.seen();
    for (index, acts) in [
        vec![concurrent(FIRST), Act::Close],
        vec![concurrent(FIRST), answer(401, &json!({})), concurrent(FIRST)],
        vec![concurrent(FIRST), cancelled(), concurrent(SECOND)],
    ]
    .into_iter()
    .enumerate()
    {
        upstream.script(acts);
        let status = caller.send(send(&format!("s{index}"), "c")).await.unwrap_err();
        assert_eq!(failed(&status), "Aborted PROVIDER_UNAVAILABLE", "{index}");
        let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!((Duration::from_secs(100)..=Duration::from_secs(180)).contains(&wait), "{index}: {wait:?}");
        assert_eq!(counted(&caller, "c").await, (1, 0), "{index}");
    }
    // The answer to the repeated start is lost: it may have been sent.
    upstream.script([concurrent(FIRST), cancelled(), Act::Close]);
    assert_eq!(sent(&caller.send(send("lost", "c")).await), "success");
    assert_eq!(counted(&caller, "c").await, (2, 0));
}
