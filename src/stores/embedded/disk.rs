//! The database on disk: its folder, how it is read, and how a batch is committed. Its keys are in `layout.rs`.
//!
//! Each kind of key has a keyspace of its own, with its own tables, so that what is large is not written again with what is
//! short-lived when tables are merged. All share one journal: one small write reaches the disk for a batch. Each batch begins
//! with its number, one more than that of the batch before: by this it is noticed at the start whether all that was
//! acknowledged is there (`opening.rs`).

use std::{
    collections::HashMap,
    fmt,
    fs::{DirBuilder, File, TryLockError},
    io,
    ops::Range,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use fjall::{
    AbstractTree, Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot,
    compaction::Leveled, config::PinningPolicy,
};

use super::{
    acknowledged::{Acknowledged, AcknowledgedFile},
    layout,
    opening::{self, OpenedDatabase},
    time::BothTimes,
};
use crate::{
    domain::time::Timestamp,
    ports::{
        clock::Stopwatch,
        store::{Cursor, StoreError},
    },
};

/// Blocks of tables kept in memory. With a smaller cache most of the work of a busy store is reading blocks again.
const CACHE_BYTES: u64 = 32 << 20;
/// How many bytes of each kind are kept in memory before they become a table. Few enough that looking among them costs little
/// more than in an empty store.
pub(super) const MEMTABLES: [u64; KEYSPACES.len()] = [8 << 20, 2 << 20, 2 << 20, 2 << 20];
/// New tables that are merged at once. Many, since each merge writes a level of the older ones again.
const NEW_TABLES: u8 = 12;
/// How large a table becomes when it is merged. The newest level of merged tables is as large as so many new ones.
const TABLE_BYTES: u64 = 8 << 20;
/// The least that the engine takes.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Files of tables kept open. `app/descriptors.rs` sets as many file descriptors apart, and some more for the engine's work.
const OPEN_FILES: usize = 128;

/// How long a folder that is in use is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The keyspaces: the kinds of keys. The engine numbers them from 1 on, in the order in which they are made.
pub(super) const KEYSPACES: [&str; 4] = [layout::RECORDS, layout::INDEX, layout::QUOTAS, layout::EXPIRIES];
/// The key of the number of the last batch, in each keyspace: keyspaces are written to tables one by one.
pub(super) const SEQUENCE_KEY: &[u8] = b"n";

/// What a batch does: the new value of each key, or `None` to remove it.
pub(super) type Writes = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// The open database, as the writer has it, and the lock of its folder. The lock is last, so that a store that is closed gives
/// it up last: the readers have given up the database before. After a failure they have not, and a process that opens the
/// folder meanwhile is refused by the engine's own lock.
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
    /// In the order of their names.
    keyspaces: Arc<[Keyspace; KEYSPACES.len()]>,
    database: Database,
}

/// The database as it is at one moment: no batch shows in part.
pub(super) struct Moment {
    snapshot: Snapshot,
    tables: Tables,
}

/// The engine failed. Whether it will ever work again nobody knows, so the store ends with it: what cannot be read must never
/// be told to be absent.
pub(super) fn engine_error(operation: &'static str, cause: impl fmt::Display) -> StoreError {
    StoreError::lasting(operation, cause)
}

impl Disk {
    /// Opens the database in a folder, which is made if need be. Fails if another process has it open, or if it does not hold
    /// all that was acknowledged, unless that is accepted. `now` is the time of day.
    pub(super) fn open(directory: &Path, accept_loss: bool, now: Timestamp) -> Result<Self, StoreError> {
        let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        opening::check_mode(directory)?;
        let in_use = || StoreError::new("open", format!("{} is in use by another process", directory.display()));
        Self::open_locked(directory, lock_soon(directory)?.ok_or_else(in_use)?, accept_loss, now)
    }

    /// Opens the database in a folder that is locked already.
    pub(super) fn open_locked(
        directory: &Path,
        lock: File,
        accept_loss: bool,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let OpenedDatabase { tables, side_record, last } = opening::open(directory, accept_loss, now)?;
        Ok(Self { tables, side_record, last, _lock: lock })
    }

    /// The value of a key, as far as it is committed. For the writer, which alone commits: no batch is under way meanwhile.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.tables.keyspace(key).get(key).map_err(|cause| engine_error(operation, cause))
    }

    /// Writes all or nothing, and returns once it is on the disk and noted as acknowledged.
    pub(super) fn commit(&mut self, writes: Writes, now: BothTimes) -> Result<(), StoreError> {
        let sequence = self.last.sequence + 1;
        self.tables.commit(sequence, writes)?;
        self.last = Acknowledged { sequence, times: now };
        self.side_record.tell(self.last).map_err(|cause| engine_error("commit", cause))
    }

    /// Syncs what is noted, and first notes it where the times are no longer as far apart; tells whether the engine has given up
    /// in the background.
    pub(super) fn tick(&mut self, now: BothTimes) -> Result<(), StoreError> {
        if !self.last.times.as_far_apart(now) {
            self.last.times = now;
            self.side_record.tell_times(self.last).map_err(|cause| engine_error("sync", cause))?;
        }
        self.side_record.sync().map_err(|cause| engine_error("sync", cause))?;
        self.tables.database.persist(PersistMode::Buffer).map_err(|cause| engine_error("sync", cause))
    }

    /// Puts all keys of a moment into a database that has none, and closes it. They become tables at once, so that memory does
    /// not grow with their number. `sequence` is the number of the last batch among them.
    pub(super) fn fill(
        self,
        sequence: u64,
        pairs: impl Iterator<Item = Result<(Slice, Slice), StoreError>>,
    ) -> Result<(), StoreError> {
        let failed = |cause: fjall::Error| StoreError::new("back up", cause);
        let mut pairs = pairs.peekable();
        for (keyspace, kind) in self.tables.keyspaces().iter().zip(KEYSPACES) {
            let mut table = keyspace.start_ingestion().map_err(failed)?;
            // Belongs to each keyspace, in order among its keys.
            let mut number = (sequence > 0).then(|| sequence.to_be_bytes());
            while let Some(pair) = pairs.next_if(|pair| is_of_kind(pair, kind)) {
                let (key, value) = pair?;
                if &*key > SEQUENCE_KEY
                    && let Some(number) = number.take()
                {
                    table.write(SEQUENCE_KEY, number).map_err(failed)?;
                }
                table.write(key, value).map_err(failed)?;
            }
            if let Some(number) = number {
                table.write(SEQUENCE_KEY, number).map_err(failed)?;
            }
            table.finish().map_err(failed)?;
        }
        if pairs.next().is_some() {
            return Err(StoreError::new("back up", "a key is of no known kind"));
        }
        self.tables.database.persist(PersistMode::SyncAll).map_err(failed)
    }
}

/// Whether a key is of a kind. An error is of any.
fn is_of_kind(pair: &Result<(Slice, Slice), StoreError>, kind: &str) -> bool {
    pair.as_ref().map_or(true, |(key, _)| key.starts_with(kind.as_bytes()))
}

impl Tables {
    /// The database as it is now.
    pub(super) fn moment(&self) -> Moment {
        Moment { snapshot: self.database.snapshot(), tables: self.clone() }
    }

    /// All keyspaces.
    pub(super) fn keyspaces(&self) -> &[Keyspace; KEYSPACES.len()] {
        &self.keyspaces
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

    /// The keys of a range, all of one kind. For the writer, as `Disk::get` is.
    pub(super) fn range(
        &self,
        range: Range<Vec<u8>>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), fjall::Error>> + use<> {
        self.keyspace(&range.start).range(range).map(Guard::into_inner)
    }

    /// Writes a batch of this number, all or nothing, and returns once it is on the disk.
    pub(super) fn commit(&self, sequence: u64, writes: Writes) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        // First, where `journal.rs` looks for it.
        for each in self.keyspaces() {
            batch.insert(each, SEQUENCE_KEY, sequence.to_be_bytes());
        }
        for (key, value) in writes {
            let keyspace = self.keyspace(&key);
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        batch.commit().map_err(|cause| engine_error("commit", cause))?;
        // The engine would do this by itself, in its background thread. Its commits ask for that again and again while the
        // thread is busy with tables, until the queue of the thread is full; then the thread waits for room in its own queue,
        // for ever, and what is kept in memory grows without bound.
        let kept = self.kept_in_memory().into_iter().zip(MEMTABLES);
        for (keyspace, (kept, limit)) in self.keyspaces().iter().zip(kept) {
            if kept >= limit {
                keyspace.rotate_memtable().map_err(|cause| engine_error("commit", cause))?;
            }
        }
        Ok(())
    }

    /// How many bytes of each kind are not in tables yet.
    pub(super) fn kept_in_memory(&self) -> [u64; KEYSPACES.len()] {
        self.keyspaces.each_ref().map(|keyspace| keyspace.tree.active_memtable().size())
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
    /// The number of the last batch that shows.
    pub(super) fn sequence(&self, operation: &'static str) -> Result<u64, StoreError> {
        let [first, ..] = self.tables.keyspaces();
        let number = self.snapshot.get(first, SEQUENCE_KEY).map_err(|cause| engine_error(operation, cause))?;
        Ok(decode_sequence(number))
    }

    /// All keys and values but the number of the last batch, kind by kind, and in order within each.
    pub(super) fn all(&self, operation: &'static str) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let all = self.tables.keyspaces().iter().flat_map(|keyspace| self.snapshot.iter(keyspace));
        let all = all.map(move |entry| entry.into_inner().map_err(|cause| engine_error(operation, cause)));
        all.filter(|pair| pair.as_ref().map_or(true, |(key, _)| **key != *SEQUENCE_KEY))
    }

    /// The value of a key, as far as it is committed: the engine shows a batch only once it is synced.
    pub(super) fn get(&self, operation: &'static str, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(self.tables.keyspace(key), key).map_err(|cause| engine_error(operation, cause))
    }

    /// The records from a key on, or all of them.
    pub(super) fn records_from(
        &self,
        operation: &'static str,
        from: Option<&Cursor>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> {
        let range = layout::records_range(from);
        let found = self.snapshot.range(self.tables.keyspace(&range.start), range);
        found.map(move |entry| entry.into_inner().map_err(|cause| engine_error(operation, cause)))
    }
}

/// Locks a folder, and waits a moment for one that is locked: a process that is ending holds it until all of it is gone.
fn lock_soon(directory: &Path) -> Result<Option<File>, StoreError> {
    let waited = Stopwatch::start();
    loop {
        let locked = lock(directory)?;
        if locked.is_some() || waited.elapsed() >= LOCK_WAIT {
            return Ok(locked);
        }
        thread::sleep(LOCK_WAIT / 50);
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

/// Opens or makes the engine's database.
pub(super) fn engine(path: &Path) -> Result<Tables, fjall::Error> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(OPEN_FILES))
        .worker_threads(1)
        .open()?;
    let [records, index, quotas, expiries] = KEYSPACES.map(|name| database.keyspace(name, keyspace_options));
    Ok(Tables { keyspaces: Arc::new([records?, index?, quotas?, expiries?]), database })
}

fn keyspace_options() -> KeyspaceCreateOptions {
    let merging = Leveled::default().with_l0_threshold(NEW_TABLES).with_table_target_size(TABLE_BYTES);
    // Every table is asked about names that are absent, as each new challenge's is: what answers that stays in memory.
    KeyspaceCreateOptions::default()
        // See `Tables::commit`.
        .max_memtable_size(u64::MAX)
        .compaction_strategy(Arc::new(merging))
        .filter_block_pinning_policy(PinningPolicy::all(true))
        .index_block_pinning_policy(PinningPolicy::all(true))
}
