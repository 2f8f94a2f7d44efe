//! A count of what is on the disk, for tests of the store from outside.

use super::{
    batch::unknown_format,
    disk::Moment,
    layout::{self, Entry},
};
use crate::ports::store::StoreError;

/// What is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records, expired ones too as long as they are not removed.
    pub records: u64,
    /// Index entries, expired ones too as long as they are not removed.
    pub index: u64,
    /// Quotas that have uses.
    pub quotas: u64,
    /// Uses of quotas.
    pub uses: u64,
    /// How many keys are named by all expiries.
    pub expiries: u64,
}

impl Census {
    /// Counts all that is there at one moment.
    pub(super) fn of(moment: &Moment) -> Result<Self, StoreError> {
        let mut census = Self::default();
        let unknown = || unknown_format("census");
        for entry in moment.all("census") {
            let (key, value) = entry?;
            if key.starts_with(layout::RECORDS.as_bytes()) {
                census.records += 1;
            } else if key.starts_with(layout::INDEX.as_bytes()) {
                census.index += 1;
            } else if key.starts_with(layout::EXPIRIES.as_bytes()) {
                census.expiries += layout::decode_expiring(&value).ok_or_else(unknown)?.len() as u64;
            } else if layout::decode_quota_key(&key).is_some() {
                let quota = Entry::decode(&value).and_then(|entry| layout::decode_quota(&entry.content));
                census.quotas += 1;
                census.uses += quota.ok_or_else(unknown)?.2.len() as u64;
            } else if key.starts_with(layout::QUOTAS.as_bytes()) {
                census.uses += layout::decode_uses(&value).ok_or_else(unknown)?.len() as u64;
            }
        }
        Ok(census)
    }
}
