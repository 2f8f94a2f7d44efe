//! What the suite needs of a store under test, and small helpers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        store::{Inserted, Name, Sealed, Store, Swapped, TakeId, Taken, Version},
    },
};

/// A store under test.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Lets the store's time pass.
    async fn pass(&self, span: Duration);
    /// Whether a record, expired or not, still takes up room.
    async fn is_empty(&self) -> bool;
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn starting() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_700_000_000_000)))
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn back(&self, millis: u64) {
        self.0.fetch_sub(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Long enough that it only passes when something hangs.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) fn name(n: u64) -> Name {
    let mut name = [0xA5; 16];
    name[8..].copy_from_slice(&n.to_be_bytes());
    Name(name)
}

pub(crate) fn take_id(n: u64) -> TakeId {
    TakeId(name(n).0)
}

/// A record whose version and content both say `n`. Its bytes are no text.
pub(crate) fn record(n: u64) -> Sealed {
    let mut bytes = vec![0xFF, 0, 13, 10, 0x80];
    bytes.extend([n.to_be_bytes(); 40].concat());
    Sealed::from_bytes(bytes).unwrap()
}

/// The `n` of a record, checked to be whole.
pub(crate) fn content(record: &Sealed) -> u64 {
    let n = u64::from_be_bytes(record.as_bytes()[5..13].try_into().unwrap());
    assert_eq!(record.as_bytes(), self::record(n).as_bytes(), "a torn record");
    n
}

pub(crate) fn version(n: u64) -> Version {
    record(n).version()
}

pub(crate) fn window(max: u32, per: Duration) -> Window {
    Window { max, per }
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Asks again and again, at most 10 s, until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = soon();
    while !is_so().await {
        assert!(!deadline.remaining().is_zero(), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The store with deadlines that do not matter, answers unwrapped and records as numbers.
pub(crate) struct Easy(pub(crate) Arc<dyn Store>);

impl Easy {
    pub(crate) async fn load(&self, n: u64) -> Option<u64> {
        self.0.load(name(n), soon()).await.unwrap().map(|record| content(&record))
    }

    pub(crate) async fn insert(&self, n: u64, new: u64, ttl: Duration) -> Option<u64> {
        match self.0.insert(name(n), &record(new), ttl, soon()).await.unwrap() {
            Inserted::Done => None,
            Inserted::Exists(present) => Some(content(&present)),
        }
    }

    pub(crate) async fn swap(&self, n: u64, read: u64, new: u64, ttl: Duration) -> Swap {
        match self.0.swap(name(n), version(read), &record(new), ttl, soon()).await.unwrap() {
            Swapped::Done => Swap::Done,
            Swapped::Stale(present) => Swap::Stale(content(&present)),
            Swapped::Missing => Swap::Missing,
        }
    }

    pub(crate) async fn take(&self, quota: u64, take: u64, windows: &[Window], now: u64) -> bool {
        self.0.take(name(quota), take_id(take), windows, at(now), soon()).await.unwrap() == Taken::Done
    }

    pub(crate) async fn give_back(&self, quota: u64, take: u64) {
        self.0.give_back(name(quota), take_id(take), soon()).await.unwrap();
    }
}

/// [`Swapped`] with the record as a number.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    Done,
    Stale(u64),
    Missing,
}
