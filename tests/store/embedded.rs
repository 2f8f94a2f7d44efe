//! The suite over the embedded store, and its own cases: reopening, locking, removal, clocks that leap.

use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use async_trait::async_trait;
use otpd::{
    domain::time::Timestamp,
    ports::{
        clock::{Clock, SystemClock},
        store::{
            Acquired::{Before, Now, Refused},
            Store,
        },
    },
    stores::embedded::{Census, Embedded, StoreTime},
};
use tokio_util::task::TaskTracker;

use crate::harness::{Easy, HOUR, Harness, ManualClock, Outcome, SECOND, soon, until, window};

struct EmbeddedHarness {
    store: Arc<Embedded>,
    clock: Arc<ManualClock>,
    tracker: TaskTracker,
    folder: tempfile::TempDir,
}

/// The time of a store that began to run when the manual clock started.
fn time(clock: &Arc<ManualClock>) -> StoreTime {
    let clock = Arc::clone(clock);
    StoreTime::with_elapsed(ManualClock::START, move || clock.elapsed())
}

fn system_time() -> StoreTime {
    StoreTime::starting_at(Arc::new(SystemClock))
}

async fn start() -> EmbeddedHarness {
    let folder = tempfile::tempdir().unwrap();
    let (clock, tracker) = (ManualClock::starting(), TaskTracker::new());
    let store = Embedded::open(&folder.path().join("data"), time(&clock), &tracker).await.unwrap();
    EmbeddedHarness { store: Arc::new(store), clock, tracker, folder }
}

impl EmbeddedHarness {
    async fn reopen(&mut self) {
        self.store.close(soon()).await;
        let directory = self.folder.path().join("data");
        self.store = Arc::new(Embedded::open(&directory, time(&self.clock), &self.tracker).await.unwrap());
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
    {
        let store = Easy(harness.store());
        store.claim(1, 7, HOUR * 2).await;
        store.commit_for(7, &[(0, None, Some(10)), (1, None, Some(20))], HOUR).await;
        store.commit_for(7, &[(2, None, Some(30))], SECOND).await;
        store.commit_for(7, &[(0, Some(10), Some(11)), (1, Some(20), Some(21))], HOUR * 2).await;
    }
    harness.reopen().await;
    harness.pass(HOUR).await;
    let store = Easy(harness.store());
    assert_eq!(store.locate(1, &[0, 1, 2]).await, Some((7, HOUR, vec![Some(11), Some(21), None])));
    drop(store);
    harness.reopen().await;
    let store = Easy(harness.store());
    assert_eq!(store.commit(7, &[(0, Some(11), None), (1, Some(21), Some(22))]).await, Outcome::Done);
    assert_eq!(store.claim(1, 8, HOUR).await, None);
}

#[tokio::test]
async fn uses_are_there_after_reopening() {
    let mut harness = start().await;
    let (two, short) = ([window(2, HOUR)], [window(100, SECOND)]);
    {
        let store = Easy(harness.store());
        for usage in 1..=2 {
            assert_eq!(store.acquire(3, usage, &two, 5_000_000).await, Now);
            assert_eq!(store.acquire(4, usage, &two, 5_000_000).await, Now);
            assert_eq!(store.acquire(5, usage, &short, 5_000_000).await, Now);
        }
        store.refund(&[(3, 1)]).await;
        store.clear(4).await;
        assert_eq!(store.acquire(5, 3, &two, 5_000_000).await, Refused);
    }
    harness.reopen().await;
    let store = Easy(harness.store());
    assert_eq!(store.acquire(3, 2, &two, 5_000_000).await, Before);
    assert_eq!(store.acquire(3, 3, &two, 5_000_000).await, Now, "the refunded one leaves room");
    assert_eq!(store.acquire(3, 4, &two, 5_000_000).await, Refused);
    assert_eq!(store.usage(4, &two, 5_000_000).await, [0]);
    harness.pass(SECOND * 2).await;
    assert_eq!(store.acquire(5, 4, &short, 5_002_000).await, Now);
    assert_eq!(store.usage(5, &two, 5_002_000).await, [3], "the longest window is remembered, too");
    let expected = Census { quotas: 2, uses: 5, ..Census::default() };
    assert_eq!(Census { expiries: 0, ..harness.census().await }, expected);
    harness.pass(HOUR).await;
    until("the uses are forgotten", || harness.is_empty()).await;
}

/// A quota of more uses than a page holds is the same one after reopening, and no page of it stays for ever.
#[tokio::test]
async fn a_large_quota_is_there_after_reopening() {
    let mut harness = start().await;
    let (wide, full) = ([window(200, HOUR)], [window(100, HOUR)]);
    {
        let store = Easy(harness.store());
        for usage in 0..100 {
            assert_eq!(store.acquire(1, usage, &wide, 5_000_000).await, Now);
            assert_eq!(store.acquire(2, usage, &wide, 5_000_000).await, Now);
            assert_eq!(store.acquire(3, usage, &wide, 5_000_000).await, Now);
        }
        store.refund(&[(1, 3), (1, 50), (1, 99)]).await;
    }
    harness.reopen().await;
    let census = harness.census().await;
    assert_eq!((census.quotas, census.uses), (3, 297));
    let store = Easy(harness.store());
    assert_eq!(store.usage(1, &wide, 5_000_000).await, [97]);
    assert_eq!(store.acquire(1, 98, &full, 5_000_000).await, Before);
    for usage in [3, 50, 99] {
        assert_eq!(store.acquire(1, usage, &full, 5_000_000).await, Now);
    }
    assert_eq!(store.acquire(1, 100, &full, 5_000_000).await, Refused);
    store.clear(2).await;
    let all: Vec<(u64, u64)> = (0..100).map(|usage| (3, usage)).collect();
    store.refund(&all).await;
    let census = harness.census().await;
    assert_eq!((census.quotas, census.uses), (1, 100), "what has no uses is removed");
    assert_eq!(store.acquire(2, 1, &wide, 5_000_000).await, Now);
    // A large quota may be kept a little longer than its longest window.
    harness.pass(HOUR + HOUR / 32).await;
    until("the uses are forgotten", || harness.is_empty()).await;
}

/// A record has one expiry key however often it is written, and both go.
#[tokio::test]
async fn the_expiry_keys_stay_as_few_as_the_records() {
    let one = Census { records: 1, expiries: 1, ..Census::default() };
    let mut harness = start().await;
    {
        let store = Easy(harness.store());
        store.commit(1, &[(1, None, Some(0))]).await;
        for n in 0..200 {
            harness.pass(Duration::from_millis(10)).await;
            assert_eq!(store.commit(1, &[(1, Some(n), Some(n + 1))]).await, Outcome::Done);
        }
    }
    assert_eq!(harness.census().await, one);
    // Another record marks that the sweeper was here: after the time of the first write, before that of the last.
    Easy(harness.store()).commit_for(2, &[(1, None, Some(20))], SECOND).await;
    // To the last millisecond.
    harness.pass(Duration::from_millis(3_599_999)).await;
    until("the sweeper was here", || async { harness.census().await.records == 1 }).await;
    assert_eq!(harness.census().await, one);
    harness.reopen().await;
    assert_eq!(Easy(harness.store()).read(1, &[1]).await, [Some(200)], "the later writes made it live longer");
    assert_eq!(harness.census().await, one);
    harness.pass(Duration::from_millis(1)).await;
    assert_eq!(Easy(harness.store()).read(1, &[1]).await, [None]);
    until("the record is removed", || harness.is_empty()).await;
    harness.reopen().await;
    assert_eq!(harness.census().await, Census::default());
}

/// An index entry has one expiry key however often it is claimed, and both go.
#[tokio::test]
async fn the_expiry_keys_stay_as_few_as_the_index_entries() {
    let harness = start().await;
    let store = Easy(harness.store());
    for _ in 0..50 {
        harness.pass(Duration::from_millis(10)).await;
        assert_eq!(store.claim(1, 7, HOUR).await, Some(HOUR));
    }
    assert_eq!(harness.census().await, Census { index: 1, expiries: 1, ..Census::default() });
    harness.pass(HOUR).await;
    until("the entry is removed", || harness.is_empty()).await;
}

/// The machine's clock leaps 25 h ahead and back, and an hour back: nothing is forgotten, and nothing is kept for longer.
#[tokio::test]
async fn a_clock_that_leaps_changes_no_time_to_live() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, day) = (ManualClock::starting(), HOUR * 24);
    let store =
        Embedded::open(folder.path(), StoreTime::starting_at(clock.clone()), &TaskTracker::new()).await.unwrap();
    let store = Arc::new(store);
    let easy = Easy(store.clone());
    easy.claim(1, 7, day).await;
    easy.commit_for(7, &[(0, None, Some(10)), (1, None, Some(20))], day).await;
    assert_eq!(easy.acquire(1, 1, &[window(1, HOUR)], 5_000_000).await, Now);
    let short = Duration::from_millis(1);
    for (leap, back) in [(day + HOUR, Duration::ZERO), (Duration::ZERO, day + HOUR * 2)] {
        clock.pass(leap);
        clock.back(back);
        // A record whose time really passes marks that the sweeper was here meanwhile.
        easy.commit_for(8, &[(1, None, Some(1))], short).await;
        until("the sweeper was here", || async { store.census(soon()).await.unwrap().records == 2 }).await;
        let (of, _, records) = easy.locate(1, &[0, 1]).await.unwrap();
        assert_eq!((of, records), (7, vec![Some(10), Some(20)]));
        assert_eq!(easy.acquire(1, 2, &[window(1, HOUR)], 5_000_000).await, Refused);
    }
}

/// The time that the clock of the machine is judged by goes on where the process before has written.
#[tokio::test]
async fn a_clock_that_went_back_while_otpd_was_stopped_is_not_the_stores() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::starting();
    // How far the store's time is ahead.
    let told = async || {
        let time = StoreTime::starting_at(clock.clone());
        let store = Arc::new(Embedded::open(folder.path(), time, &TaskTracker::new()).await.unwrap());
        let told = store.check(soon()).await.unwrap().since(clock.now());
        Easy(store.clone()).claim(1, 7, HOUR).await;
        store.close(soon()).await;
        told
    };
    // The clock stands still while the test runs.
    clock.pass(HOUR);
    assert!(told().await < SECOND * 30);
    clock.back(HOUR);
    let off = told().await;
    assert!((HOUR..HOUR + SECOND * 30).contains(&off), "{off:?}");
    clock.pass(HOUR * 2);
    assert!(told().await < SECOND * 30);
}

/// The time of day and the time that passes, apart.
struct TwoClocks {
    day: ManualClock,
    passed: ManualClock,
}

impl TwoClocks {
    fn pass(&self, span: Duration) {
        self.day.pass(span);
        self.passed.pass(span);
    }
}

impl Clock for TwoClocks {
    fn now(&self) -> Timestamp {
        self.day.now()
    }

    fn monotonic(&self) -> Duration {
        self.passed.elapsed()
    }
}

/// The store was made by a clock that was 50 days behind, or the machine slept for so long. After a restart each record has
/// the rest of its life, whether something was written since the clock is believed or not; what passes meanwhile counts.
#[tokio::test]
async fn a_restart_takes_no_life_where_the_stores_time_is_behind() {
    for written_late in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let clocks = Arc::new(TwoClocks { day: ManualClock::default(), passed: ManualClock::default() });
        let open = async || {
            let time = StoreTime::starting_at(clocks.clone());
            Arc::new(Embedded::open(folder.path(), time, &TaskTracker::new()).await.unwrap())
        };
        let store = open().await;
        let easy = Easy(store.clone());
        clocks.day.pass(HOUR * 24 * 50);
        easy.claim(1, 7, HOUR * 4).await;
        easy.commit_for(7, &[(1, None, Some(10))], HOUR * 4).await;
        store.check(soon()).await.unwrap();
        clocks.pass(SECOND * 61);
        assert_eq!(store.check(soon()).await.unwrap(), clocks.now(), "the clock is believed");
        if written_late {
            easy.commit(8, &[(1, None, Some(20))]).await;
        }
        drop(easy);
        store.close(soon()).await;
        for stopped in [Duration::ZERO, HOUR * 2] {
            clocks.day.pass(stopped);
            let store = open().await;
            let (of, life, records) = Easy(store.clone()).locate(1, &[1]).await.expect("a record that is alive");
            let lived = SECOND * 61 + stopped;
            assert_eq!((of, life + lived, records), (7, HOUR * 4, vec![Some(10)]));
            assert_eq!(store.check(soon()).await.unwrap(), clocks.now(), "nothing is to be found out anew");
            store.close(soon()).await;
        }
        clocks.day.pass(HOUR * 2);
        assert_eq!(Easy(open().await).locate(1, &[1]).await, None);
    }
}

/// A use that was counted by a clock a day ahead makes no other be forgotten.
#[tokio::test]
async fn a_use_from_the_future_forgets_no_other() {
    let harness = start().await;
    let store = Easy(harness.store());
    let three = [window(3, HOUR)];
    assert_eq!(store.acquire(1, 1, &three, 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 2, &three, 5_000_000 + 90_000_000).await, Now);
    assert_eq!(store.usage(1, &three, 5_000_000).await, [2]);
    harness.pass(HOUR).await;
    until("both are forgotten", || harness.is_empty()).await;
}

#[tokio::test]
async fn a_second_open_is_refused() {
    let harness = start().await;
    let directory = harness.folder.path().join("data");
    let second = Embedded::open(&directory, time(&harness.clock), &harness.tracker).await;
    let error = second.err().expect("a refusal").to_string();
    assert!(error.ends_with("is in use by another process"), "{error}");
    assert_eq!(Easy(harness.store()).read(1, &[1]).await, [None]);
}

#[tokio::test]
async fn dropping_the_store_lets_go_of_the_directory_and_ends_the_tasks() {
    let harness = start().await;
    let EmbeddedHarness { store, clock, tracker, folder } = harness;
    Easy(store).commit(1, &[(1, None, Some(10))]).await;
    tracker.close();
    tracker.wait().await;
    let directory = folder.path().join("data");
    until("the directory is free", || async {
        let tracker = TaskTracker::new();
        match Embedded::open(&directory, time(&clock), &tracker).await {
            Ok(store) => {
                assert_eq!(Easy(Arc::new(store)).read(1, &[1]).await, [Some(10)]);
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
    let opened = Embedded::open(&folder.path().join("file"), system_time(), &TaskTracker::new()).await;
    assert!(opened.is_err());
}

/// A process that was killed while it made the database left only a part of it.
#[tokio::test]
async fn a_half_made_database_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("data.new/keyspaces")).unwrap();
    std::fs::write(folder.path().join("data.new/0.jnl"), "half").unwrap();
    let store = Embedded::open(folder.path(), system_time(), &TaskTracker::new()).await.unwrap();
    assert_eq!(Easy(Arc::new(store)).commit(1, &[(1, None, Some(1))]).await, Outcome::Done);
}
