//! This process is late, or has more calls than it can serve in time: callers who would wait are served, and none is told
//! that the store is at fault.

use std::{collections::BTreeMap, process::Command, time::Duration};

use otpd::grpc::proto::GetChallengeRequest;
use tokio::task::JoinSet;
use tonic::Request;

use crate::{
    caller::{Caller, header},
    redis_server::RedisServer,
    site::{Server, Site},
    words::failed,
};

const UNKNOWN: &str = "NotFound INVALID_IDENTIFIER";

fn signal(server: &Server, signal: &str) {
    let status = Command::new("kill").args([signal, &server.id().to_string()]).status().expect("kill");
    assert!(status.success());
}

/// Asks for a challenge that there is not.
async fn ask(caller: Caller, id: String, span: Duration) -> String {
    let message = GetChallengeRequest { request_header: header(&id), authenticate_request_id: id };
    let mut request = Request::new(message);
    request.set_timeout(span);
    caller.otp.clone().get_challenge(request).await.map_or_else(|status| failed(&status), |_| "success".to_owned())
}

async fn tally(asked: JoinSet<String>) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for word in asked.join_all().await {
        *tally.entry(word).or_default() += 1;
    }
    tally
}

/// A sidecar has one connection for all. While the server is stopped, its impatient calls are reset by their caller, all at
/// once for the server: no reason to close the connection.
#[tokio::test]
async fn a_pause_costs_the_patient_nothing() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    for (round, impatient) in [25, 200, 900].into_iter().enumerate() {
        assert_eq!(ask(caller.clone(), format!("first-{round}"), Duration::from_secs(60)).await, UNKNOWN);
        signal(&server, "-STOP");
        let calls = |count: usize, span: Duration| -> JoinSet<String> {
            (0..count).map(|n| ask(caller.clone(), format!("c-{round}-{n}"), span)).collect()
        };
        let patient = calls(5, Duration::from_secs(60));
        // The caller gives them up, and says so to a server that does not hear it yet.
        let given_up = tally(calls(impatient, Duration::from_millis(400))).await;
        signal(&server, "-CONT");
        assert!(!given_up.contains_key(UNKNOWN), "{given_up:?}");
        assert_eq!(tally(patient).await, BTreeMap::from([(UNKNOWN.to_owned(), 5)]));
    }
}

/// Thousands of calls at once, over a Redis that is well, on cores that do other things.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_not_told_that_a_healthy_store_is_away() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let before: String = redis.info("stats", "total_connections_received").unwrap();
    let mut callers = Vec::new();
    for _ in 0..6 {
        callers.push(Caller::of(&server).await);
    }
    for (round, count) in [2_000, 6_000].into_iter().enumerate() {
        let asked = (0..count).map(|n| {
            let caller = callers[n % callers.len()].clone();
            ask(caller, format!("c-{round}-{n}"), Duration::from_secs(60))
        });
        let tally = tally(asked.collect()).await;
        println!("{count} calls: {tally:?}");
        let shed = tally.get("ResourceExhausted OVERLOADED").copied().unwrap_or(0);
        let told = tally.get(UNKNOWN).copied().unwrap_or(0);
        assert_eq!(told + shed, count, "{tally:?}");
        assert!(told > 0, "{tally:?}");
    }
    let log = server.log();
    assert!(!log.contains("STORE_UNAVAILABLE"), "{log}");
    let after: String = redis.info("stats", "total_connections_received").unwrap();
    // Those of this test's own questions, and none of the server's.
    let connections = |text: &str| text.parse::<u64>().unwrap();
    assert_eq!(connections(&after) - connections(&before), 1, "the server has connected anew");
}
