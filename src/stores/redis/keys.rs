//! Every key in Redis. Names are keyed hashes already, so a key tells nothing.

use std::fmt;

use base64::{Engine, display::Base64Display, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::{RedisWrite, ToRedisArgs};

use crate::ports::store::{Name, Partition};

/// How many bytes of a record's name its key holds. Few records share a partition, and their names are keyed hashes: 64 bits
/// tell them apart, and every byte of a key is kept once a challenge.
const RECORD_NAME_LENGTH: usize = 8;
/// How many characters a partition is in a key.
const PARTITION_TEXT: usize = 20;

/// A key. It is written into a command as it is formatted, without a string of its own.
#[derive(Clone, Copy)]
pub(super) enum RedisKey {
    /// A record: a string. What is in braces chooses the slot of a cluster, so a partition is in one slot.
    Record(Partition, Name),
    /// An index entry: a string, the partition as it stands in the keys of its records.
    Index(Name),
    /// A quota: a sorted set.
    Quota(Name),
    /// Written with what replicas must confirm, in the slot of a partition.
    PartitionMark(Partition),
    /// The same in the slot of an index entry.
    IndexMark(Name),
    /// What a rehearsal works on. The number chooses the slot.
    Rehearsal(u32, Rehearsed),
}

/// The kinds of keys of a rehearsal.
#[derive(Clone, Copy)]
pub(super) enum Rehearsed {
    Record,
    Index,
    Quota,
    Mark,
}

impl fmt::Display for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(partition, name) => {
                write!(f, "otp:{{{}}}:{}", PartitionText(*partition), RecordText(*name))
            }
            Self::Index(name) => write!(f, "otp:i:{}", text(&name.0)),
            Self::Quota(name) => write!(f, "otp:q:{}", text(&name.0)),
            Self::PartitionMark(partition) => write!(f, "otp:{{{}}}:w", PartitionText(*partition)),
            Self::IndexMark(name) => write!(f, "otp:w:{{otp:i:{}}}", text(&name.0)),
            Self::Rehearsal(number, kind) => {
                let kind = match kind {
                    Rehearsed::Record => "r",
                    Rehearsed::Index => "i",
                    Rehearsed::Quota => "q",
                    Rehearsed::Mark => "w",
                };
                write!(f, "otp:check:{{{number}}}:{kind}")
            }
        }
    }
}

/// What every key of a record matches, for SCAN.
pub(super) const RECORDS: &str = "otp:{*";

/// The partition and name behind the key of a record. Of a name only the part that keys hold is known; the rest is zero.
pub(super) fn decode_record_key(key: &[u8]) -> Option<(Partition, Name)> {
    let key = key.strip_prefix(b"otp:{")?;
    let (partition, name) = key.split_at_checked(PARTITION_TEXT)?;
    let partition = Partition(URL_SAFE_NO_PAD.decode(partition).ok()?.try_into().ok()?);
    let name = match name.strip_prefix(b"}:")? {
        b"l" => Name::LOCKOUT,
        text => {
            let mut name = [0; 16];
            let bytes = URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| bytes.len() == RECORD_NAME_LENGTH)?;
            name.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            Name(name)
        }
    };
    Some((partition, name))
}

/// A partition as it stands in keys and index entries.
pub(super) struct PartitionText(pub(super) Partition);

impl fmt::Display for PartitionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text(&self.0.0).fmt(f)
    }
}

/// A record's name as it stands in keys.
pub(super) struct RecordText(pub(super) Name);

impl fmt::Display for RecordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == Name::LOCKOUT {
            return f.write_str("l");
        }
        let [name @ .., _, _, _, _, _, _, _, _] = &self.0.0;
        let name: &[u8; RECORD_NAME_LENGTH] = name;
        text(name).fmt(f)
    }
}

/// Base 64 without padding, in the alphabet that needs no quoting.
fn text(bytes: &[u8]) -> Base64Display<'_, 'static, base64::engine::GeneralPurpose> {
    Base64Display::new(bytes, &URL_SAFE_NO_PAD)
}

macro_rules! argument {
    ($($name:ty),*) => { $(
        impl ToRedisArgs for $name {
            fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
                out.write_arg_fmt(self);
            }
        }
    )* };
}

argument!(RedisKey, PartitionText, RecordText);

#[cfg(test)]
mod tests {
    use super::{super::layout::slot, *};

    const PARTITION: Partition = Partition([0xFB; 15]);

    /// Replicas of two releases share the keys, so they never change.
    #[test]
    fn keys_are_pinned() {
        let name = Name([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        for (key, expected) in [
            (RedisKey::Record(PARTITION, Name::LOCKOUT), "otp:{-_v7-_v7-_v7-_v7-_v7}:l"),
            (RedisKey::Record(PARTITION, name), "otp:{-_v7-_v7-_v7-_v7-_v7}:AAECAwQFBgc"),
            (RedisKey::Index(name), "otp:i:AAECAwQFBgcICQoLDA0ODw"),
            (RedisKey::Quota(Name([0; 16])), "otp:q:AAAAAAAAAAAAAAAAAAAAAA"),
            (RedisKey::PartitionMark(PARTITION), "otp:{-_v7-_v7-_v7-_v7-_v7}:w"),
            (RedisKey::IndexMark(name), "otp:w:{otp:i:AAECAwQFBgcICQoLDA0ODw}"),
            (RedisKey::Rehearsal(7, Rehearsed::Quota), "otp:check:{7}:q"),
        ] {
            assert_eq!(key.to_string(), expected);
        }
    }

    #[test]
    fn the_key_of_a_record_tells_its_partition_and_name() {
        let mut name = Name([7; 16]);
        name.0[8..].fill(0);
        for name in [name, Name::LOCKOUT] {
            let key = RedisKey::Record(PARTITION, name).to_string();
            assert_eq!(decode_record_key(key.as_bytes()), Some((PARTITION, name)));
        }
        for other in [
            "otp:check:{0}:r",
            "otp:{-_v7-_v7-_v7-_v7-_v7}:w",
            "otp:i:AAECAwQFBgcICQoLDA0ODw",
            "otp:{-_v7}:l",
            "otp:{-_v7-_v7-_v7-_v7-_v7}:",
        ] {
            assert_eq!(decode_record_key(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn marks_are_in_the_slot_of_what_they_stand_for() {
        let name = Name([9; 16]);
        for (mark, key) in [
            (RedisKey::PartitionMark(PARTITION), RedisKey::Record(PARTITION, name)),
            (RedisKey::IndexMark(name), RedisKey::Index(name)),
        ] {
            assert_eq!(slot(&mark.to_string()), slot(&key.to_string()));
        }
    }

    /// `locate.lua` puts the key of a record together from these.
    #[test]
    fn the_parts_of_a_record_key_are_what_the_index_and_the_scripts_hold() {
        let name = Name([9; 16]);
        let put_together = format!("otp:{{{}}}:{}", PartitionText(PARTITION), RecordText(name));
        assert_eq!(put_together, RedisKey::Record(PARTITION, name).to_string());
    }
}
