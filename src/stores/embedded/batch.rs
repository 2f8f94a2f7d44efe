//! One batch: operations worked out in order, each seeing those before it, to be committed together.

use std::time::Duration;

use super::{
    command::{Ask, Census, Pending},
    disk::{self, Disk, Record, Writes},
    takes::Takes,
};
use crate::{
    domain::{quota::Window, time::Timestamp},
    ports::store::{Inserted, Name, Sealed, StoreError, Swapped, TakeId, Taken, Version},
};

/// What the writer keeps from batch to batch.
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) takes: Takes,
    /// No expiry entry is earlier. The sweeper starts here, since the entries that it removed leave marks that are slow
    /// to walk over.
    swept_to: Timestamp,
}

impl State {
    /// Reads the takes back from disk.
    pub(super) fn load(disk: Disk) -> Result<Self, StoreError> {
        let mut takes = Takes::default();
        for entry in disk.keyspace.prefix("t") {
            let (key, value) = entry.into_inner().map_err(|cause| StoreError::new("open", cause))?;
            let Some(((quota, take), (at, forget_at))) = disk::decode_take_key(&key).zip(disk::decode_take(&value))
            else {
                return Err(StoreError::new("open", "a take is not in a known format"));
            };
            takes.restore(quota, take, at, forget_at);
        }
        Ok(Self { disk, takes, swept_to: Timestamp::default() })
    }
}

/// A batch in the making.
pub(super) struct Batch<'a> {
    state: &'a mut State,
    now: Timestamp,
    writes: Writes,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state: &'a mut State, now: Timestamp) -> Self {
        Self { state, now, writes: Writes::new() }
    }

    /// What is to be committed.
    pub(super) fn into_writes(self) -> Writes {
        self.writes
    }

    /// Works out one operation; `None` if it has no answer.
    pub(super) fn apply(&mut self, ask: Ask) -> Option<Pending> {
        Some(match ask {
            Ask::Insert { name, record, ttl, reply } => Pending::Insert(reply, self.insert(name, &record, ttl)),
            Ask::Swap { name, read, record, ttl, reply } => Pending::Swap(reply, self.swap(name, read, &record, ttl)),
            Ask::Take { quota, take, windows, now, reply } => {
                Pending::Take(reply, Ok(self.take(quota, take, &windows, now)))
            }
            Ask::GiveBack { quota, take, reply } => {
                self.give_back(quota, take);
                Pending::GiveBack(reply, Ok(()))
            }
            Ask::Check { reply } => Pending::Check(reply),
            Ask::Census { reply } => Pending::Census(reply, self.census()),
            Ask::Sweep | Ask::Close => return None,
        })
    }

    /// Removes about `limit` keys whose time is over; whether more are left. Only as the first step of a batch.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<bool, StoreError> {
        let gone = self.state.takes.sweep(self.now, limit);
        let mut more = gone.len() >= limit;
        self.writes.extend(gone.into_iter().map(|(quota, take)| (disk::take_key(quota, take), None)));

        // The clock may have gone back.
        let from = self.state.swept_to.min(self.now);
        let due = self.state.disk.keyspace.range(disk::expiry_range(from, self.now));
        let mut left = limit;
        for entry in due.take(limit) {
            let key = entry.key().map_err(|cause| StoreError::new("sweep", cause))?;
            let Some((at, name)) = disk::decode_expiry_key(&key) else { continue };
            match self.record("sweep", name)? {
                Some(record) if record.expires_at > self.now => {
                    self.writes.insert(disk::expiry_key(record.expires_at, name), Some(Vec::new()));
                }
                Some(_) => drop(self.writes.insert(disk::record_key(name), None)),
                None => {}
            }
            self.writes.insert(key.to_vec(), None);
            self.state.swept_to = at;
            left -= 1;
        }
        if left == 0 {
            more = true;
        } else {
            self.state.swept_to = self.now;
        }
        Ok(more)
    }

    fn insert(&mut self, name: Name, record: &Sealed, ttl: Duration) -> Result<Inserted, StoreError> {
        let present = self.record("insert", name)?;
        let expires_at = self.now.plus(ttl);
        match present {
            Some(present) if present.expires_at > self.now => return Ok(Inserted::Exists(present.sealed)),
            // Expired, but its expiry entry is still there and will find this record in its place.
            Some(_) => {}
            None => {
                self.state.swept_to = self.state.swept_to.min(expires_at);
                self.writes.insert(disk::expiry_key(expires_at, name), Some(Vec::new()));
            }
        }
        self.writes.insert(disk::record_key(name), Some(Record::encode(expires_at, record)));
        Ok(Inserted::Done)
    }

    fn swap(&mut self, name: Name, read: Version, record: &Sealed, ttl: Duration) -> Result<Swapped, StoreError> {
        let Some(present) = self.record("swap", name)?.filter(|present| present.expires_at > self.now) else {
            return Ok(Swapped::Missing);
        };
        if present.sealed.version() != read {
            return Ok(Swapped::Stale(present.sealed));
        }
        // The expiry entry stays where it is: the sweeper moves it when it gets there.
        let expires_at = present.expires_at.max(self.now.plus(ttl));
        self.writes.insert(disk::record_key(name), Some(Record::encode(expires_at, record)));
        Ok(Swapped::Done)
    }

    fn take(&mut self, quota: Name, take: TakeId, windows: &[Window], now: Timestamp) -> Taken {
        let change = self.state.takes.take(quota, take, windows, now, self.now);
        self.writes.extend(change.removed.into_iter().map(|take| (disk::take_key(quota, take), None)));
        if let Some(forget_at) = change.added {
            self.writes.insert(disk::take_key(quota, take), Some(disk::encode_take(now, forget_at)));
        }
        change.outcome
    }

    fn give_back(&mut self, quota: Name, take: TakeId) {
        if self.state.takes.give_back(quota, take) {
            self.writes.insert(disk::take_key(quota, take), None);
        }
    }

    fn census(&self) -> Result<Census, StoreError> {
        let count = |prefix: &str| {
            self.state.disk.keyspace.prefix(prefix).try_fold(0, |count, entry| {
                entry.key().map(|_| count + 1).map_err(|cause| StoreError::new("census", cause))
            })
        };
        Ok(Census { records: count("r")?, expiries: count("x")?, takes: count("t")? })
    }

    /// The record of a name, be it expired or not, as the operations before have left it.
    fn record(&self, operation: &'static str, name: Name) -> Result<Option<Record>, StoreError> {
        let key = disk::record_key(name);
        let decode = |value: &[u8]| {
            Record::decode(value).ok_or_else(|| StoreError::new(operation, "a record is not in a known format"))
        };
        match self.writes.get(&key) {
            Some(value) => value.as_deref().map(decode).transpose(),
            None => self.state.disk.get(operation, &key)?.as_deref().map(decode).transpose(),
        }
    }
}
