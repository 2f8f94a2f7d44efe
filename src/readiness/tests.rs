//! Tests of `readiness`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU8, Ordering},
    },
};

use async_trait::async_trait;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, SystemClock},
        store::{Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, StoreError},
    },
};

/// A store that is well, fails or hangs, as told.
#[derive(Default)]
pub(crate) struct Moody(AtomicU8);

impl Moody {
    pub(crate) const WELL: u8 = 0;
    pub(crate) const FAILS: u8 = 1;
    pub(crate) const HANGS: u8 = 2;
    pub(crate) const CLOSED: u8 = 3;

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
        match self.mood() {
            Self::WELL => Ok(SystemClock.now()),
            Self::HANGS => std::future::pending().await,
            _ => Err(StoreError::new("check", "moody")),
        }
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
}

impl Bench {
    async fn new(mood: u8) -> Self {
        let board = Board::default();
        let readiness = Arc::new(Readiness::new(board.clone()).await);
        let store = Arc::new(Moody::default());
        store.is(mood);
        let (watched, asked) = (Arc::clone(&readiness), Arc::clone(&store));
        TaskTracker::new().spawn(async move { watched.follow(&*asked).await });
        Self { readiness, store, board }
    }

    async fn after(&self, millis: u64) -> ServingState {
        sleep(Duration::from_millis(millis)).await;
        *self.readiness.subscribe().borrow()
    }

    fn serves(&self, service: &str) -> bool {
        self.board.0.lock().unwrap()[service]
    }
}

#[tokio::test(start_paused = true)]
async fn serves_from_the_first_answer_of_the_store() {
    let bench = Bench::new(Moody::FAILS).await;
    assert_eq!(bench.after(7500).await, ServingState::Starting);
    assert!(!bench.serves(SERVICES[0]));
    assert!(bench.serves(PROCESS));
    bench.store.is(Moody::WELL);
    assert_eq!(bench.after(1000).await, ServingState::Serving);
    assert!(bench.serves(SERVICES[0]));
}

#[tokio::test(start_paused = true)]
async fn serves_at_once_where_the_store_is_well() {
    let bench = Bench::new(Moody::WELL).await;
    assert_eq!(bench.after(1).await, ServingState::Serving);
}

#[tokio::test(start_paused = true)]
async fn five_seconds_of_trouble_turn_it_and_one_success_turns_it_back() {
    for trouble in [Moody::FAILS, Moody::HANGS] {
        let bench = Bench::new(Moody::WELL).await;
        assert_eq!(bench.after(500).await, ServingState::Serving);
        bench.store.is(trouble);
        // The first failing check begins at 1 s.
        assert_eq!(bench.after(5400).await, ServingState::Serving);
        assert_eq!(bench.after(1700).await, ServingState::StoreTrouble);
        assert!(!bench.serves(SERVICES[1]));
        assert!(bench.serves(PROCESS));
        bench.store.is(Moody::WELL);
        assert_eq!(bench.after(2100).await, ServingState::Serving);
        assert!(bench.serves(SERVICES[1]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_the_count_again() {
    let bench = Bench::new(Moody::WELL).await;
    bench.after(500).await;
    for _ in 0..4 {
        bench.store.is(Moody::FAILS);
        assert_eq!(bench.after(4000).await, ServingState::Serving);
        bench.store.is(Moody::WELL);
        assert_eq!(bench.after(1000).await, ServingState::Serving);
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
    assert_eq!(bench.after(10_000).await, ServingState::Draining);
    bench.readiness.enter(ServingState::Serving).await;
    assert!(!bench.serves(SERVICES[0]));
}
