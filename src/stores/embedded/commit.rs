//! How records are compared and written: the part of a batch that is about them.

use quick_cache::unsync::Cache;

use super::{
    batch::{Batch, unknown_format},
    layout,
};
use crate::{
    domain::time::Timestamp,
    ports::store::{Change, Committed, Name, Partition, Sealed, StoreError, Version},
};

/// Records of which the writer remembers the version, in about 100 bytes each. A record is written again within moments and
/// minutes, and each commit names the lockout, which most partitions do not have: without this, most of a commit's time is
/// asking the tables for what is not there.
const REMEMBERED: usize = 32_768;

/// What a commit needs to know of a record that is there.
#[derive(Clone, Copy)]
pub(super) struct RecordHead {
    expires_at: Timestamp,
    version: Version,
}

/// The records that commits named last; `None`: there is none.
pub(super) type RecordHeads = Cache<(Partition, Name), Option<RecordHead>>;

pub(super) fn no_record_heads() -> RecordHeads {
    Cache::new(REMEMBERED)
}

impl Batch<'_> {
    pub(super) fn commit(&mut self, partition: Partition, changes: &[Change]) -> Result<Committed, StoreError> {
        let mut heads = Vec::with_capacity(changes.len());
        for change in changes {
            heads.push(self.head(partition, change.name)?);
        }
        let time = self.time;
        let is_as_expected = |(change, head): (&Change, &Option<RecordHead>)| {
            change.expected == head.filter(|head| head.expires_at > time).map(|head| head.version)
        };
        if !changes.iter().zip(&heads).all(is_as_expected) {
            return self.present(partition, changes).map(Committed::Conflict);
        }
        for (change, head) in changes.iter().zip(heads) {
            let Some(write) = &change.write else { continue };
            let key = layout::record_key(partition, change.name);
            let expires_at = head.map(|head| head.expires_at);
            let expires_at = self.put(key, expires_at, write.ttl, write.record.as_bytes());
            let head = RecordHead { expires_at, version: write.record.version() };
            self.state.heads.insert((partition, change.name), Some(head));
        }
        Ok(Committed::Done)
    }

    /// Forgets a record that is removed.
    pub(super) fn forget_head(&mut self, key: &[u8]) {
        if let Some(record) = layout::decode_record_key(key) {
            self.state.heads.remove(&record);
        }
    }

    /// What is known of a record, be it expired or not, as the operations before have left it.
    fn head(&mut self, partition: Partition, name: Name) -> Result<Option<RecordHead>, StoreError> {
        if let Some(head) = self.state.heads.get(&(partition, name)) {
            return Ok(*head);
        }
        let found = self.decoded("commit", &layout::record_key(partition, name), layout::decode_head)?;
        let head = found.map(|(expires_at, version)| RecordHead { expires_at, version });
        self.state.heads.insert((partition, name), head);
        Ok(head)
    }

    /// The records that are there, in the order of the changes.
    fn present(&self, partition: Partition, changes: &[Change]) -> Result<Vec<Option<Sealed>>, StoreError> {
        let record = |change: &Change| {
            let entry = self.entry("commit", &layout::record_key(partition, change.name))?;
            let live = entry.filter(|entry| entry.expires_at > self.time);
            live.map(|entry| entry.into_record().ok_or_else(|| unknown_format("commit"))).transpose()
        };
        changes.iter().map(record).collect()
    }
}
