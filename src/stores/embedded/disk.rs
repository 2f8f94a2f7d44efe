//! The database on disk: its folder, how it is read, and how a batch is committed. Its keys are in `layout.rs`.
//!
//! One keyspace holds everything, so that one memtable and one journal serve all and one small write reaches the disk. Each
//! batch begins with its number, one more than that of the batch before: by this it is noticed at the start whether all that
//! was acknowledged is there (`opening.rs`).

use std::{
    collections::HashMap,
    fmt,
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot, config::PinningPolicy};

use super::{
    acknowledged::{Acknowledged, AcknowledgedFile},
    layout,
    opening::{self, OpenedDatabase},
};
use crate::{
    domain::time::Timestamp,
    ports::store::{Cursor, StoreError},
};

/// Blocks of tables kept in memory. With a smaller cache most of the work of a busy store is reading blocks again.
const CACHE_BYTES: u64 = 32 << 20;
/// What is held in memory before it becomes a table. Larger means fewer tables to merge, and more memory.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// The least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Files of tables kept open. `app/descriptors.rs` sets as many file descriptors apart, and some more for the engine's work.
const OPEN_FILES: usize = 128;

/// The keyspaces. The engine numbers them from 1 on, in the order in which they are made.
pub(super) const KEYSPACES: [&str; 1] = ["otpd"];
/// The key of the number of the last batch, in each keyspace: keyspaces are written to tables one by one.
pub(super) const SEQUENCE_KEY: &[u8] = b"n";

/// What a batch does: the new value of each key, or `None` to remove it.
pub(super) type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The open database and the lock of its folder. The lock is last, so that it is given up last.
pub(super) struct Disk {
    pub(super) tables: Tables,
    side_record: AcknowledgedFile,
    /// The last batch.
    pub(super) last: Acknowledged,
    _lock: File,
}

/// The database, to be read.
#[derive(Clone)]
pub(super) struct Tables {
    pub(super) keyspace: Keyspace,
    database: Database,
}

/// The database as it is at one moment: no batch shows in part.
pub(super) struct Moment {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

/// The engine failed. Whether it will ever work again nobody knows, so the store ends with it: what cannot be read must never
/// be told to be absent.
pub(super) fn engine_error(operation: &'static str, cause: impl fmt::Display) -> StoreError {
    StoreError::lasting(operation, cause)
}

impl Disk {
    /// Opens the database in a folder, which is made if need be. Fails if another process has it open, or if it does not hold
    /// all that was acknowledged, unless that is accepted. `now` is the store's time.
    pub(super) fn open(directory: &Path, accept_loss: bool, now: Timestamp) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        opening::check_mode(directory)?;
        let lock = lock(directory)?;
        let OpenedDatabase { tables, side_record, last } = opening::open(directory, accept_loss, now)?;
        Ok(Self { tables, side_record, last, _lock: lock })
    }

    /// The value of a key, as far as it is committed. For the writer, which alone commits: no batch is under way meanwhile.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.tables.keyspace.get(key).map_err(|cause| engine_error(operation, cause))
    }

    /// Writes all or nothing, and returns once it is on the disk and noted as acknowledged.
    pub(super) fn commit(&mut self, writes: Writes, now: Timestamp) -> Result<(), StoreError> {
        let sequence = self.last.sequence + 1;
        self.tables.commit(sequence, writes)?;
        self.last = Acknowledged { sequence, at: now };
        self.side_record.tell(self.last).map_err(|cause| engine_error("commit", cause))
    }

    /// Syncs what is noted, and tells whether the engine has given up in the background.
    pub(super) fn tick(&mut self) -> Result<(), StoreError> {
        self.side_record.sync().map_err(|cause| engine_error("sync", cause))?;
        self.tables.database.persist(PersistMode::Buffer).map_err(|cause| engine_error("sync", cause))
    }
}

impl Tables {
    /// The database as it is now.
    pub(super) fn moment(&self) -> Moment {
        Moment { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() }
    }

    /// All keyspaces.
    pub(super) fn keyspaces(&self) -> &[Keyspace] {
        std::slice::from_ref(&self.keyspace)
    }

    /// Writes a batch of this number, all or nothing, and returns once it is on the disk.
    pub(super) fn commit(&self, sequence: u64, writes: Writes) -> Result<(), StoreError> {
        let Self { keyspace, database } = self;
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        // First, where `journal.rs` looks for it.
        for each in self.keyspaces() {
            batch.insert(each, SEQUENCE_KEY, sequence.to_be_bytes());
        }
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit().map_err(|cause| engine_error("commit", cause))
    }

    /// The number of the last batch that all keyspaces have; 0: there is none.
    pub(super) fn sequence(&self) -> Result<u64, fjall::Error> {
        let numbers = self.keyspaces().iter().map(|keyspace| keyspace.get(SEQUENCE_KEY).map(decode_sequence));
        numbers.into_iter().try_fold(u64::MAX, |least, number| Ok(least.min(number?)))
    }
}

/// The number of a batch, or 0 where there is none.
pub(super) fn decode_sequence(value: Option<Slice>) -> u64 {
    value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl Moment {
    /// The value of a key, as far as it is committed: the engine shows a batch only once it is synced.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(&self.keyspace, key).map_err(|cause| engine_error(operation, cause))
    }

    /// The records from a key on, or all of them.
    pub(super) fn records_from(
        &self,
        operation: &'static str,
        from: Option<&Cursor>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let found = self.snapshot.range(&self.keyspace, layout::records_range(from));
        found.map(move |entry| entry.into_inner().map_err(|cause| engine_error(operation, cause)))
    }
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

/// Opens or makes the engine's database.
pub(super) fn engine(path: &Path) -> Result<Tables, fjall::Error> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(OPEN_FILES))
        .worker_threads(1)
        .open()?;
    // Every table is asked about names that are absent, as each new challenge's is: what answers that stays in memory.
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(true))
    };
    let [name] = KEYSPACES;
    let keyspace = database.keyspace(name, options)?;
    Ok(Tables { keyspace, database })
}
