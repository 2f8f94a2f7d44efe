//! One batch: operations worked out in order, each seeing those before it, to be committed together.

use std::time::Duration;

use super::{
    disk::{Disk, Writes, engine_error},
    layout::{self, Entry},
    quotas::QuotaIndex,
};
use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::store::{Acquired, Change, Claimed, Committed, Name, Partition, Sealed, StoreError},
};

/// What the writer keeps from batch to batch.
pub(super) struct WriterState {
    pub(super) disk: Disk,
    quotas: QuotaIndex,
    /// No expiry key is earlier. The sweeper starts here, since the keys that it removed leave marks that are slow to walk
    /// over.
    swept_to: Timestamp,
}

impl WriterState {
    /// Reads the uses of quotas back from disk.
    pub(super) fn read(disk: Disk) -> Result<Self, StoreError> {
        let mut quotas = QuotaIndex::default();
        for entry in disk.tables.keyspace.prefix(layout::USES) {
            let (key, value) = entry.into_inner().map_err(|cause| engine_error("open", cause))?;
            let unknown = || StoreError::new("open", "a use of a quota is not in a known format");
            let (quota, usage) = layout::decode_use_key(&key).ok_or_else(unknown)?;
            let (counted, longest) = layout::decode_use(usage, &value).ok_or_else(unknown)?;
            quotas.restore(quota, counted, longest);
        }
        Ok(Self { disk, quotas, swept_to: Timestamp::default() })
    }
}

/// How many keys of each kind are on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records, expired ones too as long as they are not removed.
    pub records: u64,
    /// Index entries, expired ones too as long as they are not removed.
    pub index: u64,
    /// Expiry keys: one per record and index entry.
    pub expiries: u64,
    /// Uses of quotas.
    pub uses: u64,
}

/// A batch in the making.
pub(super) struct Batch<'a> {
    state: &'a mut WriterState,
    /// The store's own time.
    time: Timestamp,
    writes: Writes,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state: &'a mut WriterState, time: Timestamp) -> Self {
        Self { state, time, writes: Writes::new() }
    }

    /// What is to be committed.
    pub(super) fn into_writes(self) -> Writes {
        self.writes
    }

    pub(super) fn commit(&mut self, partition: Partition, changes: &[Change]) -> Result<Committed, StoreError> {
        let mut present = Vec::with_capacity(changes.len());
        for change in changes {
            let key = layout::record_key(partition, change.name);
            let entry = self.entry("commit", &key)?;
            let expires_at = entry.as_ref().map(|entry| entry.expires_at);
            let live = entry.filter(|entry| entry.expires_at > self.time);
            let record = live.map(|entry| entry.into_record().ok_or_else(|| unknown_format("commit"))).transpose()?;
            present.push((key, expires_at, record));
        }
        let as_expected = |(change, (_, _, record)): (&Change, &(_, _, Option<_>))| {
            change.expected == record.as_ref().map(Sealed::version)
        };
        if !changes.iter().zip(&present).all(as_expected) {
            return Ok(Committed::Conflict(present.into_iter().map(|(_, _, record)| record).collect()));
        }
        for (change, (key, expires_at, _)) in changes.iter().zip(present) {
            if let Some(write) = &change.write {
                self.put(key, expires_at, write.ttl, write.record.as_bytes());
            }
        }
        Ok(Committed::Done)
    }

    pub(super) fn claim(&mut self, index: Name, partition: Partition, life: Duration) -> Result<Claimed, StoreError> {
        let key = layout::index_key(index);
        let entry = self.entry("claim", &key)?;
        let expires_at = entry.as_ref().map(|entry| entry.expires_at);
        if let Some(live) = entry.filter(|entry| entry.expires_at > self.time) {
            if live.partition().ok_or_else(|| unknown_format("claim"))? != partition {
                return Ok(Claimed::Elsewhere);
            }
            if live.expires_at >= self.time.plus(life) {
                return Ok(Claimed::Ours(live.expires_at.since(self.time)));
            }
        }
        let expires_at = self.put(key, expires_at, life, &partition.0);
        Ok(Claimed::Ours(expires_at.since(self.time)))
    }

    pub(super) fn acquire(&mut self, quota: Name, usage: Token, windows: &[Window], now: Timestamp) -> Acquired {
        let change = self.state.quotas.acquire(quota, usage, windows, now, self.time);
        self.remove_uses(change.removed.into_iter().map(|usage| (quota, usage)));
        if let Some((counted, longest)) = change.written {
            let key = layout::use_key(quota, counted.usage);
            self.writes.insert(key, Some(layout::encode_use(&counted, longest)));
        }
        change.outcome
    }

    pub(super) fn refund(&mut self, quota: Name, usage: Token) {
        if self.state.quotas.refund(quota, usage) {
            self.remove_uses([(quota, usage)]);
        }
    }

    pub(super) fn usage(&self, quota: Name, windows: &[Window], now: Timestamp) -> Vec<u32> {
        self.state.quotas.usage(quota, windows, now)
    }

    pub(super) fn clear(&mut self, quota: Name) {
        let uses = self.state.quotas.clear(quota);
        self.remove_uses(uses.into_iter().map(|usage| (quota, usage)));
    }

    pub(super) fn census(&self) -> Result<Census, StoreError> {
        let count = |prefix: &str| {
            self.state.disk.tables.keyspace.prefix(prefix).try_fold(0, |count, entry| {
                entry.key().map(|_| count + 1).map_err(|cause| engine_error("census", cause))
            })
        };
        Ok(Census {
            records: count(layout::RECORDS)?,
            index: count(layout::INDEX)?,
            expiries: count(layout::EXPIRIES)?,
            uses: count(layout::USES)?,
        })
    }

    /// Removes about `limit` keys whose time is over; whether more are left. Only as the first step of a batch.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<bool, StoreError> {
        let gone = self.state.quotas.sweep(self.time, limit);
        let more_uses = gone.len() >= limit;
        self.remove_uses(gone);

        let due = self.state.disk.tables.keyspace.range(layout::expiry_range(self.state.swept_to, self.time));
        let mut left = limit;
        for entry in due.take(limit) {
            left -= 1;
            let expiry = entry.key().map_err(|cause| engine_error("sweep", cause))?;
            let Some((at, key)) = layout::decode_expiry_key(&expiry) else { continue };
            match self.entry("sweep", key)? {
                Some(entry) if entry.expires_at > self.time => {
                    self.writes.insert(layout::expiry_key(entry.expires_at, key), Some(Vec::new()));
                }
                Some(_) => drop(self.writes.insert(key.to_vec(), None)),
                None => {}
            }
            self.writes.insert(expiry.to_vec(), None);
            self.state.swept_to = at;
        }
        if left > 0 {
            self.state.swept_to = self.time;
        }
        Ok(more_uses || left == 0)
    }

    /// Writes a record or index entry; the time to which it lives. `expires_at` is the expiry of the one that is there, which
    /// may have expired. The expiry key of that one stays: the sweeper moves it when it gets there.
    fn put(&mut self, key: Vec<u8>, expires_at: Option<Timestamp>, ttl: Duration, content: &[u8]) -> Timestamp {
        let until = self.time.plus(ttl);
        if expires_at.is_none() {
            self.writes.insert(layout::expiry_key(until, &key), Some(Vec::new()));
        }
        let until = expires_at.map_or(until, |present| present.max(until));
        self.writes.insert(key, Some(Entry::encode(until, content)));
        until
    }

    fn remove_uses(&mut self, uses: impl IntoIterator<Item = (Name, Token)>) {
        self.writes.extend(uses.into_iter().map(|(quota, usage)| (layout::use_key(quota, usage), None)));
    }

    /// What is under a key, be it expired or not, as the operations before have left it.
    fn entry(&self, operation: &'static str, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let decode = |value: &[u8]| Entry::decode(value).ok_or_else(|| unknown_format(operation));
        match self.writes.get(key) {
            Some(value) => value.as_deref().map(decode).transpose(),
            None => self.state.disk.get(operation, key)?.as_deref().map(decode).transpose(),
        }
    }
}

/// What is on the disk is not as this version writes it.
pub(super) fn unknown_format(operation: &'static str) -> StoreError {
    StoreError::new(operation, "what is stored is not in a known format")
}
