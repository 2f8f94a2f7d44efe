//! The suite over Redis, and what opening, commands and keys must be like.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    ports::{
        clock::SystemClock,
        store::{Store, StoreError},
    },
    stores::{self, StoreConfig},
};
use tokio_util::task::TaskTracker;

use crate::{
    harness::{Easy, HOUR, Harness, name, record, soon, version, window},
    redis_server::RedisServer,
};

pub(crate) struct RedisHarness {
    pub(crate) server: RedisServer,
    pub(crate) store: Arc<dyn Store>,
}

fn config(url: &str) -> StoreConfig {
    let mut config = StoreConfig::new(url.parse().unwrap());
    config.connect_timeout = Duration::from_millis(500);
    config
}

async fn open(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
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
    let hour = [window(1, HOUR)];
    // The first use of a script loads it.
    store.insert(1, 10, HOUR).await;
    store.swap(1, 10, 11, HOUR).await;
    store.take(1, 1, &hour, 5_000_000).await;
    harness.server.cli(&["CONFIG", "SET", "slowlog-max-len", "1000"]);
    harness.server.cli(&["CONFIG", "SET", "slowlog-log-slower-than", "0"]);
    harness.server.cli(&["SLOWLOG", "RESET"]);
    store.load(1).await;
    store.insert(2, 10, HOUR).await;
    store.insert(2, 10, HOUR).await;
    store.swap(1, 11, 12, HOUR).await;
    store.swap(1, 11, 12, HOUR).await;
    store.take(2, 1, &hour, 5_000_000).await;
    store.give_back(2, 1).await;
    harness.store.check(soon()).await.unwrap();
    let log = harness.server.cli(&["SLOWLOG", "GET", "1000"]);
    // Commands inside of scripts are logged too, but without an address of the client.
    let commands = log.lines().filter(|line| line.contains(".sock:")).count();
    assert_eq!(
        commands,
        8 + 1,
        "besides eight operations, resetting the log
{log}"
    );
}

/// What is under our names but not ours is an error, never a record.
#[tokio::test]
async fn foreign_values() {
    let harness = start().await;
    harness.server.cli(&["SET", "otp:r:paWlpaWlpaUAAAAAAAAAAQ", "too short"]);
    harness.server.cli(&["RPUSH", "otp:r:paWlpaWlpaUAAAAAAAAAAg", "a list"]);
    for n in 1..=2 {
        harness.store.load(name(n), soon()).await.unwrap_err();
        harness.store.swap(name(n), version(1), &record(1), HOUR, soon()).await.unwrap_err();
        harness.store.insert(name(n), &record(1), HOUR, soon()).await.unwrap_err();
    }
}

#[tokio::test]
async fn eviction_is_refused_on_request() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let mut strict = config(&server.url());
    strict.require_noeviction = true;
    let error = open(strict.clone()).await.err().expect("a refusal");
    assert_eq!(error.to_string(), "store cannot open: maxmemory-policy is allkeys-lru, and must be noeviction");
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

#[tokio::test]
async fn no_server_is_an_error_at_once() {
    let server = RedisServer::start();
    server.kill();
    assert!(open(config(&server.url())).await.is_err());
    assert!(open(config(&server.tcp_url())).await.is_err());
}

/// A server that speaks no TLS ends the handshake; what matters here is that a provider is there to begin it.
#[tokio::test]
async fn tls_to_a_plain_server_is_an_error() {
    let server = RedisServer::start();
    let url = server.tcp_url().replace("redis://", "rediss://");
    assert!(open(config(&url)).await.is_err());
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
