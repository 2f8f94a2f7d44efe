//! The rules against a server that does to each call what a test tells it.

use std::{
    error::Error,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::HeaderMap;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, LocalSet},
    time::sleep,
};
use tonic::{Code, ConnectError, Request, Response, Status, transport::Endpoint};

use super::{PUSHBACK, Retries, has_cause};
use crate::{
    SERVICE_CONFIG,
    otp::{VerifyOtpRequest, otp_service_client::OtpServiceClient},
};

type Failed = Box<dyn Error + Send + Sync>;

/// What the server does to a call.
#[derive(Clone, Copy, Debug)]
enum Reaction {
    /// Closes the connection.
    Cut,
    /// Begins an answer and breaks it off.
    BreakOff,
    /// Does not take the call, as a proxy that sheds calls.
    Refuse,
    /// A status, and what it tells of waiting.
    Decide(Code, &'static str),
    /// Nothing, ever.
    Hang,
    /// An empty message.
    Answer,
}

use Reaction::{Answer, BreakOff, Cut, Decide, Hang, Refuse};

/// Waits so short that a test does not last longer for them.
const QUICK: &str = r#"{
    "methodConfig": [{
        "name": [{}], "timeout": "20s", "retryPolicy": {
            "maxAttempts": 4, "initialBackoff": "0.001s", "maxBackoff": "0.002s", "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"]
        }
    }]
}"#;

fn respond(mut to: SendResponse<Bytes>, reaction: Reaction) -> Result<(), Failed> {
    if matches!(reaction, Refuse) {
        to.send_reset(Reason::REFUSED_STREAM);
        return Ok(());
    }
    let head = http::Response::builder().header("content-type", "application/grpc").body(())?;
    let mut body = to.send_response(head, false)?;
    let mut trailers = HeaderMap::new();
    match reaction {
        // What is dropped without an end is reset.
        BreakOff => return Ok(()),
        Decide(code, told) => {
            trailers.insert("grpc-status", i32::from(code).into());
            if !told.is_empty() {
                trailers.insert(PUSHBACK, told.parse()?);
            }
        }
        _ => {
            body.send_data(Bytes::from_static(&[0; 5]), false)?;
            trailers.insert("grpc-status", 0.into());
        }
    }
    body.send_trailers(trailers)?;
    Ok(())
}

/// One connection after the other; one reaction for each call, in order; the last one for all further calls.
async fn serve(listener: TcpListener, reactions: Vec<Reaction>, calls: Arc<AtomicUsize>) -> Result<(), Failed> {
    loop {
        let (stream, _) = listener.accept().await?;
        let mut connection = h2::server::handshake(stream).await?;
        let mut hanging = Vec::new();
        while let Some(Ok((_, to))) = connection.accept().await {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            match reactions[call.min(reactions.len() - 1)] {
                Cut => break,
                Hang => hanging.push(to),
                reaction => respond(to, reaction)?,
            }
        }
    }
}

/// A server, and a call of it: what came of it, and how often it was tried.
struct Server {
    address: String,
    calls: Arc<AtomicUsize>,
    task: Option<JoinHandle<Result<(), Failed>>>,
}

impl Server {
    async fn start(reactions: &[Reaction]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls = Arc::default();
        let task = Some(tokio::spawn(serve(listener, reactions.to_vec(), Arc::clone(&calls))));
        Self { address, calls, task }
    }

    /// A server that has ended: nothing listens at its address.
    async fn ended() -> Self {
        let mut server = Self::start(&[Answer]).await;
        let task = server.task.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        server
    }

    async fn verify(&self, rules: &Retries, within: Option<Duration>, tries: &AtomicUsize) -> Result<(), Status> {
        let channel = Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy();
        let call = async |request| {
            tries.fetch_add(1, Ordering::SeqCst);
            OtpServiceClient::new(channel.clone()).verify_otp(request).await
        };
        rules.call("VerifyOtp", VerifyOtpRequest::default(), within, call).await.map(|_| ())
    }
}

fn rules(config: &str) -> Retries {
    Retries::of(config, "otp.v1.OtpService").unwrap()
}

fn code(result: &Result<(), Status>) -> Code {
    result.as_ref().map_or_else(Status::code, |()| Code::Ok)
}

#[tokio::test]
async fn what_may_be_decided_later_is_tried_four_times() {
    let unavailable = Decide(Code::Unavailable, "");
    let cases: [(&[Reaction], Code, usize); 13] = [
        (&[Answer], Code::Ok, 1),
        (&[Cut, Answer], Code::Ok, 2),
        (&[Cut, Cut, Cut, Answer], Code::Ok, 4),
        (&[Cut], Code::Unknown, 4),
        (&[BreakOff, Answer], Code::Ok, 2),
        (&[Refuse, Answer], Code::Ok, 2),
        (&[unavailable, unavailable, unavailable, Answer], Code::Ok, 4),
        (&[unavailable], Code::Unavailable, 4),
        (&[Decide(Code::Aborted, "1"), Answer], Code::Ok, 2),
        (&[Decide(Code::Unavailable, "-1"), Answer], Code::Unavailable, 1),
        (&[Decide(Code::Unavailable, "later"), Answer], Code::Unavailable, 1),
        (&[Decide(Code::Internal, ""), Answer], Code::Internal, 1),
        (&[Decide(Code::NotFound, "1"), Answer], Code::NotFound, 1),
    ];
    for (reactions, expected, calls) in cases {
        let (server, tries) = (Server::start(reactions).await, AtomicUsize::new(0));
        let result = server.verify(&rules(QUICK), None, &tries).await;
        assert_eq!(
            (code(&result), server.calls.load(Ordering::SeqCst)),
            (expected, calls),
            "{reactions:?}: {result:?}"
        );
    }
}

#[tokio::test]
async fn more_attempts_than_grpc_takes_are_cut() {
    let many = QUICK.replace("\"maxAttempts\": 4", "\"maxAttempts\": 9");
    let (server, tries) = (Server::start(&[Decide(Code::Unavailable, "")]).await, AtomicUsize::new(0));
    let result = server.verify(&rules(&many), None, &tries).await;
    assert_eq!((code(&result), tries.into_inner()), (Code::Unavailable, 5), "{result:?}");
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_without_counting() {
    let (server, tries) = (Server::ended().await, AtomicUsize::new(0));
    let comes_back = async {
        while tries.load(Ordering::SeqCst) <= 4 {
            sleep(Duration::from_millis(5)).await;
        }
        let listener = TcpListener::bind(&server.address).await.unwrap();
        tokio::spawn(serve(listener, vec![Answer], Arc::default()));
    };
    let rules = rules(SERVICE_CONFIG);
    let (result, ()) = tokio::join!(server.verify(&rules, None, &tries), comes_back);
    assert_eq!(code(&result), Code::Ok, "{result:?}");
}

#[tokio::test]
async fn without_wait_for_ready_a_server_that_is_away_is_an_attempt() {
    let (server, tries) = (Server::ended().await, AtomicUsize::new(0));
    let result = server.verify(&rules(QUICK), None, &tries).await;
    assert_eq!((code(&result), tries.into_inner()), (Code::Unavailable, 4), "{result:?}");
}

#[tokio::test]
async fn the_shorter_time_ends_a_call_and_the_last_failure_is_told() {
    let (soon, tries) = (Some(Duration::from_millis(50)), AtomicUsize::new(0));
    let server = Server::start(&[Hang]).await;
    let result = server.verify(&rules(QUICK), soon, &tries).await;
    assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");

    let short = QUICK.replace("20s", "0.05s");
    let result = server.verify(&rules(&short), Some(Duration::from_secs(20)), &tries).await;
    assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");

    let result = Server::ended().await.verify(&rules(SERVICE_CONFIG), soon, &tries).await;
    assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");
    assert!(has_cause::<ConnectError>(&result.unwrap_err()));
}

/// A call that is refused three times and then answered.
async fn answered_at_the_fourth_attempt(rules: &Retries) -> Result<(), Status> {
    let tries = AtomicUsize::new(0);
    let call = async |_: Request<()>| match tries.fetch_add(1, Ordering::SeqCst) {
        0..3 => Err(told("1")),
        _ => Ok(Response::new(())),
    };
    rules.call("VerifyOtp", (), None, call).await
}

fn told(wait: &'static str) -> Status {
    let mut status = Status::unavailable("");
    status.metadata_mut().insert(PUSHBACK, wait.parse().unwrap());
    status
}

#[tokio::test]
async fn calls_that_fail_together_have_all_their_attempts() {
    let rules = Rc::new(rules(SERVICE_CONFIG));
    let local = LocalSet::new();
    let mut calls = Vec::new();
    for _ in 0..150 {
        let rules = Rc::clone(&rules);
        calls.push(local.spawn_local(async move { answered_at_the_fourth_attempt(&rules).await }));
    }
    local.await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn nothing_is_repeated_while_half_of_the_tokens_are_gone() {
    let throttled = r#"{ "retryThrottling": { "maxTokens": 4, "tokenRatio": 1 }, "methodConfig""#;
    let rules = rules(&QUICK.replacen("{\n    \"methodConfig\"", throttled, 1));
    let (server, tries) = (Server::start(&[Decide(Code::Unavailable, "")]).await, AtomicUsize::new(0));
    for tried in [2, 3, 4] {
        let result = server.verify(&rules, None, &tries).await;
        assert_eq!((code(&result), tries.load(Ordering::SeqCst)), (Code::Unavailable, tried));
    }
    let (server, tries) = (Server::start(&[Answer, Answer, Answer, Answer, Cut, Answer]).await, AtomicUsize::new(0));
    for tried in [1, 2, 3, 4, 6] {
        let result = server.verify(&rules, None, &tries).await;
        assert_eq!((code(&result), tries.load(Ordering::SeqCst)), (Code::Ok, tried), "each answer gives a token back");
    }
}

#[test]
fn the_backoff_grows_and_begins_anew_after_the_servers_word() {
    let rules = rules(SERVICE_CONFIG);
    let policy = rules.rules_for("VerifyOtp").unwrap().retry_policy.as_ref().unwrap();
    let mut backoff = None;
    let silent = || Status::unavailable("");
    let cases =
        [(silent(), 100), (silent(), 200), (silent(), 400), (told("1500"), 1500), (silent(), 100), (silent(), 200)];
    for (status, around) in cases {
        let wait = rules.wait_after(&status, policy, &mut backoff).unwrap();
        let around = Duration::from_millis(around);
        assert!((around.mul_f64(0.79)..around.mul_f64(1.21)).contains(&wait), "{wait:?} is not about {around:?}");
    }
}

#[test]
fn the_nearest_entry_holds_and_none_is_needed() {
    let config = r#"{ "methodConfig": [
        { "name": [{}], "timeout": "1s" },
        { "name": [{ "service": "otp.v1.OtpService" }], "timeout": "2s" },
        { "name": [{ "service": "other", "method": "VerifyOtp" }, { "service": "otp.v1.OtpService", "method": "VerifyOtp" }] }
    ] }"#;
    let seconds = |service: &str, method: &str| {
        let rules = Retries::of(config, service).unwrap();
        rules.rules_for(method).unwrap().timeout.map(|span| span.as_secs())
    };
    assert_eq!(seconds("otp.v1.OtpService", "VerifyOtp"), None);
    assert_eq!(seconds("otp.v1.OtpService", "SendOtp"), Some(2));
    assert_eq!(seconds("otp.v1.OtpAdminService", "GetAccount"), Some(1));
    assert!(rules("{}").rules_for("VerifyOtp").is_none());
}

#[tokio::test]
async fn without_rules_a_call_is_tried_once() {
    let (server, tries) = (Server::start(&[Decide(Code::Unavailable, "1"), Answer]).await, AtomicUsize::new(0));
    let result = server.verify(&rules("{}"), None, &tries).await;
    assert_eq!((code(&result), tries.into_inner()), (Code::Unavailable, 1));
}
