//! The database on disk: its folder, its keys, and how a batch is committed.
//!
//! One keyspace holds everything, so that one memtable and one journal serve all and one small write reaches the disk:
//!
//! | key | value |
//! | --- | --- |
//! | `r`, name | expiry, sealed record |
//! | `x`, expiry, name | nothing: the record may be removed from then on |
//! | `t`, quota, take | time of the take, time to forget the quota |
//!
//! Times are milliseconds, big endian, so that the `x` keys stand in order of time.
//! A record has exactly one `x` key, whose time is the record's expiry or earlier.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    ops::RangeInclusive,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::{
    domain::time::Timestamp,
    ports::store::{Name, Sealed, StoreError, TakeId},
};

/// Blocks of tables kept in memory. The working set is small, and the operating system caches the files anyway.
const CACHE_BYTES: u64 = 4 << 20;
/// What is held in memory before it becomes a table. Larger means fewer tables to merge, and more memory.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// The least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// What a batch does: the new value of each key, or `None` to remove it.
pub(super) type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The open database. The lock is last, so that it is given up last.
pub(super) struct Disk {
    pub(super) keyspace: Keyspace,
    database: Database,
    _lock: File,
}

impl Disk {
    /// Opens the database in a folder, which is made if need be. Fails if another process has it open.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let lock = lock(directory)?;
        let data = directory.join("data");
        if !data.try_exists().map_err(failed)? {
            create(directory, &data)?;
        }
        let (database, keyspace) = database(&data)?;
        Ok(Self { keyspace, database, _lock: lock })
    }

    /// The value of a key, as far as it is committed.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<fjall::Slice>, StoreError> {
        get(&self.keyspace, operation, key)
    }

    /// Writes all or nothing, and returns once it is on the disk.
    pub(super) fn commit(&self, writes: Writes) -> Result<(), fjall::Error> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        batch.commit()
    }
}

/// The value of a key, as far as it is committed: the engine shows a batch only once it is synced.
pub(super) fn get(
    keyspace: &Keyspace,
    operation: &'static str,
    key: &[u8],
) -> Result<Option<fjall::Slice>, StoreError> {
    keyspace.get(key).map_err(|cause| StoreError::new(operation, cause))
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::new("open", format!("{} is in use by another process", directory.display())))
        }
        Err(TryLockError::Error(cause)) => Err(failed(cause)),
    }
}

/// Makes an empty database beside its place and moves it there when it is whole: the engine cannot open what it was
/// killed while creating.
fn create(directory: &Path, data: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
    let new = directory.join("data.new");
    match fs::remove_dir_all(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    drop(database(&new)?);
    fs::rename(&new, data).map_err(failed)?;
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn database(path: &Path) -> Result<(Database, Keyspace), StoreError> {
    let failed = |cause: fjall::Error| StoreError::new("open", format!("{}: {cause}", path.display()));
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(1)
        .open()
        .map_err(failed)?;
    let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    let keyspace = database.keyspace("otpd", options).map_err(failed)?;
    Ok((database, keyspace))
}

/// A stored record with its expiry.
pub(super) struct Record {
    pub(super) expires_at: Timestamp,
    pub(super) sealed: Sealed,
}

impl Record {
    /// Reads a value; `None` where it is none of ours.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (expires_at, sealed) = value.split_first_chunk()?;
        let expires_at = Timestamp::from_millis(u64::from_be_bytes(*expires_at));
        Some(Self { expires_at, sealed: Sealed::from_bytes(sealed.to_vec())? })
    }

    pub(super) fn encode(expires_at: Timestamp, sealed: &Sealed) -> Vec<u8> {
        [&expires_at.as_millis().to_be_bytes()[..], sealed.as_bytes()].concat()
    }
}

pub(super) fn record_key(name: Name) -> Vec<u8> {
    [b"r", &name.0[..]].concat()
}

pub(super) fn expiry_key(at: Timestamp, name: Name) -> Vec<u8> {
    [b"x", &at.as_millis().to_be_bytes()[..], &name.0].concat()
}

/// All expiry keys from one time to another, both included.
pub(super) fn expiry_range(from: Timestamp, to: Timestamp) -> RangeInclusive<Vec<u8>> {
    expiry_key(from, Name([0; 16]))..=expiry_key(to, Name([0xFF; 16]))
}

pub(super) fn decode_expiry_key(key: &[u8]) -> Option<(Timestamp, Name)> {
    let (at, name) = key.strip_prefix(b"x")?.split_first_chunk()?;
    Some((Timestamp::from_millis(u64::from_be_bytes(*at)), Name(name.try_into().ok()?)))
}

pub(super) fn take_key(quota: Name, take: TakeId) -> Vec<u8> {
    [b"t", &quota.0[..], &take.0].concat()
}

pub(super) fn decode_take_key(key: &[u8]) -> Option<(Name, TakeId)> {
    let (quota, take) = key.strip_prefix(b"t")?.split_first_chunk()?;
    Some((Name(*quota), TakeId(take.try_into().ok()?)))
}

pub(super) fn encode_take(at: Timestamp, forget_at: Timestamp) -> Vec<u8> {
    [at.as_millis().to_be_bytes(), forget_at.as_millis().to_be_bytes()].concat()
}

pub(super) fn decode_take(value: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (at, rest) = value.split_first_chunk()?;
    let forget_at = rest.try_into().ok()?;
    Some((Timestamp::from_millis(u64::from_be_bytes(*at)), Timestamp::from_millis(u64::from_be_bytes(forget_at))))
}
