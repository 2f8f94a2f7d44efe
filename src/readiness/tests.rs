//! Tests of `readiness`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU8, Ordering},
    },
};

use async_trait::async_trait;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::store::{
        Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store, StoreError,
    },
};

/// A store, with who examines it: well, failing, hanging, and what else it is told.
#[derive(Default)]
pub(crate) struct Moody(AtomicU8);

impl Moody {
    pub(crate) const WELL: u8 = 0;
    pub(crate) const FAILS: u8 = 1;
    pub(crate) const HANGS: u8 = 2;
    pub(crate) const CLOSED: u8 = 3;
    const CLOCK_OFF: u8 = 4;
    const WRONG_KEYS: u8 = 5;
    const CLOCK_OFF_AND_WRONG_KEYS: u8 = 6;
    const OF_NO_USE: u8 = 7;

    pub(crate) fn is(&self, mood: u8) {
        self.0.store(mood, Ordering::Relaxed);
    }

    pub(crate) fn mood(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for Moody {
    async fn check(&self, _: Deadline) -> Result<Timestamp, StoreError> {
        unreachable!()
    }
    async fn scan(&self, _: Option<Cursor>, _: Deadline) -> Result<ScanPage, StoreError> {
        unreachable!()
    }
    async fn locate(&self, _: Name, _: &[Name], _: Deadline) -> Result<Option<Located>, StoreError> {
        unreachable!()
    }
    async fn claim(&self, _: Name, _: Partition, _: Duration, _: Deadline) -> Result<Claimed, StoreError> {
        unreachable!()
    }
    async fn read(&self, _: Partition, _: &[Name], _: Deadline) -> Result<Vec<Option<Sealed>>, StoreError> {
        unreachable!()
    }
    async fn commit(&self, _: Partition, _: &[Change], _: Deadline) -> Result<Committed, StoreError> {
        unreachable!()
    }
    async fn acquire(
        &self,
        _: Name,
        _: Token,
        _: &[Window],
        _: Timestamp,
        _: Deadline,
    ) -> Result<Acquired, StoreError> {
        unreachable!()
    }
    async fn refund(&self, _: &[(Name, Token)], _: Deadline) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn usage(&self, _: Name, _: &[Window], _: Timestamp, _: Deadline) -> Result<Vec<u32>, StoreError> {
        unreachable!()
    }
    async fn clear(&self, _: Name, _: Deadline) -> Result<(), StoreError> {
        unreachable!()
    }
    async fn close(&self, _: Deadline) {
        match self.mood() {
            Self::HANGS => std::future::pending().await,
            _ => self.is(Self::CLOSED),
        }
    }
}

#[async_trait]
impl Examiner for Moody {
    async fn examine(&self, _: Deadline) -> Result<Findings, StoreError> {
        let mood = self.mood();
        let is = |moods: [u8; 2]| moods.contains(&mood);
        match mood {
            Self::HANGS => std::future::pending().await,
            Self::FAILS => Err(StoreError::new("check", "moody")),
            Self::OF_NO_USE => Err(StoreError::lasting("check", "too old")),
            _ => Ok(Findings {
                is_clock_off: is([Self::CLOCK_OFF, Self::CLOCK_OFF_AND_WRONG_KEYS]),
                wrong_keys: is([Self::WRONG_KEYS, Self::CLOCK_OFF_AND_WRONG_KEYS]).then(|| "other keys".to_owned()),
            }),
        }
    }
}

/// What health checks would answer.
#[derive(Clone, Default)]
pub(crate) struct Board(Arc<StdMutex<BTreeMap<&'static str, bool>>>);

#[async_trait]
impl Health for Board {
    async fn set(&self, service: &'static str, serving: bool) {
        self.0.lock().unwrap().insert(service, serving);
    }

    async fn end(&self, service: &'static str) {
        self.0.lock().unwrap().remove(service);
    }
}

struct Bench {
    readiness: Arc<Readiness>,
    store: Arc<Moody>,
    board: Board,
    following: JoinHandle<Result<(), StoreRefused>>,
}

impl Bench {
    async fn new(mood: u8) -> Self {
        let board = Board::default();
        let readiness = Arc::new(Readiness::new(board.clone()).await);
        let store = Arc::new(Moody::default());
        store.is(mood);
        let (watched, asked) = (Arc::clone(&readiness), Arc::clone(&store));
        let following = TaskTracker::new().spawn(async move { watched.follow(&*asked).await });
        Self { readiness, store, board, following }
    }

    async fn after(&self, millis: u64) -> String {
        sleep(Duration::from_millis(millis)).await;
        self.readiness.subscribe().borrow().words().join(" ")
    }

    fn serves(&self, service: &str) -> bool {
        self.board.0.lock().unwrap()[service]
    }
}

#[tokio::test(start_paused = true)]
async fn serves_from_the_first_answer_of_the_store() {
    let bench = Bench::new(Moody::FAILS).await;
    assert_eq!(bench.after(7500).await, "starting");
    assert!(!bench.serves(SERVICES[0]));
    assert!(bench.serves(PROCESS));
    bench.store.is(Moody::WELL);
    assert_eq!(bench.after(1000).await, "serving");
    assert!(bench.serves(SERVICES[0]));
}

#[tokio::test(start_paused = true)]
async fn serves_at_once_where_the_store_is_well() {
    let bench = Bench::new(Moody::WELL).await;
    assert_eq!(bench.after(1).await, "serving");
}

#[tokio::test(start_paused = true)]
async fn five_seconds_of_trouble_turn_it_and_one_success_turns_it_back() {
    for trouble in [Moody::FAILS, Moody::HANGS] {
        let bench = Bench::new(Moody::WELL).await;
        assert_eq!(bench.after(500).await, "serving");
        bench.store.is(trouble);
        // The first failing check begins at 1 s.
        assert_eq!(bench.after(5400).await, "serving");
        assert_eq!(bench.after(1700).await, "store");
        assert!(!bench.serves(SERVICES[1]));
        assert!(bench.serves(PROCESS));
        bench.store.is(Moody::WELL);
        assert_eq!(bench.after(2100).await, "serving");
        assert!(bench.serves(SERVICES[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_the_count_again() {
    let bench = Bench::new(Moody::WELL).await;
    bench.after(500).await;
    for _ in 0..4 {
        bench.store.is(Moody::FAILS);
        assert_eq!(bench.after(4000).await, "serving");
        bench.store.is(Moody::WELL);
        assert_eq!(bench.after(1000).await, "serving");
    }
}

#[tokio::test(start_paused = true)]
async fn draining_is_told_at_once_and_is_final() {
    let bench = Bench::new(Moody::WELL).await;
    bench.after(500).await;
    bench.readiness.drain().await;
    for service in [SERVICES[0], SERVICES[1], PROCESS] {
        assert!(!bench.serves(service));
    }
    assert_eq!(bench.after(10_000).await, "draining");
    bench.readiness.answered(&Findings::default()).await;
    assert_eq!(bench.after(0).await, "draining");
    assert!(!bench.serves(SERVICES[0]));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_off_is_told_at_once_and_is_over_when_it_is_right() {
    for (mood, told) in
        [(Moody::CLOCK_OFF, "clock"), (Moody::WRONG_KEYS, "keys"), (Moody::CLOCK_OFF_AND_WRONG_KEYS, "clock keys")]
    {
        let bench = Bench::new(Moody::WELL).await;
        assert_eq!(bench.after(500).await, "serving");
        bench.store.is(mood);
        assert_eq!(bench.after(1000).await, told);
        assert!(!bench.serves(SERVICES[0]));
        assert!(bench.serves(PROCESS));
        // What was found stays until the store is examined again.
        bench.store.is(Moody::FAILS);
        assert_eq!(bench.after(7000).await, format!("store {told}"));
        bench.store.is(Moody::WELL);
        assert_eq!(bench.after(1000).await, "serving");
        assert!(bench.serves(SERVICES[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_with_a_clock_that_is_off_waits_for_it() {
    let bench = Bench::new(Moody::CLOCK_OFF).await;
    assert_eq!(bench.after(1).await, "clock");
    bench.store.is(Moody::WELL);
    assert_eq!(bench.after(1000).await, "serving");
}

#[tokio::test(start_paused = true)]
async fn what_no_waiting_helps_ends_the_start_and_nothing_later() {
    for (mood, words) in [(Moody::WRONG_KEYS, "other keys"), (Moody::OF_NO_USE, "store cannot check: too old")] {
        let late = Bench::new(Moody::FAILS).await;
        assert_eq!(late.after(10_500).await, "starting");
        late.store.is(mood);
        let refused = late.following.await.unwrap().unwrap_err();
        assert_eq!(refused.to_string(), words);
        assert_eq!(late.readiness.begin(&*late.store).await.unwrap_err().to_string(), words);

        let serving = Bench::new(Moody::WELL).await;
        assert_eq!(serving.after(500).await, "serving");
        serving.store.is(mood);
        serving.after(10_000).await;
        assert!(!serving.following.is_finished());
        serving.store.is(Moody::WELL);
        assert_eq!(serving.after(1000).await, "serving");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_begins_with_an_examination() {
    for (mood, told) in [(Moody::WELL, "serving"), (Moody::FAILS, "starting"), (Moody::HANGS, "starting")] {
        let readiness = Readiness::new(Board::default()).await;
        let store = Moody::default();
        store.is(mood);
        readiness.begin(&store).await.unwrap();
        assert_eq!(readiness.subscribe().borrow().words(), [told]);
    }
}
