//! Which master keys are in use: all records are walked over, and sealed anew with the active key where that is asked for.
//!
//! Works beside running replicas: a record is replaced only as it was read, and its time to live stays.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    canaries::{Canaries, WrongKeys, is_canary},
    error::Error,
    records::is_own,
    witness::WitnessPorts,
};
use crate::{
    domain::{challenge::Challenge, code::CodeOwner, lockout::Lockout, time::Timestamp},
    keys::{
        ring::KeyRing,
        seal::{self, SealError},
    },
    ports::{
        clock::Deadline,
        entropy::Entropy,
        store::{Change, Committed, Cursor, Name, Partition, ScanPage, Sealed, Store, StoreError, Write},
    },
};

/// How long a page of records, or a record that is sealed anew, may take.
const OPERATION: Duration = Duration::from_secs(10);
/// How often a page is asked for before the walk is given up.
const TRIES: u32 = 3;
/// How long the walk may take.
const LONGEST: Duration = Duration::from_secs(86_400);
/// Key numbers that are listed. Those beyond are in the last row.
const ROWS: usize = 64;

/// Walks over the records of a store.
pub struct KeyReview {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
    canaries: Canaries,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// The keys of the ring, the active one first.
    pub ring: Vec<u32>,
    /// From which key names are derived.
    pub lowest: u32,
    /// What each key is used for, by its number.
    pub rows: BTreeMap<u32, KeyRow>,
    /// Records of a format that is not known.
    pub unknown: u64,
    /// Records that were sealed anew. They are counted under the active key.
    pub resealed: u64,
    /// Records that were changed by somebody else meanwhile, so that it is not known how they are sealed now.
    pub changed: u64,
}

/// What one key is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRow {
    /// Challenges that it seals.
    pub challenges: u64,
    /// Lockouts that it seals.
    pub lockouts: u64,
    /// The records by which a store is recognised.
    pub canaries: u64,
    /// Those of the above that do not open: the key is not in the ring, or they are damaged.
    pub unopened: u64,
    /// Codes that were made with it and may still be entered.
    pub codes: u64,
    /// When the last of these expires.
    pub codes_until: Option<Timestamp>,
}

impl KeyRow {
    /// All that it seals.
    pub fn records(&self) -> u64 {
        self.challenges + self.lockouts + self.canaries
    }
}

/// What is to be done with a record.
struct Reseal {
    partition: Partition,
    change: Change,
    /// By what it is counted where it is not done.
    kind: RecordKind,
}

#[derive(Clone, Copy)]
enum RecordKind {
    Challenge,
    Lockout,
    Canary,
}

impl KeyUsage {
    /// All records that were walked over.
    pub fn records(&self) -> u64 {
        self.rows.values().map(KeyRow::records).sum::<u64>() + self.unknown + self.changed
    }

    fn row(&mut self, id: u32) -> &mut KeyRow {
        let is_listed = self.rows.len() < ROWS || self.rows.contains_key(&id) || self.ring.contains(&id);
        self.rows.entry(if is_listed { id } else { u32::MAX }).or_default()
    }

    fn count(&mut self, id: u32, kind: RecordKind) {
        let row = self.row(id);
        match kind {
            RecordKind::Challenge => row.challenges += 1,
            RecordKind::Lockout => row.lockouts += 1,
            RecordKind::Canary => row.canaries += 1,
        }
    }

    fn count_codes(&mut self, challenge: &Challenge, now: Timestamp) {
        let previous = challenge.sending.as_ref().and_then(|sending| sending.previous.as_ref());
        let codes = challenge.live_code().into_iter().chain(previous.filter(|_| challenge.open().is_some()));
        for code in codes.filter(|code| code.owner == CodeOwner::Otpd && code.expires_at > now) {
            let row = self.row(code.key_id);
            row.codes += 1;
            row.codes_until = row.codes_until.max(Some(code.expires_at));
        }
    }
}

impl KeyReview {
    /// A review of this store with these keys.
    pub fn new(ports: WitnessPorts) -> Self {
        let WitnessPorts { store, keys, entropy, observer } = ports;
        let canaries = Canaries::new(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&entropy), observer);
        Self { store, keys, entropy, canaries }
    }

    /// Whether the keys belong to the store.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn check_keys(&self) -> Result<Result<(), WrongKeys>, StoreError> {
        let found = self.canaries.read(Deadline::after(OPERATION)).await?;
        Ok(self.canaries.check_keys(&found))
    }

    /// Walks over all records. What is written meanwhile may be missed, or counted twice. `progress` is called after each page.
    ///
    /// # Errors
    /// The store fails, or it takes longer than a day. What was sealed anew stays so.
    pub async fn walk(&self, reseal: bool, mut progress: impl FnMut(&KeyUsage)) -> Result<KeyUsage, Error> {
        let (ring, lowest) = (self.keys.ids(), self.keys.lowest_id());
        let mut usage = KeyUsage {
            rows: ring.iter().map(|id| (*id, KeyRow::default())).collect(),
            ring,
            lowest,
            ..KeyUsage::default()
        };
        let until = Deadline::after(LONGEST);
        let now = self.store.check(Deadline::after(OPERATION)).await?;
        let mut from = None;
        while !until.remaining().is_zero() {
            let ScanPage { records, next } = self.page(from).await?;
            let mut reseals = Vec::new();
            for (partition, name, sealed) in records {
                let needed = self.visit(&mut usage, (partition, name), &sealed, reseal, now)?;
                reseals.extend(needed);
            }
            self.reseal(&mut usage, reseals).await?;
            progress(&usage);
            match next {
                Some(next) => from = Some(next),
                None => return Ok(usage),
            }
        }
        Err(StoreError::timed_out("scan").into())
    }

    async fn page(&self, from: Option<Cursor>) -> Result<ScanPage, StoreError> {
        let mut tried = 1;
        loop {
            match self.store.scan(from.clone(), Deadline::after(OPERATION)).await {
                Err(error) if tried < TRIES && !error.is_final => tried += 1,
                answered => return answered,
            }
        }
    }

    /// Counts a record. How it is sealed anew, where it is to be.
    fn visit(
        &self,
        usage: &mut KeyUsage,
        (partition, name): (Partition, Name),
        sealed: &Sealed,
        reseal: bool,
        now: Timestamp,
    ) -> Result<Option<Reseal>, SealError> {
        let Ok(id) = seal::key_id(sealed) else {
            usage.unknown += 1;
            return Ok(None);
        };
        let kind = match name {
            _ if is_canary(partition) => RecordKind::Canary,
            Name::LOCKOUT => RecordKind::Lockout,
            _ => RecordKind::Challenge,
        };
        let opened = self.keys.open_record(partition, name, sealed);
        let plain = opened.ok().filter(|plain| match kind {
            RecordKind::Challenge => postcard::from_bytes(plain).is_ok_and(|challenge| {
                usage.count_codes(&challenge, now);
                true
            }),
            RecordKind::Lockout => postcard::from_bytes::<Lockout>(plain).is_ok(),
            RecordKind::Canary => true,
        });
        let Some(plain) = plain else {
            usage.row(id).unopened += 1;
            usage.count(id, kind);
            return Ok(None);
        };
        if !reseal || id == self.keys.active_id() || matches!(kind, RecordKind::Canary) {
            usage.count(id, kind);
            return Ok(None);
        }
        let record = self.keys.seal_record(partition, name, plain, self.entropy.as_ref())?;
        // Zero leaves the time to live as it is.
        let write = Some(Write { record, ttl: Duration::ZERO });
        Ok(Some(Reseal { partition, change: Change { name, expected: Some(sealed.version()), write }, kind }))
    }

    /// Writes those of one page, all at once.
    async fn reseal(&self, usage: &mut KeyUsage, reseals: Vec<Reseal>) -> Result<(), StoreError> {
        let mut writes = JoinSet::new();
        for Reseal { partition, change, kind } in reseals {
            let store = Arc::clone(&self.store);
            writes.spawn(async move {
                let changes = [change];
                let is_done = match store.commit(partition, &changes, Deadline::after(OPERATION)).await? {
                    Committed::Done => true,
                    Committed::Conflict(records) => is_own(&changes, &records),
                };
                Ok::<_, StoreError>((is_done, kind))
            });
        }
        let mut result = Ok(());
        while let Some(written) = writes.join_next().await {
            match written.map_err(|cause| StoreError::new("commit", cause)).flatten() {
                Ok((true, kind)) => {
                    usage.resealed += 1;
                    usage.count(self.keys.active_id(), kind);
                }
                Ok((false, _)) => usage.changed += 1,
                Err(error) => result = Err(error),
            }
        }
        result
    }
}
