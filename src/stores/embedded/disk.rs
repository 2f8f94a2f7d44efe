//! The database on disk: its folder, how it is read, and how a batch is committed. Its keys are in `layout.rs`.
//!
//! Each kind of key has a keyspace of its own, with its own tables, so that what is large is not written again with what is
//! short-lived when tables are merged. All share one journal: one small write reaches the disk for a batch.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    ops::Range,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
};

use fjall::{
    Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot, compaction::Leveled,
    config::PinningPolicy,
};

use super::layout;
use crate::ports::store::{Cursor, StoreError};

/// Blocks of tables kept in memory. With a smaller cache most of the work of a busy store is reading blocks again.
const CACHE_BYTES: u64 = 32 << 20;
/// The kinds of keys, and how many bytes of each are kept in memory before they become a table. Larger means fewer tables to
/// merge, and more memory. A record is written four times in its first minutes, of which a table holds the last.
const KINDS: [(&str, u64); 4] =
    [(layout::RECORDS, 16 << 20), (layout::INDEX, 4 << 20), (layout::QUOTAS, 4 << 20), (layout::EXPIRIES, 4 << 20)];
/// The least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;

/// The folder of the database in the store's.
pub(super) const DATA: &str = "data";

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
    /// In the order of the kinds.
    keyspaces: Arc<[Keyspace; KINDS.len()]>,
    database: Database,
}

/// The database as it is at one moment: no batch shows in part.
pub(super) struct Moment {
    snapshot: Snapshot,
    tables: Tables,
}

impl Disk {
    /// Opens the database in a folder, which is made if need be. Fails if another process has it open.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let in_use = || StoreError::new("open", format!("{} is in use by another process", directory.display()));
        Self::open_locked(directory, lock(directory)?.ok_or_else(in_use)?)
    }

    /// Opens the database in a folder that is locked already.
    pub(super) fn open_locked(directory: &Path, lock: File) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
        let data = directory.join(DATA);
        if !data.try_exists().map_err(failed)? {
            create(directory, &data)?;
        }
        Ok(Self { tables: open(&data)?, _lock: lock })
    }

    /// The value of a key, as far as it is committed. For the writer, which alone commits: no batch is under way meanwhile.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.tables.keyspace(key).get(key).map_err(|cause| StoreError::new(operation, cause))
    }

    /// Writes all or nothing, and returns once it is on the disk.
    pub(super) fn commit(&self, writes: Writes) -> Result<(), fjall::Error> {
        let mut batch = self.tables.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in writes {
            let keyspace = self.tables.keyspace(&key);
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit()
    }

    /// Puts keys into a database that has none, in the order in which [`Moment::all`] tells them. They become tables at once,
    /// so that memory does not grow with their number.
    pub(super) fn fill(
        &self,
        pairs: impl Iterator<Item = Result<(Slice, Slice), StoreError>>,
    ) -> Result<(), StoreError> {
        let failed = |cause: fjall::Error| StoreError::new("back up", cause);
        let mut pairs = pairs.peekable();
        for (keyspace, (kind, _)) in self.tables.keyspaces.iter().zip(KINDS) {
            let is_kind = |pair: &Result<(Slice, Slice), StoreError>| match pair {
                Ok((key, _)) => key.starts_with(kind.as_bytes()),
                Err(_) => true,
            };
            let mut table = keyspace.start_ingestion().map_err(failed)?;
            while let Some(pair) = pairs.next_if(is_kind) {
                let (key, value) = pair?;
                table.write(key, value).map_err(failed)?;
            }
            table.finish().map_err(failed)?;
        }
        match pairs.next() {
            Some(_) => Err(StoreError::new("back up", "a key is of no known kind")),
            None => Ok(()),
        }
    }

    /// Closes the database once all of it is on the disk.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.tables.database.persist(PersistMode::SyncAll).map_err(|cause| StoreError::new("close", cause))
    }
}

impl Tables {
    /// The database as it is now.
    pub(super) fn moment(&self) -> Moment {
        Moment { snapshot: self.database.snapshot(), tables: self.clone() }
    }

    /// The keys of a range, all of one kind. For the writer, as `Disk::get` is.
    pub(super) fn range(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), fjall::Error>> + use<> {
        self.keyspace(&range.start).range(range).map(Guard::into_inner)
    }

    /// Where a key is kept, by the kind that it begins with.
    fn keyspace(&self, key: &[u8]) -> &Keyspace {
        let [records, index, quotas, expiries] = &*self.keyspaces;
        match key.first() {
            Some(b'i') => index,
            Some(b'q') => quotas,
            Some(b'x') => expiries,
            _ => records,
        }
    }
}

impl Moment {
    /// All keys and values, kind by kind, and in order within each.
    pub(super) fn all(&self, operation: &'static str) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let all = self.tables.keyspaces.iter().flat_map(|keyspace| self.snapshot.iter(keyspace));
        all.map(move |entry| entry.into_inner().map_err(|cause| StoreError::new(operation, cause)))
    }

    /// The value of a key, as far as it is committed: the engine shows a batch only once it is synced.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(self.tables.keyspace(key), key).map_err(|cause| StoreError::new(operation, cause))
    }

    /// The records from a key on, or all of them.
    pub(super) fn records_from(
        &self,
        operation: &'static str,
        from: Option<&Cursor>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let range = layout::records_range(from);
        let found = self.snapshot.range(self.tables.keyspace(&range.start), range);
        found.map(move |entry| entry.into_inner().map_err(|cause| StoreError::new(operation, cause)))
    }
}

/// Locks a folder for as long as the file is open; `None`: another process has it.
pub(super) fn lock(directory: &Path) -> Result<Option<File>, StoreError> {
    let path = directory.join("lock");
    let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
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
    let [records, index, quotas, expiries] =
        KINDS.map(|(kind, memtable)| database.keyspace(kind, || keyspace_options(memtable)).map_err(failed));
    let keyspaces = Arc::new([records?, index?, quotas?, expiries?]);
    Ok(Tables { keyspaces, database })
}

/// Every table is asked about names that are absent, as each new challenge's is: what answers that stays in memory.
fn env(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}
fn keyspace_options(memtable: u64) -> KeyspaceCreateOptions {
    let memtable = if memtable == 16 << 20 { env("MR", memtable) } else { env("MO", memtable) };
    let leveled = Leveled::default()
        .with_l0_threshold(env("L0", 4) as u8)
        .with_table_target_size(env("TS", 64 << 20))
        .with_level_ratio_policy(vec![env("RATIO", 10) as f32]);
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable)
        .compaction_strategy(Arc::new(leveled))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
}
