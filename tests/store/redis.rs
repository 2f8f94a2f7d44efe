//! The suite over Redis, and what a server can do to us: hang, vanish, forget scripts, run full, be demoted.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    ports::{
        clock::{Deadline, SystemClock},
        store::{Store, StoreError, Swapped},
    },
    stores::{self, StoreConfig},
};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::{
    harness::{Easy, HOUR, Harness, Swap, at, content, name, record, soon, take_id, until, version, window},
    redis_server::RedisServer,
};

struct RedisHarness {
    server: RedisServer,
    store: Arc<dyn Store>,
}

fn config(url: &str) -> StoreConfig {
    let mut config = StoreConfig::new(url.parse().unwrap());
    config.connect_timeout = Duration::from_millis(500);
    config
}

async fn open(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    stores::open(config, Arc::new(SystemClock), &TaskTracker::new()).await
}

async fn start() -> RedisHarness {
    over(RedisServer::start()).await
}

async fn over(server: RedisServer) -> RedisHarness {
    let store = open(config(&server.url())).await.unwrap();
    RedisHarness { server, store }
}

#[async_trait]
impl Harness for RedisHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        tokio::time::sleep(span).await;
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

#[tokio::test]
async fn scripts_that_were_forgotten_are_loaded_again() {
    let harness = start().await;
    let store = Easy(harness.store());
    store.insert(1, 0, HOUR).await;
    for n in 0..5 {
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.swap(1, n, n + 1, HOUR).await, Swap::Done);
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert!(store.take(1, n, &[window(5, HOUR)], 5_000_000).await);
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.insert(1, 99, HOUR).await, Some(n + 1));
    }
}

/// A server that hangs: every operation ends by its deadline, with an error; later ones at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server() {
    let harness = start().await;
    let easy = Easy(harness.store());
    easy.insert(1, 10, HOUR).await;
    harness.server.pause();
    let mut asked = JoinSet::new();
    for n in 0..20 {
        let store = harness.store();
        asked.spawn(async move {
            let deadline = Deadline::after(Duration::from_millis(300));
            let answer = match n % 5 {
                0 => store.load(name(1), deadline).await.map(drop),
                1 => store.insert(name(n), &record(n), HOUR, deadline).await.map(drop),
                2 => store.swap(name(1), version(10), &record(n), HOUR, deadline).await.map(drop),
                3 => store.take(name(1), take_id(n), &[window(5, HOUR)], at(5_000_000), deadline).await.map(drop),
                _ => store.check(deadline).await,
            };
            answer.unwrap_err()
        });
    }
    let limit = Deadline::after(Duration::from_secs(3));
    while let Some(error) = asked.join_next().await {
        error.unwrap();
    }
    assert!(!limit.remaining().is_zero(), "the deadlines were not kept");

    let error = harness.store.load(name(1), soon()).await.unwrap_err();
    assert_eq!(error.to_string(), "store cannot load: not connected to redis");
    harness.server.resume();
    until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
    // Swaps that were answered with an error may have been applied: one of them at most.
    let present = easy.load(1).await.unwrap();
    assert!(present == 10 || present % 5 == 2, "{present}");
}

/// A server that is killed under load: errors until it is back, then service, and nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_server() {
    let harness = over(RedisServer::start_durable()).await;
    harness.store.insert(name(1), &record(0), HOUR, soon()).await.unwrap();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    let (store, stopped, done) = (harness.store(), Arc::clone(&stop), Arc::clone(&acknowledged));
    load.spawn(async move {
        let (mut read, mut next, mut errors) = (0, 1, 0);
        while !stopped.load(Ordering::SeqCst) {
            match store.swap(name(1), version(read), &record(next), HOUR, soon()).await {
                Ok(Swapped::Done) => {
                    done.store(next, Ordering::SeqCst);
                    read = next;
                    next += 1;
                }
                Ok(Swapped::Stale(present)) => {
                    read = content(&present);
                    assert!(read >= done.load(Ordering::SeqCst), "an acknowledged swap is lost");
                    next = read + 1;
                }
                Ok(Swapped::Missing) => panic!("an acknowledged insert is lost"),
                Err(_) => {
                    errors += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        errors
    });
    for _ in 0..3 {
        let before = acknowledged.load(Ordering::SeqCst);
        until("some swaps", || async { acknowledged.load(Ordering::SeqCst) > before + 20 }).await;
        harness.server.kill();
        until("an error", || async { harness.store.check(soon()).await.is_err() }).await;
        harness.server.restart();
        until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    until("some swaps", || async { acknowledged.load(Ordering::SeqCst) > before }).await;
    stop.store(true, Ordering::SeqCst);
    assert!(load.join_next().await.unwrap().unwrap() > 0);
}

/// A demoted server refuses writes on a connection that looks well; the store looks for a better one until it has it.
#[tokio::test]
async fn a_demoted_server() {
    let harness = start().await;
    harness.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    harness.store.check(soon()).await.unwrap_err();
    until("the connection is given up", || async {
        let error = harness.store.load(name(1), soon()).await;
        error.is_err_and(|error| error.cause == "not connected to redis")
    })
    .await;
    harness.server.cli(&["REPLICAOF", "NO", "ONE"]);
    until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
}

#[tokio::test]
async fn a_full_server() {
    let harness = start().await;
    let store = Easy(harness.store());
    store.insert(1, 10, HOUR).await;
    harness.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = harness.store.insert(name(2), &record(20), HOUR, soon()).await.unwrap_err();
    assert!(error.cause.starts_with("OOM "), "{error}");
    harness.store.swap(name(1), version(10), &record(11), HOUR, soon()).await.unwrap_err();
    harness.store.take(name(1), take_id(1), &[window(1, HOUR)], at(5_000_000), soon()).await.unwrap_err();
    harness.store.check(soon()).await.unwrap_err();
    assert_eq!(store.load(1).await, Some(10), "loads go on");
    harness.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.swap(1, 10, 11, HOUR).await, Swap::Done);
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
