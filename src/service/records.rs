//! Typed records over the store: encoding, sealing, and the cache of last versions.

use std::{sync::Arc, time::Duration};

use quick_cache::sync::Cache;
use serde::{Serialize, de::DeserializeOwned};

use super::error::Error;
use crate::{
    domain::time::Timestamp,
    keys::{ring::KeyRing, seal::SealError},
    ports::{
        clock::Deadline,
        entropy::Entropy,
        store::{Inserted, Name, Sealed, Store, Swapped, Version},
    },
};

/// How many records of one kind a replica remembers.
const REMEMBERED: usize = 8192;

/// Most records are shorter, encoded.
const USUAL_LENGTH: usize = 512;

/// A record with the version that it was read or written as.
#[derive(Clone, Debug)]
pub(super) struct Held<T> {
    pub(super) value: T,
    version: Version,
    /// Whether it comes from the store itself within this request, so that an answer may rest on it without a write.
    pub(super) fresh: bool,
}

/// What became of a write.
pub(super) enum Written<T> {
    /// It is stored.
    Done,
    /// Somebody else was first; this is what is there now.
    Lost(Held<T>),
    /// There is nothing of that name any more.
    Missing,
}

/// Records of one kind.
pub(super) struct Records<T> {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
    remembered: Cache<Name, Arc<(T, Version)>>,
}

impl<T: Clone + Serialize + DeserializeOwned> Records<T> {
    pub(super) fn new(store: Arc<dyn Store>, keys: Arc<KeyRing>, entropy: Arc<dyn Entropy>) -> Self {
        Self { store, keys, entropy, remembered: Cache::new(REMEMBERED) }
    }

    /// The last version that this replica knows of. May be out of date: good enough where a swap decides.
    pub(super) fn remembered(&self, name: Name) -> Option<Held<T>> {
        let known = self.remembered.get(&name)?;
        let (value, version) = known.as_ref();
        Some(Held { value: value.clone(), version: *version, fresh: false })
    }

    /// What the store holds.
    pub(super) async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Held<T>>, Error> {
        let sealed = self.store.load(name, deadline).await?;
        sealed.map(|sealed| self.open(name, &sealed)).transpose()
    }

    /// Stores a new record.
    pub(super) async fn insert(
        &self,
        name: Name,
        value: &T,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Written<T>, Error> {
        let sealed = self.seal(name, value)?;
        match self.store.insert(name, &sealed, ttl, deadline).await? {
            Inserted::Done => Ok(self.written(name, value, &sealed)),
            Inserted::Exists(other) if is_same(&other, &sealed) => Ok(self.written(name, value, &sealed)),
            Inserted::Exists(other) => self.open(name, &other).map(Written::Lost),
        }
    }

    /// Replaces the version that was read.
    pub(super) async fn swap(
        &self,
        name: Name,
        read: &Held<T>,
        value: &T,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Written<T>, Error> {
        let sealed = self.seal(name, value)?;
        let swapped = self.store.swap(name, read.version, &sealed, ttl, deadline).await;
        if !matches!(swapped, Ok(Swapped::Done)) {
            // Out of date, or, where the answer was lost, perhaps so.
            self.remembered.remove(&name);
        }
        match swapped? {
            Swapped::Done => Ok(self.written(name, value, &sealed)),
            Swapped::Stale(other) if is_same(&other, &sealed) => Ok(self.written(name, value, &sealed)),
            Swapped::Stale(other) => self.open(name, &other).map(Written::Lost),
            Swapped::Missing => Ok(Written::Missing),
        }
    }

    /// Makes room for records that are still of use.
    pub(super) fn forget(&self, name: Name) {
        self.remembered.remove(&name);
    }

    fn written(&self, name: Name, value: &T, sealed: &Sealed) -> Written<T> {
        self.remembered.insert(name, Arc::new((value.clone(), sealed.version())));
        Written::Done
    }

    fn seal(&self, name: Name, value: &T) -> Result<Sealed, Error> {
        let plain = postcard::to_extend(value, Vec::with_capacity(USUAL_LENGTH))
            .map_err(|error| Error::Internal(format!("record does not encode: {error}")))?;
        self.keys.seal_record(name, &plain, self.entropy.as_ref()).map_err(Error::from)
    }

    fn open(&self, name: Name, sealed: &Sealed) -> Result<Held<T>, Error> {
        let plain = self.keys.open_record(name, sealed)?;
        let value = postcard::from_bytes(&plain)
            .map_err(|error| Error::Internal(format!("record does not decode: {error}")))?;
        Ok(Held { value, version: sealed.version(), fresh: true })
    }
}

/// Whether what is stored is this very write: a client below repeated it when its answer was lost. Nobody else can have
/// written it, for its version is random.
fn is_same(stored: &Sealed, written: &Sealed) -> bool {
    stored.version() == written.version()
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// How long a record is kept that is forgotten at a time of day.
pub(super) fn kept_until(end: Timestamp, now: Timestamp) -> Duration {
    end.since(now).max(Duration::from_secs(1))
}
