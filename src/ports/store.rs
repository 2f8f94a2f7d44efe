//! The store: keeps sealed records in partitions, finds them by an index, and counts quotas. It knows no rule.
//!
//! To add a store: implement [`Store`] in `stores/<name>.rs`, name it in `stores.rs`, and run the conformance suite
//! (`tests/store`) over it. What the suite asks for:
//!
//! - each operation is atomic, and touches one partition, one index entry or one quota, so that one slot of a Redis Cluster
//!   serves it;
//! - an acknowledged write is visible to every later read, from any process;
//! - a commit that was applied although its answer was lost, or that was applied twice, does no harm: callers recognise
//!   their own writes by version;
//! - each operation ends by its deadline, with an error if need be;
//! - every key has a time to live, which no write shortens.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::clock::Deadline;
use crate::domain::{ids::Token, quota::Window, time::Timestamp};

/// Names a partition: the records of one lockout and of its challenges, which change together. A keyed hash, which tells a
/// reader of the store nothing. 120 bits are 20 characters of base 64, which every key of the partition and every index entry
/// holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub [u8; 15]);

/// Names a record within its partition, an index entry, or a quota. A keyed hash, which tells a reader of the store nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub [u8; 16]);

impl Name {
    /// The lockout of every partition. No keyed hash is all zeros, but with a chance of one in 2^128.
    pub const LOCKOUT: Self = Self([0; 16]);
}

/// The version of a sealed record: its random nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version(pub [u8; Sealed::VERSION_LENGTH]);

/// A sealed record as the stores keep it: `format (1) | key id (4) | version (24) | ciphertext and tag`.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Where the version starts, in bytes.
    pub const VERSION_OFFSET: usize = 5;
    /// How long the version is, in bytes.
    pub const VERSION_LENGTH: usize = 24;
    /// The largest record, in bytes. A full challenge (10 options, 20 attempts, 100 sends) stays below.
    pub const MAX_LENGTH: usize = 65_536;

    /// Takes the bytes of a sealed record; `None` where they are too short or too long to be one.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let fits = bytes.len() > Self::VERSION_OFFSET + Self::VERSION_LENGTH && bytes.len() <= Self::MAX_LENGTH;
        fits.then_some(Self(bytes))
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The version.
    pub fn version(&self) -> Version {
        let mut version = [0; Self::VERSION_LENGTH];
        let stored = self.0.iter().skip(Self::VERSION_OFFSET);
        version.iter_mut().zip(stored).for_each(|(to, from)| *to = *from);
        Version(version)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

/// One record of a commit: the version that it must have, and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which record of the partition.
    pub name: Name,
    /// The version that the record must have; `None`: there must be no such record.
    pub expected: Option<Version>,
    /// What is written; `None`: the record only has to be as expected.
    pub write: Option<Write>,
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The sealed record.
    pub record: Sealed,
    /// How long to keep it. The time to live becomes the longer of this and what is left of the present one; zero leaves it.
    pub ttl: Duration,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// All records were as expected, and all writes are stored.
    Done,
    /// A record was not as expected and nothing was written. The records that are there, in the order of the changes.
    Conflict(Vec<Option<Sealed>>),
}

/// Where a challenge is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The partition that the index entry names.
    pub partition: Partition,
    /// How long the index entry lives on. A reader that remembers the partition must forget it by then.
    pub life: Duration,
    /// The records asked for, where the store can read them in the same trip; `None`: they are to be read.
    pub records: Option<Vec<Option<Sealed>>>,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The index entry names the claimed partition, now or already, and lives on for this long.
    Ours(Duration),
    /// The index entry names another partition. Nothing was written.
    Elsewhere,
}

/// What became of acquiring a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The use counts in all windows from now on.
    Now,
    /// The use counted already; nothing was written.
    Before,
    /// A window is full; nothing was counted.
    Refused,
}

/// Where a scan goes on. Only the store that made it knows what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub Vec<u8>);

/// A part of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Each with its partition, and a name by which it can be read and committed. A bounded number.
    pub records: Vec<(Partition, Name, Sealed)>,
    /// Where to go on; `None`: this was the last page.
    pub next: Option<Cursor>,
}

/// Keeps sealed records and counts quotas.
#[async_trait]
pub trait Store: Send + Sync {
    /// Where the index entry says that records are kept, or `None`. A store that can read them in the same trip adds the
    /// records of these names.
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError>;

    /// Makes an index entry name a partition, at least for `life`, unless it names another one. Claiming again for the same
    /// partition renews the entry and never shortens its life.
    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError>;

    /// Records of one partition, in the order of their names.
    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError>;

    /// Writes all if all records are as expected, or nothing.
    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError>;

    /// Counts a use at `now` if every window has room: fewer than `max` uses later than `now - per`. A use that counts
    /// already is not counted again. `windows` holds 1 to 4. No acquire forgets a use that a longer window of an earlier
    /// acquire still counts.
    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError>;

    /// Makes uses count no longer, each by itself, and in one trip where the store can. Refunding what was never acquired
    /// changes nothing.
    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError>;

    /// How many uses each window counts at `now`.
    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError>;

    /// Makes all uses of a quota count no longer.
    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError>;

    /// Whether the store can serve now: what reads and what writes are asked, without a record being changed. Tells the
    /// store's own time, by which the clock of this machine is judged.
    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError>;

    /// Some of the records, and where to go on. From the first page to the last, each record that was there all the time is
    /// told at least once.
    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError>;

    /// Ends with the reason once the store cannot go on within this process: only a new start helps.
    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    /// Stops background work and waits, at most until the deadline, for what is queued.
    async fn close(&self, _deadline: Deadline) {}
}

/// The store could not do, or did not confirm, what was asked. A write may have been applied.
#[derive(Debug, thiserror::Error)]
#[error("store cannot {operation}: {cause}")]
pub struct StoreError {
    /// What was asked, as `read` or `commit`.
    pub operation: &'static str,
    /// Why, for the operator's log only. Never holds a record, a name or an address with credentials.
    pub cause: String,
    /// Whether waiting does not help: a setting is wrong, or the store is not what the settings say.
    pub is_final: bool,
    /// In which way it failed.
    pub fault: StoreFault,
}

/// In which way a store failed, for metrics and traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFault {
    /// It has not answered in time.
    Late,
    /// There is no connection: nothing was sent.
    NotConnected,
    /// The connection broke.
    Unreachable,
    /// It has answered with an error, or with what makes no sense.
    Failed,
}

impl StoreFault {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Late => "timeout",
            Self::NotConnected | Self::Unreachable => "unreachable",
            Self::Failed => "failed",
        }
    }
}

impl StoreError {
    /// An error with its cause.
    pub fn new(operation: &'static str, cause: impl fmt::Display) -> Self {
        Self { operation, cause: cause.to_string(), is_final: false, fault: StoreFault::Failed }
    }

    /// An error that lasts until somebody acts.
    pub fn lasting(operation: &'static str, cause: impl fmt::Display) -> Self {
        Self { is_final: true, ..Self::new(operation, cause) }
    }

    /// The same, with the server that it is about before the cause.
    pub(crate) fn at(mut self, server: impl fmt::Display) -> Self {
        self.cause = format!("{server}: {}", self.cause);
        self
    }

    /// The deadline passed first.
    pub fn timed_out(operation: &'static str) -> Self {
        Self::new(operation, "deadline passed").by(StoreFault::Late)
    }

    /// The same, failed in this way.
    #[must_use]
    pub fn by(self, fault: StoreFault) -> Self {
        Self { fault, ..self }
    }
}
