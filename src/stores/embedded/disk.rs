//! The database on disk: its folder, how it is read, and how a batch is committed. Its keys are in `layout.rs`.
//!
//! One keyspace holds everything, so that one memtable and one journal serve all and one small write reaches the disk.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot, config::PinningPolicy};

use super::layout;
use crate::ports::store::{Cursor, StoreError};

/// Blocks of tables kept in memory. With a smaller cache most of the work of a busy store is reading blocks again.
const CACHE_BYTES: u64 = 32 << 20;
/// What is held in memory before it becomes a table. Larger means fewer tables to merge, and more memory.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// The least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// What a batch does: the new value of each key, or `None` to remove it.
pub(super) type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The open database and the lock of its folder. The lock is last, so that it is given up last.
pub(super) struct Disk {
    pub(super) tables: Tables,
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
        Ok(Self { tables: open(&data)?, _lock: lock })
    }

    /// The value of a key, as far as it is committed. For the writer, which alone commits: no batch is under way meanwhile.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.tables.keyspace.get(key).map_err(|cause| StoreError::new(operation, cause))
    }

    /// Writes all or nothing, and returns once it is on the disk.
    pub(super) fn commit(&self, writes: Writes) -> Result<(), fjall::Error> {
        let Tables { keyspace, database } = &self.tables;
        let mut batch = database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit()
    }
}

impl Tables {
    /// The database as it is now.
    pub(super) fn moment(&self) -> Moment {
        Moment { snapshot: self.database.snapshot(), keyspace: self.keyspace.clone() }
    }
}

impl Moment {
    /// The value of a key, as far as it is committed: the engine shows a batch only once it is synced.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(&self.keyspace, key).map_err(|cause| StoreError::new(operation, cause))
    }

    /// The records from a key on, or all of them.
    pub(super) fn records_from(
        &self,
        operation: &'static str,
        from: Option<&Cursor>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let found = self.snapshot.range(&self.keyspace, layout::records_range(from));
        found.map(move |entry| entry.into_inner().map_err(|cause| StoreError::new(operation, cause)))
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

/// Makes an empty database beside where it belongs and moves it there when it is whole: the engine cannot open what it was
/// killed while creating.
fn create(directory: &Path, data: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
    let new = directory.join("data.new");
    match fs::remove_dir_all(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    drop(open(&new)?);
    fs::rename(&new, data).map_err(failed)?;
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn open(path: &Path) -> Result<Tables, StoreError> {
    let failed = |cause: fjall::Error| StoreError::new("open", format!("{}: {cause}", path.display()));
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(1)
        .open()
        .map_err(failed)?;
    // Every table is asked about names that are absent, as each new challenge's is: what answers that stays in memory.
    let options = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(MEMTABLE_BYTES)
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .index_block_pinning_policy(PinningPolicy::all(true))
    };
    let keyspace = database.keyspace("otpd", options).map_err(failed)?;
    Ok(Tables { keyspace, database })
}
