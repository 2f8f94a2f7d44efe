//! One provider fails, in each of the ways it can, and another one is there.

use std::{collections::BTreeSet, time::Duration};

use otpd::grpc::proto::{
    DeliveryState, EventKind, SendOtpRequest, SendOtpResponse, send_otp_result::Result as SendResult,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, Told, login, send, verify},
    site::{Site, served, until},
    upstream::{Act, Upstream, body, code, counted, down, gateway, ok, only},
    words::{counts, created, failed, sent, tally, verified},
};

const DOWN: &str = "Aborted PROVIDER_UNAVAILABLE";
const PATIENCE: Duration = Duration::from_secs(9);

/// `a`, then `b`.
fn site(a: &str, b: &str, common: &str) -> Site {
    let (a, b) = (gateway("a", a), gateway("b", b));
    let policy = "[policy]\nresend_gaps = []\n";
    Site::embedded().configured(&format!("routes = [\"a\", \"b\"]\n{common}\n{policy}{a}{b}"))
}

fn accepts() -> Act {
    ok(&serde_json::json!({"status": "queued"}))
}

fn state(told: Told<SendOtpResponse>) -> DeliveryState {
    let Some(SendResult::Success(success)) = told.unwrap().result.unwrap().result else { panic!("not sent") };
    success.delivery_state()
}

/// A port where connections are not refused and not made either: its queue is full.
struct Stuck {
    url: String,
    _queue: (TcpListener, Vec<TcpStream>),
}

impl Stuck {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        // On the loopback a connection is made at once or waits for a place in the queue.
        while let Ok(connected) = timeout(Duration::from_millis(250), TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
            assert!(waiting.len() < 64, "the queue has no end");
        }
        Self { url: format!("http://{address}"), _queue: (listener, waiting) }
    }
}

/// Nothing can have been sent, so the next one is asked while there is time.
#[tokio::test]
async fn a_provider_that_cannot_be_reached() {
    let (stuck, b) = (Stuck::start().await, Upstream::start().await);
    b.otherwise(accepts());
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("http://{}", refusing.local_addr().unwrap());
    drop(refusing);
    for a in [&stuck.url, &closed] {
        let server = site(a, &b.url(), "").start();
        let caller = Caller::of(&server).await;
        assert_eq!(created(&caller.create(login("c", "person", "+14155550100")).await), "success");
        assert_eq!(state(caller.send_within(send("s", "c"), PATIENCE).await), DeliveryState::Accepted);
        let request = only(&b);
        assert_eq!(body(&request)["to"], "+14155550100");
        assert_eq!(counted(&caller, "c").await, (1, 0));
        let seen = caller.challenge("c").await.unwrap();
        let accepted = seen.timeline.iter().find(|event| event.kind() == EventKind::SendAccepted).unwrap();
        assert_eq!(accepted.provider, "b");
        assert_eq!(verified(&caller.verify(verify("v", "c", &code(&request))).await), "success");
    }
}

/// The next provider has its time, however short the caller's is and however long the first one may take to connect.
#[tokio::test]
async fn a_caller_in_a_hurry_and_a_provider_that_does_not_connect() {
    let (stuck, b) = (Stuck::start().await, Upstream::start().await);
    b.otherwise(accepts());
    let slow = |name: &str, url: &str| gateway(name, url).replace("\"500ms\"", "\"20s\"");
    let providers = [slow("a", &stuck.url), slow("b", &b.url())].concat();
    let server = Site::embedded().configured(&format!("routes = [\"a\", \"b\"]\n{providers}")).start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(login("c", "person", "+14155550100")).await), "success");
    // A busy machine may answer too late for the caller; the second provider is asked all the same.
    let _ = caller.send_within(send("s", "c"), Duration::from_millis(500)).await;
    until("the second provider is asked", async || !b.seen().is_empty()).await;
}

/// A provider that says when to come back is left alone until then; the breaker has nothing to do with it.
#[tokio::test]
async fn a_provider_that_has_asked_for_a_wait() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    a.otherwise(accepts());
    a.script([crate::upstream::text(429, "retry-after: 60\r\n", "{}")]);
    b.otherwise(accepts());
    let server = site(&a.url(), &b.url(), "").start();
    let caller = Caller::of(&server).await;
    for n in 0..4 {
        let challenge = format!("c{n}");
        assert_eq!(created(&caller.create(login(&challenge, "person", &format!("+1415555014{n}"))).await), "success");
        assert_eq!(state(caller.send(send("s", &challenge)).await), DeliveryState::Accepted);
        assert_eq!(b.seen().len(), 1);
    }
    assert_eq!(a.seen().len(), 1);
    // Where no other is left, it is asked before its time.
    b.otherwise(down());
    assert_eq!(created(&caller.create(login("c4", "person", "+14155550144")).await), "success");
    assert_eq!(state(caller.send(send("s", "c4")).await), DeliveryState::Accepted);
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
}

/// The message may be on its way: a second one, with the code of another provider, would be worse than none.
#[tokio::test]
async fn a_provider_that_hangs_with_the_request() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let server = site(&a.url(), &b.url(), "").start();
    let caller = Caller::of(&server).await;
    // No answer, a cut, half an answer, and answers that say nothing about the message.
    let half = Act::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec());
    let broken = crate::upstream::answer(500, &serde_json::json!({}));
    let timed_out = crate::upstream::answer(504, &serde_json::json!({}));
    for (n, act) in [Act::Silence, Act::Close, half, broken, timed_out].into_iter().enumerate() {
        let challenge = format!("c{n}");
        assert_eq!(created(&caller.create(login(&challenge, "person", &format!("+1415555011{n}"))).await), "success");
        a.script([act]);
        for _ in 0..2 {
            let told = caller.send_within(send("s", &challenge), PATIENCE).await;
            assert_eq!(state(told), DeliveryState::Unconfirmed, "{challenge}");
        }
        let request = only(&a);
        assert_eq!(counted(&caller, &challenge).await, (1, 0));
        assert_eq!(verified(&caller.verify(verify("v", &challenge, &code(&request))).await), "success");
        // Fewer failures in a row than open the breaker.
        a.script([accepts()]);
        let other = format!("d{n}");
        assert_eq!(created(&caller.create(login(&other, "person", &format!("+1415555012{n}"))).await), "success");
        assert_eq!(sent(&caller.send(send("s", &other)).await), "success");
        a.seen();
    }
    assert_eq!(b.connections(), 0);
}

/// An overloaded provider is passed over like one without a connection. Where all are, the caller hears when to come again, and
/// nothing is used up.
#[tokio::test]
async fn providers_that_are_overloaded() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let server = site(&a.url(), &b.url(), "").start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(login("c", "person", "+14155550130")).await), "success");
    a.script([down(), down()]);
    b.script([down(), accepts()]);
    let status = caller.send_within(send("s", "c"), PATIENCE).await.unwrap_err();
    assert_eq!(failed(&status), DOWN);
    let wait = status.get_details_retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(wait, Duration::from_secs(7));
    assert_eq!(counted(&caller, "c").await, (0, 0));
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));

    assert_eq!(state(caller.send_within(send("s", "c"), PATIENCE).await), DeliveryState::Accepted);
    assert_eq!(a.seen().len(), 1);
    let request = only(&b);
    assert_eq!(counted(&caller, "c").await, (1, 0));
    assert_eq!(verified(&caller.verify(verify("v", "c", &code(&request))).await), "success");
}

/// 500 at once: the breaker spares the provider that fails, the other one carries all, and no counter is off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm() {
    const SENDS: usize = 500;
    const PLACES: usize = 16;
    const FAILURES: usize = 5;
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    a.otherwise(down());
    b.otherwise(accepts());
    let of_a = format!("max_in_flight = {PLACES}\nbreaker_failures = {FAILURES}\nbreaker_pause = \"60s\"\n");
    // With time to spare: 500 messages on a busy machine are no failure of the provider.
    let of_b = gateway("b", &b.url()).replace("500ms", "8s") + "max_in_flight = 1000\n";
    let settings = format!("routes = [\"a\", \"b\"]\n{}{of_a}{of_b}", gateway("a", &a.url()).replace("500ms", "8s"));
    let server = Site::embedded().configured(&settings).start();
    let caller = Caller::of(&server).await;
    let number = |n: usize| format!("+1415556{n:04}");
    let create = |n: usize| {
        let (caller, number) = (caller.clone(), number(n));
        served(move || {
            let (caller, request) = (caller.clone(), login(&format!("c{n}"), &format!("person{n}"), &number));
            async move { created(&caller.create(request).await) }
        })
    };
    assert_eq!(tally((0..SENDS + 10).map(create)).await, counts(&[("success", SENDS + 10)]));
    let deadline = Duration::from_secs(9);
    let send = |n: usize| {
        let caller = caller.clone();
        served(move || {
            let (caller, request) = (caller.clone(), send("s", &format!("c{n}")));
            async move { sent(&caller.send_within(request, deadline).await) }
        })
    };
    assert_eq!(tally((0..SENDS).map(send)).await, counts(&[("success", SENDS)]));
    let reached = a.seen().len();
    assert!((FAILURES..FAILURES + PLACES).contains(&reached), "{reached} calls reached the provider that fails");
    until("the breaker", async || server.log().contains("the breaker opens")).await;
    let told: Vec<_> = b.seen();
    let numbers: BTreeSet<String> = told.iter().map(|request| body(request)["to"].to_string()).collect();
    assert_eq!((told.len(), numbers.len()), (SENDS, SENDS), "one message each");
    // With the breaker open, calls do not wait for the provider.
    assert_eq!(tally((SENDS..SENDS + 10).map(send)).await, counts(&[("success", 10)]));
    assert_eq!((a.seen().len(), b.seen().len()), (0, 10));
    for n in 0..SENDS + 10 {
        assert_eq!(counted(&caller, &format!("c{n}")).await, (1, 0));
    }
}

/// What did not arrive by one way is sent by another, unless the operator prefers the order.
#[tokio::test]
async fn a_resend_takes_another_way() {
    for (setting, ways) in [("", ["a", "b", "a"]), ("resend_elsewhere = false", ["a", "a", "a"])] {
        let (a, b) = (Upstream::start().await, Upstream::start().await);
        a.otherwise(accepts());
        b.otherwise(accepts());
        let server = site(&a.url(), &b.url(), setting).start();
        let caller = Caller::of(&server).await;
        assert_eq!(created(&caller.create(login("c", "person", "+14155550140")).await), "success");
        let mut last = String::new();
        for (n, way) in ways.into_iter().enumerate() {
            assert_eq!(sent(&caller.send(send(&format!("s{n}"), "c")).await), "success");
            let (used, other) = if way == "a" { (&a, &b) } else { (&b, &a) };
            last = code(&only(used));
            assert!(other.seen().is_empty());
        }
        assert_eq!(verified(&caller.verify(verify("v", "c", &last)).await), "success");
    }
}

/// A provider that needs what the caller did not give is passed over; only where it is the last one, the caller is blamed.
/// Where another was merely down, waiting helps, and the caller is told so.
#[tokio::test]
async fn a_provider_that_lacks_a_parameter() {
    let (a, b) = (Upstream::start().await, Upstream::start().await);
    let needy = gateway("a", &a.url()).replace("{{code}}", "{{code}} {{parameters.sender}}");
    let settings = format!("routes = [\"b\", \"a\"]\n{needy}{}", gateway("b", &b.url()));
    let mut site = Site::embedded().configured(&settings);
    {
        let server = site.start();
        let caller = Caller::of(&server).await;
        assert_eq!(created(&caller.create(login("c", "person", "+14155550150")).await), "success");
        b.script([down()]);
        assert_eq!(sent(&caller.send(send("s", "c")).await), DOWN);
        assert_eq!(counted(&caller, "c").await, (0, 0));
        assert_eq!(b.seen().len(), 1);
        // The other has asked for a wait, so the needy one is asked first.
        a.script([accepts()]);
        let request = send("s", "c");
        let provider_parameters = crate::upstream::parameters(&[("sender", "ACME")]);
        assert_eq!(sent(&caller.send(SendOtpRequest { provider_parameters, ..request }).await), "success");
        assert!(code(&only(&a)).ends_with(" ACME"));
        assert!(b.seen().is_empty());
    }
    site.configure(&settings.replace("[\"b\", \"a\"]", "[\"a\", \"b\"]"));
    let server = site.start();
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(login("d", "person", "+14155550151")).await), "success");
    b.script([accepts()]);
    assert_eq!(sent(&caller.send(send("s", "d")).await), "success");
    assert_eq!((a.seen().len(), b.seen().len()), (0, 1));
}
