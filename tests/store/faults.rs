//! What a Redis can do to us: forget scripts, hang, vanish, be demoted, run full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::ports::{clock::Deadline, store::Swapped};
use tokio::task::JoinSet;

use crate::{
    harness::{Easy, HOUR, Harness, Swap, at, content, name, record, soon, take_id, until, version, window},
    redis::{over, start},
    redis_server::RedisServer,
};

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
