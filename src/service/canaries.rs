//! Canaries: records in partitions of their own, by which it is noticed that the store belongs to other keys, is another one
//! than before, or has lost what was in it.
//!
//! Each holds the identity of the store, drawn at the first start, and is sealed with the lowest-numbered key: names are
//! derived from it, so that it never rotates, and every ring for this store has it. On a cluster a partition is on one
//! node: 16 partitions, evenly spread over the slots, show the loss of any node that has a fair part of the records.
//!
//! The first canary decides: it is written alone, and all others by what is in it, so that replicas that start together
//! agree.

mod known;
mod partitions;

use std::{sync::Arc, time::Duration};

use known::{Canary, Finding, KnownCanaries, Opened, StoreIdentity};
pub(super) use partitions::is_canary;
use partitions::{LENGTH, partitions};
use tokio::{sync::Mutex, task::JoinSet};

use super::records::is_own;
use crate::{
    domain::time::Timestamp,
    keys::{
        ring::{FIRST_KEY_ID, KeyRing},
        seal::{self, SealError},
    },
    ports::{
        clock::Deadline,
        entropy::Entropy,
        observer::{StoreLoss, StoreObserver},
        store::{Change, Committed, Name, Partition, Sealed, Store, StoreError, Version, Write},
    },
};

/// The record of a canary in its partition.
const NAME: Name = Name(*b"canary of otpd\0\0");
/// Longer than anything else is kept.
const TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The keys do not belong to the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store belongs to other master keys: {0}")]
pub struct WrongKeys(String);

/// All canaries, in the order of [`partitions`]; `None`: it is not there.
pub(super) type Found<T> = [Option<T>; LENGTH];

/// What was read of the canaries.
#[derive(Default)]
pub(super) struct CanariesRead {
    found: Found<Sealed>,
    /// Those that could not be read: nothing follows for them.
    is_silent: [bool; LENGTH],
}

/// Reads, judges and writes the canaries of one store.
pub(super) struct Canaries {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn StoreObserver>,
    known: Mutex<KnownCanaries>,
}

impl Canaries {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keys: Arc<KeyRing>,
        entropy: Arc<dyn Entropy>,
        observer: Arc<dyn StoreObserver>,
    ) -> Self {
        Self { store, keys, entropy, observer, known: Mutex::default() }
    }

    /// Reads all canaries at once. One node of a cluster that is silent keeps the others' from nobody.
    pub(super) async fn read(&self, deadline: Deadline) -> Result<CanariesRead, StoreError> {
        // A read that waits for nothing must leave time for the rest.
        let deadline = Deadline::after(deadline.remaining() / 4 * 3);
        let mut reads = JoinSet::new();
        for (index, partition) in partitions().enumerate() {
            let store = Arc::clone(&self.store);
            reads.spawn(async move { (index, store.read(partition, &[NAME], deadline).await) });
        }
        let mut all = CanariesRead::default();
        let mut last_error = None;
        while let Some(read) = reads.join_next().await {
            let (index, read) = read.map_err(|cause| StoreError::new("read", cause))?;
            let (Some(there), Some(is_silent)) = (all.found.get_mut(index), all.is_silent.get_mut(index)) else {
                continue;
            };
            match read {
                Ok(records) => *there = records.into_iter().next().flatten(),
                Err(error) => {
                    *is_silent = true;
                    last_error = Some(error);
                }
            }
        }
        match last_error {
            Some(error) if all.found.iter().all(Option::is_none) => Err(error),
            _ => Ok(all),
        }
    }

    /// Whether the keys belong to the store. Writes nothing.
    pub(super) fn check_keys(&self, read: &CanariesRead) -> Result<(), WrongKeys> {
        if self.is_forced(&read.found) { Ok(()) } else { self.open_all(&read.found).map(drop) }
    }

    /// Judges what was read at that time of the store, tells it, and writes what is missing.
    pub(super) async fn judge(
        &self,
        read: &CanariesRead,
        time: Timestamp,
        deadline: Deadline,
    ) -> Result<Result<(), WrongKeys>, StoreError> {
        let CanariesRead { found, is_silent } = read;
        if self.is_forced(found) {
            return Ok(Ok(()));
        }
        let opened = match self.open_all(found) {
            Ok(opened) => opened,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let mut known = self.known.lock().await;
        let finding = known.judge(&opened, is_silent, time);
        // Told before anything is awaited: what is written hides what was found.
        self.tell(finding);
        known.note(&opened, is_silent);
        let decisive = opened.iter().flatten().next().map(|(canary, _)| *canary);
        let canary = match decisive {
            Some(canary) => canary,
            None => match self.first_canary(time, deadline).await? {
                Ok(canary) => canary,
                Err(wrong) => return Ok(Err(wrong)),
            },
        };
        known.store = Some(canary.store);
        if let Err(error) = self.complete(&mut known, (&opened, is_silent), canary, deadline).await {
            // The next look tries again. That one node takes no writes must not keep the others from serving.
            tracing::warn!(cause = error.cause, "a canary cannot be written");
        }
        Ok(Ok(()))
    }

    fn open_all(&self, found: &Found<Sealed>) -> Result<Opened, WrongKeys> {
        let mut opened = Found::default();
        for ((partition, sealed), opened) in partitions().zip(found).zip(&mut opened) {
            if let Some(sealed) = sealed {
                *opened = Some((self.open(partition, sealed)?, sealed.version()));
            }
        }
        Ok(opened)
    }

    fn open(&self, partition: Partition, sealed: &Sealed) -> Result<Canary, WrongKeys> {
        let lowest = self.keys.lowest_id();
        let wrong = |cause: SealError| match cause {
            SealError::Damaged => format!("key {lowest} here is not the one that its records were sealed with"),
            other => other.to_string(),
        };
        let id = seal::key_id(sealed).map_err(|cause| WrongKeys(wrong(cause)))?;
        if id != lowest {
            let words = format!("names in it are derived from key {id}, and the lowest-numbered key here is {lowest}");
            return Err(WrongKeys(words));
        }
        let plain = self.keys.open_record(partition, NAME, sealed).map_err(|cause| WrongKeys(wrong(cause)))?;
        postcard::from_bytes(&plain).map_err(|_| WrongKeys("its canary has a content that is not known".to_owned()))
    }

    /// Whether the start was forced with a ring without the key that names are derived from. Nothing is judged then, and the
    /// canaries stay as they are for those who have the key.
    fn is_forced(&self, found: &Found<Sealed>) -> bool {
        let lowest = self.keys.lowest_id();
        let of_another = |sealed: &Sealed| seal::key_id(sealed).is_ok_and(|id| id != lowest);
        lowest != FIRST_KEY_ID && found.iter().flatten().any(of_another)
    }

    fn tell(&self, finding: Finding) {
        const MEANING: &str = "locks, failures, used codes and quotas that were kept there are gone";
        match finding {
            Finding::Same | Finding::New => {}
            Finding::Lost(canaries) => {
                self.observer.store_lost(StoreLoss::Part);
                let of = LENGTH;
                tracing::error!(
                    canaries,
                    of,
                    "the store has lost records, a node of it is empty, or it evicts keys: {MEANING}"
                );
            }
            Finding::Emptied => {
                self.observer.store_lost(StoreLoss::All);
                tracing::error!("the store came back empty: {MEANING}");
            }
            Finding::Replaced => {
                self.observer.store_lost(StoreLoss::Replaced);
                tracing::error!("the store is another one than before, or came back empty: {MEANING}");
            }
        }
    }

    /// Marks a store without canaries. Another replica may have been first: then its canary counts.
    async fn first_canary(
        &self,
        drawn_at: Timestamp,
        deadline: Deadline,
    ) -> Result<Result<Canary, WrongKeys>, StoreError> {
        let mut identity = [0; 16];
        self.entropy.fill(&mut identity).map_err(|cause| StoreError::new("commit", cause))?;
        let canary = Canary { store: StoreIdentity(identity), drawn_at };
        let Some(partition) = partitions().next() else { return Ok(Ok(canary)) };
        let change = self.change(partition, None, canary)?;
        match commit(&*self.store, partition, change, deadline).await? {
            None => {
                tracing::info!("the store is new to otpd: it is marked");
                Ok(Ok(canary))
            }
            Some(Some(first)) => Ok(self.open(partition, &first)),
            Some(None) => Err(StoreError::new("commit", "a canary came and went")),
        }
    }

    /// Writes the canaries that are missing, or of another identity. Where another replica is faster, its canary is
    /// remembered, so that its loss is noticed.
    async fn complete(
        &self,
        known: &mut KnownCanaries,
        (opened, is_silent): (&Opened, &[bool; LENGTH]),
        canary: Canary,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let mut writes = JoinSet::new();
        for (((index, partition), there), is_silent) in partitions().enumerate().zip(opened).zip(is_silent) {
            if *is_silent || there.is_some_and(|(there, _)| there.store == canary.store) {
                continue;
            }
            let change = self.change(partition, there.map(|(_, version)| version), canary)?;
            let (store, version) = (Arc::clone(&self.store), change.write.as_ref().map(|write| write.record.version()));
            writes.spawn(async move {
                let conflict = commit(&*store, partition, change, deadline).await?;
                let version = conflict.map_or(version, |there| there.as_ref().map(Sealed::version));
                Ok::<_, StoreError>((index, version))
            });
        }
        let mut result = Ok(());
        while let Some(written) = writes.join_next().await {
            match written.map_err(|cause| StoreError::new("commit", cause)).flatten() {
                Ok((index, version)) => drop(known.versions.get_mut(index).map(|known| *known = version)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn change(&self, partition: Partition, expected: Option<Version>, canary: Canary) -> Result<Change, StoreError> {
        let failed = |cause: String| StoreError::new("commit", cause);
        let plain = postcard::to_allocvec(&canary).map_err(|cause| failed(cause.to_string()))?;
        let record = self.keys.seal_for_good(partition, NAME, plain, self.entropy.as_ref());
        let record = record.map_err(|cause| failed(cause.to_string()))?;
        Ok(Change { name: NAME, expected, write: Some(Write { record, ttl: TTL }) })
    }
}

/// What is there instead, on a conflict.
async fn commit(
    store: &dyn Store,
    partition: Partition,
    change: Change,
    deadline: Deadline,
) -> Result<Option<Option<Sealed>>, StoreError> {
    let changes = [change];
    match store.commit(partition, &changes, deadline).await? {
        Committed::Conflict(records) if !is_own(&changes, &records) => Ok(Some(records.into_iter().next().flatten())),
        Committed::Done | Committed::Conflict(_) => Ok(None),
    }
}
