//! Copies what can still be read of a damaged database to a new one.

use super::disk::{SEQUENCE_KEY, Tables, Writes};
use crate::ports::store::StoreError;

/// Keys written at once.
const BATCH: usize = 1_024;

/// Copies all keys but the number of the last batch, which the copy counts for itself. Keys are read in 65,536 ranges by
/// their first two bytes: what is unreadable costs the rest of its range.
pub(super) fn copy(from: Option<&Tables>, to: &Tables) -> Result<(), StoreError> {
    let (mut copied, mut unreadable, mut sequence) = (0, 0, 0);
    let mut writes = Writes::new();
    let mut write = |writes: &mut Writes| {
        sequence += 1;
        to.commit(sequence, std::mem::take(writes))
    };
    for start in 0..=u16::MAX {
        let Some(from) = from else { break };
        for entry in from.keyspace.prefix(start.to_be_bytes()) {
            let Ok((key, value)) = entry.into_inner() else {
                unreadable += 1;
                break;
            };
            if *key != *SEQUENCE_KEY {
                writes.insert(key.to_vec(), Some(value.to_vec()));
                copied += 1;
            }
            if writes.len() == BATCH {
                write(&mut writes)?;
            }
        }
    }
    if !writes.is_empty() {
        write(&mut writes)?;
    }
    tracing::warn!(
        copied,
        unreadable,
        "what can be read was copied: `unreadable` counts ranges of keys, each 1 in 256 of a kind"
    );
    Ok(())
}
