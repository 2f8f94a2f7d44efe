//! The clock and the identity of the store: replicas whose clock or key is wrong, stores that are emptied, late, or not there.

use otpd::grpc::proto::CreateChallengeRequest;

use crate::{
    caller::{Caller, lock, login, send, unlock, verify, wrong},
    redis_server::RedisServer,
    site::{KEY_1, KEY_2, Server, Site, until},
    tamper::Line,
    words::{created, ended, sent, verified},
};

/// As [`KEY_1`] with one letter mistyped.
const MISTYPED: &str = "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWc=";
const UNAVAILABLE: &str = "Unavailable STORE_UNAVAILABLE";
const HOUR: i64 = 3_600;

async fn is_ready(server: &Server, words: &str) {
    until(words, async || server.get("/readyz") == format!("{words}\n")).await;
}

/// Every call of both services, in a word.
async fn every_call(caller: &Caller, guess: &str) -> Vec<String> {
    let create = CreateChallengeRequest { send_otp: true, ..login("new", "person", "+14155557009") };
    vec![
        created(&caller.create(create).await),
        sent(&caller.send(send("again", "c")).await),
        verified(&caller.verify(verify("v", "c", guess)).await),
        ended(&caller.cancel("x", "c").await),
        ended(&caller.challenge("c").await),
        ended(&caller.account("person").await),
        ended(&caller.lock(lock("l", "person", None)).await),
        ended(&caller.unlock(unlock("u", "person")).await),
    ]
}

/// One replica ahead and one behind. The start of a server waits for its log, and the line for nobody.
/// Neither serves; the other one's locks stay as they are; and it is over when the clock is
/// right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_clock_is_off_serves_nothing() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let right = site.start();
    let caller = Caller::of(&right).await;
    caller.sent("c", "person", "+14155557000").await;
    let guess = wrong(&site.code("+14155557000"), 0);
    for seconds in [HOUR, -HOUR, 3] {
        let line = Line::to(&redis.tcp_url()).await;
        line.set_ahead(seconds);
        let site = Site::on(&redis).with("OTPD__STORE__URL", &line.url);
        // It starts so, and waits.
        let off = site.start();
        is_ready(&off, "clock").await;
        assert_eq!(off.probe("/livez"), "200");
        let far = Caller::of(&off).await;
        assert_eq!(every_call(&far, &guess).await, vec![UNAVAILABLE; 8]);
        assert_eq!(site.messages().len(), 0);
        assert!(off.log().contains("the clock of this machine is off"), "{}", off.log());
        let metric = off.get("/metrics");
        let skew = metric.lines().find_map(|line| line.strip_prefix("otp_store_clock_skew_seconds "));
        let skew: f64 = skew.expect(&metric).parse().unwrap();
        assert!((skew + f64::from(i32::try_from(seconds).unwrap())).abs() < 2.0, "{skew}");
        line.set_ahead(0);
        is_ready(&off, "serving").await;
        assert_eq!(ended(&far.challenge("c").await), "done");
        // While it serves.
        line.set_ahead(seconds);
        is_ready(&off, "clock").await;
        assert_eq!(every_call(&far, &guess).await, vec![UNAVAILABLE; 8]);
    }
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 0);
    assert_eq!(right.probe("/readyz"), "200");
}

/// A key with a number that is in use, and other bytes.
#[tokio::test]
async fn a_mistyped_key_is_refused() {
    let redis = RedisServer::start();
    for mut site in [Site::embedded().with("OTPD_MASTER_KEYS", KEY_1), Site::on(&redis)] {
        let is_shared = site.store().starts_with("redis");
        let server = site.start();
        Caller::of(&server).await.sent("c", "person", "+14155557001").await;
        // A second replica beside the first one; of an embedded store, the next start.
        let server = is_shared.then_some(server);
        for ring in [MISTYPED.to_owned(), format!("{KEY_2},{MISTYPED}")] {
            site.set("OTPD_MASTER_KEYS", &ring);
            let refused = site.run();
            let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{errors}");
            let words =
                "the store belongs to other master keys: key 1 here is not the one that its records were sealed with";
            assert!(errors.contains(words), "{errors}");
        }
        site.set("OTPD_MASTER_KEYS", &format!("{KEY_2},{KEY_1}"));
        drop(site.start());
        drop(server);
    }
}

/// `FLUSHALL`, or a Redis without persistence that was restarted.
#[tokio::test]
async fn an_emptied_redis_is_told() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let servers = [site.start(), site.start()];
    let caller = Caller::of(&servers[0]).await;
    for emptied in 1..=2 {
        if emptied == 1 {
            assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
        } else {
            redis.restart();
        }
        for server in &servers {
            let told = async || {
                server.log().matches("locks, failures, used codes and quotas that were kept there are gone").count()
            };
            until("the loss", async || told().await == emptied).await;
            let losses = async || {
                let text = server.get("/metrics");
                let losses = text.lines().filter(|line| line.starts_with("otp_store_losses_total"));
                losses.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum::<usize>()
            };
            assert_eq!(losses().await, emptied);
        }
        until("served", async || {
            created(&caller.create(login(&format!("c{emptied}"), "person", "+14155557002")).await) == "success"
        })
        .await;
        assert!(servers.iter().all(|server| server.probe("/readyz") == "200"));
    }
    // Evicted keys, or a node of a cluster.
    let keys = redis.cli(&["KEYS", "otp:{b3RwZCBjYW5hcnkg*"]);
    assert_eq!(keys.lines().count(), 16);
    for key in keys.lines().take(3) {
        assert_eq!(redis.cli(&["DEL", key]), "1");
    }
    until("the loss", async || servers.iter().all(|server| server.log().contains("the store has lost records"))).await;
}

/// The server starts before its Redis does, and after it.
#[tokio::test]
async fn a_start_waits_for_a_redis_that_is_down() {
    let redis = RedisServer::start_durable();
    let site = Site::on(&redis);
    redis.kill();
    let server = site.start();
    assert_eq!(server.get("/readyz"), "starting\n");
    assert_eq!(server.probe("/livez"), "200");
    let caller = Caller::of(&server).await;
    assert_eq!(created(&caller.create(login("c", "person", "+14155557003")).await), UNAVAILABLE);
    redis.restart();
    is_ready(&server, "serving").await;
    assert_eq!(created(&caller.create(login("c", "person", "+14155557003")).await), "success");
    drop(server);
    // Keys that turn out to be others' end it then.
    redis.kill();
    let mut late = site.with("OTPD_MASTER_KEYS", MISTYPED).start();
    assert_eq!(late.get("/readyz"), "starting\n");
    redis.restart();
    assert_eq!(late.exit_code().await, Some(1));
    until("the reason", async || late.log().contains("the store belongs to other master keys")).await;
}
