//! Copies what can still be read of a damaged database to a new one.

use fjall::Slice;

use super::{
    disk::{KEYSPACES, Tables, Writes, engine_error},
    layout::{self, Entry},
    opening::is_damage,
};
use crate::{domain::time::Timestamp, ports::store::StoreError};

/// Keys written at once.
const BATCH: usize = 1_024;

/// The new database while it is filled.
struct Copying<'a> {
    to: &'a Tables,
    writes: Writes,
    expiring: Vec<(Timestamp, Vec<u8>)>,
    sequence: u64,
    expiries: u64,
}

/// Copies all keys but the number of the last batch, which the copy counts for itself, and the expiries, which are made anew:
/// one that is lost would keep what it names for ever. Keys of a kind are read in 256 ranges by their second byte: what is
/// unreadable costs the rest of its range.
pub(super) fn copy(from: &Tables, to: &Tables) -> Result<(), StoreError> {
    let (mut copied, mut unreadable) = (0, 0);
    let mut copying = Copying { to, writes: Writes::new(), expiring: Vec::new(), sequence: 0, expiries: 0 };
    for (keyspace, kind) in from.keyspaces().iter().zip(KEYSPACES).filter(|(_, kind)| *kind != layout::EXPIRIES) {
        for second in 0..=u8::MAX {
            for entry in keyspace.prefix([kind.as_bytes(), &[second]].concat()) {
                let (key, value) = match entry.into_inner() {
                    Ok(found) => found,
                    Err(error) if is_damage(&error) => {
                        unreadable += 1;
                        break;
                    }
                    Err(error) => return Err(engine_error("copy", error)),
                };
                copying.add(&key, &value)?;
                copied += 1;
            }
        }
    }
    copying.write()?;
    tracing::warn!(
        copied,
        unreadable,
        "copied what can be read; of an unreadable range of keys, 1 in 256 of a kind, the rest is lost"
    );
    Ok(())
}

impl Copying<'_> {
    fn add(&mut self, key: &Slice, value: &Slice) -> Result<(), StoreError> {
        self.writes.insert(key.to_vec(), Some(value.to_vec()));
        if !layout::is_further_page(key)
            && let Some(entry) = Entry::decode(value)
        {
            self.expiring.push((entry.expires_at, key.to_vec()));
        }
        if self.writes.len() < BATCH { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        for together in self.expiring.chunks(layout::EXPIRY_MAX) {
            // What expires later is moved when its turn comes.
            let first = together.iter().map(|(at, _)| *at).min().unwrap_or_default();
            let keys: Vec<_> = together.iter().map(|(_, key)| key.clone()).collect();
            self.expiries += 1;
            self.writes.insert(layout::expiry_key(first, self.expiries), Some(layout::encode_expiring(&keys)));
        }
        self.expiring.clear();
        if self.writes.is_empty() {
            return Ok(());
        }
        self.sequence += 1;
        self.to.commit(self.sequence, std::mem::take(&mut self.writes))
    }
}
