//! A store in memory that obeys the port. Included with `#[path]` by the test binaries that need one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
};

/// Keeps everything until the test ends.
pub(crate) struct MemoryStore {
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: HashMap<Name, (Sealed, Timestamp)>,
    quotas: HashMap<Name, Vec<(TakeId, Timestamp)>>,
    /// Every record ever written, for whoever looks for secrets.
    written: Vec<u8>,
}

impl MemoryStore {
    /// An empty store. The clock decides when a time to live is over.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default() }
    }

    /// All bytes that were ever stored: names, records, takes.
    pub(crate) fn dump(&self) -> Vec<u8> {
        let kept = self.kept();
        let mut all = kept.written.clone();
        for (name, takes) in &kept.quotas {
            all.extend_from_slice(&name.0);
            for (take, _) in takes {
                all.extend_from_slice(&take.0);
            }
        }
        all
    }

    /// How many takes count in all quotas together.
    pub(crate) fn takes(&self) -> usize {
        self.kept().quotas.values().map(Vec::len).sum()
    }

    /// How many records there are.
    pub(crate) fn records(&self) -> usize {
        self.kept().records.len()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn put(&mut self, name: Name, record: &Sealed, until: Timestamp) {
        self.written.extend_from_slice(&name.0);
        self.written.extend_from_slice(record.as_bytes());
        let until = self.records.get(&name).map_or(until, |(_, present)| until.max(*present));
        self.records.insert(name, (record.clone(), until));
    }

    fn drop_expired(&mut self, now: Timestamp) {
        self.records.retain(|_, (_, until)| now < *until);
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn load(&self, name: Name, _deadline: Deadline) -> Result<Option<Sealed>, StoreError> {
        let mut kept = self.kept();
        kept.drop_expired(self.clock.now());
        Ok(kept.records.get(&name).map(|(record, _)| record.clone()))
    }

    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        _deadline: Deadline,
    ) -> Result<Inserted, StoreError> {
        let now = self.clock.now();
        let mut kept = self.kept();
        kept.drop_expired(now);
        if let Some((present, _)) = kept.records.get(&name) {
            return Ok(Inserted::Exists(present.clone()));
        }
        kept.put(name, record, now.plus(ttl));
        Ok(Inserted::Done)
    }

    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        _deadline: Deadline,
    ) -> Result<Swapped, StoreError> {
        let now = self.clock.now();
        let mut kept = self.kept();
        kept.drop_expired(now);
        match kept.records.get(&name) {
            None => Ok(Swapped::Missing),
            Some((present, _)) if present.version() != read => Ok(Swapped::Stale(present.clone())),
            Some(_) => {
                kept.put(name, record, now.plus(ttl));
                Ok(Swapped::Done)
            }
        }
    }

    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        _deadline: Deadline,
    ) -> Result<Taken, StoreError> {
        let mut kept = self.kept();
        let takes = kept.quotas.entry(quota).or_default();
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        takes.retain(|(_, at)| now < at.plus(longest));
        if takes.iter().any(|(known, _)| *known == take) {
            return Ok(Taken::Done);
        }
        let room = |window: &Window| {
            let counted = takes.iter().filter(|(_, at)| now < at.plus(window.per)).count();
            u32::try_from(counted).is_ok_and(|counted| counted < window.max)
        };
        if !windows.iter().all(room) {
            return Ok(Taken::Refused);
        }
        takes.push((take, now));
        Ok(Taken::Done)
    }

    async fn give_back(&self, quota: Name, take: TakeId, _deadline: Deadline) -> Result<(), StoreError> {
        if let Some(takes) = self.kept().quotas.get_mut(&quota) {
            takes.retain(|(known, _)| *known != take);
        }
        Ok(())
    }

    async fn check(&self, _deadline: Deadline) -> Result<(), StoreError> {
        Ok(())
    }
}
