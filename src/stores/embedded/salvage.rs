//! Copies what can still be read of a damaged database to a new one.
//!
//! The engine never opens the damaged one, which stays as it was found. It opens a draft of what is whole of it: an empty
//! database of its own, with the journals up to their first damage, and with the tables of one keyspace. So the damage of one
//! keyspace costs nothing of another.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::{
    disk::{KEYSPACES, SEQUENCE_KEY, Tables, Writes, engine, engine_error},
    journal,
    layout::{self, Entry},
    opening::{is_damage, remove},
    trees,
};
use crate::{
    domain::time::Timestamp,
    ports::store::{Name, StoreError},
};

/// Keys written at once, besides those that belong to them.
const BATCH: usize = 1_024;

/// How much of the tables of a keyspace is tried. The engine does not open a tree of which it cannot read the end of a table.
#[derive(Clone, Copy, Debug)]
enum Tried {
    /// All that are there: a damaged one can be read but for some blocks.
    All,
    /// Those that are whole.
    Whole,
    /// None: only what is in the journals.
    Nothing,
}

/// Copies all that can be read of the database `damaged` to an empty one. `draft` is a folder for the time being, on the same
/// file system.
pub(super) fn salvage(damaged: &Path, draft: &Path, to: &Tables) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::new("copy", format!("{}: {cause}", damaged.display()));
    let mut copy =
        SalvagedCopy { to, sequence: 0, batch: Writes::new(), expiring: BTreeMap::new(), expiry: 0, quota: None };
    let (mut copied, mut unreadable) = (0, 0);
    if !damaged.try_exists().map_err(failed)? {
        tracing::warn!("nothing is there of the damaged database: the store starts empty");
        return Ok(());
    }
    for (number, kind) in (1..).zip(KEYSPACES) {
        // What expires is named anew with each key.
        if kind == layout::EXPIRIES {
            continue;
        }
        for tried in [Tried::All, Tried::Whole, Tried::Nothing] {
            let Some(from) = drafted(damaged, draft, number, tried)? else { continue };
            tracing::warn!(kind, ?tried, "copying keys of a kind from the tables of the damaged database");
            let (read, lost) = copy.keyspace(&from, kind)?;
            copied += read;
            unreadable += lost;
            break;
        }
    }
    copy.write()?;
    remove(draft).map_err(failed)?;
    tracing::warn!(
        copied,
        unreadable,
        "copied what can be read; of an unreadable range of keys, 1 in 256 of a kind, the rest is lost"
    );
    Ok(())
}

/// A database with the tables of the keyspace of this number, as far as they are tried, and the whole journals; `None` where the
/// engine cannot read it.
fn drafted(damaged: &Path, draft: &Path, number: usize, tried: Tried) -> Result<Option<Tables>, StoreError> {
    let made = || -> io::Result<bool> {
        remove(draft)?;
        drop(engine(draft).map_err(io::Error::other)?);
        if !matches!(tried, Tried::Nothing) {
            let tree = Path::new("keyspaces").join(number.to_string());
            let whole_only = matches!(tried, Tried::Whole);
            if !trees::link_readable(&damaged.join(&tree), &draft.join(&tree), whole_only)? {
                return Ok(false);
            }
        }
        fs::remove_file(draft.join("0.jnl"))?;
        if !journal::copy_whole(damaged, draft)? {
            File::create(draft.join("0.jnl"))?;
        }
        Ok(true)
    };
    if !made().map_err(|cause| StoreError::new("copy", format!("{}: {cause}", draft.display())))? {
        return Ok(None);
    }
    // The engine trusts what it reads, and may panic.
    match catch_unwind(AssertUnwindSafe(|| engine(draft))) {
        Ok(Ok(tables)) => Ok(Some(tables)),
        Ok(Err(error)) if !is_damage(&error) => Err(engine_error("copy", error)),
        Ok(Err(_)) | Err(_) => Ok(None),
    }
}

/// The new database in the making. It counts its batches itself.
struct SalvagedCopy<'a> {
    to: &'a Tables,
    sequence: u64,
    batch: Writes,
    /// The keys of the batch, which an expiry is to name.
    expiring: BTreeMap<Timestamp, Vec<Vec<u8>>>,
    /// The number of the last expiry.
    expiry: u64,
    /// The last quota, and its number of pages.
    quota: Option<(Name, usize)>,
}

impl SalvagedCopy<'_> {
    /// Copies a keyspace; how many keys were read, and how many ranges were not to their end. Keys are read in 256 ranges by
    /// their second byte: what is unreadable costs the rest of its range.
    fn keyspace(&mut self, from: &Tables, kind: &str) -> Result<(u64, u64), StoreError> {
        let (mut copied, mut unreadable) = (0, 0);
        for keyspace in from.keyspaces().iter().zip(KEYSPACES).filter(|(_, name)| *name == kind).map(|(found, _)| found)
        {
            for second in 0..=u8::MAX {
                for entry in keyspace.prefix([kind.as_bytes(), &[second]].concat()) {
                    match entry.into_inner() {
                        Ok((key, value)) => copied += u64::from(self.add(&key, &value)),
                        Err(error) if is_damage(&error) => {
                            unreadable += 1;
                            break;
                        }
                        Err(error) => return Err(engine_error("copy", error)),
                    }
                    if self.batch.len() >= BATCH {
                        self.write()?;
                    }
                }
            }
        }
        Ok((copied, unreadable))
    }

    /// Whether it is of use: it is in a known format, and a page of a quota has its first page.
    fn add(&mut self, key: &[u8], value: &[u8]) -> bool {
        if key == SEQUENCE_KEY {
            return false;
        }
        if let Some((quota, page)) = layout::decode_page_key(key) {
            let belongs = self.quota.is_some_and(|(last, pages)| last == quota && page < pages);
            if belongs && layout::decode_uses(value).is_some() {
                self.batch.insert(key.to_vec(), Some(value.to_vec()));
            }
            return belongs;
        }
        let Some(entry) = Entry::decode(value) else { return false };
        if let Some(quota) = layout::decode_quota_key(key) {
            let Some((_, pages, _)) = layout::decode_quota(&entry.content) else { return false };
            self.quota = Some((quota, pages));
            // Stays empty if it cannot be read: a quota without one of its pages could not be used at all.
            self.batch.extend((1..pages).map(|page| (layout::page_key(quota, page), Some(Vec::new()))));
        }
        self.expiring.entry(entry.expires_at).or_default().push(key.to_vec());
        self.batch.insert(key.to_vec(), Some(value.to_vec()));
        true
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        for (at, keys) in std::mem::take(&mut self.expiring) {
            for together in keys.chunks(layout::EXPIRY_MAX) {
                self.expiry += 1;
                let key = layout::expiry_key(at, self.expiry);
                self.batch.insert(key, Some(layout::encode_expiring(together)));
            }
        }
        self.sequence += 1;
        self.to.commit(self.sequence, std::mem::take(&mut self.batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::embedded::quotas::{Quota, QuotaPage};

    /// A quota of three pages without its second one, another without its first, and a record that nothing names.
    #[test]
    fn what_belongs_together_is_made_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (damaged, new) = (folder.path().join("damaged"), folder.path().join("new"));
        let (here, gone, at) = (Name([1; 16]), Name([2; 16]), Timestamp::from_millis(5));
        let page = || QuotaPage { uses: Vec::new(), changed: false };
        let quota = Quota { pages: vec![page(), page(), page()], ..Quota::default() };
        let record = [layout::RECORDS.as_bytes(), &[3; 40]].concat();
        let first = Entry::encode(at, &layout::encode_quota(&quota));
        let writes = [
            (layout::quota_key(here), first.clone()),
            (layout::page_key(here, 2), vec![7; 24]),
            (layout::page_key(here, 3), vec![7; 24]),
            (layout::page_key(gone, 1), vec![7; 24]),
            (record.clone(), Entry::encode(at, b"sealed")),
        ];
        let tables = engine(&damaged).unwrap();
        tables.commit(1, writes.into_iter().map(|(key, value)| (key, Some(value))).collect()).unwrap();
        drop(tables);
        let tables = engine(&new).unwrap();
        salvage(&damaged, &folder.path().join("draft"), &tables).unwrap();
        let copied: Vec<_> = tables.moment().all("test").map(|pair| pair.unwrap()).collect();
        let (expiries, others): (Vec<_>, Vec<_>) =
            copied.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).partition(|(key, _)| key[0] == b'x');
        let expected = [
            (record.clone(), Entry::encode(at, b"sealed")),
            (layout::quota_key(here), first),
            (layout::page_key(here, 1), Vec::new()),
            (layout::page_key(here, 2), vec![7; 24]),
        ];
        assert_eq!(others, expected);
        let named: Vec<_> = expiries.iter().flat_map(|(_, keys)| layout::decode_expiring(keys).unwrap()).collect();
        assert_eq!(named, [record, layout::quota_key(here)]);
        assert!(expiries.iter().all(|(key, _)| layout::decode_expiry_key(key) == Some(at)));
    }
}
