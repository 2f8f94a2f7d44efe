//! The keys and values on disk.
//!
//! | key | value |
//! | --- | --- |
//! | `r`, partition, name | expiry, sealed record |
//! | `i`, name | expiry, partition: an index entry |
//! | `x`, expiry, one of the keys above | nothing: that key may be removed from then on |
//! | `n` | the number of the last batch (`disk.rs`) |
//! | `u`, quota, token | a use: its time, the store's time when it was counted, the longest window of its quota |
//!
//! Times and spans are milliseconds, big endian, so that the `x` keys stand in order of time. Each `r` and `i` key has exactly
//! one `x` key, whose time is the expiry or earlier.

use std::{ops::Range, time::Duration};

use super::quotas::QuotaUse;
use crate::{
    domain::{
        ids::Token,
        time::{Timestamp, millis},
    },
    ports::store::{Cursor, Name, Partition, Sealed},
};

/// What the keys of a kind begin with.
pub(super) const RECORDS: &str = "r";
/// See [`RECORDS`].
pub(super) const INDEX: &str = "i";
/// See [`RECORDS`].
pub(super) const EXPIRIES: &str = "x";
/// See [`RECORDS`].
pub(super) const USES: &str = "u";

/// The value of a record or index entry.
pub(super) struct Entry {
    pub(super) expires_at: Timestamp,
    pub(super) content: Vec<u8>,
}

impl Entry {
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let (expires_at, content) = number(value)?;
        Some(Self { expires_at: Timestamp::from_millis(expires_at), content: content.to_vec() })
    }

    pub(super) fn encode(expires_at: Timestamp, content: &[u8]) -> Vec<u8> {
        [&expires_at.as_millis().to_be_bytes()[..], content].concat()
    }

    /// The record, if it is one.
    pub(super) fn into_record(self) -> Option<Sealed> {
        Sealed::from_bytes(self.content)
    }

    /// The partition of an index entry, if it is one.
    pub(super) fn partition(&self) -> Option<Partition> {
        self.content.as_slice().try_into().ok().map(Partition)
    }
}

pub(super) fn record_key(partition: Partition, name: Name) -> Vec<u8> {
    [RECORDS.as_bytes(), &partition.0, &name.0].concat()
}

/// The keys of records from a key on, or all of them.
pub(super) fn records_range(from: Option<&Cursor>) -> Range<Vec<u8>> {
    let start = from.map_or_else(|| RECORDS.as_bytes().to_vec(), |Cursor(key)| key.clone());
    let end = RECORDS.bytes().map(|byte| byte + 1).collect();
    start..end
}

/// The partition and name of a record.
pub(super) fn decode_record_key(key: &[u8]) -> Option<(Partition, Name)> {
    let (partition, name) = key.strip_prefix(RECORDS.as_bytes())?.split_first_chunk()?;
    Some((Partition(*partition), Name(name.try_into().ok()?)))
}

pub(super) fn index_key(name: Name) -> Vec<u8> {
    [INDEX.as_bytes(), &name.0].concat()
}

pub(super) fn expiry_key(at: Timestamp, key: &[u8]) -> Vec<u8> {
    [EXPIRIES.as_bytes(), &at.as_millis().to_be_bytes(), key].concat()
}

/// The expiry keys from one time to another, both included.
pub(super) fn expiry_range(from: Timestamp, to: Timestamp) -> Range<Vec<u8>> {
    let end = to.as_millis().saturating_add(1);
    expiry_key(from, &[])..[EXPIRIES.as_bytes(), &end.to_be_bytes()].concat()
}

/// The time of an expiry key, and the key that expires.
pub(super) fn decode_expiry_key(key: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (at, key) = number(key.strip_prefix(EXPIRIES.as_bytes())?)?;
    Some((Timestamp::from_millis(at), key))
}

pub(super) fn use_key(quota: Name, usage: Token) -> Vec<u8> {
    [USES.as_bytes(), &quota.0, &usage.0].concat()
}

/// The quota of a use, and its name.
pub(super) fn decode_use_key(key: &[u8]) -> Option<(Name, Token)> {
    let (quota, usage) = key.strip_prefix(USES.as_bytes())?.split_first_chunk()?;
    Some((Name(*quota), Token(usage.try_into().ok()?)))
}

pub(super) fn encode_use(counted: &QuotaUse, longest: Duration) -> Vec<u8> {
    let numbers = [counted.at.as_millis(), counted.counted_at.as_millis(), millis(longest)];
    numbers.map(u64::to_be_bytes).concat()
}

/// A use, and the longest window of its quota.
pub(super) fn decode_use(usage: Token, value: &[u8]) -> Option<(QuotaUse, Duration)> {
    let (at, rest) = number(value)?;
    let (counted_at, rest) = number(rest)?;
    let (longest, rest) = number(rest)?;
    let counted = QuotaUse { at: Timestamp::from_millis(at), counted_at: Timestamp::from_millis(counted_at), usage };
    rest.is_empty().then_some((counted, Duration::from_millis(longest)))
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}
