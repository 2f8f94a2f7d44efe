//! The suite over Redis, and what opening, commands and keys must be like.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::quota::Window,
    ports::{
        clock::SystemClock,
        store::{Acquired, Store, StoreError},
    },
    stores::{self, StoreConfig},
};
use tokio_util::task::TaskTracker;

use crate::{
    harness::{Easy, HOUR, Harness, Outcome, changes, name, named, partition, soon, until, window},
    redis_server::RedisServer,
};

pub(crate) struct RedisHarness {
    pub(crate) server: RedisServer,
    pub(crate) store: Arc<dyn Store>,
}

pub(crate) fn config(url: &str) -> StoreConfig {
    let mut config = StoreConfig::new(url.parse().unwrap());
    config.connect_timeout = Duration::from_millis(500);
    config
}

pub(crate) async fn open(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    stores::open(config, Arc::new(SystemClock), &TaskTracker::new()).await
}

pub(crate) async fn start() -> RedisHarness {
    over(RedisServer::start()).await
}

pub(crate) async fn over(server: RedisServer) -> RedisHarness {
    let store = open(config(&server.url())).await.unwrap();
    RedisHarness { server, store }
}

#[async_trait]
impl Harness for RedisHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        // Redis looks at its clock once per round of its loop, and so may be some milliseconds behind.
        tokio::time::sleep(span + Duration::from_millis(50)).await;
    }

    async fn is_empty(&self) -> bool {
        self.server.cli(&["DBSIZE"]) == "0"
    }
}

crate::conformance!(start());

#[tokio::test]
async fn over_tcp() {
    let server = RedisServer::start();
    let store = open(config(&server.tcp_url())).await.unwrap();
    crate::suite::random_history(&RedisHarness { server, store }).await;
}

#[tokio::test]
async fn every_key_has_a_time_to_live() {
    let harness = start().await;
    crate::suite::random_history(&harness).await;
    harness.store.check(soon()).await.unwrap();
    let keys = harness.server.cli(&["KEYS", "*"]);
    assert!(keys.lines().count() > 5, "{keys}");
    for key in keys.lines() {
        let left: i64 = harness.server.cli(&["PTTL", key]).parse().unwrap();
        // -2: gone since.
        assert!(left > 0 || left == -2, "{key}: {left}");
    }
}

#[tokio::test]
async fn each_operation_is_one_command() {
    let harness = start().await;
    let store = Easy(harness.store());
    let one = [window(1, HOUR)];
    // The first use of a script loads it.
    store.claim(1, 7, HOUR).await;
    store.locate(1, &[1]).await;
    store.commit(7, &[(1, None, Some(10))]).await;
    store.acquire(1, 1, &one, 5_000_000).await;
    harness.server.cli(&["CONFIG", "SET", "slowlog-max-len", "1000"]);
    harness.server.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    harness.server.cli(&["SLOWLOG", "RESET"]);
    store.claim(1, 7, HOUR).await;
    store.claim(1, 8, HOUR).await;
    store.locate(1, &[0, 1]).await;
    store.locate(2, &[0, 1]).await;
    store.read(7, &[0, 1]).await;
    assert_eq!(store.commit(7, &[(0, None, Some(5)), (1, Some(10), Some(11))]).await, Outcome::Done);
    assert_ne!(store.commit(7, &[(0, None, Some(5)), (1, Some(10), Some(11))]).await, Outcome::Done);
    assert_eq!(store.acquire(2, 1, &one, 5_000_000).await, Acquired::Now);
    assert_eq!(store.acquire(2, 2, &one, 5_000_000).await, Acquired::Refused);
    store.usage(2, &one, 5_000_000).await;
    store.refund(&[(2, 1)]).await;
    store.clear(2).await;
    let log = harness.server.cli(&["SLOWLOG", "GET", "1000"]);
    // Commands inside of scripts are logged too, but without an address of the client.
    let commands = log.lines().filter(|line| line.contains(".sock:")).count();
    assert_eq!(commands, 12 + 1, "besides twelve operations, resetting the log\n{log}");
}

/// The keys of one partition share a hash tag, so that one slot of a cluster serves a commit.
#[tokio::test]
async fn a_partition_is_one_hash_tag() {
    let harness = start().await;
    Easy(harness.store()).commit(7, &[(0, None, Some(5)), (1, None, Some(10)), (2, None, Some(20))]).await;
    let keys = harness.server.cli(&["KEYS", "otp:{*"]);
    let tags: std::collections::BTreeSet<_> = keys.lines().map(|key| key.split(['{', '}']).nth(1).unwrap()).collect();
    assert_eq!((keys.lines().count(), tags.len()), (3, 1), "{keys}");
    assert!(keys.lines().any(|key| key.ends_with("}:l")), "the lockout: {keys}");
}

/// However many uses the windows allow, a quota keeps a bounded number: the newest, and the longest window.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_is_bounded() {
    let harness = start().await;
    let mut running = tokio::task::JoinSet::new();
    for lane in 0..10 {
        let store = Easy(harness.store());
        running.spawn(async move {
            for n in 0..1_010 {
                let usage = lane * 1_010 + n;
                let now = 1_700_000_000_000 + usage;
                assert_eq!(store.acquire(1, usage, &[window(u32::MAX, HOUR)], now).await, Acquired::Now);
            }
        });
    }
    running.join_all().await;
    let quota = harness.server.cli(&["KEYS", "otp:q:*"]);
    assert_eq!(harness.server.cli(&["ZCARD", &quota]), (Window::MAX_USES + 1).to_string());
    assert_eq!(harness.server.cli(&["ZCOUNT", &quota, "1700000000100", "+inf"]), Window::MAX_USES.to_string());
}

/// What is under our names but not ours is an error, never a record.
#[tokio::test]
async fn foreign_values() {
    let harness = start().await;
    let store = Easy(harness.store());
    store.claim(1, 7, HOUR).await;
    store.commit(7, &[(1, None, Some(10))]).await;
    let record = harness.server.cli(&["KEYS", "otp:{*"]);
    let entry = harness.server.cli(&["KEYS", "otp:i:*"]);
    let commit = |expected| changes(&[(1, expected, Some(11))], HOUR);
    for foreign in [["SET", &record, "too short"], ["RPUSH", &record, "a list"]] {
        harness.server.cli(&["DEL", &record]);
        harness.server.cli(&foreign);
        harness.store.locate(named(1), &[name(1)], soon()).await.unwrap_err();
        harness.store.commit(partition(7), &commit(None), soon()).await.unwrap_err();
        harness.store.commit(partition(7), &commit(Some(10)), soon()).await.unwrap_err();
    }
    harness.server.cli(&["SET", &record, "too short"]);
    harness.store.read(partition(7), &[name(1)], soon()).await.unwrap_err();
    for foreign in [["SET", &entry, "too short"], ["RPUSH", &entry, "a list"]] {
        harness.server.cli(&["DEL", &entry]);
        harness.server.cli(&foreign);
        harness.store.locate(named(1), &[], soon()).await.unwrap_err();
        assert!(!matches!(
            harness.store.claim(named(1), partition(7), HOUR, soon()).await,
            Ok(otpd::ports::store::Claimed::Ours(_))
        ));
    }
}

#[tokio::test]
async fn eviction_is_refused_on_request() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut strict = config(&server.url());
    strict.require_noeviction = true;
    let error = open(strict.clone()).await.err().expect("a refusal");
    let expected =
        format!("store cannot open: {}: maxmemory-policy is allkeys-lru, and must be noeviction", server.url());
    assert_eq!(error.to_string(), expected);
    // Where CONFIG is denied, INFO tells it as well.
    server.cli(&["ACL", "SETUSER", "default", "-config"]);
    let error = open(strict).await.err().expect("a refusal");
    assert!(error.cause.contains("allkeys-lru"), "{error}");
}

#[tokio::test]
async fn eviction_is_warned_of() {
    let (evicting, keeping) = (RedisServer::start_with(&["--maxmemory-policy", "volatile-ttl"]), RedisServer::start());
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    open(config(&keeping.url())).await.unwrap();
    assert_eq!(log.text(), "");
    open(config(&evicting.url())).await.unwrap();
    assert!(log.text().contains("WARN") && log.text().contains("volatile-ttl"), "{}", log.text());
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let server = RedisServer::start();
    server.cli(&["CONFIG", "SET", "requirepass", "hunter2"]);
    let right = server.tcp_url().replace("redis://", "redis://:hunter2@");
    let store = open(config(&right)).await.unwrap();
    store.check(soon()).await.unwrap();
    open(config(&format!("{}?pass=hunter2", server.url()))).await.unwrap();
    let wrong = server.tcp_url().replace("redis://", "redis://:hunter3@");
    for url in [wrong, format!("{}?pass=hunter3", server.url()), server.url()] {
        let config = config(&url);
        let shown = format!("{config:?} {}", open(config.clone()).await.err().expect("a refusal"));
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("store cannot open"), "{shown}");
    }
}

/// A server that is not there yet is waited for: operations fail until it is.
#[tokio::test]
async fn a_server_that_comes_later() {
    let server = RedisServer::start();
    server.kill();
    let urls = [server.url(), server.tcp_url()];
    for url in &urls {
        let store = open(config(url)).await.unwrap();
        let error = store.check(soon()).await.expect_err("no server");
        assert!(!error.is_final && error.cause.contains(url.as_str()), "{error}");
    }
    let store = open(config(&urls[0])).await.unwrap();
    server.restart();
    until("it is connected", || async { store.check(soon()).await.is_ok() }).await;
}

/// A server that speaks no TLS says nothing at all; what matters here is that a provider is there to begin it.
#[tokio::test]
async fn tls_to_a_plain_server_fails() {
    let server = RedisServer::start();
    let url = server.tcp_url().replace("redis://", "rediss://");
    let store = open(config(&url)).await.unwrap();
    let error = store.check(soon()).await.unwrap_err();
    assert!(error.cause.contains(&url), "{error}");
}

#[tokio::test]
async fn closing_ends_the_tasks() {
    let server = RedisServer::start();
    let tracker = TaskTracker::new();
    let store = stores::open(config(&server.url()), Arc::new(SystemClock), &tracker).await.unwrap();
    tracker.close();
    store.close(soon()).await;
    tracker.wait().await;
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
