//! Redis goes away under load, and comes back: no answer tells what was not stored, and otpd recovers by itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::{
    grpc::proto::{ChallengeState, CreateChallengeRequest},
    ports::clock::{Deadline, Stopwatch},
};
use tokio::task::JoinSet;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    caller::{Caller, login, send, verify, wrong},
    redis_server::RedisServer,
    site::{Site, until},
    words::{created, ended, sent, verified},
};

/// All that an outage may be answered with.
const TROUBLE: [&str; 3] =
    ["Unavailable STORE_UNAVAILABLE", "DeadlineExceeded DEADLINE_EXCEEDED", "ResourceExhausted OVERLOADED"];

async fn health(caller: &Caller, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    HealthClient::new(caller.channel.clone()).check(request).await.unwrap().into_inner().status()
}

/// Challenges, one after the other, each from creation to success, until told to stop.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    next: AtomicU64,
    /// By challenge, the last step that was told to be done.
    told: Mutex<BTreeMap<u64, &'static str>>,
    tally: Mutex<BTreeMap<String, usize>>,
}

impl Load {
    fn start(self: &Arc<Self>, site: &Arc<Site>, caller: &Caller) -> JoinSet<()> {
        let worker = || Arc::clone(self).work(Arc::clone(site), caller.clone());
        (0..8).map(|_| worker()).collect()
    }

    async fn work(self: Arc<Self>, site: Arc<Site>, caller: Caller) {
        while !self.stop.load(Ordering::Relaxed) {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            if !self.walk(&site, &caller, n).await {
                // As callers do that are told to wait.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn walk(&self, site: &Site, caller: &Caller, n: u64) -> bool {
        let (challenge, account, number) = (format!("c{n}"), format!("person-{n}"), number(n));
        let create = created(&caller.create(login(&challenge, &account, &number)).await);
        if !self.hear(n, "created", &create, "success") {
            return false;
        }
        let send = sent(&caller.send(send("s", &challenge)).await);
        if !self.hear(n, "sent", &send, "success") {
            return false;
        }
        let code = site.code(&number);
        let not = verified(&caller.verify(verify("w", &challenge, &wrong(&code, 0))).await);
        if !self.hear(n, "not matched", &not, "otp_not_matched") {
            return false;
        }
        let verify = verified(&caller.verify(verify("v", &challenge, &code)).await);
        self.hear(n, "verified", &verify, "success")
    }

    fn hear(&self, n: u64, step: &'static str, word: &str, expected: &str) -> bool {
        assert!(word == expected || TROUBLE.contains(&word), "{step} of challenge {n}: {word}");
        *self.tally.lock().unwrap().entry(word.to_owned()).or_default() += 1;
        if word == expected {
            self.told.lock().unwrap().insert(n, step);
        }
        word == expected
    }

    fn done(&self) -> usize {
        self.tally.lock().unwrap().get("success").copied().unwrap_or_default()
    }

    fn troubles(&self) -> usize {
        let tally = self.tally.lock().unwrap();
        TROUBLE.iter().filter_map(|word| tally.get(*word)).sum()
    }

    /// Whatever was told is stored, and each challenge still stands where it may.
    async fn check(&self, caller: &Caller) {
        let told = self.told.lock().unwrap().clone();
        assert!(told.len() > 20, "{}", told.len());
        for (n, step) in told {
            let seen = caller.challenge(&format!("c{n}")).await.unwrap();
            let least = match step {
                "created" => 0,
                "sent" => 1,
                "not matched" => 2,
                _ => 3,
            };
            let stands = match seen.state() {
                ChallengeState::Verified => 3,
                ChallengeState::Sent if seen.verification_attempts > 0 => 2,
                ChallengeState::Sent => 1,
                _ => 0,
            };
            assert!(stands >= least, "challenge {n} was told {step}, and is {:?}", seen.state());
        }
    }
}

fn number(n: u64) -> String {
    format!("+1415{:07}", 5_560_000 + n)
}

#[tokio::test]
async fn of_a_redis_that_hangs_and_of_one_that_is_killed() {
    let redis = RedisServer::start_durable();
    let site = Arc::new(Site::on(&redis));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let healthy = async || health(&caller, "otp.v1.OtpService").await == ServingStatus::Serving;
    until("health", healthy).await;
    let load = Arc::new(Load::default());
    let mut workers = load.start(&site, &caller);
    until("load", async || load.done() > 50).await;

    redis.pause();
    let trouble = Stopwatch::start();
    until("health says so", async || !healthy().await).await;
    let noticed = trouble.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(10)).contains(&noticed), "{noticed:?}");
    assert_eq!(health(&caller, "otp.v1.OtpAdminService").await, ServingStatus::NotServing);
    assert_eq!(health(&caller, "").await, ServingStatus::Serving);
    assert_eq!(server.probe("/readyz"), "503");
    assert_eq!(server.probe("/livez"), "200");
    assert!(load.troubles() > 0);
    redis.resume();
    until("health after the pause", healthy).await;
    let before = load.done();
    until("load after the pause", async || load.done() > before + 50).await;

    // Shorter than health waits before it turns: callers are told, and their balancers are not.
    let before = load.troubles();
    redis.kill();
    until("trouble", async || load.troubles() > before + 8).await;
    assert_eq!(ended(&caller.account("person").await), TROUBLE[0]);
    assert!(healthy().await);
    redis.restart();
    let before = load.done();
    until("load after the kill", async || load.done() > before + 50).await;

    assert_eq!(redis.cli(&["SCRIPT", "FLUSH", "SYNC"]), "OK");
    let (before, troubles) = (load.done(), load.troubles());
    until("load after the flush", async || load.done() > before + 50).await;
    assert_eq!(load.troubles(), troubles, "scripts that are gone are loaded again");

    load.stop.store(true, Ordering::Relaxed);
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    println!("{:?}", load.tally.lock().unwrap());
    load.check(&caller).await;
    assert!(!server.log().contains("panicked"));
}

/// The deadline of a caller holds while the store hangs, and what it did not hear is decided once.
#[tokio::test]
async fn shorter_than_a_callers_deadline() {
    let redis = RedisServer::start_durable();
    let site = Site::on(&redis).with("OTPD__STORE__TIMEOUT", "5s");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155556000";
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "success");
    redis.pause();
    let time = Stopwatch::start();
    let told = sent(&caller.send_within(send("s", "c"), Duration::from_millis(400)).await);
    assert!(TROUBLE[..2].contains(&&*told), "{told}");
    assert!(time.elapsed() < Duration::from_secs(4), "{:?}", time.elapsed());
    redis.resume();
    let deadline = Deadline::after(Duration::from_secs(20));
    let mut told = String::new();
    while told != "success" {
        assert!(!deadline.remaining().is_zero(), "{told}");
        told = sent(&caller.send(send("s", "c")).await);
        assert!(told == "success" || told == "Aborted REQUEST_IN_PROGRESS" || told == TROUBLE[0], "{told}");
    }
    assert_eq!(site.codes(number).len(), 1);
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
}

/// A full Redis takes no writes: calls fail, reads are answered, and it is over when there is room again.
#[tokio::test]
async fn of_a_redis_that_is_full() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155556001";
    caller.sent("c", "person", number).await;
    let code = site.code(number);
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), TROUBLE[0]);
    let request = CreateChallengeRequest { send_otp: true, ..login("d", "person", number) };
    assert_eq!(created(&caller.create(request.clone()).await), TROUBLE[0]);
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 0);
    assert_eq!(redis.cli(&["CONFIG", "SET", "maxmemory", "0"]), "OK");
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(site.codes(number).len(), 2);
}
