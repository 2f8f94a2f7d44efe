//! The embedded store against the end of its process, and against a disk that fails.
//!
//! The tests start this very binary again as the process that suffers. What `kill -9` cannot show is whether writes were
//! synced: the operating system keeps what was handed to it. That only a power cut would.

use std::{
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use otpd::{
    ports::{
        clock::SystemClock,
        store::{Acquired, Change, Sealed, Store, Write},
    },
    stores::embedded::{Embedded, StoreTime},
};
use tokio_util::task::TaskTracker;

use crate::{
    dice::Dice,
    harness::{Easy, HOUR, Outcome, SECOND, at, changes, name, named, partition, soon, token, window},
};

/// How often `kill_nine` kills, where it is not often enough. A campaign takes 200.
const KILLS: &str = "OTPD_TEST_KILLS";
const CHILD_DIRECTORY: &str = "OTPD_TEST_CHILD_DIRECTORY";
/// With this, each commit of the child goes with a large one, so that the engine writes tables and changes journals.
const CHILD_BULK: &str = "OTPD_TEST_CHILD_BULK";
const LANES: u64 = 8;

/// Not a test of its own: the process that `kill_nine` kills. Each lane writes its two records onwards and says so.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tracker = TaskTracker::new();
        let store = Arc::new(
            Embedded::open(Path::new(&directory), StoreTime::starting_at(Arc::new(SystemClock)), &tracker)
                .await
                .unwrap(),
        );
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let store = Arc::clone(&store);
            lanes.spawn(async move {
                let store = Easy(store);
                let mut n = store.read(lane, &[0, 1]).await[0].unwrap_or(0);
                if n == 0 {
                    store.commit(lane, &[(0, None, Some(0)), (1, None, Some(0))]).await;
                }
                let quota = [window(10_000, HOUR)];
                let bulk = std::env::var_os(CHILD_BULK).is_some();
                loop {
                    if bulk {
                        let write = Write { record: Sealed::from_bytes(vec![7; 60_000]).unwrap(), ttl: SECOND };
                        let change = Change { name: name(n), expected: None, write: Some(write) };
                        // A conflict: it is there already.
                        store.0.commit(partition(LANES + lane), &[change], soon()).await.unwrap();
                    }
                    // Killed between the two, the process before has counted this use already.
                    let acquired = store.acquire(lane, n + 1, &quota, n + 1).await;
                    assert_ne!(acquired, Acquired::Refused);
                    let onwards = [(0, Some(n), Some(n + 1)), (1, Some(n), Some(n + 1))];
                    assert_eq!(store.commit(lane, &onwards).await, Outcome::Done);
                    n += 1;
                    writeln!(std::io::stdout().lock(), "\nack {lane} {n}").unwrap();
                }
            });
        }
        lanes.join_next().await.unwrap().unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine() {
    killed(31, 20, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_while_the_engine_writes_tables() {
    killed(32, 8, true).await;
}

/// Kills a writing process again and again: what it said was written is there, and at most one commit more per lane, whole.
async fn killed(seed: u64, kills: u64, bulk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![0; usize::try_from(LANES).unwrap()];
    let kills = std::env::var_os(KILLS).map_or(kills, |kills| kills.to_str().unwrap().parse().unwrap());
    println!("seed {seed}, {kills} kills");
    let mut dice = Dice(seed);
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child", "--exact", "--nocapture"])
            .env(CHILD_DIRECTORY, folder.path())
            .envs(bulk.then_some((CHILD_BULK, "1")))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: String| {
            let mut words = line.split(' ');
            if words.next() == Some("ack") {
                let lane: usize = words.next().unwrap().parse().unwrap();
                acknowledged[lane] = words.next().unwrap().parse().unwrap();
                return true;
            }
            false
        };
        // A different moment each round, without a clock.
        let mut wanted = 1 + dice.below(400);
        while wanted > 0 {
            let line = lines.next().expect("the child has ended by itself").unwrap();
            wanted -= u64::from(note(line));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died, the last line perhaps cut short.
        let mut rest: Vec<String> = lines.map_while(Result::ok).collect();
        rest.pop();
        for line in rest {
            note(line);
        }

        let tracker = TaskTracker::new();
        let store =
            Embedded::open(folder.path(), StoreTime::starting_at(Arc::new(SystemClock)), &tracker).await.unwrap();
        let store = Arc::new(store);
        let easy = Easy(store.clone());
        for lane in 0..LANES {
            let known = acknowledged[usize::try_from(lane).unwrap()];
            let present = easy.read(lane, &[0, 1]).await;
            let n = present[0].expect("an acknowledged commit");
            assert_eq!(present, [Some(n), Some(n)], "a commit that was written in part");
            assert!((known..=known + 2).contains(&n), "round {round}: {n} stored, {known} acknowledged");
        }
        let census = store.census(soon()).await.unwrap();
        // A lane that was killed before its first use has no quota yet.
        let used = acknowledged.iter().filter(|n| **n > 0).count();
        assert!((u64::try_from(used).unwrap()..=LANES).contains(&census.quotas), "{census:?}, {used} lanes");
        assert_eq!(census.expiries, census.records + census.quotas);
        assert!(bulk || census.records == 2 * LANES, "{census:?}");
        let sum: u64 = acknowledged.iter().sum();
        assert!((sum..=sum + 2 * LANES).contains(&census.uses), "{} uses, {sum} acknowledged", census.uses);
        store.close(soon()).await;
    }
}

const FAILING_DIRECTORY: &str = "OTPD_TEST_FAILING_DIRECTORY";

/// Not a test of its own: the process of `a_failed_write_is_final`, whose files may suddenly not grow any more.
#[tokio::test]
async fn failing_child() {
    let Some(directory) = std::env::var_os(FAILING_DIRECTORY) else { return };
    let store =
        Embedded::open(Path::new(&directory), StoreTime::starting_at(Arc::new(SystemClock)), &TaskTracker::new())
            .await
            .unwrap();
    let write = |n: u64, expected, new| changes(&[(n, expected, Some(new))], HOUR);
    store.commit(partition(1), &write(1, None, 10), soon()).await.unwrap();
    let this = std::process::id().to_string();
    let limit = |bytes: &str| {
        let limited = Command::new("prlimit").args(["--pid", &this, &format!("--fsize={bytes}:")]).status().unwrap();
        assert!(limited.success());
    };
    limit("1");
    store.commit(partition(1), &write(1, Some(10), 11), soon()).await.unwrap_err();
    // Even with room again: what the disk has is not known.
    limit("unlimited");
    store.read(partition(1), &[name(1)], soon()).await.unwrap_err();
    store.locate(named(1), &[], soon()).await.unwrap_err();
    store.claim(named(1), partition(1), HOUR, soon()).await.unwrap_err();
    store.commit(partition(1), &write(2, None, 20), soon()).await.unwrap_err();
    store.acquire(named(1), token(1), &[window(1, HOUR)], at(1), soon()).await.unwrap_err();
    assert!(store.check(soon()).await.unwrap_err().is_final);
    assert!(store.failed().await.is_final);
    store.close(soon()).await;
    writeln!(std::io::stdout(), "\nfailed as it should").unwrap();
}

/// A write that fails is never acknowledged, nor anything after it, until a restart reads what is there.
#[tokio::test]
async fn a_failed_write_is_final() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        // A file at its limit then answers with an error instead of ending the process.
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["crash::failing_child", "--exact", "--nocapture"])
        .env(FAILING_DIRECTORY, folder.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("failed as it should"), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let store = Embedded::open(folder.path(), StoreTime::starting_at(Arc::new(SystemClock)), &TaskTracker::new())
        .await
        .unwrap();
    let store = Easy(Arc::new(store));
    let present = store.read(1, &[1, 2]).await;
    assert!(matches!(present[..], [Some(10 | 11), None]), "{present:?}");
    assert_eq!(store.commit(1, &[(2, None, Some(20))]).await, Outcome::Done);
}
