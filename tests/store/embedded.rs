//! The suite over the embedded store, and its own cases: reopening, locking, removal.

use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use async_trait::async_trait;
use otpd::{
    ports::{clock::SystemClock, store::Store},
    stores::embedded::{Census, Embedded},
};
use tokio_util::task::TaskTracker;

use crate::harness::{Easy, HOUR, Harness, ManualClock, Swap, soon, until, window};

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
    // Another record marks that the sweeper was here: after the time of the first insert, before that of the last swap.
    Easy(harness.store()).insert(2, 20, Duration::from_secs(1)).await;
    // To the last millisecond.
    harness.pass(Duration::from_millis(3_599_999)).await;
    until("the sweeper was here", || async { harness.census().await.records == 1 }).await;
    assert_eq!(harness.census().await, Census { records: 1, expiries: 1, takes: 0 });
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
