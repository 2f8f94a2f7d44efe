//! Which takes count: an index in memory of the take keys on disk.
//!
//! Takes are few and small, and counting them on disk would be a scan per window. The index is rebuilt when the store opens.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    time::Duration,
};

use crate::{
    domain::{quota::Window, time::Timestamp},
    ports::store::{Name, TakeId, Taken},
};

/// All quotas. A quota has exactly one entry in `due`, at its `forget_at` or earlier.
#[derive(Default)]
pub(super) struct Takes {
    quotas: HashMap<Name, Quota>,
    due: BinaryHeap<Reverse<(Timestamp, Name)>>,
}

/// The takes of one quota by time. At most [`Window::MAX_USES`] of them, so that walking them is cheap.
struct Quota {
    takes: Vec<(Timestamp, TakeId)>,
    forget_at: Timestamp,
}

/// What a take changes on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) outcome: Taken,
    /// Set if the take is new: when its quota may be forgotten.
    pub(super) added: Option<Timestamp>,
    /// Takes that count in no window any more.
    pub(super) removed: Vec<TakeId>,
}

impl Takes {
    /// Puts back a take that was read from disk.
    pub(super) fn restore(&mut self, quota: Name, take: TakeId, at: Timestamp, forget_at: Timestamp) {
        self.quota(quota, forget_at).add(take, at);
    }

    /// Counts a take at `now` if every window has room. `clock` is the store's own time, which decides when to forget.
    pub(super) fn take(
        &mut self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        clock: Timestamp,
    ) -> Change {
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        let mut removed = Vec::new();
        if let Some(present) = self.quotas.get_mut(&quota) {
            removed = present.forget(now, clock, longest);
            if present.takes.iter().any(|(_, id)| *id == take) {
                return Change { outcome: Taken::Done, added: None, removed };
            }
            if windows.iter().any(|window| present.count(now, window.per) >= window.max as usize) {
                return Change { outcome: Taken::Refused, added: None, removed };
            }
        } else if windows.iter().any(|window| window.max == 0) {
            return Change { outcome: Taken::Refused, added: None, removed };
        }
        let present = self.quota(quota, clock.plus(longest));
        present.add(take, now);
        let forget_at = present.forget_at;
        Change { outcome: Taken::Done, added: Some(forget_at), removed }
    }

    /// Makes a take count no longer; whether it did.
    pub(super) fn give_back(&mut self, quota: Name, take: TakeId) -> bool {
        let Some(present) = self.quotas.get_mut(&quota) else { return false };
        let before = present.takes.len();
        present.takes.retain(|(_, id)| *id != take);
        present.takes.len() < before
    }

    /// Forgets quotas whose time has come, until about `limit` takes are gone; returns those takes.
    pub(super) fn sweep(&mut self, clock: Timestamp, limit: usize) -> Vec<(Name, TakeId)> {
        let mut gone = Vec::new();
        while gone.len() < limit && self.due.peek().is_some_and(|Reverse((at, _))| *at <= clock) {
            let Some(Reverse((_, name))) = self.due.pop() else { break };
            match self.quotas.get(&name).map(|quota| quota.forget_at) {
                Some(forget_at) if forget_at > clock => self.due.push(Reverse((forget_at, name))),
                Some(_) => {
                    let takes = self.quotas.remove(&name).map(|quota| quota.takes).unwrap_or_default();
                    gone.extend(takes.into_iter().map(|(_, take)| (name, take)));
                }
                None => {}
            }
        }
        gone
    }

    /// The quota, made if need be, to be kept at least until `forget_at`.
    fn quota(&mut self, name: Name, forget_at: Timestamp) -> &mut Quota {
        let due = &mut self.due;
        let quota = self.quotas.entry(name).or_insert_with(|| {
            due.push(Reverse((forget_at, name)));
            Quota { takes: Vec::new(), forget_at }
        });
        quota.forget_at = quota.forget_at.max(forget_at);
        quota
    }
}

impl Quota {
    fn add(&mut self, take: TakeId, at: Timestamp) {
        let place = self.takes.partition_point(|(other, _)| *other <= at);
        self.takes.insert(place, (at, take));
    }

    /// How many takes are later than `now - per`.
    fn count(&self, now: Timestamp, per: Duration) -> usize {
        self.takes.len() - self.takes.partition_point(|(at, _)| is_past(*at, now, per))
    }

    /// Drops what counts in no window: takes past the longest one, or all once the quota's own time is over.
    fn forget(&mut self, now: Timestamp, clock: Timestamp, longest: Duration) -> Vec<TakeId> {
        let past = if self.forget_at <= clock {
            self.takes.len()
        } else {
            self.takes.partition_point(|(at, _)| is_past(*at, now, longest))
        };
        self.takes.drain(..past).map(|(_, take)| take).collect()
    }
}

/// Whether a take is not later than `now - per`. Before the epoch there is nothing to be later than.
fn is_past(at: Timestamp, now: Timestamp, per: Duration) -> bool {
    at <= now && now.since(at) >= per
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Name = Name([1; 16]);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn forgotten_takes_are_named_once_so_that_they_leave_the_disk() {
        let window = [Window { max: 1, per: Duration::from_secs(1) }];
        let mut takes = Takes::default();
        assert_eq!(takes.take(QUOTA, TakeId([1; 16]), &window, at(5_000), at(5_000)).added, Some(at(6_000)));
        let next = takes.take(QUOTA, TakeId([2; 16]), &window, at(6_000), at(6_000));
        assert_eq!(next.removed, [TakeId([1; 16])]);
        assert_eq!(takes.sweep(at(6_999), 10), []);
        assert_eq!(takes.sweep(at(7_000), 10), [(QUOTA, TakeId([2; 16]))]);
        assert!(takes.quotas.is_empty() && takes.due.is_empty());
    }

    #[test]
    fn a_quota_given_back_is_still_swept() {
        let window = [Window { max: 1, per: Duration::from_secs(1) }];
        let mut takes = Takes::default();
        takes.take(QUOTA, TakeId([1; 16]), &window, at(0), at(0));
        assert!(takes.give_back(QUOTA, TakeId([1; 16])));
        assert!(!takes.give_back(QUOTA, TakeId([1; 16])));
        assert_eq!(takes.sweep(at(1_000), 10), []);
        assert!(takes.quotas.is_empty() && takes.due.is_empty());
    }
}
