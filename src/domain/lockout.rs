//! The lockout: consecutive failures and locks of an account, or of a registration's contact. It outlives every challenge, so
//! that a new challenge buys no guesses.
//!
//! A failure counts twice: in total, and for the contact that the code went to. Either count climbs the ladder of locks. A
//! success resets the total and its own contact, so that owning one contact buys no guesses at another (NIST SP 800-63B-4,
//! 3.2.2). Locks are judged and dated by the replica's clock alone, so that no recorded time can lift or stretch them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ids::{AccountId, Contact, IdempotencyKey, Token},
    outcome::Locked,
    policy::LockPolicy,
    time::Timestamp,
};

/// Contacts with a count of their own. Further ones share one count and its lock.
pub const MAX_CONTACTS: usize = 32;
/// Verifications that are remembered while they run. Of more, the oldest of the same account is forgotten.
const MAX_RUNNING: usize = 8;
/// Requests of operators that are remembered.
const MAX_OPERATIONS: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);
/// A lockout is kept this long after it was last written.
const KEPT: Duration = DAY.saturating_mul(400);
/// A lock without an end is kept this long.
const KEPT_LOCKED_FOR_GOOD: Duration = DAY.saturating_mul(3650);

/// Failures and locks. The default has none, and is what an absent record means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockout {
    total: Count,
    /// Contacts with failures, at most [`MAX_CONTACTS`]. None is evicted.
    contacts: Vec<(Contact, Count)>,
    further_contacts: Count,
    /// The lock that an operator has set. A success does not lift it.
    operator_lock: Option<Locked>,
    /// Failures of attempts that a provider is judging. Bounded by the ladder: each denies as if it were counted.
    pending: Vec<PendingFailure>,
    /// Verifications beside which their provider starts no other for the destination, oldest first.
    running: Vec<Running>,
    /// The last requests of operators, oldest first.
    operations: Vec<IdempotencyKey>,
}

/// Consecutive failures, and the lock that they have set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    failures: u32,
    lock: Option<Locked>,
}

/// The failure that an attempt will be unless its provider says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PendingFailure {
    token: Token,
    contact: Contact,
    lease_until: Timestamp,
}

/// A verification that runs at a provider which has one for each destination. A later send of the same account, in whatever
/// challenge, has it cancelled; that of another account does not know it, also where both register the same contact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub account: AccountId,
    pub provider: String,
    /// By what the provider knows it.
    pub reference: String,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Lock until a time; `None`: until unlocked.
    Lock(Option<Timestamp>),
    /// Lift all locks and reset all failures.
    Unlock,
}

/// What became of an operator's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operated {
    Now,
    /// It was done before; nothing changes, so that a late repetition never undoes what came after.
    Before,
    /// The request id was used for other content.
    Conflict,
}

impl Lockout {
    /// The lock that stops an attempt for a contact: of the account, of the contact, or an operator's.
    pub fn locked(&self, contact: Contact, now: Timestamp) -> Option<Locked> {
        Locked::open([self.total.lock, self.count_of(contact).lock, self.operator_lock], now)
    }

    /// The lock that stops everything: of the account, or an operator's.
    pub fn account_locked(&self, now: Timestamp) -> Option<Locked> {
        Locked::open([self.total.lock, self.operator_lock], now)
    }

    /// The lock that an operator has set.
    pub fn operator_locked(&self, now: Timestamp) -> Option<Locked> {
        Locked::open([self.operator_lock], now)
    }

    /// The locks that failures have set, of all contacts together and of this one, whether they have ended or not.
    pub fn locks_by_failures(&self, contact: Contact) -> [Option<Locked>; 2] {
        [self.total.lock, self.count_of(contact).lock]
    }

    /// How many contacts are locked; the further ones, which share a lock, are one.
    pub fn locked_contacts(&self, now: Timestamp) -> usize {
        let counts = self.contacts.iter().map(|(_, count)| count).chain([&self.further_contacts]);
        counts.filter(|count| Locked::open([count.lock], now).is_some()).count()
    }

    pub fn failures(&self) -> u32 {
        self.total.failures
    }

    /// Failures left for a contact that is not locked, up to and with the one that locks.
    pub(super) fn budget(&self, contact: Contact, policy: &LockPolicy) -> u32 {
        self.total.budget(policy).min(self.count_of(contact).budget(policy))
    }

    /// Until when another attempt for a contact is denied, because the pending failures, once counted, would lock.
    pub(super) fn denied_by_pending(&self, contact: Contact, policy: &LockPolicy) -> Option<Timestamp> {
        let ends = |pending: &PendingFailure| pending.lease_until;
        let of_contact = || self.pending.iter().filter(|pending| self.shares_count(pending.contact, contact));
        if of_contact().count() >= count(self.count_of(contact).budget(policy)) {
            return of_contact().map(ends).min();
        }
        let in_total = self.pending.len() >= count(self.total.budget(policy));
        in_total.then(|| self.pending.iter().map(ends).min()).flatten()
    }

    /// Counts a failure, and locks where a count reaches a rung of the ladder.
    pub(super) fn count(&mut self, contact: Contact, now: Timestamp, policy: &LockPolicy) {
        self.total.add(now, policy);
        let shares = self.shares();
        if let Some((_, count)) = self.contacts.iter_mut().find(|(known, _)| *known == contact) {
            count.add(now, policy);
        } else if shares {
            self.further_contacts.add(now, policy);
        } else {
            let mut count = Count::default();
            count.add(now, policy);
            self.contacts.push((contact, count));
        }
    }

    /// Resets the total and the contact of a success. The shared count of further contacts holds the failures of others, so
    /// that only an operator resets it; while it is in use, a contact with a count of its own keeps that, so that it never joins.
    pub(super) fn reset(&mut self, contact: Contact) {
        self.total = Count::default();
        match self.contacts.iter_mut().find(|(known, _)| *known == contact) {
            Some((_, count)) if self.further_contacts.failures > 0 => *count = Count::default(),
            _ => self.contacts.retain(|(known, _)| *known != contact),
        }
        self.pending.retain(|pending| pending.contact != contact);
    }

    /// Enters the failure of an attempt that a provider is about to judge.
    pub(super) fn add_pending(&mut self, token: Token, contact: Contact, lease_until: Timestamp) {
        self.pending.push(PendingFailure { token, contact, lease_until });
    }

    /// Removes the pending failure of that reservation and no other.
    pub(super) fn remove_pending(&mut self, token: Token) {
        self.pending.retain(|pending| pending.token != token);
    }

    /// Whether the failure of that reservation is pending.
    pub(super) fn has_pending(&self, token: Token) -> bool {
        self.pending.iter().any(|pending| pending.token == token)
    }

    /// Whether [`Self::drop_overdue`] has something to drop.
    pub(super) fn has_overdue(&self, except: Option<Token>, now: Timestamp) -> bool {
        self.pending.iter().any(|pending| now >= pending.lease_until && except != Some(pending.token))
    }

    /// Drops pending failures whose lease has ended: their attempts are without an outcome from then on.
    pub(super) fn drop_overdue(&mut self, except: Option<Token>, now: Timestamp) {
        self.pending.retain(|pending| now < pending.lease_until || except == Some(pending.token));
    }

    /// Enters a verification, and drops those that have ended.
    pub(super) fn add_running(&mut self, running: Running, now: Timestamp) {
        let is_same = |known: &Running| known.provider == running.provider && known.reference == running.reference;
        if self.running.iter().any(is_same) {
            return;
        }
        self.running.retain(|known| now < known.until);
        if self.running.len() >= MAX_RUNNING {
            // An account that starts many makes otpd forget its own first: a contact's lockout has those of others too.
            let own = self.running.iter().position(|known| known.account == running.account);
            self.running.remove(own.unwrap_or_default());
        }
        self.running.push(running);
    }

    /// The verifications of an account that still run at a provider.
    pub fn running(&self, account: &AccountId, provider: &str, now: Timestamp) -> Vec<Running> {
        let is_theirs = |running: &&Running| running.account == *account && running.provider == provider;
        self.running.iter().filter(is_theirs).filter(|running| now < running.until).cloned().collect()
    }

    /// Whether an operator's request id is remembered, with whatever content.
    pub fn has_operated(&self, key: IdempotencyKey) -> bool {
        self.operations.iter().any(|known| known.id == key.id)
    }

    pub fn operate(&mut self, key: IdempotencyKey, operation: Operation) -> Operated {
        if let Some(known) = self.operations.iter().find(|known| known.id == key.id) {
            return if *known == key { Operated::Before } else { Operated::Conflict };
        }
        match operation {
            Operation::Lock(until) => self.operator_lock = Locked::later(self.operator_lock, Some(Locked { until })),
            Operation::Unlock => {
                let (operations, running) = (std::mem::take(&mut self.operations), std::mem::take(&mut self.running));
                *self = Self { running, operations, ..Self::default() };
            }
        }
        if self.operations.len() >= MAX_OPERATIONS {
            self.operations.remove(0);
        }
        self.operations.push(key);
        Operated::Now
    }

    /// How long the record is kept when it is written now.
    pub fn kept_for(&self, now: Timestamp) -> Duration {
        let counts = self.contacts.iter().map(|(_, count)| count).chain([&self.total, &self.further_contacts]);
        let locks = counts.filter_map(|count| count.lock).chain(self.operator_lock);
        let ends = locks.map(|lock| lock.until.map_or(KEPT_LOCKED_FOR_GOOD, |until| until.since(now) + DAY));
        ends.fold(KEPT, Duration::max)
    }

    fn count_of(&self, contact: Contact) -> Count {
        let own = self.contacts.iter().find(|(known, _)| *known == contact);
        own.map_or(self.further_contacts, |(_, count)| *count)
    }

    /// Whether the failures of one contact count for another: they are the same, or both share a count.
    fn shares_count(&self, one: Contact, other: Contact) -> bool {
        let has_own = |contact| self.contacts.iter().any(|(known, _)| *known == contact);
        one == other || (self.shares() && !has_own(one) && !has_own(other))
    }

    /// Whether a contact without a count of its own uses the shared one. Once that has failures, it stays in use: a count that
    /// becomes free must not give a contact that shares them new guesses.
    fn shares(&self) -> bool {
        self.further_contacts.failures > 0 || self.contacts.len() >= MAX_CONTACTS
    }
}

impl Count {
    fn add(&mut self, now: Timestamp, policy: &LockPolicy) {
        self.failures = self.failures.saturating_add(1);
        if let Some(lock) = lock_at(self.failures, now, policy) {
            // The answer of a provider may count under a lock that a longer ladder has set.
            self.lock = Locked::later(self.lock, Some(lock));
        }
    }

    /// Failures up to and with the one that locks next. The count itself is the rung: a reset restarts the ladder.
    fn budget(&self, policy: &LockPolicy) -> u32 {
        let past_first = self.failures.checked_sub(policy.first_after);
        let next = past_first.map_or(policy.first_after, |past| {
            let rungs = past.checked_div(policy.again_after).map_or(u32::MAX, |rungs| rungs.saturating_add(1));
            policy.first_after.saturating_add(rungs.saturating_mul(policy.again_after))
        });
        next.min(policy.for_good_after).saturating_sub(self.failures).max(1)
    }
}

/// The lock that so many failures set, if they set one.
fn lock_at(failures: u32, now: Timestamp, policy: &LockPolicy) -> Option<Locked> {
    if failures >= policy.for_good_after {
        return Some(Locked { until: None });
    }
    let past_first = failures.checked_sub(policy.first_after)?;
    if past_first.checked_rem(policy.again_after) != Some(0) {
        return None;
    }
    let rung = past_first.checked_div(policy.again_after).and_then(|rung| usize::try_from(rung).ok())?;
    let span = policy.spans.get(rung).or(policy.spans.last()).copied().unwrap_or(Duration::MAX);
    Some(Locked { until: Some(now.plus(span)) })
}

fn count(budget: u32) -> usize {
    usize::try_from(budget).unwrap_or(usize::MAX)
}
