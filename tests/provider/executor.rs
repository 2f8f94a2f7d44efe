//! One exchange with a server that misbehaves: what was proven not to be sent is `Failed`, all else without a whole answer
//! `Unknown`, each in bounded time.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use http::Method;
use otpd::ports::{
    clock::Deadline,
    provider::{Checked, Delivered, Evidence, Failure, Provider},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::{
    logs,
    probe::{FAILED, LONGEST_CALL, Probe, REFUSED, SECRETS, UNASKED, accepted, answer, delivery, success},
    server::{Act, Server},
};

const SHORT: &str = "timeout = \"400ms\"\nconnect_timeout = \"200ms\"";

/// Time-outs that no machine is too slow for.
const LONG: &str = "timeout = \"20s\"\nconnect_timeout = \"10s\"";

/// How long something took.
#[expect(clippy::disallowed_methods, reason = "what is measured is the executor's own time")]
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let value = work.await;
    (value, start.elapsed())
}

/// An address without a listener.
async fn refusing() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A URL with a name that the resolver refuses without asking anyone: its label is longer than 63 (RFC 1035, 2.3.4).
pub(crate) fn unresolvable() -> String {
    format!("http://{}.invalid", "a".repeat(64))
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let plain = Server::start().await;
    let unused = refusing().await;
    // A server without TLS does not answer the handshake, so only the time-out ends it.
    let plain_url = format!("https://127.0.0.1:{}", plain.port());
    for (url, settings) in [(&unused, LONG), (&unresolvable(), LONG), (&plain_url, SHORT)] {
        assert_eq!(Probe::new(url, settings).deliver().await, FAILED, "{url}");
        assert_eq!(Probe::bare(url, settings, Method::GET).deliver().await, FAILED, "{url}");
        assert_eq!(Probe::new(url, settings).check().await, UNASKED, "{url}");
    }
    assert!(plain.seen().is_empty());
}

#[tokio::test]
async fn a_full_backlog_is_no_connection() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the backlog never fills");
    }
    let url = format!("http://{address}");
    for probe in [Probe::new(&url, SHORT), Probe::bare(&url, SHORT, Method::GET)] {
        let (delivered, took) = timed(probe.deliver()).await;
        assert_eq!(delivered, FAILED);
        assert!(took < LONGEST_CALL, "{took:?}");
    }
    // The deadline strikes while the connection is being made.
    let probe = Probe::new(&url, LONG);
    assert_eq!(probe.deliver_within(Duration::from_millis(100)).await, FAILED);
}

#[tokio::test]
async fn a_tls_server_that_says_nothing_is_no_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (delivered, took) = timed(Probe::new(&url, SHORT).deliver()).await;
    assert_eq!(delivered, FAILED);
    assert!(took < LONGEST_CALL, "{took:?}");
}

#[tokio::test]
async fn once_the_request_has_left_silence_proves_nothing() {
    // The listener accepts nothing, but the system has: the request leaves.
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for probe in [Probe::new(&url, SHORT), Probe::bare(&url, SHORT, Method::GET)] {
        let (delivered, took) = timed(probe.deliver()).await;
        assert_eq!(delivered, Delivered::Unknown);
        assert!(took < LONGEST_CALL, "{took:?}");
        assert_eq!(probe.check().await, Checked::Unknown);
    }
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_connection() {
    let server = Server::start().await;
    let settings = "timeout = \"20s\"\nconnect_timeout = \"300ms\"";
    for probe in [Probe::new(&server.url(), settings), Probe::bare(&server.url(), settings, Method::GET)] {
        // The first on a new connection, the second on the one that was kept.
        for reference in ["new", "kept"] {
            server.script([Act::Slowly(Duration::from_millis(600), vec![success(reference)])]);
            assert_eq!(probe.deliver().await, accepted(reference));
        }
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn what_is_not_a_whole_answer_is_unknown() {
    let server = Server::start().await;
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    let cut = [head(10), b"half".to_vec()].concat();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let cut_chunk = [chunked.clone(), b"a\r\nhalf".to_vec()].concat();
    let too_long = [head(65_537), vec![b'x'; 65_537]].concat();
    let chunk = [b"1000\r\n".to_vec(), vec![b'x'; 4096], b"\r\n".to_vec()].concat();
    let header = format!("x-more: {}\r\n", "y".repeat(1000)).into_bytes();
    let drip: Vec<Vec<u8>> = answer(200, "slow").into_iter().map(|byte| vec![byte]).collect();
    for (what, act) in [
        ("closes", Act::Close),
        ("closes within the head", Act::Last(b"HTTP/1.1 200 O".to_vec())),
        ("cuts the body", Act::Last(cut)),
        ("cuts a chunk", Act::Last(cut_chunk)),
        ("too long a body", Act::Send(too_long)),
        ("endless chunks", Act::Endless(chunked, chunk)),
        ("endless body", Act::Endless(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 4096])),
        ("endless head", Act::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), header)),
        ("endless early hints", Act::Endless(Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())),
        ("drips", Act::Slowly(Duration::from_millis(50), drip)),
        ("stops within the head", Act::Send(b"HTTP/1.1 200 OK\r\ncontent-".to_vec())),
        ("stops within the body", Act::Send(head(10))),
        ("two lengths", Act::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".to_vec())),
        ("speaks SMTP", Act::Last(b"220 mail.example.com ESMTP\r\n".to_vec())),
        ("speaks TLS", Act::Last(vec![0x15, 3, 1, 0, 2, 2, 70])),
        ("speaks HTTP/2", Act::Last(b"\0\0\0\x04\0\0\0\0\0".to_vec())),
        (
            "changes the protocol",
            Act::Last(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec()),
        ),
    ] {
        let probe = Probe::new(&server.url(), "timeout = \"1s\"\nconnect_timeout = \"1s\"");
        server.script([act]);
        let (delivered, took) = timed(probe.deliver()).await;
        assert_eq!(delivered, Delivered::Unknown, "{what}");
        assert!(took < LONGEST_CALL, "{what}: {took:?}");
        assert_eq!(server.seen().len(), 1, "{what}: asked once");
    }
}

#[tokio::test]
async fn a_body_of_the_greatest_length_is_read() {
    let server = Server::start().await;
    let body = "x".repeat(65_536);
    server.script([Act::Send(success(&body))]);
    assert_eq!(Probe::new(&server.url(), LONG).deliver().await, accepted(&body));
}

#[tokio::test]
async fn odd_headers_do_not_cost_an_answer() {
    let server = Server::start().await;
    let many = (0..900).map(|i| format!("x-{i}: {i}\r\n")).collect::<Vec<_>>().concat();
    for (what, headers) in [
        ("many", many.as_str()),
        ("folded", "x-folded: a\r\n b\r\n"),
        ("a space before the colon", "x-spaced : a\r\n"),
        ("no colon", "x-none\r\n"),
        ("bytes", "x-bytes: \u{e9}\r\n"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 3\r\n\r\nodd");
        server.script([Act::Send(answer.into_bytes())]);
        assert_eq!(Probe::new(&server.url(), LONG).deliver().await, accepted("odd"), "{what}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, other) = (Server::start().await, Server::start().await);
    other.otherwise(Act::Send(success("other")));
    for (status, expected) in
        [(301, REFUSED), (302, REFUSED), (303, Delivered::Unknown), (307, REFUSED), (308, REFUSED)]
    {
        let head = format!("HTTP/1.1 {status} Go\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n", other.url());
        server.script([Act::Send(head.into_bytes())]);
        assert_eq!(Probe::new(&server.url(), LONG).deliver().await, expected, "{status}");
    }
    assert!(other.seen().is_empty());
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn connections_are_kept_and_those_that_the_server_closed_are_replaced() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), LONG);
    for _ in 0..5 {
        server.script([Act::Send(success("kept"))]);
        assert_eq!(probe.deliver().await, accepted("kept"));
    }
    assert_eq!(server.connections(), 1);
    for _ in 0..5 {
        server.script([Act::Last(success("last"))]);
        assert_eq!(probe.deliver().await, accepted("last"));
        server.closed().await;
        // The client's side learns of it on its next turn.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|request| request.body == seen[0].body && !request.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_closes_just_now_loses_no_proof() {
    let server = Server::start().await;
    server.otherwise(Act::Last(success("last")));
    let probe = Probe::new(&server.url(), &format!("{LONG}\nbreaker_failures = 1000"));
    let mut failed = 0;
    let mut accepted = 0;
    for _ in 0..300 {
        match probe.deliver().await {
            Delivered::Accepted(_) => accepted += 1,
            Delivered::Failed { .. } => failed += 1,
            _ => {}
        }
    }
    let seen = server.seen();
    assert!(seen.iter().all(|request| request.body == seen[0].body && !request.body.is_empty()));
    assert!(accepted > 0 && accepted <= seen.len());
    assert!(failed + seen.len() <= 300, "{failed} were said to be unsent, {} arrived", seen.len());
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), SHORT);
    server.script([Act::Slowly(Duration::from_millis(700), vec![success("late")]), Act::Send(success("next"))]);
    assert_eq!(probe.deliver().await, Delivered::Unknown);
    assert_eq!(probe.deliver().await, accepted("next"));
    assert_eq!(server.connections(), 2, "a connection with an answer outstanding is not used again");
}

#[tokio::test]
async fn the_earlier_of_both_deadlines_counts() {
    let server = Server::start().await;
    server.otherwise(Act::Silence);
    for (settings, span) in [(SHORT, LONGEST_CALL), (LONG, Duration::from_millis(400))] {
        let (delivered, took) = timed(Probe::new(&server.url(), settings).deliver_within(span)).await;
        assert_eq!(delivered, Delivered::Unknown);
        assert!(took >= Duration::from_millis(350) && took < LONGEST_CALL, "{took:?}");
    }
    server.seen();
    let late = Probe::new(&server.url(), "breaker_failures = 1");
    assert_eq!(late.deliver_within(Duration::ZERO).await, FAILED);
    assert!(server.seen().is_empty());
    assert!(late.provider.is_ready(), "it is not the provider's fault");
}

#[tokio::test]
async fn without_a_permit_a_call_ends_at_once_and_a_call_that_is_dropped_returns_its_permit() {
    let server = Server::start().await;
    server.script([Act::Silence]);
    let probe = Probe::new(&server.url(), &format!("{LONG}\nmax_in_flight = 1"));
    let mut calls = JoinSet::new();
    let first = probe.clone();
    calls.spawn(async move { first.deliver().await });
    let arrives = async {
        while server.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONGEST_CALL, arrives).await.unwrap();
    let (crowded, took) = timed(probe.deliver()).await;
    assert_eq!(crowded, FAILED);
    assert!(took < LONGEST_CALL, "{took:?}");
    assert_eq!(probe.check().await, Checked::Failed(Failure::Unavailable { retry_after: None }));
    calls.shutdown().await;
    server.closed().await;
    server.script([Act::Send(success("next"))]);
    assert_eq!(probe.deliver().await, accepted("next"));
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_is_no_fault_of_the_provider() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "breaker_failures = 1");
    let malformed = delivery("two\r\nlines");
    assert_eq!(probe.provider.deliver(malformed, Deadline::after(LONGEST_CALL)).await, REFUSED);
    assert!(probe.provider.is_ready());
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_request_without_a_body_says_so() {
    let server = Server::start().await;
    for (method, length) in [(Method::POST, Some("0")), (Method::PUT, Some("0")), (Method::GET, None)] {
        server.script([Act::Send(success("bare"))]);
        assert_eq!(Probe::bare(&server.url(), LONG, method.clone()).deliver().await, accepted("bare"));
        let seen = server.seen();
        assert_eq!(seen[0].method, method.as_str());
        assert_eq!(seen[0].header("content-length"), length, "{method}");
        assert_eq!(seen[0].header("accept-encoding"), Some("identity"));
        assert!(seen[0].body.is_empty());
    }
}

#[tokio::test]
async fn nothing_of_a_call_is_logged_whatever_becomes_of_it() {
    let server = Server::start().await;
    let (log, guard) = logs::capture();
    let settings = format!("{SHORT}\nbreaker_failures = 2");
    let secret = "answer-secret";
    let head = format!("HTTP/1.1 200 {secret}\r\nx-echo: {secret}\r\ncontent-length: 99\r\n\r\n{secret}");
    for act in [
        Act::Send(success(secret)),
        Act::Send(answer(401, secret)),
        Act::Send(answer(500, secret)),
        Act::Last(head.into_bytes()),
        Act::Last(secret.as_bytes().to_vec()),
        Act::Silence,
        Act::Close,
    ] {
        let probe = Probe::new(&server.url(), &settings);
        server.script([act.clone(), act.clone()]);
        probe.deliver().await;
        let _ = probe.check().await;
        probe.deliver().await;
    }
    for url in [refusing().await, unresolvable(), format!("https://127.0.0.1:{}", server.port())] {
        Probe::new(&url, &settings).deliver().await;
    }
    let probe = Probe::new(&server.url(), &settings);
    probe.provider.deliver(delivery("parameter-secret\r\n"), Deadline::after(LONGEST_CALL)).await;
    drop(guard);
    let secrets = BTreeSet::from(SECRETS.map(str::to_owned));
    assert_eq!(log.leaks(&secrets), Vec::<String>::new(), "{}", log.text());
    for told in ["the provider answered", "the provider refuses", "the provider failed", "breaker opens", "malformed"] {
        assert!(log.text().contains(told), "{told}");
    }
}

#[tokio::test]
async fn a_check_is_asked_and_judged() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), LONG);
    server.script([Act::Send(success("")), Act::Send(answer(500, ""))]);
    assert_eq!(probe.check().await, Checked::Matched(Evidence::default()));
    assert_eq!(probe.check().await, Checked::Unknown);
}

/// What certainly was not judged gives the attempt back; anything else may have been judged.
#[tokio::test]
async fn a_check_failed_only_where_nothing_was_judged() {
    let server = Server::start().await;
    let refused = Checked::Failed(Failure::Refused);
    for (status, expected) in [
        (401, &refused),
        (402, &refused),
        (403, &refused),
        (405, &refused),
        (407, &refused),
        (408, &UNASKED),
        (411, &refused),
        (413, &refused),
        (414, &refused),
        (415, &refused),
        (421, &refused),
        (425, &UNASKED),
        (426, &refused),
        (429, &UNASKED),
        (431, &refused),
        (503, &UNASKED),
        (302, &Checked::Unknown),
        (400, &Checked::Unknown),
        (404, &Checked::Unknown),
        (409, &Checked::Unknown),
        (500, &Checked::Unknown),
        (502, &Checked::Unknown),
        (504, &Checked::Unknown),
    ] {
        server.script([Act::Send(answer(status, ""))]);
        assert_eq!(Probe::new(&server.url(), LONG).check().await, *expected, "{status}");
    }
    server.script([Act::Close]);
    assert_eq!(Probe::new(&server.url(), LONG).check().await, Checked::Unknown, "closed after the request");
    let probe = Probe::new(&server.url(), "breaker_failures = 1\nbreaker_pause = \"5s\"");
    server.script([Act::Send(answer(503, ""))]);
    assert_eq!(probe.check().await, UNASKED);
    let retry_after = Some(Duration::from_secs(5));
    assert_eq!(probe.check().await, Checked::Failed(Failure::Unavailable { retry_after }), "the breaker is open");
}
