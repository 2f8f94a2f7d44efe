//! What a provider says of when to come back, and of what went wrong.

use std::time::Duration;

use otpd::ports::provider::{Delivered, Failure, Provider};

use super::{
    logs,
    probe::{Probe, answer, success},
    server::{Act, Server},
};

/// `Retry-After` in both forms (RFC 9110, 10.2.3 and 5.6.7): what the caller is told.
#[tokio::test]
async fn a_wait_is_a_number_of_seconds_or_a_date() {
    let server = Server::start().await;
    // The probe's clock stands at 2023-11-14 22:13:20.
    for (headers, expected) in [
        ("retry-after: 7", Some(7)),
        ("retry-after: 0", Some(0)),
        ("retry-after:  12 ", Some(12)),
        ("retry-after: 999999999", Some(3600)),
        ("retry-after: 9999999999999999999999999999999999999999", Some(3600)),
        ("retry-after: Tue, 14 Nov 2023 22:14:02 GMT", Some(42)),
        ("retry-after: Tuesday, 14-Nov-23 22:14:02 GMT", Some(42)),
        ("retry-after: Tue Nov 14 22:14:02 2023", Some(42)),
        ("retry-after: Tue, 14 Nov 2023 22:13:00 GMT", Some(0)),
        ("retry-after: Fri, 14 Nov 2025 22:13:20 GMT", Some(3600)),
        // The server's own clock is what its date is to be held against.
        ("date: Tue, 14 Nov 2023 10:00:00 GMT\r\nretry-after: Tue, 14 Nov 2023 10:00:30 GMT", Some(30)),
        ("date: rubbish\r\nretry-after: Tue, 14 Nov 2023 22:14:02 GMT", Some(42)),
        ("retry-after: soon", None),
        ("retry-after: -1", None),
        ("retry-after: 1.5", None),
        ("retry-after:", None),
        ("x: y", None),
    ] {
        let probe = Probe::new(&server.url(), "");
        server.script([Act::Send(format!("HTTP/1.1 429 Busy\r\n{headers}\r\ncontent-length: 0\r\n\r\n").into_bytes())]);
        let retry_after = expected.map(Duration::from_secs);
        assert_eq!(probe.deliver().await, Delivered::Failed(Failure::Unavailable { retry_after }), "{headers}");
    }
}

#[tokio::test]
async fn a_provider_that_asks_for_a_wait_rests_for_a_minute_at_most() {
    let server = Server::start().await;
    let busy = |wait: &str| {
        let head = format!("HTTP/1.1 503 Busy\r\nretry-after: {wait}\r\ncontent-length: 0\r\n\r\n");
        Act::Send(head.into_bytes())
    };
    let probe = Probe::new(&server.url(), "");
    assert!(!probe.provider.is_resting());
    for (wait, rest) in [("3", 3), ("3600", 60)] {
        server.script([busy(wait)]);
        probe.deliver().await;
        assert!(probe.provider.is_resting() && probe.provider.is_ready(), "the breaker is another matter");
        probe.clock.pass(Duration::from_millis(rest * 1000 - 1));
        assert!(probe.provider.is_resting());
        probe.clock.set_back(Duration::from_secs(3600));
        probe.clock.pass(Duration::from_millis(1));
        assert!(!probe.provider.is_resting());
    }
    // A shorter wait that is told later takes nothing from a longer one.
    server.script([busy("30"), busy("1")]);
    probe.deliver().await;
    probe.deliver().await;
    probe.clock.pass(Duration::from_secs(2));
    assert!(probe.provider.is_resting());
}

/// Servers close idle connections after 5 s and more. A request that crosses such an end would have an unknown outcome.
#[tokio::test]
async fn an_idle_connection_is_not_used_for_long() {
    let server = Server::start().await;
    server.otherwise(Act::Send(success("r")));
    let probe = Probe::new(&server.url(), "");
    for connections in [1, 2] {
        assert!(matches!(probe.deliver().await, Delivered::Accepted(_)));
        assert_eq!(server.connections(), connections);
        tokio::time::sleep(Duration::from_millis(4500)).await;
    }
}

#[tokio::test]
async fn an_answer_with_more_headers_than_usual_is_read() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "");
    let many = (0..300).map(|i| format!("x-{i}: y\r\n")).collect::<Vec<_>>().concat();
    server.script([Act::Send(format!("HTTP/1.1 200 OK\r\n{many}content-length: 1\r\n\r\nr").into_bytes())]);
    assert!(matches!(probe.deliver().await, Delivered::Accepted(_)));
}

#[tokio::test]
async fn the_providers_own_words_are_logged_where_a_call_did_not_end_well() {
    let server = Server::start().await;
    let probe = Probe::new(&server.url(), "");
    let (log, guard) = logs::capture();
    let body = r#"{"errorResponseCode":"INVALID_IDENTIFIER","errorDescription":"no enrollment for +14155550100, token-secret",
        "paymentIntegratorErrorIdentifier":"e7-918"}"#;
    server.script([Act::Send(answer(404, body)), Act::Send(success("{\"message\":\"unmentioned\"}"))]);
    probe.deliver().await;
    probe.deliver().await;
    drop(guard);
    let text = log.text();
    for told in [r#"errorDescription=\"no enrollment for +*, *\""#, "INVALID_IDENTIFIER", "e7-918"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("unmentioned"), "{text}");
}
