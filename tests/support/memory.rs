//! A store in memory that obeys the port. Included with `#[path]` by the test binaries that need one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        store::{
            Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store, StoreError,
        },
    },
};

/// Keeps everything until its time to live is over, by the clock of the test.
pub(crate) struct MemoryStore {
    clock: Arc<dyn Clock>,
    locates_records: bool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: HashMap<(Partition, Name), (Sealed, Timestamp)>,
    index: HashMap<Name, (Partition, Timestamp)>,
    quotas: HashMap<Name, Quota>,
    /// Every record ever written, for tests that look for secrets.
    written: Vec<u8>,
    closed: bool,
}

#[derive(Default)]
struct Quota {
    uses: Vec<(Token, Timestamp)>,
    longest: Duration,
    until: Timestamp,
}

impl MemoryStore {
    /// An empty store. The clock decides when a time to live is over.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, locates_records: true, kept: Mutex::default() }
    }

    /// The same, but as a cluster does it: an index entry and the records that it tells of are read apart.
    pub(crate) fn reading_apart(clock: Arc<dyn Clock>) -> Self {
        Self { locates_records: false, ..Self::new(clock) }
    }

    /// All bytes that were ever stored: names, records, index entries, uses.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let kept = self.kept();
        let mut all = kept.written.clone();
        for (name, quota) in &kept.quotas {
            all.extend_from_slice(&name.0);
            for (usage, _) in &quota.uses {
                all.extend_from_slice(&usage.0);
            }
        }
        all
    }

    /// How many uses are kept in all quotas together.
    pub(crate) fn uses(&self) -> usize {
        self.kept().quotas.values().map(|quota| quota.uses.len()).sum()
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.kept().records.len()
    }

    /// How many index entries there are.
    pub(crate) fn index_entries(&self) -> usize {
        self.kept().index.len()
    }

    /// Loses the records of some partitions, as a node that came back empty, or one that evicts keys.
    pub(crate) fn lose(&self, is_lost: fn(Partition) -> bool) {
        self.kept().records.retain(|(partition, _), _| !is_lost(*partition));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept now, and the time.
    fn open(&self, operation: &'static str) -> Result<(MutexGuard<'_, Kept>, Timestamp), StoreError> {
        let now = self.clock.now();
        let mut kept = self.kept();
        if kept.closed {
            return Err(StoreError::new(operation, "the store is closed"));
        }
        kept.records.retain(|_, (_, until)| now < *until);
        kept.index.retain(|_, (_, until)| now < *until);
        kept.quotas.retain(|_, quota| now < quota.until);
        Ok((kept, now))
    }
}

// Not every test binary uses all of it.
const _: fn(&MemoryStore, fn(Partition) -> bool) = MemoryStore::lose;

impl Kept {
    fn records(&self, partition: Partition, names: &[Name]) -> Vec<Option<Sealed>> {
        let record = |name: &Name| self.records.get(&(partition, *name)).map(|(record, _)| record.clone());
        names.iter().map(record).collect()
    }
}

impl Quota {
    fn count(&self, now: Timestamp, per: Duration) -> u32 {
        u32::try_from(self.uses.iter().filter(|(_, at)| !is_past(*at, now, per)).count()).unwrap_or(u32::MAX)
    }
}

fn is_past(at: Timestamp, now: Timestamp, per: Duration) -> bool {
    at <= now && now.since(at) >= per
}

#[async_trait]
impl Store for MemoryStore {
    async fn locate(&self, index: Name, names: &[Name], _deadline: Deadline) -> Result<Option<Located>, StoreError> {
        let (kept, now) = self.open("locate")?;
        Ok(kept.index.get(&index).map(|(partition, until)| Located {
            partition: *partition,
            life: until.since(now),
            records: self.locates_records.then(|| kept.records(*partition, names)),
        }))
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        _deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        let (mut kept, now) = self.open("claim")?;
        kept.written.extend_from_slice(&index.0);
        kept.written.extend_from_slice(&partition.0);
        let (present, until) = kept.index.entry(index).or_insert((partition, now));
        if *present != partition {
            return Ok(Claimed::Elsewhere);
        }
        *until = now.plus(life).max(*until);
        Ok(Claimed::Ours(until.since(now)))
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        _deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        Ok(self.open("read")?.0.records(partition, names))
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        _deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        let (mut kept, now) = self.open("commit")?;
        let names: Vec<Name> = changes.iter().map(|change| change.name).collect();
        let present = kept.records(partition, &names);
        if !changes.iter().zip(&present).all(|(change, record)| change.expected == record.as_ref().map(Sealed::version))
        {
            return Ok(Committed::Conflict(present));
        }
        for change in changes {
            let Some(write) = &change.write else { continue };
            kept.written.extend_from_slice(&change.name.0);
            kept.written.extend_from_slice(write.record.as_bytes());
            let key = (partition, change.name);
            let until = now.plus(write.ttl);
            let until = kept.records.get(&key).map_or(until, |(_, present)| until.max(*present));
            kept.records.insert(key, (write.record.clone(), until));
        }
        Ok(Committed::Done)
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        _deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        let (mut kept, time) = self.open("acquire")?;
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        let present = kept.quotas.entry(quota).or_default();
        present.longest = present.longest.max(longest);
        present.until = present.until.max(time.plus(present.longest));
        let longest = present.longest;
        present.uses.retain(|(_, at)| !is_past(*at, now, longest));
        if present.uses.iter().any(|(known, _)| *known == usage) {
            return Ok(Acquired::Before);
        }
        if windows.iter().any(|window| present.count(now, window.per) >= window.max) {
            return Ok(Acquired::Refused);
        }
        present.uses.push((usage, now));
        Ok(Acquired::Now)
    }

    async fn refund(&self, uses: &[(Name, Token)], _deadline: Deadline) -> Result<(), StoreError> {
        let (mut kept, _) = self.open("refund")?;
        for (quota, usage) in uses {
            if let Some(present) = kept.quotas.get_mut(quota) {
                present.uses.retain(|(known, _)| known != usage);
            }
        }
        Ok(())
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        _deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        let (kept, _) = self.open("usage")?;
        let count = |window: &Window| kept.quotas.get(&quota).map_or(0, |quota| quota.count(now, window.per));
        Ok(windows.iter().map(count).collect())
    }

    async fn clear(&self, quota: Name, _deadline: Deadline) -> Result<(), StoreError> {
        self.open("clear")?.0.quotas.remove(&quota);
        Ok(())
    }

    async fn check(&self, _deadline: Deadline) -> Result<Timestamp, StoreError> {
        self.open("check").map(|(_, now)| now)
    }

    /// All at once.
    async fn scan(&self, _from: Option<Cursor>, _deadline: Deadline) -> Result<ScanPage, StoreError> {
        let (kept, _) = self.open("scan")?;
        let records = kept.records.iter().map(|((partition, name), (record, _))| (*partition, *name, record.clone()));
        Ok(ScanPage { records: records.collect(), next: None })
    }

    async fn close(&self, _deadline: Deadline) {
        self.kept().closed = true;
    }
}
