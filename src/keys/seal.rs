//! Sealing of records: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) under one key.
//!
//! Layout: `format (1) | key id (4, big endian) | nonce (24) | ciphertext | tag (16)`. The record's partition, the first 8 bytes
//! of its name, the format and the key id are associated data: a sealed record opens only where it was written. The random nonce is the
//! record's version.

use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

use crate::{
    ports::{
        entropy::{Entropy, NoEntropy},
        store::{Name, Partition, Sealed},
    },
    secret::Secret,
};

/// The first byte of every sealed record.
const FORMAT: u8 = 3;
const HEADER: usize = Sealed::VERSION_OFFSET;
const NONCE: usize = Sealed::VERSION_LENGTH;
const TAG: usize = 16;
/// How many bytes of a name a record is bound to: as many as every store keeps of it.
const NAME: usize = 8;
const ASSOCIATED: usize = 15 + NAME + HEADER;

/// Why a record cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed with a key that is not in the ring.
    #[error("key {0} is not in the ring")]
    MissingKey(u32),
    /// It is not as it was sealed, or was sealed for another partition or name.
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

    /// Seals a record where it is: header and nonce go before it and the tag behind it, and no second copy is made.
    pub(super) fn seal(
        &self,
        partition: Partition,
        name: Name,
        mut record: Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Result<Sealed, SealError> {
        let header = header(self.id);
        let mut nonce = [0; NONCE];
        entropy.fill(&mut nonce)?;
        record.reserve_exact(HEADER + NONCE + TAG);
        record.splice(..0, header.into_iter().chain(nonce));
        let (_, text) = record.split_at_mut_checked(HEADER + NONCE).ok_or(SealError::TooLong)?;
        let associated = associated(partition, name, header);
        let tag = encrypt(&self.cipher, nonce, &associated, text).ok_or(SealError::TooLong)?;
        record.extend_from_slice(&tag);
        Sealed::from_bytes(record).ok_or(SealError::TooLong)
    }

    /// Opens a record that was sealed with this key.
    pub(super) fn open(&self, partition: Partition, name: Name, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let (header, rest) = sealed.as_bytes().split_first_chunk::<HEADER>().ok_or(SealError::Damaged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Damaged)?;
        let (text, tag) = rest.split_last_chunk::<TAG>().ok_or(SealError::Damaged)?;
        let mut record = text.to_vec();
        let associated = associated(partition, name, *header);
        let is_whole = decrypt(&self.cipher, *nonce, &associated, &mut record, *tag);
        if is_whole { Ok(record) } else { Err(SealError::Damaged) }
    }
}

/// Encrypts a text where it is, and gives its tag. `None`: it is too long.
pub(super) fn encrypt(
    cipher: &XChaCha20Poly1305,
    nonce: [u8; NONCE],
    associated: &[u8],
    text: &mut [u8],
) -> Option<[u8; TAG]> {
    cipher.encrypt_inout_detached(&XNonce::from(nonce), associated, text.into()).ok().map(Into::into)
}

/// Decrypts a text where it is; whether it and what is associated with it are as they were encrypted.
pub(super) fn decrypt(
    cipher: &XChaCha20Poly1305,
    nonce: [u8; NONCE],
    associated: &[u8],
    text: &mut [u8],
    tag: [u8; TAG],
) -> bool {
    cipher.decrypt_inout_detached(&XNonce::from(nonce), associated, text.into(), &Tag::from(tag)).is_ok()
}

/// The id of the key that a record was sealed with.
///
/// # Errors
/// The record is of an unknown format.
pub fn key_id(sealed: &Sealed) -> Result<u32, SealError> {
    match sealed.as_bytes() {
        [FORMAT, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        [format, ..] => Err(SealError::UnknownFormat(*format)),
        [] => Err(SealError::Damaged),
    }
}

fn header(id: u32) -> [u8; HEADER] {
    let [a, b, c, d] = id.to_be_bytes();
    [FORMAT, a, b, c, d]
}

fn associated(partition: Partition, name: Name, header: [u8; HEADER]) -> [u8; ASSOCIATED] {
    let mut associated = [0; ASSOCIATED];
    let parts = partition.0.iter().chain(name.0.iter().take(NAME)).chain(&header);
    associated.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    associated
}
