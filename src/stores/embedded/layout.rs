//! The keys and values on disk.
//!
//! | key | value |
//! | --- | --- |
//! | `r`, partition, name | expiry, sealed record |
//! | `i`, name | expiry, partition: an index entry |
//! | `q`, quota | expiry, longest window, number of pages, the uses of the first page |
//! | `q`, quota, number | the uses of a further page |
//! | `n`, in each keyspace | the number of the last batch (`disk.rs`) |
//! | `x`, time, number | keys as above but those of further pages: each may be removed from that time on |
//!
//! Times and spans are milliseconds, big endian, so that the `x` keys stand in order of time. Each record, index entry and
//! quota is named by an `x` key whose time is the expiry or earlier. Those that expire together share one, since many small
//! keys cost more than a few large ones. A use is its time, the store's time when it was counted, and its token.

use std::{ops::Range, time::Duration};

use super::quotas::{Quota, QuotaUse};
use crate::{
    domain::{
        ids::Token,
        time::{Timestamp, millis},
    },
    ports::store::{Cursor, Name, Partition, Sealed, Version},
};

/// What the keys of a kind begin with.
pub(super) const RECORDS: &str = "r";
/// See [`RECORDS`].
pub(super) const INDEX: &str = "i";
/// See [`RECORDS`].
pub(super) const EXPIRIES: &str = "x";
/// See [`RECORDS`].
pub(super) const QUOTAS: &str = "q";
/// The most keys that one expiry names. Bounds what the sweeper removes at once.
pub(super) const EXPIRY_MAX: usize = 64;

/// How long a use is, in bytes.
const USE_LENGTH: usize = 24;

/// The value of a record, an index entry, or the first page of a quota.
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

/// The expiry and the version of a record's value.
pub(super) fn decode_head(value: &[u8]) -> Option<(Timestamp, Version)> {
    let (expires_at, record) = number(value)?;
    let (version, _) = record.get(Sealed::VERSION_OFFSET..)?.split_first_chunk()?;
    Some((Timestamp::from_millis(expires_at), Version(*version)))
}

pub(super) fn index_key(name: Name) -> Vec<u8> {
    [INDEX.as_bytes(), &name.0].concat()
}

/// The key of an expiry. No two have the same number.
pub(super) fn expiry_key(at: Timestamp, number: u64) -> Vec<u8> {
    [EXPIRIES.as_bytes(), &at.as_millis().to_be_bytes(), &number.to_be_bytes()].concat()
}

/// The expiries from one time to another, both included.
pub(super) fn expiry_range(from: Timestamp, to: Timestamp) -> Range<Vec<u8>> {
    let end = to.as_millis().saturating_add(1);
    expiry_key(from, 0)..[EXPIRIES.as_bytes(), &end.to_be_bytes()].concat()
}

/// The time of an expiry.
pub(super) fn decode_expiry_key(key: &[u8]) -> Option<Timestamp> {
    let (at, _) = number(key.strip_prefix(EXPIRIES.as_bytes())?)?;
    Some(Timestamp::from_millis(at))
}

/// The keys that an expiry names, each after its length, which one byte holds.
pub(super) fn encode_expiring(keys: &[Vec<u8>]) -> Vec<u8> {
    let length = |key: &Vec<u8>| u8::try_from(key.len()).unwrap_or_default();
    keys.iter().flat_map(|key| [length(key)].into_iter().chain(key.iter().copied())).collect()
}

/// See [`encode_expiring`].
pub(super) fn decode_expiring(mut value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut keys = Vec::new();
    while let Some((length, rest)) = value.split_first() {
        let (key, rest) = rest.split_at_checked(usize::from(*length))?;
        keys.push(key.to_vec());
        value = rest;
    }
    Some(keys)
}

pub(super) fn quota_key(quota: Name) -> Vec<u8> {
    [QUOTAS.as_bytes(), &quota.0].concat()
}

/// The key of a page of a quota but the first.
pub(super) fn page_key(quota: Name, page: usize) -> Vec<u8> {
    let page = u16::try_from(page).unwrap_or(u16::MAX);
    [QUOTAS.as_bytes(), &quota.0, &page.to_be_bytes()].concat()
}

/// The quota of a key; `None`: it is the key of something else.
pub(super) fn decode_quota_key(key: &[u8]) -> Option<Name> {
    Some(Name(key.strip_prefix(QUOTAS.as_bytes())?.try_into().ok()?))
}

/// The quota and number of a page but the first; `None`: it is the key of something else.
pub(super) fn decode_page_key(key: &[u8]) -> Option<(Name, usize)> {
    let (quota, page) = key.strip_prefix(QUOTAS.as_bytes())?.split_last_chunk()?;
    Some((Name(quota.try_into().ok()?), usize::from(u16::from_be_bytes(*page))))
}

/// What is kept of a quota with its first page, besides the expiry.
pub(super) fn encode_quota(quota: &Quota) -> Vec<u8> {
    let first = quota.pages.first().map(|page| encode_uses(&page.uses)).unwrap_or_default();
    let pages = u16::try_from(quota.pages.len()).unwrap_or(u16::MAX);
    [&millis(quota.longest).to_be_bytes()[..], &pages.to_be_bytes(), &first].concat()
}

/// The longest window of a quota, the number of its pages, and the uses of the first.
pub(super) fn decode_quota(content: &[u8]) -> Option<(Duration, usize, Vec<QuotaUse>)> {
    let (longest, rest) = number(content)?;
    let (pages, uses) = rest.split_first_chunk()?;
    Some((Duration::from_millis(longest), usize::from(u16::from_be_bytes(*pages)), decode_uses(uses)?))
}

pub(super) fn encode_uses(uses: &[QuotaUse]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(uses.len() * USE_LENGTH);
    for counted in uses {
        bytes.extend(counted.at.as_millis().to_be_bytes());
        bytes.extend(counted.counted_at.as_millis().to_be_bytes());
        bytes.extend(counted.usage.0);
    }
    bytes
}

/// See [`encode_uses`].
pub(super) fn decode_uses(bytes: &[u8]) -> Option<Vec<QuotaUse>> {
    let counted = |bytes: &[u8]| {
        let (at, rest) = number(bytes)?;
        let (counted_at, usage) = number(rest)?;
        let (at, counted_at) = (Timestamp::from_millis(at), Timestamp::from_millis(counted_at));
        Some(QuotaUse { at, counted_at, usage: Token(usage.try_into().ok()?) })
    };
    bytes.chunks(USE_LENGTH).map(counted).collect()
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}
