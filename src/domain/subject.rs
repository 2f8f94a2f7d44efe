//! The subject: to whom failures and locks belong. It outlives every challenge, so that a new challenge buys no guesses.
//!
//! Failures are numbered for ever and forgiven by number: what forgives, forgives through a number that it saw. A late or
//! repeated forgiveness therefore never lowers the count of what came after.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    ids::Tag,
    outcome::{AccountView, Locked},
    policy::LockPolicy,
    time::Timestamp,
};

/// A subject with failures is kept this long after the last one.
const KEPT_WITH_FAILURES: Duration = Duration::from_secs(400 * 86_400);
/// A lock without an end is kept this long.
const KEPT_LOCKED_FOR_GOOD: Duration = Duration::from_secs(3650 * 86_400);
/// A subject that has only ever succeeded is kept this long: longer than any answer of a request in flight.
const KEPT_CLEAN: Duration = Duration::from_secs(3600);
/// How many charges are remembered. With more the oldest is dropped: at worst an attempt that is asked about twice counts
/// twice, and a failure is not given back.
pub const MAX_CHARGES: usize = 64;

/// Failures and locks of an account, or of a destination for registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The latest time at which anything was recorded.
    pub latest_at: Timestamp,
    /// Failures ever counted; also the number of the last one.
    failures: u64,
    /// The number of the last failure that is forgiven, with all before it.
    forgiven: u64,
    /// How many failures after that one were given back.
    given_back: u64,
    /// The highest rung of the ladder that the failures have reached.
    rungs: u32,
    /// The lock that failures have set.
    lock: Option<Lock>,
    /// The lock that an operator has set. A success does not lift it.
    operator_lock: Option<Lock>,
    /// The attempts behind the last failures, oldest first.
    charges: Vec<Charge>,
}

/// A lock and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    /// `None`: it does not end by itself.
    until: Option<Timestamp>,
}

/// An attempt of a challenge that counted as a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Charge {
    challenge: Tag,
    attempt: u32,
    /// The number of the failure.
    failure: u64,
    given_back: bool,
}

impl Charge {
    fn is_of(&self, attempt: Attempt) -> bool {
        self.challenge == attempt.challenge && self.attempt == attempt.number && !self.given_back
    }
}

/// What is asked of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Count an attempt that failed, or that a provider is about to be asked about.
    Fail(Attempt),
    /// Let an attempt that matched pass, unless locked. Written all the same: only a write takes its place in the order of
    /// attempts, so that a right guess among a thousand parallel ones cannot slip past the lock that the others set.
    Pass(Attempt),
    /// Forgive the failures that a success saw.
    Succeed {
        /// The attempt that succeeded.
        attempt: Attempt,
        /// The number of the last failure that it saw.
        through: u64,
    },
    /// Give a failure back: its attempt was never recorded, or a provider never answered it.
    GiveBack(Attempt),
    /// An operator locks.
    Lock {
        /// `None`: until unlocked.
        until: Option<Timestamp>,
    },
    /// An operator unlocks.
    Unlock,
}

/// An attempt: which challenge, and which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The challenge.
    pub challenge: Tag,
    /// From 1.
    pub number: u32,
}

/// How a subject stands after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The lock that stands in the way. For a [`Command::Fail`] that was counted: `None`, even if it has just locked.
    pub locked: Option<Locked>,
    /// Failures left before the next lock; 0 while locked.
    pub budget: u32,
    /// The number of the last failure: what a success forgives through.
    pub through: u64,
}

impl Standing {
    /// A subject without failures, for a first guess at an answer that is charged before it is given.
    pub const CLEAN: Self = Self { locked: None, budget: u32::MAX, through: 0 };
}

/// Decides a command. Pure: the caller stores the new subject if it differs, and starts over where it lost a race.
pub fn decide(subject: &Subject, command: &Command, now: Timestamp, policy: &LockPolicy) -> (Subject, Standing) {
    let now = now.max(subject.latest_at);
    let mut next = subject.clone();
    let allowed = next.apply(command, now, policy);
    if next != *subject {
        next.latest_at = now;
    }
    let mut standing = next.standing(now, policy);
    if allowed {
        standing.locked = None;
    }
    (next, standing)
}

impl Subject {
    /// How it stands.
    pub fn standing(&self, now: Timestamp, policy: &LockPolicy) -> Standing {
        let locked = self.locked(now);
        let budget = if locked.is_some() { 0 } else { self.budget(policy) };
        Standing { locked, budget, through: self.failures }
    }

    /// What an operator sees.
    pub fn view(&self, now: Timestamp) -> AccountView {
        AccountView { failures: self.consecutive(), locked: self.locked(now.max(self.latest_at)) }
    }

    /// Whether forgiving this attempt, and all failures through that one, would change nothing, now or ever.
    pub fn has_forgiven(&self, attempt: Attempt, through: u64) -> bool {
        through <= self.forgiven && !self.charges.iter().any(|charge| charge.is_of(attempt))
    }

    /// How long it is kept from now.
    pub fn kept_for(&self, now: Timestamp) -> Duration {
        let locks = [self.lock, self.operator_lock].into_iter().flatten();
        let longest = locks.map(|lock| lock.until.map_or(KEPT_LOCKED_FOR_GOOD, |until| until.since(now) + KEPT_CLEAN));
        let failures = if self.consecutive() > 0 { KEPT_WITH_FAILURES } else { KEPT_CLEAN };
        longest.fold(failures, Duration::max)
    }

    fn consecutive(&self) -> u64 {
        self.failures.saturating_sub(self.forgiven).saturating_sub(self.given_back)
    }

    fn locked(&self, now: Timestamp) -> Option<Locked> {
        let standing = |lock: &Lock| lock.until.is_none_or(|until| now < until);
        let locks = [self.lock, self.operator_lock].into_iter().flatten().filter(standing);
        locks.map(|lock| Locked { until: lock.until }).reduce(later)
    }

    /// Failures up to and with the one that locks next.
    fn budget(&self, policy: &LockPolicy) -> u32 {
        let count = self.consecutive();
        let rung = rung(count, policy);
        if rung > self.rungs {
            return 1;
        }
        let next_lock = u64::from(policy.first_after) + u64::from(rung) * u64::from(policy.again_after);
        let next_lock = next_lock.min(u64::from(policy.for_good_after));
        u32::try_from(next_lock.saturating_sub(count).max(1)).unwrap_or(u32::MAX)
    }

    /// Whether the command may go ahead; what stands in the way is in the standing.
    fn apply(&mut self, command: &Command, now: Timestamp, policy: &LockPolicy) -> bool {
        match command {
            Command::Fail(attempt) => self.fail(*attempt, now, policy),
            Command::Pass(_) => self.locked(now).is_none(),
            Command::Succeed { attempt, through } => {
                let before = self.consecutive();
                self.forgive(*through);
                self.give_back(*attempt);
                self.lift(before, policy);
                true
            }
            Command::GiveBack(attempt) => {
                let before = self.consecutive();
                self.give_back(*attempt);
                self.lift(before, policy);
                true
            }
            Command::Lock { until } => {
                self.operator_lock = Some(Lock { until: *until });
                false
            }
            Command::Unlock => {
                self.forgive(self.failures);
                (self.rungs, self.lock, self.operator_lock) = (0, None, None);
                true
            }
        }
    }

    /// Counts a failure, once however often it is asked. One that was forgiven meanwhile counts anew: whoever charged it has
    /// not recorded the attempt, so that the next guess under that number came after the success.
    fn fail(&mut self, attempt: Attempt, now: Timestamp, policy: &LockPolicy) -> bool {
        if self.charges.iter().any(|charge| charge.is_of(attempt) && charge.failure > self.forgiven) {
            return true;
        }
        if self.locked(now).is_some() {
            return false;
        }
        let before = self.consecutive();
        self.failures += 1;
        self.remember(attempt);
        self.lock_if_due(before, now, policy);
        true
    }

    fn remember(&mut self, attempt: Attempt) {
        self.charges.retain(|charge| !charge.is_of(attempt));
        if self.charges.len() >= MAX_CHARGES {
            self.charges.remove(0);
        }
        let Attempt { challenge, number } = attempt;
        self.charges.push(Charge { challenge, attempt: number, failure: self.failures, given_back: false });
    }

    /// Forgives the failures through that number. What was given back among them is not taken off once more.
    fn forgive(&mut self, through: u64) {
        let through = through.min(self.failures);
        if through > self.forgiven {
            self.forgiven = through;
            let later = self.charges.iter().filter(|charge| charge.given_back && charge.failure > through);
            self.given_back = u64::try_from(later.count()).unwrap_or(u64::MAX);
        }
    }

    fn give_back(&mut self, attempt: Attempt) {
        let Some(charge) = self.charges.iter_mut().find(|charge| charge.is_of(attempt)) else { return };
        charge.given_back = true;
        // A failure that a success has forgiven already is not given back a second time.
        if charge.failure > self.forgiven {
            self.given_back += 1;
        }
    }

    /// Locks where the count has reached a rung: of today's policy, which may be stricter than yesterday's, or laxer.
    fn lock_if_due(&mut self, before: u64, now: Timestamp, policy: &LockPolicy) {
        let count = self.consecutive();
        let rung = rung(count, policy);
        if count >= u64::from(policy.for_good_after) {
            self.lock = Some(Lock { until: None });
        } else if rung > self.rungs || rung > self::rung(before, policy) {
            let index = usize::try_from(rung.saturating_sub(1)).unwrap_or(usize::MAX);
            let span = policy.spans.get(index).or(policy.spans.last()).copied().unwrap_or(Duration::MAX);
            self.lock = Some(Lock { until: Some(now.plus(span)) });
        }
        self.rungs = self.rungs.max(rung);
    }

    /// Takes back the lock that the remaining failures do not warrant, where there are fewer than `before`. Where there are
    /// not, a policy laxer than the one that locked would lift it for nothing.
    fn lift(&mut self, before: u64, policy: &LockPolicy) {
        let rung = rung(self.consecutive(), policy);
        if self.consecutive() < before && rung < self.rungs {
            self.rungs = rung;
            self.lock = None;
        }
    }
}

/// How many rungs of the ladder so many failures reach. The lock for good is the last one.
fn rung(failures: u64, policy: &LockPolicy) -> u32 {
    let Some(past_first) = failures.checked_sub(u64::from(policy.first_after)) else { return 0 };
    let further = past_first.checked_div(u64::from(policy.again_after)).unwrap_or(0);
    let for_good = u64::from(failures >= u64::from(policy.for_good_after));
    u32::try_from(further + 1 + for_good).unwrap_or(u32::MAX)
}

fn later(one: Locked, other: Locked) -> Locked {
    match (one.until, other.until) {
        (Some(one), Some(other)) => Locked { until: Some(one.max(other)) },
        _ => Locked { until: None },
    }
}
