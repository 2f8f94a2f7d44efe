//! One batch: operations worked out in order, each seeing those before it, to be committed together. Those on records are in
//! `commit.rs`, those on quotas in `pages.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use super::{
    commit::{self, RecordHeads},
    disk::{Disk, Writes, engine_error},
    layout::{self, Entry},
    pages::{self, LargeQuotas},
};
use crate::{
    domain::time::Timestamp,
    ports::store::{Claimed, Name, Partition, StoreError},
};

/// What the writer keeps from batch to batch.
pub(super) struct WriterState {
    pub(super) disk: Disk,
    pub(super) heads: RecordHeads,
    pub(super) large: LargeQuotas,
    /// No expiry is earlier. The sweeper starts here, since the keys that it removed leave marks that are slow to walk over.
    swept_to: Timestamp,
    /// The number of the last expiry. They begin anywhere, so that none is given twice, not even after a restart.
    expiry: u64,
}

impl WriterState {
    pub(super) fn new(disk: Disk) -> Self {
        // The standard library seeds its hashers from the operating system.
        let expiry = RandomState::new().hash_one(0);
        let (heads, large) = (commit::no_record_heads(), pages::no_large_quotas());
        Self { disk, heads, large, swept_to: Timestamp::default(), expiry }
    }
}

/// A batch in the making.
pub(super) struct Batch<'a> {
    pub(super) state: &'a mut WriterState,
    /// The store's own time.
    pub(super) time: Timestamp,
    pub(super) writes: Writes,
    /// Keys that may be removed from a time on.
    expiring: BTreeMap<Timestamp, BTreeSet<Vec<u8>>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(state: &'a mut WriterState, time: Timestamp) -> Self {
        Self { state, time, writes: Writes::new(), expiring: BTreeMap::new() }
    }

    /// What is to be committed.
    pub(super) fn into_writes(mut self) -> Writes {
        for (at, keys) in self.expiring {
            let keys: Vec<_> = keys.into_iter().collect();
            for together in keys.chunks(layout::EXPIRY_MAX) {
                self.state.expiry = self.state.expiry.wrapping_add(1);
                let key = layout::expiry_key(at, self.state.expiry);
                self.writes.insert(key, Some(layout::encode_expiring(together)));
            }
        }
        self.writes
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

    /// Removes about `limit` keys whose time is over; whether more are left. Only as the first step of a batch.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<bool, StoreError> {
        let mut left = limit;
        for entry in self.state.disk.tables.range(layout::expiry_range(self.state.swept_to, self.time)) {
            let (expiry, value) = entry.map_err(|cause| engine_error("sweep", cause))?;
            let (at, keys) = (layout::decode_expiry_key(&expiry), layout::decode_expiring(&value));
            if keys.is_none() {
                tracing::error!("an expiry is not in a known format: what it names stays in the store");
            }
            for key in keys.unwrap_or_default() {
                left = left.saturating_sub(self.expire(key)?);
            }
            self.writes.insert(expiry.to_vec(), None);
            self.state.swept_to = at.unwrap_or(self.state.swept_to);
            if left == 0 {
                return Ok(true);
            }
        }
        self.state.swept_to = self.time;
        Ok(false)
    }

    /// Removes what is under a key, or has it expire later, when its time is over; for how many keys that counts. What cannot be
    /// decoded stays: whoever uses it is told so, and everything else goes on.
    fn expire(&mut self, key: Vec<u8>) -> Result<usize, StoreError> {
        let unknown = || {
            tracing::error!("what has expired is not in a known format: it stays in the store");
            Ok(1)
        };
        let Some(entry) = self.decoded("sweep", &key, |value| Some(Entry::decode(value)))? else { return Ok(1) };
        let Some(entry) = entry else { return unknown() };
        if entry.expires_at > self.time {
            self.expiring.entry(entry.expires_at).or_default().insert(key);
            return Ok(1);
        }
        if let Some(quota) = layout::decode_quota_key(&key) {
            let Some((_, pages, _)) = layout::decode_quota(&entry.content) else { return unknown() };
            return Ok(self.remove_quota(quota, pages));
        }
        self.forget_head(&key);
        self.writes.insert(key, None);
        Ok(1)
    }

    /// Writes a record, an index entry or a quota; the time to which it lives. `expires_at` is the expiry of the one that is
    /// there, which may have expired. The expiry that names it stays: the sweeper moves it when it gets there.
    pub(super) fn put(
        &mut self,
        key: Vec<u8>,
        expires_at: Option<Timestamp>,
        ttl: Duration,
        content: &[u8],
    ) -> Timestamp {
        let until = self.time.plus(ttl);
        if expires_at.is_none() {
            self.expiring.entry(until).or_default().insert(key.clone());
        }
        let until = expires_at.map_or(until, |present| present.max(until));
        self.writes.insert(key, Some(Entry::encode(until, content)));
        until
    }

    /// What is under a key, be it expired or not, as the operations before have left it.
    pub(super) fn entry(&self, operation: &'static str, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        self.decoded(operation, key, Entry::decode)
    }

    /// What a key's value says, as the operations before have left it.
    pub(super) fn decoded<T>(
        &self,
        operation: &'static str,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let decode = |value: &[u8]| decode(value).ok_or_else(|| unknown_format(operation));
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
