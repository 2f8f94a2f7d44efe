//! One quota: which of its uses count.
//!
//! The uses stand in pages, each a value on disk, so that a quota of a few uses is one value and a change of a large one
//! rewrites no more than a page. How pages are read and kept is in `pages.rs`.

use std::time::Duration;

use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::store::Acquired,
};

/// The most uses that are kept of a quota. The newest tell for every window whether it is full.
const USES_MAX: usize = Window::MAX_USES as usize;
/// The most uses of a page. Most quotas are a destination's or an account's, whose uses fit into one.
pub(super) const PAGE_MAX: usize = 32;

/// A use of a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuotaUse {
    /// Its time, as the caller told it: windows count by it.
    pub(super) at: Timestamp,
    /// The store's own time when it was counted: it is forgotten by this, whatever the caller's clock does.
    pub(super) counted_at: Timestamp,
    /// Its name.
    pub(super) usage: Token,
}

/// Some uses of a quota, in any order.
#[derive(Debug, Default)]
pub(super) struct QuotaPage {
    pub(super) uses: Vec<QuotaUse>,
    /// Whether the disk has something else.
    pub(super) changed: bool,
}

/// A quota with all its uses.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// The longest window ever asked for: a shorter one may not forget what a longer one counts.
    pub(super) longest: Duration,
    pub(super) pages: Vec<QuotaPage>,
    /// When nothing of it counts any more, at the latest.
    pub(super) forget_at: Timestamp,
    /// Until when the disk keeps it; `None`: it is not there.
    pub(super) kept_until: Option<Timestamp>,
}

impl Quota {
    /// Counts a use at `now` if every window has room. `time` is the store's own, which decides what is forgotten.
    pub(super) fn acquire(&mut self, usage: Token, windows: &[Window], now: Timestamp, time: Timestamp) -> Acquired {
        self.forget(time);
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        if longest > self.longest {
            self.longest = longest;
            self.keep_from(time);
            self.change_first();
        }
        let counts = |counted: &QuotaUse| counted.usage == usage && !is_past(counted.at, now, self.longest);
        if self.uses().any(counts) {
            return Acquired::Before;
        }
        if windows.iter().any(|window| self.count(now, window.per) >= window.max as usize) {
            return Acquired::Refused;
        }
        self.drop_uses(|counted| counted.usage == usage);
        if self.uses().count() >= USES_MAX {
            self.drop_oldest();
        }
        self.keep_from(time);
        self.add(QuotaUse { at: now, counted_at: time, usage });
        Acquired::Now
    }

    /// Makes a use count no longer.
    pub(super) fn refund(&mut self, usage: Token) {
        self.drop_uses(|counted| counted.usage == usage);
    }

    /// How many uses each window counts at `now`.
    pub(super) fn usage(&self, windows: &[Window], now: Timestamp) -> Vec<u32> {
        windows.iter().map(|window| u32::try_from(self.count(now, window.per)).unwrap_or(u32::MAX)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pages.iter().all(|page| page.uses.is_empty())
    }

    fn uses(&self) -> impl Iterator<Item = &QuotaUse> {
        self.pages.iter().flat_map(|page| &page.uses)
    }

    /// How many uses are later than `now - per`.
    fn count(&self, now: Timestamp, per: Duration) -> usize {
        self.uses().filter(|counted| !is_past(counted.at, now, per)).count()
    }

    fn add(&mut self, counted: QuotaUse) {
        let has_room = |page: &QuotaPage| page.uses.len() < PAGE_MAX;
        if !self.pages.iter().any(has_room) {
            self.change_first();
            self.pages.push(QuotaPage::default());
        }
        if let Some(page) = self.pages.iter_mut().find(|page| has_room(page)) {
            page.uses.push(counted);
            page.changed = true;
        }
    }

    /// Drops the uses that have been counted for longer than the longest window.
    fn forget(&mut self, time: Timestamp) {
        let longest = self.longest;
        self.drop_uses(|counted| is_past(counted.counted_at, time, longest));
    }

    /// Drops a use of the earliest time.
    fn drop_oldest(&mut self) {
        let oldest = self.uses().min_by_key(|counted| counted.at).map(|counted| counted.usage);
        self.drop_uses(|counted| Some(counted.usage) == oldest);
    }

    fn drop_uses(&mut self, gone: impl Fn(&QuotaUse) -> bool) {
        for page in &mut self.pages {
            let before = page.uses.len();
            page.uses.retain(|counted| !gone(counted));
            page.changed |= page.uses.len() < before;
        }
    }

    /// Keeps the quota at least as long as what is counted at that time.
    fn keep_from(&mut self, time: Timestamp) {
        self.forget_at = self.forget_at.max(time.plus(self.longest));
    }

    /// The first page is kept with what is known of the whole quota.
    fn change_first(&mut self) {
        if let Some(first) = self.pages.first_mut() {
            first.changed = true;
        }
    }
}

/// Whether a use is not later than `now - per`. Before the epoch there is nothing to be later than.
fn is_past(at: Timestamp, now: Timestamp, per: Duration) -> bool {
    at <= now && now.since(at) >= per
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: [Window; 1] = [Window { max: 1, per: SECOND }];

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn token(n: usize) -> Token {
        Token(u64::try_from(n).unwrap().to_be_bytes())
    }

    /// The pages that must be written, and from then on need not be.
    fn changed(quota: &mut Quota) -> Vec<usize> {
        let mut changed = Vec::new();
        for (n, page) in quota.pages.iter_mut().enumerate() {
            if std::mem::take(&mut page.changed) {
                changed.push(n);
            }
        }
        changed
    }

    #[test]
    fn a_forgotten_use_leaves_its_page() {
        let mut quota = Quota::default();
        assert_eq!(quota.acquire(token(1), &ONE, at(5_000), at(5_000)), Acquired::Now);
        assert_eq!(quota.acquire(token(2), &ONE, at(5_999), at(5_999)), Acquired::Refused);
        assert_eq!(quota.acquire(token(2), &ONE, at(6_000), at(6_000)), Acquired::Now);
        assert_eq!(quota.pages.len(), 1);
        assert_eq!(quota.pages[0].uses, [QuotaUse { at: at(6_000), counted_at: at(6_000), usage: token(2) }]);
        quota.refund(token(1));
        assert!(!quota.is_empty());
        quota.refund(token(2));
        assert!(quota.is_empty());
    }

    /// The caller's clock leaps a day ahead for one use: the others still count when it is back.
    #[test]
    fn a_leap_of_the_callers_clock_forgets_nothing() {
        let two = [Window { max: 2, per: SECOND }];
        let mut quota = Quota::default();
        quota.acquire(token(1), &two, at(5_000), at(5_000));
        quota.acquire(token(2), &two, at(86_405_000), at(5_001));
        assert_eq!(quota.acquire(token(3), &two, at(5_002), at(5_002)), Acquired::Refused);
        assert_eq!(quota.usage(&two, at(5_002)), [2]);
    }

    #[test]
    fn the_newest_uses_are_kept_and_a_change_concerns_few_pages() {
        let mut quota = Quota::default();
        let wide = [Window { max: u32::MAX, per: SECOND }];
        for n in 0..USES_MAX {
            assert_eq!(quota.acquire(token(n), &wide, at(5_000 + u64::from(n > 0)), at(5_000)), Acquired::Now);
            // A new page is known to the first one.
            assert!(changed(&mut quota).iter().all(|page| *page == 0 || *page == n / PAGE_MAX));
        }
        assert_eq!(quota.acquire(token(USES_MAX), &wide, at(5_002), at(5_002)), Acquired::Now);
        assert_eq!(changed(&mut quota), [0], "the oldest use makes room for the new one");
        assert_eq!(quota.uses().count(), USES_MAX);
        assert!(quota.uses().all(|counted| counted.usage != token(0)));
        quota.refund(token(5_000));
        assert_eq!(changed(&mut quota), [5_000 / PAGE_MAX]);
        assert_eq!(quota.acquire(token(0), &wide, at(5_003), at(5_003)), Acquired::Now);
        assert_eq!(changed(&mut quota), [5_000 / PAGE_MAX], "room is used again");
        assert_eq!(quota.pages.len(), USES_MAX.div_ceil(PAGE_MAX));
    }

    /// A window that grows is known from then on, even where the call counts nothing.
    #[test]
    fn the_longest_window_is_kept() {
        let long = [Window { max: 1, per: SECOND * 10 }];
        let mut quota = Quota::default();
        quota.acquire(token(1), &ONE, at(5_000), at(5_000));
        changed(&mut quota);
        assert_eq!(quota.acquire(token(2), &long, at(5_500), at(5_500)), Acquired::Refused);
        assert_eq!((changed(&mut quota), quota.longest), (vec![0], SECOND * 10));
        assert_eq!(quota.acquire(token(3), &ONE, at(7_000), at(7_000)), Acquired::Now);
        assert_eq!(quota.usage(&long, at(7_000)), [2]);
    }
}
