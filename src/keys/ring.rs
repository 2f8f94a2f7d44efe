//! The ring of master keys.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{
    Prf,
    seal::{self, SealError, SealKey},
};
use crate::{
    domain::{
        canonical::Canonical,
        challenge::{Challenge, LiveCode},
        code,
    },
    ports::{
        entropy::Entropy,
        store::{Name, Partition, Sealed},
    },
    secret::Secret,
};

/// The key from which names are derived. It never rotates.
pub const FIRST_KEY_ID: u32 = 1;
/// The longest ring.
pub const MAX_KEYS: usize = 16;

/// Why a ring of keys is refused. Never holds a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRing {
    /// Not of the form `2:<base64>,1:<base64>`.
    #[error("key {0} in order: must be `<number from 1>:<base64 of 32 bytes>`")]
    Malformed(usize),
    /// A number twice.
    #[error("key {0} occurs twice")]
    Twice(u32),
    /// Empty or too long.
    #[error("there must be 1 to {MAX_KEYS} keys")]
    Count,
    /// The first key is not in it, so that no record would be found.
    #[error("key {FIRST_KEY_ID} is missing: names are derived from it, so without it no stored record is found")]
    FirstMissing,
}

/// A code was made with a key that is not in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("key {0} is not in the ring")]
pub struct MissingKey(pub u32);

/// The master keys, the active one first, each with what is derived from it.
pub struct KeyRing {
    keys: Vec<Derived>,
    /// The number of the lowest key.
    lowest: u32,
    names: Prf,
    requests: Prf,
    audit: Prf,
}

struct Derived {
    id: u32,
    /// How many records were opened with it.
    opened: AtomicU64,
    codes: Prf,
    seal: SealKey,
}

impl KeyRing {
    /// Takes a ring such as `2:<base64 of 32 bytes>,1:<base64>`, the active key first.
    ///
    /// # Errors
    /// It is malformed, or misses the first key although `without_first` is not set.
    pub fn parse(text: &Secret<String>, without_first: bool) -> Result<Self, BadRing> {
        let mut masters: Vec<(u32, Secret<[u8; 32]>)> = Vec::new();
        for (index, entry) in text.expose().split(',').enumerate() {
            let (id, key) = parse_key(entry).ok_or(BadRing::Malformed(index + 1))?;
            if masters.iter().any(|(known, _)| *known == id) {
                return Err(BadRing::Twice(id));
            }
            masters.push((id, key));
        }
        let lowest = masters.iter().min_by_key(|(id, _)| *id).ok_or(BadRing::Count)?;
        if masters.len() > MAX_KEYS {
            return Err(BadRing::Count);
        }
        if lowest.0 != FIRST_KEY_ID && !without_first {
            return Err(BadRing::FirstMissing);
        }
        let lowest_id = lowest.0;
        let names = Prf::new(derive(&lowest.1, "otpd names v1").expose());
        let requests = Prf::new(derive(&lowest.1, "otpd requests v1").expose());
        let audit = Prf::new(derive(&lowest.1, "otpd audit v1").expose());
        let keys = masters.iter().map(|(id, master)| Derived {
            id: *id,
            opened: AtomicU64::new(0),
            codes: Prf::new(derive(master, "otpd codes v1").expose()),
            seal: SealKey::new(*id, &derive(master, "otpd records v1")),
        });
        Ok(Self { keys: keys.collect(), lowest: lowest_id, names, requests, audit })
    }

    /// The id of the active key, with which new codes and records are made.
    pub fn active_id(&self) -> u32 {
        self.keys.first().map_or(FIRST_KEY_ID, |key| key.id)
    }

    /// The id of the lowest-numbered key, from which names are derived.
    pub fn lowest_id(&self) -> u32 {
        self.lowest
    }

    /// The ids of all keys, the active one first.
    pub fn ids(&self) -> Vec<u32> {
        self.keys.iter().map(|key| key.id).collect()
    }

    /// Makes the live code of a challenge. `None` once the challenge has ended.
    ///
    /// # Errors
    /// The key that it was made with is not in the ring.
    pub fn code(&self, challenge: &Challenge, live: &LiveCode) -> Result<Option<Secret<String>>, MissingKey> {
        let key = self.key(live.key_id)?;
        let material = challenge.code_material(live);
        Ok(material.map(|material| code::reduce(&key.codes.output(&material), live.digits)))
    }

    /// Seals a record for its partition and name with the active key.
    ///
    /// # Errors
    /// There is no randomness, or the record is too long.
    pub fn seal_record(
        &self,
        partition: Partition,
        name: Name,
        plain: Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, SealError> {
        let active = self.keys.first().ok_or(SealError::MissingKey(FIRST_KEY_ID))?;
        active.seal.seal(partition, name, plain, entropy)
    }

    /// Seals a record with the lowest-numbered key: every ring for the same store opens it, whichever key is active.
    ///
    /// # Errors
    /// There is no randomness, or the record is too long.
    pub fn seal_for_good(
        &self,
        partition: Partition,
        name: Name,
        plain: Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, SealError> {
        let lowest = self.key(self.lowest).map_err(|MissingKey(id)| SealError::MissingKey(id))?;
        lowest.seal.seal(partition, name, plain, entropy)
    }

    /// Opens a record of that partition and name.
    ///
    /// # Errors
    /// It is damaged, of another partition or name, of an unknown format, or its key is missing.
    pub fn open_record(&self, partition: Partition, name: Name, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let id = seal::key_id(sealed)?;
        let key = self.key(id).map_err(|MissingKey(id)| SealError::MissingKey(id))?;
        key.opened.fetch_add(1, Ordering::Relaxed);
        key.seal.open(partition, name, sealed)
    }

    /// Seals a chain of the audit: its next line has that number, and its last line that hash. Made with the lowest-numbered
    /// key, so that a seal stays what it is when keys rotate.
    pub fn audit_seal(&self, next: u64, last: &[u8; 32]) -> [u8; 32] {
        self.audit.output(&Canonical::new("seal of the audit").number(next).bytes(last).finish())
    }

    /// Whether that is the seal.
    pub fn is_audit_seal(&self, next: u64, last: &[u8; 32], seal: &[u8; 32]) -> bool {
        self.audit_seal(next, last).ct_eq(seal).into()
    }

    /// How many records were to be opened with each key, the active one first: a key that none needs for long may leave the ring.
    pub fn opened(&self) -> Vec<(u32, u64)> {
        self.keys.iter().map(|key| (key.id, key.opened.load(Ordering::Relaxed))).collect()
    }

    pub(super) fn names(&self) -> &Prf {
        &self.names
    }

    pub(super) fn requests(&self) -> &Prf {
        &self.requests
    }

    fn key(&self, id: u32) -> Result<&Derived, MissingKey> {
        self.keys.iter().find(|key| key.id == id).ok_or(MissingKey(id))
    }
}

fn parse_key(entry: &str) -> Option<(u32, Secret<[u8; 32]>)> {
    let (id, key) = entry.trim().split_once(':')?;
    let id = id.parse().ok().filter(|id| *id >= FIRST_KEY_ID)?;
    let bytes = Secret::new(STANDARD.decode(key).ok()?);
    let key = <[u8; 32]>::try_from(bytes.expose().as_slice()).ok()?;
    Some((id, Secret::new(key)))
}

/// One key per use, so that none serves two (RFC 5869).
fn derive(master: &Secret<[u8; 32]>, purpose: &str) -> Secret<[u8; 32]> {
    let mut key = [0; 32];
    // 32 bytes are within what HKDF-SHA-256 gives (255 times 32), so that expanding cannot fail.
    let expanded = expand(master.expose(), &[], purpose.as_bytes(), &mut key);
    debug_assert!(expanded, "HKDF gives 32 bytes");
    Secret::new(key)
}

/// Fills a key by HKDF-SHA-256; whether it is not too long. An empty salt is none.
pub(super) fn expand(master: &[u8], salt: &[u8], purpose: &[u8], key: &mut [u8]) -> bool {
    Hkdf::<Sha256>::new(Some(salt), master).expand(purpose, key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::entropy::SystemEntropy;

    const PARTITION: Partition = Partition([1; 15]);
    const NAME: Name = Name([2; 16]);

    fn numbered(keys: &[(u32, u8)]) -> KeyRing {
        let text: Vec<_> = keys.iter().map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; 32]))).collect();
        KeyRing::parse(&Secret::new(text.join(",")), false).expect("ring")
    }

    fn seal(ring: &KeyRing) -> Sealed {
        ring.seal_record(PARTITION, NAME, b"record".to_vec(), &SystemEntropy).expect("sealed")
    }

    fn ring(text: &str) -> Result<Vec<u32>, BadRing> {
        KeyRing::parse(&Secret::new(text.to_owned()), false).map(|ring| ring.ids())
    }

    #[test]
    fn rings_are_numbered_keys() {
        let key = STANDARD.encode([7; 32]);
        assert_eq!(ring(&format!("1:{key}")), Ok(vec![1]));
        assert_eq!(ring(&format!("2:{key}, 1:{key}")), Ok(vec![2, 1]));
        assert_eq!(ring(&format!("2:{key}")), Err(BadRing::FirstMissing));
        assert_eq!(ring(&format!("1:{key},1:{key}")), Err(BadRing::Twice(1)));
        let short = STANDARD.encode([7; 31]);
        for bad in ["", "1", "1:", "1:!!", &key, &format!("0:{key}"), &format!("x:{key}"), &format!("1:{short}")] {
            assert_eq!(ring(bad), Err(BadRing::Malformed(1)), "{bad}");
        }
        assert_eq!(ring(&format!("1:{key},")), Err(BadRing::Malformed(2)));
    }

    #[test]
    fn without_the_first_key_only_where_forced() {
        let text = Secret::new(format!("3:{}", STANDARD.encode([7; 32])));
        assert!(KeyRing::parse(&text, true).is_ok());
    }

    #[test]
    fn a_record_opens_in_its_partition_under_its_name_only() {
        let ring = numbered(&[(1, 1)]);
        let sealed = seal(&ring);
        assert_eq!(ring.open_record(PARTITION, NAME, &sealed).expect("opened"), b"record");
        for (partition, name) in
            [(Partition([3; 15]), NAME), (PARTITION, Name([3; 16])), (Partition([2; 15]), Name([1; 16]))]
        {
            assert!(matches!(ring.open_record(partition, name, &sealed), Err(SealError::Damaged)));
        }
    }

    #[test]
    fn sealing_hides_the_record_and_never_repeats_itself() {
        let ring = numbered(&[(1, 1)]);
        let (one, two) = (seal(&ring), seal(&ring));
        assert_ne!(one.version(), two.version());
        assert!(!one.as_bytes().windows(6).any(|part| part == b"record"));
        assert_eq!(one.as_bytes().len(), 5 + 24 + 6 + 16);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let ring = numbered(&[(1, 1)]);
        let sealed = seal(&ring);
        for index in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[index] ^= 1;
            let damaged = Sealed::from_bytes(bytes).expect("length");
            let error = ring.open_record(PARTITION, NAME, &damaged).expect_err("changed");
            match index {
                0 => assert!(matches!(error, SealError::UnknownFormat(2)), "{error}"),
                1..5 => assert!(matches!(error, SealError::MissingKey(_)), "{error}"),
                _ => assert!(matches!(error, SealError::Damaged), "byte {index}: {error}"),
            }
        }
        for length in 30..sealed.as_bytes().len() {
            let cut = Sealed::from_bytes(sealed.as_bytes()[..length].to_vec()).expect("length");
            assert!(matches!(ring.open_record(PARTITION, NAME, &cut), Err(SealError::Damaged)), "{length} bytes");
        }
    }

    #[test]
    fn the_longest_record_is_sealed_and_a_longer_one_refused() {
        let ring = numbered(&[(1, 1)]);
        let longest = Sealed::MAX_LENGTH - 5 - 24 - 16;
        assert!(ring.seal_record(PARTITION, NAME, vec![0; longest], &SystemEntropy).is_ok());
        let refused = ring.seal_record(PARTITION, NAME, vec![0; longest + 1], &SystemEntropy);
        assert!(matches!(refused, Err(SealError::TooLong)));
    }

    #[test]
    fn keys_rotate_and_a_missing_key_fails_closed() {
        let (old, both) = (numbered(&[(1, 1)]), numbered(&[(1, 1), (2, 2)]));
        let turned = numbered(&[(2, 2), (1, 1)]);
        let (before, after) = (seal(&old), seal(&turned));
        for record in [&before, &after] {
            assert!(both.open_record(PARTITION, NAME, record).is_ok());
            assert!(turned.open_record(PARTITION, NAME, record).is_ok());
        }
        assert!(matches!(old.open_record(PARTITION, NAME, &after), Err(SealError::MissingKey(2))));
    }
}
