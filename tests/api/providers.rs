//! Providers that fail, hang, or stand in for each other.

use std::time::Duration;

use otpd::{
    grpc::proto::{
        CancelChallengeRequest, ChallengeState, CreateChallengeRequest, DeliveryState, EventKind,
        send_otp_result::Result as SendResult,
    },
    ports::clock::Stopwatch,
};

use crate::{
    caller::{Caller, header, login, send, verify},
    lifecycle::{Gate, hang},
    site::Site,
    words::{created, ended, sent, verified},
};

const DOWN: &str = "Aborted PROVIDER_UNAVAILABLE";

/// A site whose first provider cannot write: its disk is full.
fn with_a_broken_provider(site: Site) -> Site {
    site.with("OTPD__PROVIDERS__BROKEN__KIND", "console").with("OTPD__PROVIDERS__BROKEN__FILE", "/dev/full")
}

/// What failed for certain is refunded: the send, its gap, its quotas. After six times the provider is left alone for a while.
#[tokio::test]
async fn a_send_that_failed_is_refunded() {
    let site = with_a_broken_provider(Site::embedded()).with("OTPD__ROUTES", r#"["broken"]"#);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155557100";
    let request = CreateChallengeRequest { send_otp: true, ..login("c", "person", number) };
    // The creation is done; the same request resumes the send.
    assert_eq!(created(&caller.create(request.clone()).await), DOWN);
    assert_eq!(created(&caller.create(request).await), DOWN);
    assert_eq!(sent(&caller.send(send("s", "c")).await), DOWN);
    // No id was left behind, so it is free for other content.
    assert_eq!(verified(&caller.verify(verify("s", "c", "123456")).await), "FailedPrecondition PRECONDITION_VIOLATION");
    let seen = caller.challenge("c").await.unwrap();
    assert_eq!((seen.state(), seen.options[0].sends), (ChallengeState::Created, 0));
    assert!(seen.timeline.iter().any(|event| event.kind() == EventKind::SendFailed && event.provider == "broken"));
    for n in 3..40 {
        assert_eq!(sent(&caller.send(send(&format!("s{n}"), "c")).await), DOWN);
        assert_eq!(caller.challenge("c").await.unwrap().options[0].sends, 0);
    }
    let tried = caller.challenge("c").await.unwrap().timeline;
    let tried = tried.iter().filter(|event| event.kind() == EventKind::SendReserved).count();
    // A slow machine may see the first pauses end.
    assert!((6..=10).contains(&tried), "{tried}");
}

/// The quota of the destination is as it was: 5 sends go through after as many failures.
#[tokio::test]
async fn failures_take_no_quota() {
    let site = with_a_broken_provider(Site::embedded());
    let mut broken = with_a_broken_provider(Site::embedded());
    broken.set("OTPD__STORE__URL", site.store());
    broken.set("OTPD__ROUTES", r#"["broken"]"#);
    let number = "+14155557101";
    let mut server = broken.start();
    let caller = Caller::of(&server).await;
    for n in 0..6 {
        let request = CreateChallengeRequest { send_otp: true, ..login(&format!("c{n}"), "person", number) };
        assert_eq!(created(&caller.create(request).await), DOWN);
    }
    server.kill();
    let server = site.start();
    let caller = Caller::of(&server).await;
    for n in 0..5 {
        // The creation that failed to send resumes where it was.
        caller.sent(&format!("c{n}"), "person", number).await;
    }
    let request = CreateChallengeRequest { send_otp: true, ..login("c5", "person", number) };
    assert_eq!(created(&caller.create(request).await), "success with risk_declined");
    assert_eq!(site.codes(number).len(), 5);
    assert_eq!(verified(&caller.verify(verify("v", "c4", &site.code(number))).await), "success");
}

#[tokio::test]
async fn the_next_provider_of_the_route_takes_over() {
    let site = with_a_broken_provider(Site::embedded()).with("OTPD__ROUTES", r#"["broken", "console"]"#);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155557102";
    caller.sent("c", "person", number).await;
    assert_eq!(site.codes(number).len(), 1);
    let seen = caller.challenge("c").await.unwrap();
    assert_eq!(seen.options[0].sends, 1);
    let accepted = seen.timeline.iter().find(|event| event.kind() == EventKind::SendAccepted).unwrap();
    assert_eq!(accepted.provider, "console");
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
}

/// Nobody knows whether the message is on its way: the send is spent, its code lives, and no other provider is tried.
#[tokio::test]
async fn a_provider_that_hangs_leaves_the_send_unconfirmed() {
    let site = Site::embedded()
        .with("OTPD__PROVIDERS__SPARE__KIND", "console")
        .with("OTPD__ROUTES", r#"["console", "spare"]"#);
    let (server, gate) = Gate::start(&site);
    let caller = Caller::of(&server).await;
    let number = "+14155557103";
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "success");
    let time = Stopwatch::start();
    for _ in 0..2 {
        let told = caller.send(send("s", "c")).await.unwrap();
        let Some(SendResult::Success(success)) = told.result.unwrap().result else { panic!("not sent") };
        assert_eq!(success.delivery_state(), DeliveryState::Unconfirmed);
        assert_eq!(success.remaining_send_attempts, Some(2));
    }
    assert!(time.elapsed() < Duration::from_secs(8), "{:?}", time.elapsed());
    assert_eq!(site.codes(number).len(), 1);
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
    gate.open();
}

/// What has no place is refused before any work; a cancel has places of its own.
#[tokio::test]
async fn a_full_house_sheds() {
    let site = Site::embedded().with("OTPD__SERVER__MAX_IN_FLIGHT", "1");
    let (server, gate) = Gate::start(&site);
    let caller = Caller::of(&server).await;
    let number = "+14155557104";
    let mut sending = hang(&site, &caller, number).await;
    assert_eq!(ended(&caller.challenge("c").await), "ResourceExhausted OVERLOADED");
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "ResourceExhausted OVERLOADED");
    let request = CancelChallengeRequest { request_header: header("x"), authenticate_request_id: "unknown".into() };
    let told = caller.otp.clone().cancel_challenge(request).await;
    assert_eq!(ended(&told), "NotFound INVALID_IDENTIFIER");
    // A cancel while the message is on its way: it went out, and its code is void.
    assert_eq!(ended(&caller.cancel("x", "c").await), "done");
    gate.open();
    assert_eq!(sending.join_next().await.unwrap().unwrap(), "success");
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "otp_expired");
    assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
}
