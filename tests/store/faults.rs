//! What a Redis can do to us: forget scripts, hang, vanish, be demoted, run full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::ports::{
    clock::Deadline,
    store::{Acquired, Committed},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    harness::{
        Easy, HOUR, Harness, Outcome, at, changes, contents, name, named, partition, soon, token, until, window,
    },
    redis::{RedisHarness, config, open, over, start},
    redis_server::RedisServer,
};

#[tokio::test]
async fn scripts_that_were_forgotten_are_loaded_again() {
    let harness = start().await;
    let store = Easy(harness.store());
    store.commit(1, &[(1, None, Some(0))]).await;
    for n in 0..5 {
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.commit(1, &[(1, Some(n), Some(n + 1))]).await, Outcome::Done);
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.acquire(1, n, &[window(5, HOUR)], 5_000_000).await, Acquired::Now);
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert!(store.claim(1, 1, HOUR).await.is_some());
        harness.server.cli(&["SCRIPT", "FLUSH"]);
        assert_eq!(store.locate(1, &[1]).await.unwrap().2, [Some(n + 1)]);
    }
}

/// A server that hangs: every operation ends by its deadline, with an error; later ones at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server() {
    let harness = start().await;
    let easy = Easy(harness.store());
    easy.commit(1, &[(1, None, Some(10))]).await;
    harness.server.pause();
    let mut asked = JoinSet::new();
    for n in 0..27 {
        let store = harness.store();
        asked.spawn(async move {
            let deadline = Deadline::after(Duration::from_millis(300));
            let hour = [window(5, HOUR)];
            let answer = match n % 9 {
                0 => store.read(partition(1), &[name(1)], deadline).await.map(drop),
                1 => store.locate(named(1), &[name(1)], deadline).await.map(drop),
                2 => store.commit(partition(1), &changes(&[(1, Some(10), Some(n))], HOUR), deadline).await.map(drop),
                3 => store.claim(named(1), partition(1), HOUR, deadline).await.map(drop),
                4 => store.acquire(named(1), token(n), &hour, at(5_000_000), deadline).await.map(drop),
                5 => store.refund(&[(named(1), token(n))], deadline).await,
                6 => store.usage(named(1), &hour, at(5_000_000), deadline).await.map(drop),
                7 => store.clear(named(1), deadline).await,
                _ => store.check(deadline).await.map(drop),
            };
            answer.unwrap_err()
        });
    }
    let limit = Deadline::after(Duration::from_secs(5));
    while let Some(error) = asked.join_next().await {
        error.unwrap();
    }
    assert!(!limit.remaining().is_zero(), "the deadlines were not kept");

    until("the connection is given up", || gives_up(&harness)).await;
    harness.server.resume();
    until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
    // Commits that were answered with an error may have been applied: one of them at most.
    let present = easy.read(1, &[1]).await[0].unwrap();
    assert!(present == 10 || present % 9 == 2, "{present}");
}

/// Whether operations fail at once, since there is no connection.
async fn gives_up(harness: &RedisHarness) -> bool {
    let deadline = Deadline::after(Duration::from_millis(10));
    let read = harness.store.read(partition(1), &[name(1)], deadline).await;
    read.is_err_and(|error| error.cause.starts_with("not connected to redis"))
}

/// However little time the operations have, a connection that swallows everything is given up.
#[tokio::test]
async fn impatient_callers_of_a_server_that_hangs() {
    let harness = start().await;
    harness.server.pause();
    until("the connection is given up", || gives_up(&harness)).await;
    harness.server.resume();
    until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
}

/// Late answers alone are no reason to connect anew: a server that then answers keeps its connection.
#[tokio::test]
async fn a_server_that_was_only_late() {
    let server = RedisServer::start();
    let mut config = config(&server.url());
    config.connect_timeout = Duration::from_secs(30);
    let store = open(config).await.unwrap();
    let received = |text: String| -> u64 {
        let line = text.lines().find_map(|line| line.trim().strip_prefix("total_connections_received:")).unwrap();
        line.parse().unwrap()
    };
    let before = received(server.cli(&["INFO", "stats"]));
    for _ in 0..3 {
        server.pause();
        for _ in 0..5 {
            let deadline = Deadline::after(Duration::from_millis(10));
            store.read(partition(1), &[name(1)], deadline).await.unwrap_err();
        }
        server.resume();
        store.check(soon()).await.unwrap();
    }
    // The only other connections are those of `redis-cli`, one a call.
    assert_eq!(received(server.cli(&["INFO", "stats"])), before + 1);
}

/// A server whose answers trickle in lives, however late each of them is: only silence ends a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_answers_trickle() {
    let server = RedisServer::start();
    let (slow, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("redis://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (port, trickles, opened) = (server.port(), Arc::clone(&slow), Arc::clone(&connections));
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let mut streams = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            opened.fetch_add(1, Ordering::SeqCst);
            let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
            streams.spawn(async move { drop(tokio::io::copy(&mut near_in, &mut far_out).await) });
            let trickles = Arc::clone(&trickles);
            streams.spawn(async move {
                let mut bytes = [0; 4096];
                loop {
                    let most = if trickles.load(Ordering::SeqCst) { 1 } else { bytes.len() };
                    match far_in.read(&mut bytes[..most]).await {
                        Ok(read) if read > 0 && near_out.write_all(&bytes[..read]).await.is_ok() => {}
                        _ => return,
                    }
                    if most == 1 {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            });
        }
    });
    let mut config = config(&url);
    config.connect_timeout = Duration::from_secs(1);
    let store = open(config).await.unwrap();
    let before = connections.load(Ordering::SeqCst);
    slow.store(true, Ordering::SeqCst);
    // Longer than the connection may be silent.
    let until = Deadline::after(Duration::from_secs(5));
    let mut late = 0;
    while !until.remaining().is_zero() {
        let deadline = Deadline::after(Duration::from_millis(20));
        late += u64::from(store.read(partition(1), &[name(1)], deadline).await.is_err());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(late > 10, "the answers are not late");
    slow.store(false, Ordering::SeqCst);
    store.check(soon()).await.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), before);
}

/// A server that is killed under load: errors until it is back, then service, and nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_server() {
    let harness = over(RedisServer::start_durable()).await;
    let lockout_and_challenge = |expected, new| changes(&[(0, expected, Some(new)), (1, expected, Some(new))], HOUR);
    harness.store.commit(partition(1), &lockout_and_challenge(None, 0), soon()).await.unwrap();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    let (store, stopped, done) = (harness.store(), Arc::clone(&stop), Arc::clone(&acknowledged));
    load.spawn(async move {
        let (mut read, mut next, mut errors) = (0, 1, 0);
        while !stopped.load(Ordering::SeqCst) {
            match store.commit(partition(1), &lockout_and_challenge(Some(read), next), soon()).await {
                Ok(Committed::Done) => {
                    done.store(next, Ordering::SeqCst);
                    read = next;
                    next += 1;
                }
                Ok(Committed::Conflict(present)) => {
                    let present = contents(&present);
                    read = present[0].expect("an acknowledged commit is lost");
                    assert_eq!(present, [Some(read), Some(read)], "a commit that was written in part");
                    assert!(read >= done.load(Ordering::SeqCst), "an acknowledged commit is lost");
                    next = read + 1;
                }
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
        until("some commits", || async { acknowledged.load(Ordering::SeqCst) > before + 20 }).await;
        harness.server.kill();
        until("an error", || async { harness.store.check(soon()).await.is_err() }).await;
        harness.server.restart();
        until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
    }
    let before = acknowledged.load(Ordering::SeqCst);
    until("some commits", || async { acknowledged.load(Ordering::SeqCst) > before }).await;
    stop.store(true, Ordering::SeqCst);
    assert!(load.join_next().await.unwrap().unwrap() > 0);
}

/// A demoted server refuses writes on a connection that looks well; the store looks for a better one until it has it.
#[tokio::test]
async fn a_demoted_server() {
    let harness = start().await;
    harness.server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    harness.store.check(soon()).await.unwrap_err();
    until("the connection is given up", || gives_up(&harness)).await;
    harness.server.cli(&["REPLICAOF", "NO", "ONE"]);
    until("service resumes", || async { harness.store.check(soon()).await.is_ok() }).await;
}

#[tokio::test]
async fn a_full_server() {
    let harness = start().await;
    let store = Easy(harness.store());
    store.commit(1, &[(1, None, Some(10))]).await;
    harness.server.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    let both = changes(&[(0, None, Some(5)), (1, Some(10), Some(11))], HOUR);
    let error = harness.store.commit(partition(1), &both, soon()).await.unwrap_err();
    assert!(error.cause.contains(": OOM "), "{error}");
    harness.store.claim(named(1), partition(1), HOUR, soon()).await.unwrap_err();
    harness.store.acquire(named(1), token(1), &[window(1, HOUR)], at(5_000_000), soon()).await.unwrap_err();
    harness.store.check(soon()).await.unwrap_err();
    assert_eq!(store.read(1, &[0, 1]).await, [None, Some(10)], "reads go on, and nothing was written in part");
    assert_eq!(store.locate(1, &[]).await, None);
    harness.server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.usage(1, &[window(1, HOUR)], 5_000_000).await, [0]);
    assert_eq!(store.commit(1, &[(0, None, Some(5)), (1, Some(10), Some(11))]).await, Outcome::Done);
}
