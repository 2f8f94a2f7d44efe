//! The breaker and the bulkhead around calls.

use std::{sync::Arc, time::Duration};

use otpd::ports::{
    clock::Deadline,
    provider::{Checked, Delivered, Failure, Provider},
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    authority::provider,
    executor::{timed, unresolvable},
    probe::{FAILED, LONGEST_CALL, Probe, REFUSED, accepted, answer, success},
    scenario::Given,
    server::{Act, Server},
};

const THREE: &str = "breaker_failures = 3\nbreaker_pause = \"5s\"\ntimeout = \"900ms\"\nconnect_timeout = \"900ms\"";

const TWILIO: &str = "account_sid = \"AC00000000000000000000000000000000\"\nauth_token = \"t\"\n\
                      service_sid = \"VA00000000000000000000000000000000\"";
const INFOBIP: &str = "api_key = \"k\"\napplication_id = \"a\"\nmessage_id = \"m\"";
const GATEWAY: &str = "path = \"/\"\nsuccess_text = [\"OK\"]\nerror_texts = { \"bad number\" = \"rejected\" }";

async fn deliver_on(provider: &Arc<dyn Provider>, channel: &str) -> Delivered {
    let given = json!({
        "channel": channel, "destination": {"phone": "+14155550100"}, "code": "918273", "text": "918273"
    });
    let given: Given = serde_json::from_value(given).unwrap();
    provider.deliver(given.delivery().unwrap(), Deadline::after(LONGEST_CALL)).await
}

fn away(seconds: u64) -> Delivered {
    Delivered::Failed(Failure::Unavailable { retry_after: Some(Duration::from_secs(seconds)) })
}

#[tokio::test]
async fn consecutive_failures_open_it_and_one_probe_closes_it() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), THREE);
    server.script([answer(503, ""), answer(429, ""), success("between"), answer(500, "")].map(Act::Send));
    assert_eq!(probe.deliver().await, FAILED);
    assert_eq!(probe.deliver().await, FAILED);
    assert_eq!(probe.deliver().await, accepted("between"));
    assert_eq!(probe.deliver().await, Delivered::Unknown);
    assert!(probe.provider.is_ready());
    // A close and a time-out count as failed answers do.
    server.script([Act::Close]);
    assert_eq!(probe.deliver().await, Delivered::Unknown);
    server.script([Act::Silence]);
    assert_eq!(probe.deliver().await, Delivered::Unknown);
    assert!(!probe.provider.is_ready());
    assert_eq!(server.seen().len(), 6);

    assert_eq!(probe.deliver().await, away(5));
    probe.clock.pass(Duration::from_secs(4));
    assert_eq!(probe.deliver().await, away(1));
    assert!(server.seen().is_empty(), "it is left alone");

    probe.clock.pass(Duration::from_secs(1));
    assert!(probe.provider.is_ready());
    server.script([Act::Send(answer(503, ""))]);
    assert_eq!(probe.deliver().await, FAILED);
    assert_eq!(probe.deliver().await, away(10), "the pause has doubled");
    assert_eq!(server.seen().len(), 1);

    probe.clock.pass(Duration::from_secs(10));
    server.script([Act::Slowly(Duration::from_millis(200), vec![success("probe")])]);
    let (probed, others) = tokio::join!(probe.deliver(), async {
        let mut others = Vec::new();
        for _ in 0..10 {
            others.push(probe.deliver().await);
        }
        others
    });
    assert_eq!(probed, accepted("probe"));
    assert!(others.iter().all(|other| *other == away(10)), "one probe at a time");
    assert_eq!(server.seen().len(), 1);
    assert!(probe.provider.is_ready());
    server.script([Act::Send(success("closed"))]);
    assert_eq!(probe.deliver().await, accepted("closed"));
}

/// A caller with a short deadline must not open the breaker for all others.
#[tokio::test]
async fn short_deadlines_do_not_open_it() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "breaker_failures = 1");
    for _ in 0..3 {
        server.script([Act::Silence]);
        assert_eq!(probe.deliver_within(Duration::from_millis(50)).await, Delivered::Unknown);
        assert!(probe.provider.is_ready());
    }
    // What is not a time-out counts whatever the caller's time.
    server.script([Act::Close]);
    assert_eq!(probe.deliver_within(Duration::from_millis(500)).await, Delivered::Unknown);
    assert!(!probe.provider.is_ready());
}

#[tokio::test]
async fn refusals_of_one_call_do_not_open_it() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "breaker_failures = 1");
    for status in [400, 403, 404, 422] {
        server.script([Act::Send(answer(status, ""))]);
        assert_eq!(probe.deliver().await, REFUSED);
        assert!(probe.provider.is_ready(), "{status}");
    }
}

/// No caller's data causes a 401, and only an operator can mend it.
#[tokio::test]
async fn refused_credentials_open_it_and_callers_are_told_that_waiting_cannot_help() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), THREE);
    server.otherwise(Act::Send(answer(401, "")));
    for _ in 0..8 {
        assert_eq!(probe.deliver().await, REFUSED);
        assert_eq!(probe.check().await, Checked::Failed(Failure::Refused));
    }
    assert_eq!(server.seen().len(), 3, "then it is left alone");
    assert!(!probe.provider.is_ready());
    probe.clock.pass(Duration::from_secs(5));
    server.script([Act::Send(success("mended"))]);
    assert_eq!(probe.deliver().await, accepted("mended"));
}

/// What one destination or one verification has used up stops nobody else, and neither does what is decided about one call.
#[tokio::test]
async fn limits_of_one_destination_or_verification_stop_nobody_else() {
    let server = Server::start().await;
    for (kind, settings, status, body, is_stopped) in [
        ("twilio-verify", TWILIO, 429, "{\"code\":60203}", false),
        ("twilio-verify", TWILIO, 429, "{\"code\":60212}", false),
        ("twilio-verify", TWILIO, 503, "{\"code\":60207}", false),
        ("twilio-verify", TWILIO, 429, "{\"code\":20429}", true),
        ("infobip-2fa", INFOBIP, 429, "{\"requestError\":{}}", false),
        ("infobip-2fa", INFOBIP, 503, "", true),
        ("http-json", GATEWAY, 429, "bad number", false),
        ("http-json", GATEWAY, 500, "bad number", false),
        ("http-json", GATEWAY, 429, "busy", true),
        ("http-json", GATEWAY, 500, "", true),
    ] {
        let settings = format!("base_url = \"{}\"\nbreaker_failures = 1\n{settings}", server.url());
        let provider = provider(kind, settings.parse().unwrap(), &Arc::default());
        let head = format!("HTTP/1.1 {status} No\r\nretry-after: 9\r\ncontent-length: {}\r\n\r\n", body.len());
        server.script([Act::Send([head.as_bytes(), body.as_bytes()].concat())]);
        let delivered = super::authority::deliver(&provider).await;
        assert_eq!(!provider.is_ready(), is_stopped, "{kind} {status} {body}: {delivered:?}");
        let rests = is_stopped && status != 500;
        assert_eq!(provider.is_resting(), rests, "{kind} {status} {body}");
    }
}

/// Only what no caller's data can cause stops others: there is one template for all, or none is chosen by language.
#[tokio::test]
async fn repeated_refusals_of_the_account_open_it() {
    let server = Server::start().await;
    let whatsapp = "phone_number_id = \"1\"\naccess_token = \"t\"\ntemplate = \"otp\"";
    let by_language = format!("{whatsapp}\nlanguages = {{ de = \"de\" }}");
    let error = |code: u32| format!("{{\"error\":{{\"code\":{code}}}}}");
    for (kind, settings, status, body, is_stopped) in [
        ("whatsapp-cloud", whatsapp, 404, error(132_001), true),
        ("whatsapp-cloud", by_language.as_str(), 404, error(132_001), false),
        ("whatsapp-cloud", whatsapp, 403, error(131_005), true),
        ("whatsapp-cloud", whatsapp, 400, error(131_042), true),
        ("whatsapp-cloud", whatsapp, 403, error(130_497), false),
        ("whatsapp-cloud", whatsapp, 400, error(132_000), false),
        ("infobip-2fa", INFOBIP, 403, String::new(), true),
        ("twilio-verify", TWILIO, 403, String::new(), false),
        ("http-json", GATEWAY, 403, String::new(), false),
    ] {
        let settings = format!("base_url = \"{}\"\nbreaker_failures = 3\n{settings}", server.url());
        let settings = if kind == "whatsapp-cloud" { format!("{settings}\n") } else { settings };
        let provider = provider(kind, settings.parse().unwrap(), &Arc::default());
        server.otherwise(Act::Send(answer(status, &body)));
        for _ in 0..8 {
            let channel = if kind == "whatsapp-cloud" { "whatsapp" } else { "sms" };
            assert_eq!(deliver_on(&provider, channel).await, REFUSED, "{kind} {body}");
        }
        assert_eq!(server.seen().len(), if is_stopped { 3 } else { 8 }, "{kind} {body}");
        assert_eq!(provider.refusal().is_some(), is_stopped, "{kind} {body}");
    }
}

/// A corrected time of day must not keep a provider away for the length of the correction.
#[tokio::test]
async fn it_closes_after_its_span_although_the_clock_is_set_back() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "breaker_failures = 1\nbreaker_pause = \"5s\"");
    server.script([Act::Send(answer(503, ""))]);
    assert_eq!(probe.deliver().await, FAILED);
    probe.clock.set_back(Duration::from_secs(3600));
    assert_eq!(probe.deliver().await, away(5));
    probe.clock.pass(Duration::from_secs(5));
    server.script([Act::Send(success("probe"))]);
    assert_eq!(probe.deliver().await, accepted("probe"));
}

#[tokio::test]
async fn no_connection_opens_it() {
    let probe = Probe::new(&unresolvable(), THREE);
    for _ in 0..3 {
        assert_eq!(probe.deliver().await, FAILED);
    }
    assert_eq!(probe.deliver().await, away(5));
}

#[tokio::test]
async fn a_probe_that_was_dropped_is_followed_by_another() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "breaker_failures = 1\nbreaker_pause = \"5s\"");
    server.script([Act::Send(answer(503, ""))]);
    assert_eq!(probe.deliver().await, FAILED);
    probe.clock.pass(Duration::from_secs(5));
    server.script([Act::Silence]);
    let dropped = tokio::time::timeout(Duration::from_millis(100), probe.deliver()).await;
    assert!(dropped.is_err());
    assert_eq!(probe.deliver().await, away(5));
    probe.clock.pass(Duration::from_secs(5));
    server.script([Act::Send(success("second"))]);
    assert_eq!(probe.deliver().await, accepted("second"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_against_a_failing_server_end_soon_and_most_never_reach_it() {
    let server = Server::start().await;
    server.otherwise(Act::Send(answer(503, "")));
    let probe = Probe::new(&server.url(), "max_in_flight = 20\nbreaker_failures = 5");
    let storm = async {
        let mut calls = JoinSet::new();
        for _ in 0..500 {
            let probe = probe.clone();
            calls.spawn(async move { probe.deliver().await });
        }
        calls.join_all().await
    };
    let (delivered, took) = timed(storm).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(delivered.len(), 500);
    assert!(delivered.iter().all(|delivered| matches!(delivered, Delivered::Failed { .. })));
    assert!(!probe.provider.is_ready());
    let reached = server.seen().len();
    assert!((5..=25).contains(&reached), "{reached} calls reached the server");
    assert!(server.connections() <= 25);
}
