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
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        store::{Acquired, Change, Claimed, Committed, Name, Partition, Sealed, Store, Version, Write},
    },
};

/// A store under test.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Lets the store's time pass.
    async fn pass(&self, span: Duration);
    /// Whether nothing, expired or not, takes up room.
    async fn is_empty(&self) -> bool;
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    pub(crate) fn starting() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(0)))
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn back(&self, span: Duration) {
        self.0.fetch_sub(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Self::START.plus(self.elapsed())
    }
}

/// Long enough that it only passes when something hangs.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// The number of the lockout among the records of a partition.
pub(crate) const LOCKOUT: u64 = 0;

pub(crate) fn partition(n: u64) -> Partition {
    let mut bytes = [0xA5; 15];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Partition(bytes)
}

/// The name of a record.
pub(crate) fn name(n: u64) -> Name {
    if n == LOCKOUT { Name::LOCKOUT } else { Name(numbered(n)) }
}

/// The name of an index entry or a quota.
pub(crate) fn named(n: u64) -> Name {
    Name(numbered(n))
}

/// Spread over the first bytes, as the keyed hashes that names are.
fn numbered(n: u64) -> [u8; 16] {
    let mut bytes = [0xA5; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes
}

pub(crate) fn token(n: u64) -> Token {
    Token(n.to_be_bytes())
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

pub(crate) fn contents(records: &[Option<Sealed>]) -> Vec<Option<u64>> {
    records.iter().map(|record| record.as_ref().map(content)).collect()
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

/// A change of a record: its number, what it must be, and what is written to live for an hour.
pub(crate) type Numbers = (u64, Option<u64>, Option<u64>);

pub(crate) fn changes(numbers: &[Numbers], ttl: Duration) -> Vec<Change> {
    let change = |(n, expected, write): &Numbers| Change {
        name: name(*n),
        expected: expected.map(version),
        write: write.map(|new| Write { record: record(new), ttl }),
    };
    numbers.iter().map(change).collect()
}

/// Asks again and again, at most 10 s, until it is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let deadline = soon();
    while !is_so().await {
        assert!(!deadline.remaining().is_zero(), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What became of a commit, with the records as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Conflict(Vec<Option<u64>>),
}

/// The store with deadlines that do not matter, answers unwrapped, and everything as numbers.
pub(crate) struct Easy(pub(crate) Arc<dyn Store>);

impl Easy {
    /// The partition, the remaining life and the records of an index entry. Records that the store does not tell are read.
    pub(crate) async fn locate(&self, index: u64, names: &[u64]) -> Option<(u64, Duration, Vec<Option<u64>>)> {
        let wanted: Vec<Name> = names.iter().map(|n| name(*n)).collect();
        let located = self.0.locate(named(index), &wanted, soon()).await.unwrap()?;
        let n = u64::from_be_bytes(located.partition.0[..8].try_into().unwrap());
        assert_eq!(located.partition, partition(n));
        let records = match located.records {
            Some(records) => contents(&records),
            None => self.read(n, names).await,
        };
        Some((n, located.life, records))
    }

    /// How long the entry lives on, or `None` where it names another partition.
    pub(crate) async fn claim(&self, index: u64, to: u64, life: Duration) -> Option<Duration> {
        match self.0.claim(named(index), partition(to), life, soon()).await.unwrap() {
            Claimed::Ours(life) => Some(life),
            Claimed::Elsewhere => None,
        }
    }

    pub(crate) async fn read(&self, of: u64, names: &[u64]) -> Vec<Option<u64>> {
        let names: Vec<Name> = names.iter().map(|n| name(*n)).collect();
        contents(&self.0.read(partition(of), &names, soon()).await.unwrap())
    }

    pub(crate) async fn commit(&self, to: u64, numbers: &[Numbers]) -> Outcome {
        self.commit_for(to, numbers, HOUR).await
    }

    pub(crate) async fn commit_for(&self, to: u64, numbers: &[Numbers], ttl: Duration) -> Outcome {
        match self.0.commit(partition(to), &changes(numbers, ttl), soon()).await.unwrap() {
            Committed::Done => Outcome::Done,
            Committed::Conflict(present) => Outcome::Conflict(contents(&present)),
        }
    }

    pub(crate) async fn acquire(&self, quota: u64, usage: u64, windows: &[Window], now: u64) -> Acquired {
        self.0.acquire(named(quota), token(usage), windows, at(now), soon()).await.unwrap()
    }

    pub(crate) async fn refund(&self, uses: &[(u64, u64)]) {
        let uses: Vec<_> = uses.iter().map(|(quota, usage)| (named(*quota), token(*usage))).collect();
        self.0.refund(&uses, soon()).await.unwrap();
    }

    pub(crate) async fn usage(&self, quota: u64, windows: &[Window], now: u64) -> Vec<u32> {
        self.0.usage(named(quota), windows, at(now), soon()).await.unwrap()
    }

    pub(crate) async fn clear(&self, quota: u64) {
        self.0.clear(named(quota), soon()).await.unwrap();
    }
}
