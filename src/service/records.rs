//! Records between the rules and the store: encoded and sealed, opened and decoded.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::error::Error;
use crate::{
    keys::{ring::KeyRing, seal::SealError},
    ports::{
        entropy::Entropy,
        store::{Change, Name, Partition, Sealed, Version, Write},
    },
};

/// Most records are shorter, encoded and sealed.
const USUAL_LENGTH: usize = 512;

/// A record with the version that it was read or written as.
#[derive(Clone, Debug)]
pub(super) struct Versioned<T> {
    pub(super) value: Arc<T>,
    pub(super) version: Version,
}

/// Seals and opens records.
#[derive(Clone)]
pub(super) struct Records {
    keys: Arc<KeyRing>,
    entropy: Arc<dyn Entropy>,
}

impl Records {
    pub(super) fn new(keys: Arc<KeyRing>, entropy: Arc<dyn Entropy>) -> Self {
        Self { keys, entropy }
    }

    pub(super) fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Random bytes: of a token for one reservation, or of the nonce from which the codes of a challenge are made.
    pub(super) fn random<const LENGTH: usize>(&self) -> Result<[u8; LENGTH], Error> {
        let mut bytes = [0; LENGTH];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn seal<T: Serialize>(&self, partition: Partition, name: Name, value: &T) -> Result<Sealed, Error> {
        let plain = postcard::to_extend(value, Vec::with_capacity(USUAL_LENGTH))
            .map_err(|error| Error::Internal(format!("record does not encode: {error}")))?;
        self.keys.seal_record(partition, name, plain, self.entropy.as_ref()).map_err(Error::from)
    }

    pub(super) fn open<T: DeserializeOwned>(
        &self,
        partition: Partition,
        name: Name,
        sealed: &Sealed,
    ) -> Result<Versioned<T>, Error> {
        let plain = self.keys.open_record(partition, name, sealed)?;
        let value = postcard::from_bytes(&plain)
            .map_err(|error| Error::Internal(format!("record does not decode: {error}")))?;
        Ok(Versioned { value: Arc::new(value), version: sealed.version() })
    }

    /// What a commit makes of a record, and for how long.
    pub(super) fn change_of<T: Serialize + PartialEq>(
        &self,
        partition: Partition,
        name: Name,
        before: Option<&Versioned<T>>,
        next: &Arc<T>,
        ttl: Duration,
    ) -> Result<Change, Error> {
        let expected = before.map(|before| before.version);
        if before.is_some_and(|before| Arc::ptr_eq(&before.value, next) || before.value == *next) {
            return Ok(Change { name, expected, write: None });
        }
        let record = self.seal(partition, name, next.as_ref())?;
        Ok(Change { name, expected, write: Some(Write { record, ttl }) })
    }
}

/// Whether what is stored is this very commit: a client below repeated it when its answer was lost. Nobody else can have
/// written it, for versions are random.
pub(super) fn is_own(changes: &[Change], records: &[Option<Sealed>]) -> bool {
    let mut pairs = changes.iter().zip(records).filter_map(|(change, record)| Some((change.write.as_ref()?, record)));
    pairs.clone().next().is_some()
        && pairs.all(|(write, record)| record.as_ref().is_some_and(|record| record.version() == write.record.version()))
}

/// A record as a change leaves it.
pub(super) fn versioned<T>(change: &Change, value: &Arc<T>) -> Option<Versioned<T>> {
    let written = change.write.as_ref().map(|write| write.record.version());
    written.or(change.expected).map(|version| Versioned { value: Arc::clone(value), version })
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        Self::Internal(error.to_string())
    }
}
