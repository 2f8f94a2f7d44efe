//! Behind a real Envoy, which retries, asks for health and ejects: restarts, a store that hangs and connections that are cut cost
//! no call that may be made again, and nothing counts twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use otpd::{
    grpc::proto::CreateChallengeRequest,
    ports::clock::{Deadline, Stopwatch},
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_util::task::TaskTracker;

use crate::{
    caller::{Caller, TENANT, login, send, verify, wrong},
    envoy_server::{CHECKED_OFTEN, CHECKED_ONCE, Edits, Envoy},
    http_client::post,
    redis_server::{Port, RedisServer},
    relay::Relay,
    site::{Server, Site, until},
    words::{created, ended, sent, verified},
};

/// Calls a second while replicas are restarted. So few that a machine with other work keeps up.
const RATE: u32 = 80;
/// Rounds before each restart.
const ROUNDS_BETWEEN: usize = 20;
/// Calls of one round.
const ROUND: u32 = 4;
/// No code: one guess in a million would be right.
const GUESS: &str = "271828";

/// Two replicas on one Redis, on ports that they have again after a restart.
pub(crate) struct Replicas {
    pub(crate) redis: RedisServer,
    pub(crate) site: Arc<Site>,
    ports: [Port; 2],
    pub(crate) servers: Vec<Server>,
}

impl Replicas {
    pub(crate) fn start() -> Self {
        Self::configured("")
    }

    /// The same, with a file of settings.
    pub(crate) fn configured(settings: &str) -> Self {
        let redis = RedisServer::start();
        let site = Arc::new(Site::on(&redis).with("OTPD__SERVER__DRAIN_DELAY", "0s").configured(settings));
        let ports = [Port::reserve(), Port::reserve()];
        let servers = ports.iter().map(|port| site.start_at(port.number())).collect();
        Self { redis, site, ports, servers }
    }

    pub(crate) async fn behind_envoy(&self) -> Option<(Envoy, Caller)> {
        self.behind(CHECKED_OFTEN).await
    }

    /// The same, with what is replaced in its file.
    pub(crate) async fn behind(&self, edits: Edits<'_>) -> Option<(Envoy, Caller)> {
        let envoy = Envoy::front(self.ports.each_ref().map(Port::number), edits)?;
        until("both replicas are healthy", async || envoy.count("membership_healthy") == 2).await;
        let caller = Caller::at(&envoy.address()).await;
        Some((envoy, caller))
    }

    /// Of an operator, who goes past Envoy: its file passes on no calls of operators.
    async fn failures(&self, account: &str) -> i64 {
        Caller::of(&self.servers[0]).await.account(account).await.unwrap().failures()
    }
}

/// Rounds of calls at a steady rate, whatever becomes of those before, until told to stop.
#[derive(Default)]
struct SteadyLoad {
    stop: AtomicBool,
    tally: Mutex<BTreeMap<String, usize>>,
}

impl SteadyLoad {
    async fn run(self: Arc<Self>, caller: Caller) {
        let mut ticks = interval(Duration::from_secs(1) * ROUND / RATE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut rounds = JoinSet::new();
        for n in 0.. {
            ticks.tick().await;
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            rounds.spawn(Arc::clone(&self).round(caller.clone(), n));
            while rounds.try_join_next().is_some() {}
        }
        rounds.join_all().await;
    }

    async fn round(self: Arc<Self>, caller: Caller, n: u32) {
        let (challenge, account, number) =
            (format!("c{n}"), format!("person-{n}"), format!("+1415{:07}", 5_570_000 + n));
        let create = CreateChallengeRequest { send_otp: true, ..login(&challenge, &account, &number) };
        self.note(created(&caller.create(create).await));
        self.note(verified(&caller.verify(verify("w", &challenge, GUESS)).await));
        self.note(ended(&caller.challenge(&challenge).await));
        self.note(ended(&caller.cancel("x", &challenge).await));
    }

    /// Rounds that have ended.
    fn rounds(&self) -> usize {
        self.tally.lock().unwrap().get("otp_not_matched").copied().unwrap_or_default()
    }

    fn note(&self, word: String) {
        *self.tally.lock().unwrap().entry(word).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_no_call() {
    let mut replicas = Replicas::start();
    let Some((envoy, caller)) = replicas.behind_envoy().await else { return };
    let load = Arc::new(SteadyLoad::default());
    let running = TaskTracker::new().spawn(Arc::clone(&load).run(caller));
    for (server, port) in replicas.servers.iter_mut().zip(&replicas.ports) {
        let before = load.rounds();
        until("calls go on", async || load.rounds() >= before + ROUNDS_BETWEEN).await;
        server.terminate();
        assert_eq!(server.exit_code().await, Some(0), "{}", server.log());
        until("the last line", async || server.log().lines().last().is_some_and(|line| line.contains("\"stopped\"")))
            .await;
        *server = replicas.site.start_at(port.number());
        until("it is healthy again", async || envoy.count("membership_healthy") == 2).await;
    }
    load.stop.store(true, Ordering::Relaxed);
    running.await.unwrap();
    let tally = load.tally.lock().unwrap().clone();
    let retries = (envoy.count("upstream_rq_retry"), envoy.count("upstream_rq_retry_overflow"));
    println!("{tally:?}; retried, and not for want of budget: {retries:?}");
    assert_eq!(retries.1, 0, "the budget is enough");
    let expected = ["done", "otp_not_matched", "success with success"];
    assert!(tally.keys().all(|word| expected.contains(&word.as_str())), "{tally:?}");
    assert_eq!(tally["done"], 2 * tally["otp_not_matched"]);
}

/// Guesses under one id each, made again until they are told what became of them.
async fn guess(caller: Caller, challenge: String) -> usize {
    let deadline = Deadline::after(Duration::from_secs(30));
    let mut troubles = 0;
    loop {
        let word = verified(&caller.verify(verify("w", &challenge, GUESS)).await);
        if word == "otp_not_matched" {
            return troubles;
        }
        let trouble = ["Unavailable STORE_UNAVAILABLE", "DeadlineExceeded DEADLINE_EXCEEDED", "Aborted CONTENTION"];
        assert!(trouble.contains(&&*word), "{word}");
        assert!(!deadline.remaining().is_zero(), "{word}");
        troubles += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_hangs_ejects_no_replica() {
    let replicas = Replicas::start();
    let Some((envoy, caller)) = replicas.behind_envoy().await else { return };
    let challenges: Vec<_> = (0..12).map(|n| format!("c{n}")).collect();
    for (n, challenge) in challenges.iter().enumerate() {
        caller.sent(challenge, &format!("person-{n}"), &format!("+1415557{n:04}")).await;
    }
    // Shorter than health waits before it turns away callers.
    let hang = Stopwatch::start();
    replicas.redis.pause();
    let guesses: JoinSet<_> = challenges.iter().map(|challenge| guess(caller.clone(), challenge.clone())).collect();
    while hang.elapsed() < Duration::from_secs(3) {
        assert_eq!(envoy.count("membership_healthy"), 2);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    replicas.redis.resume();
    let troubles = guesses.join_all().await;
    println!("told of trouble: {troubles:?}; retried by Envoy: {}", envoy.count("upstream_rq_retry"));
    assert!(troubles.iter().sum::<usize>() > 0, "the hang was not noticed");
    assert_eq!(envoy.count("outlier_detection.ejections_enforced_total"), 0);
    assert_eq!(envoy.count("membership_healthy"), 2);
    for (n, challenge) in challenges.iter().enumerate() {
        assert_eq!(caller.challenge(challenge).await.unwrap().verification_attempts, 1);
        assert_eq!(replicas.failures(&format!("person-{n}")).await, 1);
    }
}

/// Health is asked for once, so that what turns calls away from the replica is what became of those before.
#[tokio::test]
async fn a_replica_that_is_gone_is_ejected_and_comes_back() {
    let mut replicas = Replicas::start();
    let edits = [CHECKED_ONCE, &[("base_ejection_time: 5s", "base_ejection_time: 1s")]].concat();
    let Some((envoy, caller)) = replicas.behind(&edits).await else { return };
    let call = async || assert_eq!(ended(&caller.challenge("never").await), "NotFound INVALID_IDENTIFIER");
    drop(replicas.servers.pop());
    until("it is ejected", async || {
        call().await;
        envoy.count("outlier_detection.ejections_enforced_total") > 0
    })
    .await;
    assert_eq!(envoy.count("membership_healthy"), 1);
    replicas.servers.push(replicas.site.start_at(replicas.ports[1].number()));
    until("it gets calls again", async || {
        call().await;
        envoy.count("membership_healthy") == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_answer_is_lost_is_retried_and_counts_once() {
    let replicas = Replicas::start();
    let cuts = Arc::new(AtomicBool::new(false));
    let [one, two] = &replicas.ports;
    let relays = [Relay::start(one.number(), &cuts).await, Relay::start(two.number(), &cuts).await];
    let Some(envoy) = Envoy::front(relays.each_ref().map(Relay::port), CHECKED_ONCE) else { return };
    until("both have been asked", async || envoy.count("health_check.success") == 2).await;
    let caller = Caller::at(&envoy.address()).await;
    // So that the next that a server says is an answer: no greeting of a new connection.
    let cut = async || {
        for _ in 0..4 {
            drop(caller.challenge("c").await);
        }
        cuts.store(true, Ordering::SeqCst);
    };
    let is_cut = || assert!(!cuts.load(Ordering::SeqCst), "nothing was cut");
    let number = "+14155580000";

    cut().await;
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "success");
    is_cut();
    cut().await;
    assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
    is_cut();
    assert_eq!(replicas.site.codes(number).len(), 1);
    let code = replicas.site.code(number);
    cut().await;
    assert_eq!(verified(&caller.verify(verify("w", "c", &wrong(&code, 0))).await), "otp_not_matched");
    is_cut();
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 1);
    assert_eq!(replicas.failures("person").await, 1);
    // In JSON it is the same call.
    cut().await;
    let guess = json!({
        "requestHeader": {
            "protocolVersion": {"major": 1}, "requestId": "x", "requestTimestamp": {"epochMillis": "1"},
            "paymentIntegratorAccountId": TENANT
        },
        "authenticateRequestId": "c", "otp": wrong(&code, 1)
    });
    let told = post(&envoy.address(), "/otp.v1.OtpService/VerifyOtp", guess.to_string()).await.json();
    assert_eq!(told["result"], json!({"otpNotMatched": {"remainingVerificationAttempts": "3"}}));
    is_cut();
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 2);
    cut().await;
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
    is_cut();
    assert_eq!(envoy.count("upstream_rq_retry"), 5);
    assert_eq!(envoy.count("upstream_rq_retry_success"), 5);
}
