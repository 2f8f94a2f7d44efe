//! Copies what can still be read of a damaged database to a new one.

use super::{
    disk::{KEYSPACES, Tables, Writes, engine_error},
    opening::is_damage,
};
use crate::ports::store::StoreError;

/// Keys written at once.
const BATCH: usize = 1_024;

/// Copies all keys but the number of the last batch: the copy counts for itself. Keys of a kind are read in 256 ranges by their
/// second byte: what is unreadable costs the rest of its range.
pub(super) fn copy(from: &Tables, to: &Tables) -> Result<(), StoreError> {
    let (mut copied, mut unreadable, mut sequence) = (0, 0, 0);
    let mut writes = Writes::new();
    let mut write = |writes: &mut Writes| {
        sequence += 1;
        to.commit(sequence, std::mem::take(writes))
    };
    for (keyspace, kind) in from.keyspaces().iter().zip(KEYSPACES) {
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
                writes.insert(key.to_vec(), Some(value.to_vec()));
                copied += 1;
                if writes.len() == BATCH {
                    write(&mut writes)?;
                }
            }
        }
    }
    if !writes.is_empty() {
        write(&mut writes)?;
    }
    tracing::warn!(
        copied,
        unreadable,
        "copied what can be read; of an unreadable range of keys, 1 in 256 of a kind, the rest is lost"
    );
    Ok(())
}
