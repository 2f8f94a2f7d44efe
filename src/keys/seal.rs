//! Sealing of records: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) under the active key.
//!
//! Layout: `format (1) | key id (4, big endian) | nonce (24) | ciphertext and tag`. The record's name, the format and the
//! key id are associated data: a sealed record opens only under its own name. The random nonce is the record's version.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use super::ring::{KeyRing, MissingKey};
use crate::{
    ports::{
        entropy::{Entropy, NoEntropy},
        store::{Name, Sealed},
    },
    secret::Secret,
};

/// The first byte of every sealed record.
const FORMAT: u8 = 1;
const HEADER: usize = Sealed::VERSION_OFFSET;
const NONCE: usize = Sealed::VERSION_LENGTH;

/// Why a record cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that is not in the ring.
    #[error(transparent)]
    MissingKey(#[from] MissingKey),
    /// It is not as it was sealed, or not of this name.
    #[error("record does not open: damaged, or of another name")]
    Damaged,
    /// It is of a format that this version does not know.
    #[error("record has the unknown format {0}")]
    UnknownFormat(u8),
    /// It is too long.
    #[error("record is too long")]
    TooLong,
    /// There is no randomness for a nonce.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
}

/// The sealing key of one master key.
pub(super) struct SealKey {
    id: u32,
    cipher: XChaCha20Poly1305,
}

impl SealKey {
    pub(super) fn new(id: u32, key: &Secret<[u8; 32]>) -> Self {
        Self { id, cipher: XChaCha20Poly1305::new(key.expose().into()) }
    }
}

impl KeyRing {
    /// Seals a record under its name with the active key.
    ///
    /// # Errors
    /// There is no randomness, or the record is too long.
    pub fn seal_record(&self, name: Name, plain: &[u8], entropy: &dyn Entropy) -> Result<Sealed, SealError> {
        let key = self.active_seal()?;
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce)?;
        let header = header(key.id);
        let aad = associated(name, header);
        let payload = Payload { msg: plain, aad: &aad };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::TooLong)?;
        let mut bytes = Vec::with_capacity(HEADER + NONCE + sealed.len());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Sealed::from_bytes(bytes).ok_or(SealError::TooLong)
    }

    /// Opens a record of that name.
    ///
    /// # Errors
    /// It is damaged, of another name, of an unknown format, or its key is missing.
    pub fn open_record(&self, name: Name, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let (header, rest) = sealed.as_bytes().split_first_chunk::<HEADER>().ok_or(SealError::Damaged)?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Damaged)?;
        let [format, id @ ..] = *header;
        if format != FORMAT {
            return Err(SealError::UnknownFormat(format));
        }
        let key = self.seal(u32::from_be_bytes(id))?;
        let aad = associated(name, *header);
        let payload = Payload { msg: ciphertext, aad: &aad };
        key.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| SealError::Damaged)
    }
}

fn header(id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [FORMAT, a, b, c, d]
}

fn associated(name: Name, header: [u8; HEADER]) -> [u8; 16 + HEADER] {
    let mut aad = [0; 16 + HEADER];
    aad.iter_mut().zip(name.0.iter().chain(&header)).for_each(|(to, from)| *to = *from);
    aad
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::ports::entropy::SystemEntropy;

    const NAME: Name = Name([1; 16]);

    fn ring(keys: &[(u32, u8)]) -> KeyRing {
        let text: Vec<_> = keys.iter().map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; 32]))).collect();
        KeyRing::parse(&Secret::new(text.join(",")), false).expect("ring")
    }

    #[test]
    fn a_record_opens_under_its_own_name_only() {
        let ring = ring(&[(1, 1)]);
        let sealed = ring.seal_record(NAME, b"record", &SystemEntropy).expect("sealed");
        assert_eq!(ring.open_record(NAME, &sealed).expect("opened"), b"record");
        assert!(matches!(ring.open_record(Name([2; 16]), &sealed), Err(SealError::Damaged)));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let ring = ring(&[(1, 1)]);
        let sealed = ring.seal_record(NAME, b"record", &SystemEntropy).expect("sealed");
        for index in 0..sealed.as_bytes().len() {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[index] ^= 1;
            let damaged = Sealed::from_bytes(bytes).expect("length");
            assert!(ring.open_record(NAME, &damaged).is_err(), "byte {index}");
        }
    }

    #[test]
    fn keys_rotate_and_a_missing_key_fails_closed() {
        let (old, both, turned) = (ring(&[(1, 1)]), ring(&[(1, 1), (2, 2)]), ring(&[(2, 2), (1, 1)]));
        let before = old.seal_record(NAME, b"record", &SystemEntropy).expect("sealed");
        let after = turned.seal_record(NAME, b"record", &SystemEntropy).expect("sealed");
        for record in [&before, &after] {
            assert!(both.open_record(NAME, record).is_ok());
            assert!(turned.open_record(NAME, record).is_ok());
        }
        assert!(matches!(old.open_record(NAME, &after), Err(SealError::MissingKey(MissingKey(2)))));
    }
}
