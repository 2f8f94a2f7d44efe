//! Which uses of quotas count: an index in memory of the use keys on disk.
//!
//! Uses are few and small, and counting them on disk would be a scan per window. The index is rebuilt when the store opens.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::store::{Acquired, Name},
};

/// The most uses that are kept of a quota. The newest tell for every window whether it is full.
const USES_MAX: usize = Window::MAX_USES as usize;

/// All quotas. A quota has exactly one entry in `due`, at the time to forget it or earlier.
#[derive(Default)]
pub(super) struct QuotaIndex {
    quotas: HashMap<Name, QuotaUses>,
    due: BinaryHeap<Reverse<(Timestamp, Name)>>,
}

/// The uses of one quota by time, at most [`USES_MAX`], so that walking them is cheap.
#[derive(Default)]
struct QuotaUses {
    uses: Vec<QuotaUse>,
    /// The longest window ever asked for: a shorter one may not forget what a longer one counts.
    longest: Duration,
    forget_at: Timestamp,
}

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

/// What acquiring changes on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QuotaChange {
    pub(super) outcome: Acquired,
    /// A use to be written, with the longest window of its quota.
    pub(super) written: Option<(QuotaUse, Duration)>,
    /// Uses to be removed.
    pub(super) removed: Vec<Token>,
}

impl QuotaIndex {
    /// Puts back a use that was read from disk.
    pub(super) fn restore(&mut self, quota: Name, counted: QuotaUse, longest: Duration) {
        let counted_at = counted.counted_at;
        let present = self.quotas.entry(quota).or_default();
        let new = present.uses.is_empty();
        present.longest = present.longest.max(longest);
        present.add(counted);
        present.keep_until(counted_at);
        if new {
            self.due.push(Reverse((present.forget_at, quota)));
        }
    }

    /// Counts a use at `now` if every window has room. `time` is the store's own, which decides when to forget.
    pub(super) fn acquire(
        &mut self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        time: Timestamp,
    ) -> QuotaChange {
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        if !self.quotas.contains_key(&quota) && windows.iter().any(|window| window.max == 0) {
            return QuotaChange { outcome: Acquired::Refused, written: None, removed: Vec::new() };
        }
        let due = &mut self.due;
        let present = self.quotas.entry(quota).or_insert_with(|| {
            due.push(Reverse((time.plus(longest), quota)));
            QuotaUses::default()
        });
        let mut removed = present.forget(time);
        let grows = longest > present.longest;
        present.longest = present.longest.max(longest);
        present.keep_until(time);

        let outcome = present.judge(usage, windows, now);
        let written = match outcome {
            Acquired::Now => {
                let new = QuotaUse { at: now, counted_at: time, usage };
                present.uses.retain(|other| other.usage != usage);
                present.add(new.clone());
                removed.extend(present.keep_newest());
                Some(new)
            }
            // The longest window is kept with the uses.
            Acquired::Before | Acquired::Refused => present.uses.last().filter(|_| grows).cloned(),
        };
        QuotaChange { outcome, written: written.map(|counted| (counted, present.longest)), removed }
    }

    /// Makes a use count no longer; whether it did.
    pub(super) fn refund(&mut self, quota: Name, usage: Token) -> bool {
        let Some(present) = self.quotas.get_mut(&quota) else { return false };
        let before = present.uses.len();
        present.uses.retain(|counted| counted.usage != usage);
        present.uses.len() < before
    }

    /// How many uses each window counts at `now`.
    pub(super) fn usage(&self, quota: Name, windows: &[Window], now: Timestamp) -> Vec<u32> {
        let count = |window: &Window| self.quotas.get(&quota).map_or(0, |present| present.count(now, window.per));
        windows.iter().map(|window| u32::try_from(count(window)).unwrap_or(u32::MAX)).collect()
    }

    /// Forgets all uses of a quota; returns them. The quota itself is forgotten when it is due.
    pub(super) fn clear(&mut self, quota: Name) -> Vec<Token> {
        let Some(present) = self.quotas.get_mut(&quota) else { return Vec::new() };
        present.longest = Duration::ZERO;
        present.uses.drain(..).map(|counted| counted.usage).collect()
    }

    /// Forgets quotas whose time has come, until about `limit` uses are gone; returns those uses.
    pub(super) fn sweep(&mut self, time: Timestamp, limit: usize) -> Vec<(Name, Token)> {
        let mut gone = Vec::new();
        while gone.len() < limit && self.due.peek().is_some_and(|Reverse((at, _))| *at <= time) {
            let Some(Reverse((_, name))) = self.due.pop() else { break };
            match self.quotas.get(&name).map(|quota| quota.forget_at) {
                Some(forget_at) if forget_at > time => self.due.push(Reverse((forget_at, name))),
                Some(_) => {
                    let uses = self.quotas.remove(&name).map(|quota| quota.uses).unwrap_or_default();
                    gone.extend(uses.into_iter().map(|counted| (name, counted.usage)));
                }
                None => {}
            }
        }
        gone
    }
}

impl QuotaUses {
    fn judge(&self, usage: Token, windows: &[Window], now: Timestamp) -> Acquired {
        let counts = |counted: &&QuotaUse| counted.usage == usage && !is_past(counted.at, now, self.longest);
        if self.uses.iter().find(counts).is_some() {
            return Acquired::Before;
        }
        let full = windows.iter().any(|window| self.count(now, window.per) >= window.max as usize);
        if full { Acquired::Refused } else { Acquired::Now }
    }

    fn add(&mut self, counted: QuotaUse) {
        // Most quotas are a destination's, with one use: room for more would be most of what they take up.
        self.uses.reserve_exact(usize::from(self.uses.is_empty()));
        let position = self.uses.partition_point(|other| other.at <= counted.at);
        self.uses.insert(position, counted);
    }

    /// How many uses are later than `now - per`.
    fn count(&self, now: Timestamp, per: Duration) -> usize {
        self.uses.len() - self.uses.partition_point(|counted| is_past(counted.at, now, per))
    }

    /// Keeps the quota at least as long as what is counted at that time.
    fn keep_until(&mut self, counted_at: Timestamp) {
        self.forget_at = self.forget_at.max(counted_at.plus(self.longest));
    }

    /// Drops the uses that have been counted for longer than the longest window.
    fn forget(&mut self, time: Timestamp) -> Vec<Token> {
        let longest = self.longest;
        let gone = self.uses.extract_if(.., |counted| is_past(counted.counted_at, time, longest));
        gone.map(|counted| counted.usage).collect()
    }

    /// Drops the oldest uses beyond the most that are kept.
    fn keep_newest(&mut self) -> Vec<Token> {
        let beyond = self.uses.len().saturating_sub(USES_MAX);
        self.uses.drain(..beyond).map(|counted| counted.usage).collect()
    }
}

/// Whether a use is not later than `now - per`. Before the epoch there is nothing to be later than.
fn is_past(at: Timestamp, now: Timestamp, per: Duration) -> bool {
    at <= now && now.since(at) >= per
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Name = Name([1; 16]);
    const SECOND: Duration = Duration::from_secs(1);
    const ONE: [Window; 1] = [Window { max: 1, per: SECOND }];

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn token(n: u8) -> Token {
        Token([n; 8])
    }

    #[test]
    fn forgotten_uses_are_named_once_so_that_they_leave_the_disk() {
        let mut quotas = QuotaIndex::default();
        let first = quotas.acquire(QUOTA, token(1), &ONE, at(5_000), at(5_000));
        let counted = QuotaUse { at: at(5_000), counted_at: at(5_000), usage: token(1) };
        assert_eq!(first.written, Some((counted, SECOND)));
        let next = quotas.acquire(QUOTA, token(2), &ONE, at(6_000), at(6_000));
        assert_eq!(next.removed, [token(1)]);
        assert_eq!(quotas.sweep(at(6_999), 10), []);
        assert_eq!(quotas.sweep(at(7_000), 10), [(QUOTA, token(2))]);
        assert!(quotas.quotas.is_empty() && quotas.due.is_empty());
    }

    #[test]
    fn a_quota_without_uses_is_still_swept() {
        let mut quotas = QuotaIndex::default();
        quotas.acquire(QUOTA, token(1), &ONE, at(0), at(0));
        assert!(quotas.refund(QUOTA, token(1)));
        assert!(!quotas.refund(QUOTA, token(1)));
        assert_eq!(quotas.sweep(at(1_000), 10), []);
        assert!(quotas.quotas.is_empty() && quotas.due.is_empty());
    }

    /// The caller's clock leaps a day ahead for one use: the others still count when it is back.
    #[test]
    fn a_leap_of_the_callers_clock_forgets_nothing() {
        let two = [Window { max: 2, per: SECOND }];
        let mut quotas = QuotaIndex::default();
        quotas.acquire(QUOTA, token(1), &two, at(5_000), at(5_000));
        quotas.acquire(QUOTA, token(2), &two, at(86_405_000), at(5_001));
        let third = quotas.acquire(QUOTA, token(3), &two, at(5_002), at(5_002));
        assert_eq!((third.outcome, third.removed), (Acquired::Refused, Vec::new()));
    }

    #[test]
    fn the_newest_uses_are_kept() {
        let mut quotas = QuotaIndex::default();
        let wide = [Window { max: u32::MAX, per: SECOND }];
        let name = |n: usize| Token(u64::try_from(n).unwrap().to_be_bytes());
        for n in 0..USES_MAX {
            assert_eq!(quotas.acquire(QUOTA, name(n), &wide, at(5_000), at(5_000)).removed, []);
        }
        assert_eq!(quotas.acquire(QUOTA, name(USES_MAX), &wide, at(5_001), at(5_001)).removed, [name(0)]);
    }
}
