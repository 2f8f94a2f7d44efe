//! What the server makes of bad bytes, slow work and too much of everything, seen from outside.
//!
//! Goal: whatever a caller or the framework does, the answer is a status of the contract. Method: a real server on a
//! free port, over a service of fixed behaviour, asked by a client that is bare HTTP/2.

mod client;
mod fake;
mod interop;

use std::{
    net::SocketAddr,
    sync::{Mutex, atomic::Ordering},
};

use bytes::Bytes;
use client::{Anyhow, Ask, ask, begin, connect, framed, http_status};
use h2::client::SendRequest;
use prost::Message;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tonic::Code;

use super::*;
use crate::{
    domain::identity::SidecarTrust,
    ports::{clock::Stopwatch, observer::CallSummary},
};

const VERIFY: &str = "/otp.v1.OtpService/VerifyOtp";
const SEND: &str = "/otp.v1.OtpService/SendOtp";
const GET: &str = "/otp.v1.OtpService/GetChallenge";
const CANCEL: &str = "/otp.v1.OtpService/CancelChallenge";

const SETTINGS: GrpcSettings = GrpcSettings {
    max_in_flight: 1024,
    max_connections: 1024,
    request_timeout: Duration::from_secs(30),
    max_timestamp_skew: None,
    max_connection_age: None,
    reflection: true,
};

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl CallObserver for Seen {
    fn call_ended(&self, call: &CallSummary<'_>) {
        self.0.lock().unwrap().push(format!("{} {} {}", call.method, call.code, call.outcome));
    }
}

struct Running {
    address: SocketAddr,
    seen: Arc<Seen>,
    fake: Arc<fake::Fake>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    tasks: TaskTracker,
}

async fn start(settings: GrpcSettings) -> Anyhow<Running> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (seen, stop, tasks) = (Arc::new(Seen::default()), CancellationToken::new(), TaskTracker::new());
    let (_, health) = tonic_health::server::health_reporter();
    let fake = Arc::new(fake::Fake::default());
    let callers = Arc::new(CallerDirectory::new(&[], SidecarTrust::default(), false));
    let layer = layer(settings, contract(Arc::clone(&fake), Arc::clone(&fake)), health, (seen.clone(), callers))?;
    let connections =
        ServedConnections { http2: http2(), layer: Arc::new(layer), tls: None, max_age: settings.max_connection_age };
    let incoming = Incoming::new(
        BoundListener::Address(listener),
        ConnectionLimit::new(settings.max_connections, GivesWay::Idle, None),
    );
    let serving = tasks.spawn(serve_on(incoming, connections, stop.clone().cancelled_owned()));
    Ok(Running { address, seen, fake, stop, serving, tasks })
}

impl Running {
    async fn ask(&self, asked: Ask) -> Anyhow<client::AnswerSeen> {
        ask(&mut connect(self.address, &self.tasks).await?, asked).await
    }
}

#[tokio::test]
async fn a_slow_use_case_answers_deadline_exceeded_and_not_cancelled() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let watch = Stopwatch::start();
    for (header, value) in [("grpc-timeout", "200m"), ("grpc-timeout", "1m"), ("grpc-timeout", "0n")] {
        let answer = server.ask(Ask { headers: vec![(header, value)], ..Ask::new(VERIFY, b"") }).await?;
        assert_eq!((answer.code, answer.reason.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"), "{value}");
    }
    assert!(watch.elapsed() < Duration::from_secs(5));
    Ok(())
}

/// Nobody waits for what would be done.
#[tokio::test]
async fn a_call_whose_time_is_over_when_it_comes_begins_no_work() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let envoy = "x-envoy-expected-rq-timeout-ms";
    for header in [("grpc-timeout", "0m"), ("grpc-timeout", "0H")] {
        for path in [VERIFY, SEND, CANCEL] {
            let answer = server.ask(Ask { headers: vec![header], ..Ask::new(path, b"") }).await?;
            assert_eq!(
                (answer.code, answer.reason.as_str()),
                (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
                "{header:?}"
            );
        }
    }
    assert_eq!(server.fake.verifying.load(Ordering::SeqCst), 0);
    // In the words of Envoy, 0 is no limit.
    assert_eq!(server.ask(Ask { headers: vec![(envoy, "0")], ..Ask::new(SEND, b"") }).await?.code, Code::Ok);
    let answer = server.ask(Ask { headers: vec![(envoy, "100")], ..Ask::new(VERIFY, b"") }).await?;
    assert_eq!(answer.code, Code::DeadlineExceeded);
    assert_eq!(server.fake.verifying.load(Ordering::SeqCst), 1);
    Ok(())
}

#[tokio::test]
async fn the_deadline_covers_a_request_that_never_ends() -> Anyhow<()> {
    let request_timeout = Duration::from_millis(100);
    let server = start(GrpcSettings { request_timeout, ..SETTINGS }).await?;
    for (asked, said) in [
        (Ask { end: false, body: vec![0, 0], ..Ask::new(SEND, b"") }, "nothing was begun"),
        (Ask { headers: vec![("grpc-timeout", "1H")], ..Ask::new(VERIFY, b"") }, "the work goes on"),
    ] {
        let answer = server.ask(asked).await?;
        assert_eq!((answer.code, answer.reason.as_str()), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"));
        assert!(answer.message.contains(said), "{}", answer.message);
    }
    Ok(())
}

#[tokio::test]
async fn what_the_framework_refuses_has_a_reason_of_ours() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let invalid = (Code::InvalidArgument, "INVALID_FIELD_VALUE");
    let unimplemented = (Code::Unimplemented, "UNIMPLEMENTED");
    let gzip = vec![("grpc-encoding", "gzip")];
    for (asked, expected) in [
        (Ask::new(SEND, &vec![0; 5 * 1024 * 1024]), invalid),
        (Ask::new(SEND, &vec![0; 64 * 1024 + 1]), invalid),
        (Ask::new(SEND, b"\xff\xff\xff"), invalid),
        (Ask { body: b"rubbish that is no frame".to_vec(), ..Ask::new(SEND, b"") }, invalid),
        (Ask { body: framed(b"cut off")[..8].to_vec(), ..Ask::new(SEND, b"") }, invalid),
        (Ask { body: Vec::new(), ..Ask::new(SEND, b"") }, invalid),
        (
            Ask { body: [framed(b""), framed(b"")].concat(), headers: gzip.clone(), ..Ask::new(SEND, b"") },
            unimplemented,
        ),
        (Ask { headers: gzip, ..Ask::new(SEND, b"") }, unimplemented),
        (Ask::new("/otp.v1.OtpService/Nope", b""), unimplemented),
        (Ask::new("/nope.Nope/Nope", b""), unimplemented),
        (Ask::new("/", b""), unimplemented),
    ] {
        let label = format!("{} {} bytes {:?}", asked.path, asked.body.len(), asked.headers);
        let answer = server.ask(asked).await?;
        assert_eq!((answer.code, answer.reason.as_str()), expected, "{label}");
        let ours = [
            "the message cannot be decoded",
            "the message is too large",
            "no such method, or an unsupported message encoding",
        ];
        assert!(ours.contains(&answer.message.as_str()), "{}", answer.message);
        let refused_encoding = label.contains("gzip");
        assert_eq!(answer.headers.contains_key("grpc-accept-encoding"), refused_encoding, "{label}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_too_large_is_internal() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let answer = server.ask(Ask::new(GET, b"")).await?;
    assert_eq!((answer.code, answer.reason.as_str()), (Code::Internal, "INTERNAL"));
    assert_eq!(answer.message, "internal error");
    Ok(())
}

#[tokio::test]
async fn without_a_permit_all_but_cancels_and_health_are_shed() -> Anyhow<()> {
    let server = start(GrpcSettings { max_in_flight: 1, ..SETTINGS }).await?;
    let mut client = connect(server.address, &server.tasks).await?;
    let mut busy = client.clone();
    let slow = server.tasks.spawn(async move { ask(&mut busy, Ask::new(VERIFY, b"")).await.map(|_| ()) });
    while ask(&mut client, Ask::new(SEND, b"")).await?.code == Code::Ok {
        tokio::task::yield_now().await;
    }
    let shed = ask(&mut client, Ask::new(SEND, b"\xff")).await?;
    assert_eq!((shed.code, shed.reason.as_str()), (Code::ResourceExhausted, "OVERLOADED"));
    assert_eq!(ask(&mut client, Ask::new(CANCEL, b"")).await?.code, Code::Ok);
    assert_eq!(ask(&mut client, Ask::new("/grpc.health.v1.Health/Check", b"")).await?.code, Code::Ok);
    slow.abort();
    Ok(())
}

#[tokio::test]
async fn health_and_reflection_keep_their_own_statuses() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let unknown = tonic_health::pb::HealthCheckRequest { service: "nope".to_owned() }.encode_to_vec();
    let answer = server.ask(Ask::new("/grpc.health.v1.Health/Check", &unknown)).await?;
    assert_eq!((answer.code, answer.reason.as_str()), (Code::NotFound, ""));
    // ServerReflectionRequest { list_services: "" }
    for version in ["/grpc.reflection.v1.ServerReflection", "/grpc.reflection.v1alpha.ServerReflection"] {
        let path: &'static str = Box::leak(format!("{version}/ServerReflectionInfo").into_boxed_str());
        let answer = server.ask(Ask::new(path, &[0x3a, 0x00])).await?;
        assert_eq!(answer.code, Code::Ok);
        let listed = String::from_utf8_lossy(&answer.data).into_owned();
        assert!(listed.contains("otp.v1.OtpService") && listed.contains("otp.v1.OtpAdminService"), "{listed}");
    }
    // ServerReflectionRequest { file_containing_symbol: "google.rpc.ErrorInfo" }: grpcurl asks so to print a status.
    let symbol = [&[0x22, 0x14], &b"google.rpc.ErrorInfo"[..]].concat();
    let answer = server.ask(Ask::new("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &symbol)).await?;
    assert!(String::from_utf8_lossy(&answer.data).contains("error_details.proto"));
    let server = start(GrpcSettings { reflection: false, ..SETTINGS }).await?;
    let answer =
        server.ask(Ask::new("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &[0x3a, 0x00])).await?;
    assert_eq!(answer.code, Code::Unimplemented);
    Ok(())
}

#[tokio::test]
async fn every_call_is_seen_once_and_names_nobody() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let mut client = connect(server.address, &server.tasks).await?;
    ask(&mut client, Ask::new(SEND, b"")).await?;
    ask(&mut client, Ask::new("/jane.Doe/4155550100", b"")).await?;
    ask(&mut client, Ask { headers: vec![("grpc-timeout", "20m")], ..Ask::new(VERIFY, b"") }).await?;
    let hang_up = ask(&mut client, Ask::new(VERIFY, b""));
    assert!(tokio::time::timeout(Duration::from_millis(50), hang_up).await.is_err());
    drop(client);
    let seen = || server.seen.0.lock().unwrap().clone();
    while seen().len() < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(
        seen(),
        [
            "otp.v1.OtpService/SendOtp OK OK",
            "_OTHER UNIMPLEMENTED UNIMPLEMENTED",
            "otp.v1.OtpService/VerifyOtp DEADLINE_EXCEEDED DEADLINE_EXCEEDED",
            "otp.v1.OtpService/VerifyOtp CANCELLED CANCELLED",
        ]
    );
    Ok(())
}

#[tokio::test]
async fn connections_are_bounded_and_permits_come_back() -> Anyhow<()> {
    let server = start(GrpcSettings { max_connections: 1, ..SETTINGS }).await?;
    let tasks = TaskTracker::new();
    let mut first = connect(server.address, &tasks).await?;
    let work = at_work(&mut first, &server).await?;
    assert!(server.ask(Ask::new(SEND, b"")).await.is_err());
    drop((first, work));
    tasks.close();
    tasks.wait().await;
    while server.ask(Ask::new(SEND, b"")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A call at work on the connection: it verifies for ever.
async fn at_work(client: &mut SendRequest<Bytes>, server: &Running) -> Anyhow<AbortOnDropHandle<()>> {
    let mut working = client.clone();
    let begun = server.fake.verifying.load(Ordering::SeqCst);
    let work = server.tasks.spawn(async move { drop(ask(&mut working, Ask::new(VERIFY, b"")).await) });
    while server.fake.verifying.load(Ordering::SeqCst) == begun {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(AbortOnDropHandle::new(work))
}

#[tokio::test]
async fn idle_connections_give_way_and_those_with_calls_at_work_do_not() -> Anyhow<()> {
    let server = start(GrpcSettings { max_connections: 2, ..SETTINGS }).await?;
    let mut sidecar = connect(server.address, &server.tasks).await?;
    let _work = at_work(&mut sidecar, &server).await?;
    // A handshake is no call.
    let _silent = connect(server.address, &TaskTracker::new()).await?;
    for _ in 0..4 {
        // Each has made a call, and is idle when the next one comes.
        let mut idle = connect(server.address, &TaskTracker::new()).await?;
        assert_eq!(ask(&mut idle, Ask::new(SEND, b"")).await?.code, Code::Ok);
    }
    assert_eq!(ask(&mut sidecar, Ask::new(SEND, b"")).await?.code, Code::Ok);
    Ok(())
}

#[tokio::test]
async fn a_message_that_does_not_come_takes_no_permit() -> Anyhow<()> {
    let server = start(GrpcSettings { max_in_flight: 1, ..SETTINGS }).await?;
    let mut client = connect(server.address, &server.tasks).await?;
    let mut waiting = Vec::new();
    for body in [Vec::new(), vec![0], framed(b"half")[..7].to_vec()].into_iter().cycle().take(30) {
        waiting.push(begin(&mut client, VERIFY, body).await?);
    }
    for _ in 0..10 {
        assert_eq!(server.ask(Ask::new(SEND, b"")).await?.code, Code::Ok);
    }
    drop(waiting);
    Ok(())
}

#[tokio::test]
async fn shutdown_answers_what_is_in_flight_and_accepts_no_more() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let mut client = connect(server.address, &server.tasks).await?;
    let mut slow = client.clone();
    assert_eq!(ask(&mut client, Ask::new(SEND, b"")).await?.code, Code::Ok);
    let in_flight = server.tasks.spawn(async move {
        ask(&mut slow, Ask { headers: vec![("grpc-timeout", "150m")], ..Ask::new(VERIFY, b"") }).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop.cancel();
    assert_eq!(in_flight.await??.code, Code::DeadlineExceeded);
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
    drop(client);
    let result = tokio::time::timeout(Duration::from_secs(60), server.serving).await;
    assert!(matches!(result, Ok(Ok(()))));
    Ok(())
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_in_the_words_of_http() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let check = "/grpc.health.v1.Health/Check";
    for (method, path, media_type, expected) in [
        ("POST", SEND, "application/json", 415),
        ("POST", SEND, "application/grpc-web", 415),
        ("POST", SEND, "text/html", 415),
        ("POST", check, "application/json", 415),
        ("POST", "/x", "application/json", 415),
        ("GET", SEND, "application/grpc", 405),
        ("PUT", check, "application/grpc", 405),
        ("HEAD", "/", "text/html", 405),
        ("POST", SEND, "application/grpc", 200),
        ("POST", SEND, "application/grpc+proto", 200),
        ("POST", SEND, "application/grpc; charset=utf-8", 200),
        ("POST", check, "application/grpc", 200),
    ] {
        let mut client = connect(server.address, &server.tasks).await?;
        let status = http_status(&mut client, method, path, media_type).await?;
        assert_eq!(status, expected, "{method} {path} {media_type}");
    }
    Ok(())
}

/// Callers that have not been told to go yet go on asking.
#[tokio::test]
async fn what_is_asked_before_the_caller_knows_of_the_end_is_answered() -> Anyhow<()> {
    let server = start(SETTINGS).await?;
    let mut client = connect(server.address, &server.tasks).await?;
    assert_eq!(ask(&mut client, Ask::new(SEND, &[])).await?.code, Code::Ok);
    // The test has one thread: the server closes its port when the request is on its way, and tells the client afterwards.
    server.stop.cancel();
    assert_eq!(ask(&mut client, Ask::new(SEND, &[])).await?.code, Code::Ok);
    Ok(())
}
