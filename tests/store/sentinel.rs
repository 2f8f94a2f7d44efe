//! The suite over a master that sentinels name, and what following a failover must be like.

use std::sync::Arc;

use async_trait::async_trait;
use otpd::{ports::store::Store, secret::Secret};
use tokio::task::block_in_place;

use crate::{
    harness::{Easy, Harness, Outcome, contents, name, partition, soon, until},
    redis::{config, open},
    redis_sentinel::{Passwords, SentinelSet},
    redis_server::Program,
};

const PASSWORDS: Passwords = Passwords { servers: Some("open"), sentinels: Some("sesame") };

struct SentinelHarness {
    set: Arc<SentinelSet>,
    store: Arc<dyn Store>,
}

async fn next(set: &Arc<SentinelSet>) -> SentinelHarness {
    let master = set.server(set.master().expect("a master"));
    master.cli(&["FLUSHALL"]);
    SentinelHarness { set: Arc::clone(set), store: store(set).await }
}

async fn store(set: &SentinelSet) -> Arc<dyn Store> {
    let mut config = config(&set.url());
    config.sentinel.password = Some(Secret::new("sesame".to_owned()));
    open(config).await.unwrap()
}

#[async_trait]
impl Harness for SentinelHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: std::time::Duration) {
        tokio::time::sleep(span + std::time::Duration::from_millis(50)).await;
    }

    async fn is_empty(&self) -> bool {
        self.set.server(0).cli(&["DBSIZE"]) == "0"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_in_turn() {
    let set = Arc::new(block_in_place(|| SentinelSet::start_with(Program::Redis, 1, PASSWORDS, &[])));
    crate::conformance_in_turn!(next(&set));
}

/// An old master that comes back says that it is one until the sentinels notice. It is asked nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_is_followed() {
    let set = block_in_place(|| SentinelSet::start_with(Program::Redis, 2, PASSWORDS, &[]));
    let store = store(&set).await;
    let easy = Easy(store.clone());
    assert_eq!(easy.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    let old = block_in_place(|| set.kill_master());
    until("an error", || async { store.check(soon()).await.is_err() }).await;
    let new = block_in_place(|| set.wait_failover(old));
    block_in_place(|| set.restart(old));
    until("service resumes", || async { store.check(soon()).await.is_ok() }).await;
    assert_eq!(easy.commit(1, &[(1, Some(10), Some(11))]).await, Outcome::Done);
    let keys = set.server(new).cli(&["KEYS", "otp:{*"]);
    assert_eq!(keys.lines().count(), 1, "{keys}");
    // As the sentinels make it a replica, it holds the same.
    block_in_place(|| set.wait_whole());
    assert_eq!(set.server(old).cli(&["KEYS", "otp:{*"]), keys);
    // The connection may have been made anew meanwhile: on busy cores sentinels change their minds once more.
    let read = async || store.read(partition(1), &[name(1)], soon()).await;
    until("the record", || async { read().await.is_ok_and(|records| contents(&records) == [Some(11)]) }).await;
}
