//! The suite over the embedded store, and its own cases: durability, locking, removal.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    ports::{
        clock::SystemClock,
        store::{Store, Swapped},
    },
    stores::embedded::{Census, Embedded},
};
use tokio_util::task::TaskTracker;

use crate::harness::{
    Easy, HOUR, Harness, ManualClock, Swap, at, content, name, record, soon, take_id, until, version, window,
};

struct EmbeddedHarness {
    store: Arc<Embedded>,
    clock: Arc<ManualClock>,
    tracker: TaskTracker,
    folder: tempfile::TempDir,
}

async fn start() -> EmbeddedHarness {
    let folder = tempfile::tempdir().unwrap();
    let (clock, tracker) = (ManualClock::starting(), TaskTracker::new());
    let store = Embedded::open(&folder.path().join("data"), clock.clone(), &tracker).await.unwrap();
    EmbeddedHarness { store: Arc::new(store), clock, tracker, folder }
}

impl EmbeddedHarness {
    async fn reopen(&mut self) {
        self.store.close(soon()).await;
        let directory = self.folder.path().join("data");
        self.store = Arc::new(Embedded::open(&directory, self.clock.clone(), &self.tracker).await.unwrap());
    }

    async fn census(&self) -> Census {
        self.store.census(soon()).await.unwrap()
    }
}

#[async_trait]
impl Harness for EmbeddedHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        self.clock.pass(span);
    }

    async fn is_empty(&self) -> bool {
        self.census().await == Census::default()
    }
}

crate::conformance!(start());

#[tokio::test]
async fn all_is_there_after_reopening() {
    let mut harness = start().await;
    let one = [window(2, HOUR)];
    {
        let store = Easy(harness.store());
        store.insert(1, 10, HOUR).await;
        store.insert(2, 20, Duration::from_secs(1)).await;
        store.swap(1, 10, 11, HOUR * 2).await;
        assert!(store.take(3, 1, &one, 5_000_000).await);
        assert!(store.take(3, 2, &one, 5_000_000).await);
        store.give_back(3, 1).await;
    }
    harness.reopen().await;
    harness.pass(HOUR).await;
    let store = Easy(harness.store());
    assert_eq!((store.load(1).await, store.load(2).await), (Some(11), None));
    harness.reopen().await;
    let store = Easy(harness.store());
    assert_eq!(store.swap(1, 11, 12, HOUR).await, Swap::Done);
}

#[tokio::test]
async fn takes_are_there_after_reopening() {
    let mut harness = start().await;
    let two = [window(2, HOUR)];
    {
        let store = Easy(harness.store());
        assert!(store.take(3, 1, &two, 5_000_000).await);
        assert!(store.take(3, 2, &two, 5_000_000).await);
        store.give_back(3, 1).await;
    }
    harness.reopen().await;
    let store = Easy(harness.store());
    assert!(store.take(3, 2, &two, 5_000_000).await, "counts already");
    assert!(store.take(3, 3, &two, 5_000_000).await, "the one given back leaves room");
    assert!(!store.take(3, 4, &two, 5_000_000).await);
    harness.pass(HOUR).await;
    until("the takes are forgotten", || harness.is_empty()).await;
}

/// A record has one entry in the expiry index however often it is written, and both go.
#[tokio::test]
async fn the_expiry_index_stays_as_small_as_the_records() {
    let mut harness = start().await;
    {
        let store = Easy(harness.store());
        store.insert(1, 0, HOUR).await;
        for n in 0..200 {
            harness.pass(Duration::from_millis(10)).await;
            assert_eq!(store.swap(1, n, n + 1, HOUR).await, Swap::Done);
        }
    }
    assert_eq!(harness.census().await, Census { records: 1, expiries: 1, takes: 0 });
    // To the last millisecond.
    harness.pass(Duration::from_millis(3_599_999)).await;
    harness.reopen().await;
    assert_eq!(Easy(harness.store()).load(1).await, Some(200), "the swaps made it live longer");
    assert_eq!(harness.census().await, Census { records: 1, expiries: 1, takes: 0 });
    harness.pass(Duration::from_millis(1)).await;
    assert_eq!(Easy(harness.store()).load(1).await, None);
    until("the record is removed", || harness.is_empty()).await;
    harness.reopen().await;
    assert_eq!(harness.census().await, Census::default());
}

#[tokio::test]
async fn a_clock_that_goes_back_leaves_no_record_behind() {
    let harness = start().await;
    let store = Easy(harness.store());
    harness.pass(HOUR * 24).await;
    store.insert(1, 10, Duration::from_secs(1)).await;
    harness.pass(HOUR).await;
    until("the first is removed", || harness.is_empty()).await;
    let day = u64::try_from((HOUR * 24).as_millis()).unwrap();
    harness.clock.back(day);
    store.insert(2, 20, Duration::from_secs(1)).await;
    assert_eq!(store.load(2).await, Some(20));
    harness.pass(HOUR).await;
    until("the second is removed", || harness.is_empty()).await;
}

#[tokio::test]
async fn a_second_open_is_refused() {
    let harness = start().await;
    let directory = harness.folder.path().join("data");
    let second = Embedded::open(&directory, harness.clock.clone(), &harness.tracker).await;
    let error = second.err().expect("a refusal").to_string();
    assert!(error.ends_with("is in use by another process"), "{error}");
    assert_eq!(Easy(harness.store()).load(1).await, None);
}

#[tokio::test]
async fn dropping_the_store_lets_go_of_the_directory_and_ends_the_tasks() {
    let harness = start().await;
    let EmbeddedHarness { store, clock, tracker, folder } = harness;
    Easy(store).insert(1, 10, HOUR).await;
    tracker.close();
    tracker.wait().await;
    let directory = folder.path().join("data");
    until("the directory is free", || async {
        let tracker = TaskTracker::new();
        match Embedded::open(&directory, clock.clone(), &tracker).await {
            Ok(store) => {
                assert_eq!(Easy(Arc::new(store)).load(1).await, Some(10));
                true
            }
            Err(_) => false,
        }
    })
    .await;
}

#[tokio::test]
async fn the_directory_is_for_one_user() {
    let harness = start().await;
    let mode = std::fs::metadata(harness.folder.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let opened = Embedded::open(&folder.path().join("file"), Arc::new(SystemClock), &TaskTracker::new()).await;
    assert!(opened.is_err());
}

/// A process that was killed while it made the database left only a part of it.
#[tokio::test]
async fn a_half_made_database_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data.new/keyspaces")).unwrap();
    std::fs::write(folder.path().join("data.new/0.jnl"), "half").unwrap();
    let store = Embedded::open(folder.path(), Arc::new(SystemClock), &TaskTracker::new()).await.unwrap();
    assert_eq!(Easy(Arc::new(store)).insert(1, 1, HOUR).await, None);
}

const CHILD_DIRECTORY: &str = "OTPD_TEST_CHILD_DIRECTORY";
const LANES: u64 = 8;

/// Not a test of its own: the process that `kill_nine` kills. Each lane swaps its record onwards and says so.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let tracker = TaskTracker::new();
        let store = Arc::new(Embedded::open(Path::new(&directory), Arc::new(SystemClock), &tracker).await.unwrap());
        let mut lanes = tokio::task::JoinSet::new();
        for lane in 0..LANES {
            let store = Arc::clone(&store);
            lanes.spawn(async move {
                let present = store.load(name(lane), soon()).await.unwrap();
                let mut n = present.map_or(0, |record| content(&record));
                if n == 0 {
                    store.insert(name(lane), &record(0), HOUR, soon()).await.unwrap();
                }
                let quota = [window(10_000, HOUR)];
                loop {
                    store.take(name(lane), take_id(n + 1), &quota, at(n + 1), soon()).await.unwrap();
                    let swapped = store.swap(name(lane), version(n), &record(n + 1), HOUR, soon()).await.unwrap();
                    assert_eq!(swapped, Swapped::Done);
                    n += 1;
                    writeln!(std::io::stdout().lock(), "\nack {lane} {n}").unwrap();
                }
            });
        }
        lanes.join_next().await.unwrap().unwrap();
    });
}

/// Kills a writing process again and again: what it said was written is there, whole, and at most one write more per lane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = vec![0; usize::try_from(LANES).unwrap()];
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["embedded::child", "--exact", "--nocapture"])
            .env(CHILD_DIRECTORY, folder.path())
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
        let mut wanted = 200 + round * 137;
        while wanted > 0 {
            let line = lines.next().expect("the child has ended by itself").unwrap();
            wanted -= usize::from(note(line));
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
        let store = Embedded::open(folder.path(), Arc::new(SystemClock), &tracker).await.unwrap();
        for lane in 0..LANES {
            let known = acknowledged[usize::try_from(lane).unwrap()];
            let present = content(&store.load(name(lane), soon()).await.unwrap().expect("an acknowledged insert"));
            assert!((known..=known + 2).contains(&present), "round {round}: {present} stored, {known} acknowledged");
        }
        let census = store.census(soon()).await.unwrap();
        assert_eq!((census.records, census.expiries), (LANES, LANES));
        let sum: u64 = acknowledged.iter().sum();
        assert!((sum..=sum + 2 * LANES).contains(&census.takes), "{} takes, {sum} acknowledged", census.takes);
        store.close(soon()).await;
    }
}

const FAILING_DIRECTORY: &str = "OTPD_TEST_FAILING_DIRECTORY";

/// Not a test of its own: the process of `a_failed_write_is_final`, whose files may suddenly not grow any more.
#[tokio::test]
async fn failing_child() {
    let Some(directory) = std::env::var_os(FAILING_DIRECTORY) else { return };
    let store = Embedded::open(Path::new(&directory), Arc::new(SystemClock), &TaskTracker::new()).await.unwrap();
    store.insert(name(1), &record(10), HOUR, soon()).await.unwrap();
    let this = std::process::id().to_string();
    let limit = |bytes: &str| {
        let limited = Command::new("prlimit").args(["--pid", &this, &format!("--fsize={bytes}:")]).status().unwrap();
        assert!(limited.success());
    };
    limit("1");
    store.swap(name(1), version(10), &record(11), HOUR, soon()).await.unwrap_err();
    // Even with room again: what the disk has is not known.
    limit("unlimited");
    store.load(name(1), soon()).await.unwrap_err();
    store.insert(name(2), &record(20), HOUR, soon()).await.unwrap_err();
    store.take(name(1), take_id(1), &[window(1, HOUR)], at(1), soon()).await.unwrap_err();
    store.check(soon()).await.unwrap_err();
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
        .args(["embedded::failing_child", "--exact", "--nocapture"])
        .env(FAILING_DIRECTORY, folder.path())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("failed as it should"), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let store = Embedded::open(folder.path(), Arc::new(SystemClock), &TaskTracker::new()).await.unwrap();
    let store = Easy(Arc::new(store));
    assert!(matches!(store.load(1).await, Some(10 | 11)));
    assert_eq!(store.load(2).await, None);
    assert_eq!(store.insert(2, 20, HOUR).await, None);
}
