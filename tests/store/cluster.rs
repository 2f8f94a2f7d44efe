//! The suite over clusters, and what only a cluster does: keys are spread, slots move, masters fail over.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use otpd::ports::{
    clock::{Deadline, Stopwatch},
    store::{Committed, Partition, Store},
};
use tokio::task::{JoinSet, block_in_place};

use crate::{
    dice::Dice,
    harness::{Easy, HOUR, Harness, LOCKOUT, Outcome, changes, partition, soon},
    redis::{config, open},
    redis_cluster::{Cluster, Moving, SLOTS},
    redis_server::Program,
};

struct ClusterHarness {
    cluster: Arc<Cluster>,
    store: Arc<dyn Store>,
}

async fn next(cluster: &Arc<Cluster>) -> ClusterHarness {
    block_in_place(|| cluster.clear());
    let store = open(config(&cluster.url())).await.unwrap();
    ClusterHarness { cluster: Arc::clone(cluster), store }
}

#[async_trait]
impl Harness for ClusterHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        // Redis looks at its clock once per round of its loop, and so may be some milliseconds behind.
        tokio::time::sleep(span + Duration::from_millis(50)).await;
    }

    async fn is_empty(&self) -> bool {
        self.cluster.masters().iter().all(|master| self.cluster.cli(*master, &["DBSIZE"]) == "0")
    }
}

async fn all_cases(program: Program) {
    let cluster = Arc::new(block_in_place(|| Cluster::start(program)));
    let time = Stopwatch::start();
    crate::conformance_in_turn!(next(&cluster));
    println!("the suite took {:?}", time.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_in_turn() {
    all_cases(Program::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_case_in_turn_on_valkey() {
    if let Some(program) = Program::valkey() {
        all_cases(program).await;
    }
}

/// Accounts are spread evenly, so that masters share the work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_spread_over_the_masters() {
    const ACCOUNTS: usize = 30_000;
    const LANES: usize = 100;
    let cluster = block_in_place(|| Cluster::start(Program::Redis));
    let store = open(config(&cluster.url())).await.unwrap();
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let store = store.clone();
        lanes.spawn(async move {
            // Keyed hashes, as the names of partitions are.
            let mut dice = Dice(u64::try_from(lane).unwrap());
            for _ in 0..ACCOUNTS / LANES {
                let mut bytes = [0; 15];
                bytes.chunks_mut(5).for_each(|chunk| chunk.copy_from_slice(&dice.next().to_be_bytes()[..5]));
                let change = changes(&[(LOCKOUT, None, Some(1))], HOUR);
                assert_eq!(store.commit(Partition(bytes), &change, soon()).await.unwrap(), Committed::Done);
            }
        });
    }
    lanes.join_all().await;
    for master in cluster.masters() {
        let keys = cluster.cli(master, &["--scan", "--pattern", "otp:{*"]).lines().count();
        let fair = ACCOUNTS / 3;
        assert!(keys.abs_diff(fair) <= fair / 10, "{keys} accounts on one of three masters");
    }
}

/// In the middle of a move a partition is on two nodes: what needs both records waits, what needs one is answered, and nothing
/// is written in part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_moves() {
    let cluster = Arc::new(block_in_place(|| Cluster::start(Program::Redis)));
    let store = Easy(open(config(&cluster.url())).await.unwrap());
    assert_eq!(store.commit(1, &[(LOCKOUT, None, Some(1)), (1, None, Some(1))]).await, Outcome::Done);
    let key = block_in_place(|| {
        let keys = cluster.masters().into_iter().map(|master| cluster.cli(master, &["KEYS", "otp:{*"]));
        keys.flat_map(|keys| keys.lines().map(str::to_owned).collect::<Vec<_>>()).next().unwrap()
    });
    let slot: u16 = cluster.node(0).ask(&["CLUSTER", "KEYSLOT", &key]).unwrap();
    let from = cluster.master_of(slot).unwrap();
    let to = cluster.masters().into_iter().find(|master| *master != from).unwrap();
    let (steps, step) = mpsc::channel();
    let (proceed, proceeding) = mpsc::channel::<()>();
    let moving = Arc::clone(&cluster);
    let mover = std::thread::spawn(move || {
        moving.move_slots(slot..=slot, from, to, |_, step| {
            steps.send(step).unwrap();
            proceeding.recv().unwrap();
        });
    });
    let next = || block_in_place(|| step.recv_timeout(Duration::from_secs(20)).unwrap());

    // Both records are where they were.
    assert_eq!(next(), Moving::Open(2));
    assert_eq!(store.commit(1, &[(LOCKOUT, Some(1), Some(2)), (1, Some(1), Some(2))]).await, Outcome::Done);
    assert_eq!(store.commit(1, &[(3, None, Some(3))]).await, Outcome::Done, "a new record is made where the slot goes");
    proceed.send(()).unwrap();

    // One has moved.
    assert_eq!(next(), Moving::Key);
    assert_eq!((store.read(1, &[LOCKOUT]).await, store.read(1, &[1]).await), (vec![Some(2)], vec![Some(2)]));
    let (started, waiting) = (Stopwatch::start(), store.0.clone());
    let late = Deadline::after(Duration::from_millis(300));
    let both = |to: u64| changes(&[(LOCKOUT, Some(2), Some(to)), (1, Some(2), Some(to))], HOUR);
    waiting.commit(partition(1), &both(9), late).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5), "the deadline holds");
    let mut commit = JoinSet::new();
    let change = both(3);
    commit.spawn(async move { waiting.commit(partition(1), &change, soon()).await });
    proceed.send(()).unwrap();

    // Both have.
    assert_eq!(next(), Moving::Key);
    assert_eq!(commit.join_next().await.unwrap().unwrap().unwrap(), Committed::Done);
    proceed.send(()).unwrap();
    block_in_place(|| mover.join().unwrap());
    assert_eq!(store.read(1, &[LOCKOUT, 1, 3]).await, [Some(3), Some(3), Some(3)]);
}

/// A master that dies or hangs: its accounts fail until another is promoted, those of other masters as long as the cluster says
/// that it is down, and then all are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_fail_over() {
    let cluster = block_in_place(|| Cluster::start(Program::Redis));
    let store = Easy(open(config(&cluster.url())).await.unwrap());
    for n in 0..100 {
        assert_eq!(store.commit(n, &[(LOCKOUT, None, Some(1)), (1, None, Some(1))]).await, Outcome::Done);
    }
    // Until the replicas have all of it.
    block_in_place(|| cluster.wait_whole());
    for (version, slot, is_killed) in [(1, 0, true), (2, SLOTS - 1, false)] {
        let old = cluster.master_of(slot).unwrap();
        if is_killed {
            cluster.kill(old);
        } else {
            cluster.pause(old);
        }
        block_in_place(|| cluster.wait_failover(slot, old));
        let time = Stopwatch::start();
        for n in 0..100 {
            let change =
                changes(&[(LOCKOUT, Some(version), Some(version + 1)), (1, Some(version), Some(version + 1))], HOUR);
            // As the health check does every second.
            let is_done = || async { store.0.commit(partition(n), &change, soon()).await.is_ok() };
            while !is_done().await {
                assert!(time.elapsed() < Duration::from_secs(60), "service does not resume");
                drop(store.0.check(soon()).await);
            }
        }
        println!("all is served {:?} after the promotion", time.elapsed());
        if is_killed {
            block_in_place(|| cluster.restart(old));
        } else {
            cluster.resume(old);
        }
        block_in_place(|| cluster.wait_whole());
        for n in 0..100 {
            assert_eq!(store.read(n, &[LOCKOUT, 1]).await, [Some(version + 1), Some(version + 1)], "{n}");
        }
    }
}
