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

use std::{sync::Arc, time::Duration};

use known::{Canary, Finding, KnownCanaries, StoreIdentity};
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

/// The last two bytes of each partition, in the order of their slots. A change makes every store look as if it had lost its
/// canaries.
const PARTITIONS: [u16; 16] = [203, 290, 41, 17, 265, 232, 42, 18, 58, 234, 40, 12, 59, 304, 39, 11];
/// The record of a canary in its partition.
const NAME: Name = Name(*b"canary of otpd\0\0");
/// Longer than anything else is kept.
const TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The keys do not belong to the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store belongs to other master keys: {0}")]
pub struct WrongKeys(String);

/// All canaries, in the order of [`PARTITIONS`]; `None`: it is not there.
pub(super) type Found<T> = [Option<T>; PARTITIONS.len()];

/// Reads, judges and writes the canaries of one store.
pub(super) struct Canaries {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
    observer: Arc<dyn StoreObserver>,
    known: Mutex<KnownCanaries>,
}

/// Whether a partition is that of a canary.
pub(super) fn is_canary(partition: Partition) -> bool {
    partitions().any(|canary| canary == partition)
}

fn partitions() -> impl Iterator<Item = Partition> {
    PARTITIONS.into_iter().map(|last| {
        let mut partition = *b"otpd canary    ";
        let [.., high, low] = &mut partition;
        [*high, *low] = last.to_be_bytes();
        Partition(partition)
    })
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

    /// Reads all canaries at once.
    pub(super) async fn read(&self, deadline: Deadline) -> Result<Found<Sealed>, StoreError> {
        let mut reads = JoinSet::new();
        for (index, partition) in partitions().enumerate() {
            let store = Arc::clone(&self.store);
            reads.spawn(async move { (index, store.read(partition, &[NAME], deadline).await) });
        }
        let mut found = Found::default();
        while let Some(read) = reads.join_next().await {
            let (index, read) = read.map_err(|cause| StoreError::new("read", cause))?;
            let record = read?.into_iter().next().flatten();
            if let Some(there) = found.get_mut(index) {
                *there = record;
            }
        }
        Ok(found)
    }

    /// Whether the keys belong to the store. Writes nothing.
    pub(super) fn check_keys(&self, found: &Found<Sealed>) -> Result<(), WrongKeys> {
        if self.is_forced(found) { Ok(()) } else { self.open_all(found).map(drop) }
    }

    /// Judges what was read at that time of the store, tells it, and writes what is missing.
    pub(super) async fn judge(
        &self,
        found: &Found<Sealed>,
        time: Timestamp,
        deadline: Deadline,
    ) -> Result<Result<(), WrongKeys>, StoreError> {
        if self.is_forced(found) {
            return Ok(Ok(()));
        }
        let opened = match self.open_all(found) {
            Ok(opened) => opened,
            Err(wrong) => return Ok(Err(wrong)),
        };
        let mut known = self.known.lock().await;
        let finding = known.judge(&opened, time);
        // Told before anything is awaited: what is written hides what was found.
        self.tell(finding);
        known.note(&opened);
        let decisive = opened.iter().flatten().next().map(|(canary, _)| *canary);
        let canary = match decisive {
            Some(canary) => canary,
            None => match self.first_canary(time, deadline).await? {
                Ok(canary) => canary,
                Err(wrong) => return Ok(Err(wrong)),
            },
        };
        known.store = Some(canary.store);
        self.complete(&mut known, &opened, canary, deadline).await?;
        Ok(Ok(()))
    }

    fn open_all(&self, found: &Found<Sealed>) -> Result<Found<(Canary, Version)>, WrongKeys> {
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
            Finding::Same => {}
            Finding::New => tracing::info!("the store is new to otpd: it is marked"),
            Finding::Lost(canaries) => {
                self.observer.store_lost(StoreLoss::Part);
                let of = PARTITIONS.len();
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
            None => Ok(Ok(canary)),
            Some(Some(first)) => Ok(self.open(partition, &first)),
            Some(None) => Err(StoreError::new("commit", "a canary came and went")),
        }
    }

    /// Writes the canaries that are missing, or of another identity. Where another replica is faster, its canary is
    /// remembered, so that its loss is noticed.
    async fn complete(
        &self,
        known: &mut KnownCanaries,
        opened: &Found<(Canary, Version)>,
        canary: Canary,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let mut writes = JoinSet::new();
        for ((index, partition), there) in partitions().enumerate().zip(opened) {
            if there.is_some_and(|(there, _)| there.store == canary.store) {
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

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    /// CRC-16/XMODEM, by which Redis Cluster chooses slots.
    fn slot(key: &str) -> u16 {
        let crc = key.bytes().fold(0_u16, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        });
        crc % 16_384
    }

    #[test]
    fn each_sixteenth_of_a_clusters_slots_has_a_canary() {
        assert_eq!(slot("123456789"), 0x31C3);
        let sixteenths = partitions().map(|partition| slot(&URL_SAFE_NO_PAD.encode(partition.0)) / 1_024);
        assert_eq!(sixteenths.collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn a_partition_of_a_canary_is_known_as_one() {
        assert!(partitions().all(is_canary));
        assert!(!is_canary(Partition([7; 15])));
    }
}
