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
/// twice, or is not given back.
pub const MAX_CHARGES: usize = 64;

/// Failures and locks of an account, or of a destination for registrations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The latest time at which anything was recorded.
    pub latest_at: Timestamp,
    /// Failures ever counted.
    failures: u64,
    /// How many of those count no longer.
    forgiven: u64,
    /// Locks set since the last success or unlock.
    rungs: u32,
    /// The lock that failures have set.
    lock: Option<Lock>,
    /// The lock that an operator has set. A success does not lift it.
    operator_lock: Option<Lock>,
    /// The last attempts that were charged, oldest first.
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
    attempt: Attempt,
    failure: u64,
    given_back: bool,
}

impl Charge {
    fn is_for(&self, attempt: Attempt) -> bool {
        self.attempt == attempt
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
        let due = |charge: &Charge| charge.is_for(attempt) && !charge.given_back;
        through <= self.forgiven && !self.charges.iter().any(due)
    }

    /// How long it is kept from now.
    pub fn kept_for(&self, now: Timestamp) -> Duration {
        let locks = [self.lock, self.operator_lock].into_iter().flatten();
        let longest = locks.map(|lock| lock.until.map_or(KEPT_LOCKED_FOR_GOOD, |until| until.since(now) + KEPT_CLEAN));
        let failures = if self.consecutive() > 0 { KEPT_WITH_FAILURES } else { KEPT_CLEAN };
        longest.fold(failures, Duration::max)
    }

    fn consecutive(&self) -> u64 {
        self.failures.saturating_sub(self.forgiven)
    }

    fn locked(&self, now: Timestamp) -> Option<Locked> {
        let standing = |lock: &Lock| lock.until.is_none_or(|until| now < until);
        let locks = [self.lock, self.operator_lock].into_iter().flatten().filter(standing);
        locks.map(|lock| Locked { until: lock.until }).reduce(later)
    }

    fn budget(&self, policy: &LockPolicy) -> u32 {
        let next_lock = u64::from(policy.first_after) + u64::from(self.rungs) * u64::from(policy.again_after);
        let next_lock = next_lock.min(u64::from(policy.for_good_after));
        u32::try_from(next_lock.saturating_sub(self.consecutive()).max(1)).unwrap_or(u32::MAX)
    }

    /// Whether the command may go ahead; what stands in the way is in the standing.
    fn apply(&mut self, command: &Command, now: Timestamp, policy: &LockPolicy) -> bool {
        match command {
            Command::Fail(attempt) => self.fail(*attempt, now, policy),
            Command::Pass(_) => self.locked(now).is_none(),
            Command::Succeed { attempt, through } => {
                self.forgiven = self.forgiven.max((*through).min(self.failures));
                self.give_back(*attempt);
                self.lift(policy);
                true
            }
            Command::GiveBack(attempt) => {
                self.give_back(*attempt);
                self.lift(policy);
                true
            }
            Command::Lock { until } => {
                self.operator_lock = Some(Lock { until: *until });
                false
            }
            Command::Unlock => {
                self.forgiven = self.failures;
                self.operator_lock = None;
                self.lift(policy);
                true
            }
        }
    }

    /// Counts a failure, once however often it is asked. What was given back or forgiven meanwhile counts anew: whoever
    /// charged it has not recorded the attempt.
    fn fail(&mut self, attempt: Attempt, now: Timestamp, policy: &LockPolicy) -> bool {
        if self.has_charged(attempt) {
            return true;
        }
        if self.locked(now).is_some() {
            return false;
        }
        self.failures += 1;
        self.remember(attempt);
        self.lock_if_due(now, policy);
        true
    }

    /// A charge that is not remembered any more was made before the later ones of its challenge.
    fn has_charged(&self, attempt: Attempt) -> bool {
        match self.charges.iter().find(|charge| charge.is_for(attempt)) {
            Some(charge) => !charge.given_back && charge.failure > self.forgiven,
            None => self
                .charges
                .iter()
                .any(|other| other.attempt.challenge == attempt.challenge && other.attempt.number > attempt.number),
        }
    }

    fn remember(&mut self, attempt: Attempt) {
        self.charges.retain(|charge| !charge.is_for(attempt));
        if self.charges.len() >= MAX_CHARGES {
            self.charges.remove(0);
        }
        self.charges.push(Charge { attempt, failure: self.failures, given_back: false });
    }

    fn give_back(&mut self, attempt: Attempt) {
        let forgiven = self.forgiven;
        let due = |charge: &&mut Charge| charge.is_for(attempt) && !charge.given_back;
        let Some(charge) = self.charges.iter_mut().find(due) else { return };
        charge.given_back = true;
        let failure = charge.failure;
        // A failure that a success has forgiven already is not given back a second time.
        if failure <= forgiven {
            return;
        }
        self.forgiven += 1;
        // What is forgiven are always the first ones: those before it move up by one.
        let between = |charge: &&mut Charge| forgiven < charge.failure && charge.failure < failure;
        self.charges.iter_mut().filter(between).for_each(|charge| charge.failure += 1);
    }

    fn rung(&self, policy: &LockPolicy) -> u32 {
        let Some(past_first) = self.consecutive().checked_sub(u64::from(policy.first_after)) else { return 0 };
        let further = past_first.checked_div(u64::from(policy.again_after)).unwrap_or(0);
        u32::try_from(further + 1).unwrap_or(u32::MAX)
    }

    fn lock_if_due(&mut self, now: Timestamp, policy: &LockPolicy) {
        let rung = self.rung(policy);
        if self.consecutive() >= u64::from(policy.for_good_after) {
            self.lock = Some(Lock { until: None });
        } else if rung > self.rungs {
            let index = usize::try_from(rung - 1).unwrap_or(usize::MAX);
            let span = policy.spans.get(index).or(policy.spans.last()).copied().unwrap_or(Duration::MAX);
            self.lock = Some(Lock { until: Some(now.plus(span)) });
        }
        self.rungs = self.rungs.max(rung);
    }

    /// Takes back the locks that the remaining failures do not warrant.
    fn lift(&mut self, policy: &LockPolicy) {
        let rung = self.rung(policy);
        if rung < self.rungs {
            self.rungs = rung;
            self.lock = None;
        }
    }
}

fn later(one: Locked, other: Locked) -> Locked {
    match (one.until, other.until) {
        (Some(one), Some(other)) => Locked { until: Some(one.max(other)) },
        _ => Locked { until: None },
    }
}
