//! How quotas are read from disk and kept there: the part of a batch that is about them.

use std::time::Duration;

use quick_cache::{Weighter, unsync::Cache};

use super::{
    batch::{Batch, unknown_format},
    layout,
    quotas::{Quota, QuotaPage},
};
use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::store::{Acquired, Name, StoreError},
};

/// Quotas of more than one page that stay in memory, in pages of 768 bytes. A quota of one page is read in one step; one of
/// a tenant may have 313, which would be read for each of its sends.
const REMEMBERED_PAGES: u64 = 10_000;
/// How many quotas these are expected to be.
const REMEMBERED_QUOTAS: usize = 100;
/// A large quota is kept for longer than need be, by this part of its longest window, so that not each use changes its first
/// page too.
const LONGER: u32 = 64;

/// The large quotas that were last used.
pub(super) type LargeQuotas = Cache<Name, Quota, PageCount>;

pub(super) fn no_large_quotas() -> LargeQuotas {
    Cache::with_weighter(REMEMBERED_QUOTAS, REMEMBERED_PAGES, PageCount)
}

/// Weighs a quota by its pages.
#[derive(Clone)]
pub(super) struct PageCount;

impl Weighter<Name, Quota> for PageCount {
    fn weight(&self, _: &Name, quota: &Quota) -> u64 {
        quota.pages.len() as u64
    }
}

impl Batch<'_> {
    pub(super) fn acquire(
        &mut self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
    ) -> Result<Acquired, StoreError> {
        let mut present = self.quota("acquire", quota)?.unwrap_or_default();
        let outcome = present.acquire(usage, windows, now, self.time);
        self.keep(quota, present);
        Ok(outcome)
    }

    pub(super) fn refund(&mut self, quota: Name, usage: Token) -> Result<(), StoreError> {
        if let Some(mut present) = self.quota("refund", quota)? {
            present.refund(usage);
            self.keep(quota, present);
        }
        Ok(())
    }

    pub(super) fn usage(&mut self, quota: Name, windows: &[Window], now: Timestamp) -> Result<Vec<u32>, StoreError> {
        let present = self.quota("usage", quota)?.unwrap_or_default();
        let usage = present.usage(windows, now);
        self.keep(quota, present);
        Ok(usage)
    }

    pub(super) fn clear(&mut self, quota: Name) -> Result<(), StoreError> {
        if let Some(entry) = self.entry("clear", &layout::quota_key(quota))? {
            let (_, pages, _) = layout::decode_quota(&entry.content).ok_or_else(|| unknown_format("clear"))?;
            self.remove_quota(quota, pages);
        }
        Ok(())
    }

    /// Removes a quota whose time is over; how many keys that are.
    pub(super) fn remove_quota(&mut self, quota: Name, pages: usize) -> usize {
        self.state.large.remove(&quota);
        self.writes.insert(layout::quota_key(quota), None);
        self.writes.extend((1..pages).map(|page| (layout::page_key(quota, page), None)));
        pages
    }

    /// The quota as the operations before have left it.
    fn quota(&mut self, operation: &'static str, quota: Name) -> Result<Option<Quota>, StoreError> {
        if let Some((_, remembered)) = self.state.large.remove(&quota) {
            return Ok(Some(remembered));
        }
        let Some(entry) = self.entry(operation, &layout::quota_key(quota))? else { return Ok(None) };
        let (longest, pages, uses) = layout::decode_quota(&entry.content).ok_or_else(|| unknown_format(operation))?;
        let mut present = Quota {
            longest,
            pages: vec![QuotaPage { uses, changed: false }],
            forget_at: entry.expires_at,
            kept_until: Some(entry.expires_at),
        };
        for page in 1..pages {
            // A page may have been lost with a damaged database whose loss was accepted.
            let uses = self.decoded(operation, &layout::page_key(quota, page), layout::decode_uses)?;
            present.pages.push(QuotaPage { uses: uses.unwrap_or_default(), changed: false });
        }
        Ok(Some(present))
    }

    /// Writes what has changed. A quota without uses is removed: there is nothing to know of it.
    fn keep(&mut self, quota: Name, mut present: Quota) {
        if present.is_empty() {
            if present.kept_until.is_some() {
                self.remove_quota(quota, present.pages.len());
            }
            return;
        }
        let mut first_changed = false;
        for (n, page) in present.pages.iter_mut().enumerate() {
            match std::mem::take(&mut page.changed) {
                true if n == 0 => first_changed = true,
                true => drop(self.writes.insert(layout::page_key(quota, n), Some(layout::encode_uses(&page.uses)))),
                false => {}
            }
        }
        let is_large = present.pages.len() > 1;
        if first_changed || present.kept_until < Some(present.forget_at) {
            let longer = if is_large { present.longest / LONGER } else { Duration::ZERO };
            let life = present.forget_at.since(self.time).saturating_add(longer);
            let content = layout::encode_quota(&present);
            present.kept_until = Some(self.put(layout::quota_key(quota), present.kept_until, life, &content));
        }
        if is_large {
            self.state.large.insert(quota, present);
        }
    }
}
