//! The suite over a Redis whose replica must confirm what is told, and what happens when the replica does not.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use otpd::{
    ports::{
        clock::Deadline,
        store::{Acquired, Store},
    },
    stores::Confirmation,
};

use crate::{
    harness::{Easy, HOUR, Harness, Outcome, changes, name, named, partition, soon, until, window},
    redis::{RedisHarness, config, open},
    redis_server::RedisServer,
};

struct ConfirmedHarness {
    master: RedisHarness,
    replica: RedisServer,
}

/// A master, its replica, and a store that waits for the replica for at most so long.
async fn waiting(timeout: Duration) -> ConfirmedHarness {
    let master = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
    let port = master.tcp_url().rsplit(':').next().unwrap().to_owned();
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port, "--repl-diskless-load", "on-empty-db"]);
    until("the replica has joined", || async {
        replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    let mut config = config(&master.url());
    config.confirmation = Confirmation { replicas: 1, disk: false, timeout };
    let store = open(config).await.unwrap();
    until("every connection is up", || async { store.check(soon()).await.is_ok() }).await;
    ConfirmedHarness { master: RedisHarness { server: master, store }, replica }
}

/// A machine with busy cores may be slow, and the suite is about what is told.
async fn start() -> ConfirmedHarness {
    waiting(Duration::from_secs(2)).await
}

#[async_trait]
impl Harness for ConfirmedHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.master.store()
    }

    async fn pass(&self, span: Duration) {
        self.master.pass(span).await;
    }

    async fn is_empty(&self) -> bool {
        self.master.is_empty().await
    }
}

crate::conformance!(start());

/// What no replica has is not told: neither a commit, nor by a later read, nor by the conflict of another commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_that_a_failover_could_lose() {
    let harness = waiting(Duration::from_millis(100)).await;
    let store = Easy(harness.store());
    store.claim(1, 7, HOUR).await;
    assert_eq!(store.commit(7, &[(1, None, Some(10))]).await, Outcome::Done);
    harness.replica.pause();
    let commit = |expected, new| {
        let (store, changes) = (harness.store(), changes(&[(1, expected, Some(new))], HOUR));
        async move { store.commit(partition(7), &changes, soon()).await }
    };
    let error = commit(Some(10), 11).await.unwrap_err();
    assert_eq!(error.cause, "confirmed by 0 of 1 replicas in time");
    commit(Some(10), 12).await.unwrap_err();
    harness.store().read(partition(7), &[name(1)], soon()).await.unwrap_err();
    harness.store().locate(named(1), &[name(1)], soon()).await.unwrap_err();
    harness.store().claim(named(2), partition(7), HOUR, soon()).await.unwrap_err();
    harness.store().check(soon()).await.unwrap_err();
    // Quotas wait for nobody, and are not held up by those who wait.
    assert_eq!(store.acquire(1, 1, &[window(1, HOUR)], 5_000_000).await, Acquired::Now);

    harness.replica.resume();
    until("the replica confirms", || async { harness.store().check(soon()).await.is_ok() }).await;
    assert_eq!(store.read(7, &[1]).await, [Some(11)], "it was applied, and is told now");
    assert_eq!(store.commit(7, &[(1, Some(10), Some(12))]).await, Outcome::Conflict(vec![Some(11)]));
}

/// However many wait for a replica that hangs, each ends by its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_by_the_deadline() {
    let harness = waiting(Duration::from_secs(60)).await;
    harness.replica.pause();
    let mut asked = tokio::task::JoinSet::new();
    for n in 1..=64 {
        let store = harness.store();
        asked.spawn(async move {
            let deadline = Deadline::after(Duration::from_millis(300));
            store.commit(partition(n), &changes(&[(1, None, Some(n))], HOUR), deadline).await.unwrap_err()
        });
    }
    let limit = Deadline::after(Duration::from_secs(5));
    asked.join_all().await;
    assert!(!limit.remaining().is_zero(), "the deadlines were not kept");
}
