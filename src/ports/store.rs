//! The store: keeps sealed records and counts takes. It knows no rule.
//!
//! To add a store: implement [`Store`] in `stores/<name>.rs`, name it in `stores.rs`, and run the conformance suite
//! (`tests/store`) over it. What the suite asks for:
//!
//! - each operation is atomic, and touches one name, so that one Redis Cluster slot serves it;
//! - an acknowledged write is visible to every later load, from any process;
//! - a write that was applied although its answer was lost, or that was applied twice, does no harm: the callers see to
//!   that, the store need not;
//! - each operation ends by its deadline, with an error if need be;
//! - every key has a time to live, which no write shortens.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use super::clock::Deadline;
use crate::domain::{quota::Window, time::Timestamp};

/// The name of a record or a quota: a keyed hash, which tells a reader of the store nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub [u8; 16]);

/// Names one take of a quota, so that taking it twice counts once and giving back is exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TakeId(pub [u8; 16]);

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

/// What became of an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The record is stored.
    Done,
    /// There is a record of that name already; nothing was written.
    Exists(Sealed),
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// The record is stored.
    Done,
    /// The record has another version by now; nothing was written.
    Stale(Sealed),
    /// There is no record of that name; nothing was written.
    Missing,
}

/// What became of a take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The take counts in all windows, now or already.
    Done,
    /// A window is full; nothing was counted.
    Refused,
}

/// Keeps sealed records and counts takes.
#[async_trait]
pub trait Store: Send + Sync {
    /// The record of a name, or `None`.
    async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Sealed>, StoreError>;

    /// Stores a record if there is none of that name.
    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Inserted, StoreError>;

    /// Stores a record if the one there has the version `read`. The time to live becomes the longer of `ttl` and what is
    /// left of the present one.
    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Swapped, StoreError>;

    /// Counts a take at `now` if every window has room: fewer than `max` takes later than `now - per`. A take that counts
    /// already is not counted again. `windows` holds 1 to 4; takes older than the longest of them may be forgotten.
    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Taken, StoreError>;

    /// Makes a take count no longer. Giving back what was never taken changes nothing.
    async fn give_back(&self, quota: Name, take: TakeId, deadline: Deadline) -> Result<(), StoreError>;

    /// Whether the store can take a write now.
    async fn check(&self, deadline: Deadline) -> Result<(), StoreError>;

    /// Stops background work and waits, at most until the deadline, for what is queued.
    async fn close(&self, _deadline: Deadline) {}
}

/// The store could not do, or did not confirm, what was asked. A write may have been applied.
#[derive(Debug, thiserror::Error)]
#[error("store cannot {operation}: {cause}")]
pub struct StoreError {
    /// What was asked, as `load` or `swap`.
    pub operation: &'static str,
    /// Why, for the operator's log only. Never holds a record, a name or an address with credentials.
    pub cause: String,
}

impl StoreError {
    /// An error with its cause.
    pub fn new(operation: &'static str, cause: impl fmt::Display) -> Self {
        Self { operation, cause: cause.to_string() }
    }

    /// The deadline passed first.
    pub fn timed_out(operation: &'static str) -> Self {
        Self::new(operation, "deadline passed")
    }
}
