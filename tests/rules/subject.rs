//! The subject: whose failures they are, when they lock, and what takes them back.

use std::time::Duration;

use otpd::domain::{
    ids::Tag,
    outcome::Locked,
    policy::LockPolicy,
    subject::{Attempt, Command, MAX_CHARGES, Standing, Subject, decide},
    time::Timestamp,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Later than any lock that ends.
const LONG: Duration = Duration::from_secs(365 * 86_400);

/// How long a lock lasts that does not end.
const FOR_GOOD: Duration = Duration::MAX;

/// One subject, as a caller sees it.
struct Person {
    subject: Subject,
    policy: LockPolicy,
    now: Timestamp,
    /// The attempts of [`Person::fail_times`].
    failed: Vec<Attempt>,
}

impl Person {
    fn new() -> Self {
        let now = Timestamp::from_millis(1_700_000_000_000);
        Self { subject: Subject::default(), policy: LockPolicy::default(), now, failed: Vec::new() }
    }

    fn apply(&mut self, command: &Command) -> Standing {
        let (next, standing) = decide(&self.subject, command, self.now, &self.policy);
        self.subject = next;
        standing
    }

    fn fail(&mut self, challenge: u8, number: u32) -> Standing {
        self.apply(&Command::Fail(attempt(challenge, number)))
    }

    /// So many failures, each of another challenge and past any lock.
    fn fail_times(&mut self, count: u8) {
        for _ in 0..count {
            self.now = self.now.plus(2 * DAY);
            let challenge = Tag(u128::try_from(self.failed.len()).unwrap().to_be_bytes());
            let failed = Attempt { challenge, number: 1 };
            assert_eq!(self.apply(&Command::Fail(failed)).locked, None, "each counts");
            self.failed.push(failed);
        }
    }

    /// Gives the last of those back.
    fn give_back_last(&mut self) {
        let last = self.failed.pop().unwrap();
        self.apply(&Command::GiveBack(last));
    }

    fn pass(&mut self, challenge: u8, number: u32) -> Standing {
        self.apply(&Command::Pass(attempt(challenge, number)))
    }

    fn succeed(&mut self, challenge: u8, number: u32, through: u64) {
        self.apply(&Command::Succeed { attempt: attempt(challenge, number), through });
    }

    fn give_back(&mut self, challenge: u8, number: u32) {
        self.apply(&Command::GiveBack(attempt(challenge, number)));
    }

    fn failures(&self) -> u64 {
        self.subject.view(self.now).failures
    }

    /// How long the lock still lasts; `None`: unlocked.
    fn locked_for(&self) -> Option<Duration> {
        let lock = self.subject.view(self.now).locked?;
        Some(lock.until.map_or(FOR_GOOD, |until| until.since(self.now)))
    }
}

fn attempt(challenge: u8, number: u32) -> Attempt {
    Attempt { challenge: Tag([challenge; 16]), number }
}

fn strict() -> LockPolicy {
    LockPolicy { first_after: 5, ..LockPolicy::default() }
}

/// The ladder of the design: 10 failures lock for 30 min, every 5 more for 2 h, 8 h, 24 h, 24 h…, and 100 for good. Each
/// failure comes when the lock before has just ended.
#[test]
fn the_ladder() {
    let mut person = Person::new();
    for count in 1_u8..=100 {
        let standing = person.fail(count, 1);
        assert_eq!(standing.locked, None, "failure {count} is allowed, even the one that locks");
        let expected = match count {
            10 => Some(30 * MINUTE),
            15 => Some(2 * HOUR),
            20 => Some(8 * HOUR),
            100 => Some(FOR_GOOD),
            _ if count > 20 && count.is_multiple_of(5) => Some(24 * HOUR),
            _ => None,
        };
        assert_eq!(person.locked_for(), expected, "after {count} failures");
        assert_eq!(person.failures(), u64::from(count));
        if let Some(span) = expected.filter(|span| *span != FOR_GOOD) {
            let end = person.now.plus(span);
            person.now = end;
            assert_eq!(person.locked_for(), None, "a lock has ended at its end");
            person.now = Timestamp::from_millis(end.as_millis() - 1);
            let refused = person.fail(200, u32::from(count));
            assert_eq!(
                refused,
                Standing { locked: Some(Locked { until: Some(end) }), budget: 0, through: count.into() }
            );
            person.now = end;
        }
    }
    person.now = person.now.plus(10 * LONG);
    assert_eq!(person.locked_for(), Some(FOR_GOOD), "for good");
    assert_eq!(person.fail(200, 1).locked, Some(Locked { until: None }));
    assert_eq!(person.failures(), 100, "what is refused does not count");
}

/// The count that locks for good need not be one of the ladder's.
#[test]
fn a_lock_for_good_is_taken_back_with_its_failure() {
    let mut person = Person::new();
    person.policy = LockPolicy { for_good_after: 12, ..LockPolicy::default() };
    person.fail_times(12);
    assert_eq!(person.locked_for(), Some(FOR_GOOD));
    person.give_back_last();
    assert_eq!((person.failures(), person.locked_for()), (11, None));
    person.fail_times(1);
    assert_eq!(person.locked_for(), Some(FOR_GOOD));
}

#[test]
fn the_budget_is_what_is_left_to_the_next_lock() {
    let mut person = Person::new();
    for count in 1..=25_u8 {
        person.now = person.now.plus(2 * DAY);
        let expected = match count {
            10 | 15 | 20 | 25 => 0,
            _ if count < 10 => 10 - u32::from(count),
            _ => 5 - u32::from(count) % 5,
        };
        assert_eq!(person.fail(count, 1).budget, expected, "after {count} failures");
    }
    person.now = person.now.plus(2 * DAY);
    assert_eq!(person.subject.standing(person.now, &person.policy).budget, 5, "the lock has ended");
    assert_eq!(Subject::default().standing(person.now, &person.policy).budget, 10);
    assert_eq!(Subject::default().standing(person.now, &strict()).budget, 5);
}

#[test]
fn an_attempt_counts_once_however_often_it_is_asked_about() {
    let mut person = Person::new();
    for _ in 0..5 {
        person.fail(1, 1);
    }
    person.fail(1, 2);
    person.fail(1, 1);
    person.fail(2, 1);
    assert_eq!(person.failures(), 3);
}

#[test]
fn the_failure_that_locks_is_allowed_again_and_the_next_is_not() {
    let mut person = Person::new();
    person.fail_times(9);
    assert_eq!(person.fail(99, 1).locked, None);
    assert_eq!(person.fail(99, 1), Standing { locked: None, budget: 0, through: 10 }, "the same attempt again");
    assert!(person.fail(99, 2).locked.is_some());
    assert!(person.pass(99, 2).locked.is_some(), "a right code is refused as well");
    assert_eq!(person.failures(), 10);
}

#[test]
fn a_pass_changes_nothing() {
    let mut person = Person::new();
    person.fail_times(3);
    let before = person.subject.clone();
    assert_eq!(person.pass(50, 1), Standing { locked: None, budget: 7, through: 3 });
    assert_eq!(person.subject, before);
}

#[test]
fn a_success_forgives_what_it_saw_and_nothing_later() {
    let mut person = Person::new();
    person.fail_times(4);
    let seen = person.pass(50, 1).through;
    person.fail(60, 1);
    person.fail(60, 2);
    person.succeed(50, 1, seen);
    assert_eq!(person.failures(), 2);
    person.succeed(50, 1, seen);
    person.succeed(50, 1, seen);
    assert_eq!(person.failures(), 2, "a success told again lowers nothing later");
    person.succeed(50, 1, 1_000_000);
    person.fail(60, 3);
    assert_eq!(person.failures(), 1, "nothing is forgiven in advance");
}

#[test]
fn a_success_lifts_the_lock_of_failures_that_it_saw() {
    let mut person = Person::new();
    person.fail_times(9);
    let seen = person.pass(50, 1).through;
    person.fail(60, 1);
    assert!(person.locked_for().is_some(), "a parallel challenge locks after the pass");
    person.succeed(50, 1, seen);
    assert_eq!((person.failures(), person.locked_for()), (1, None));
}

#[test]
fn a_success_restarts_the_ladder() {
    let mut person = Person::new();
    person.fail_times(15);
    person.now = person.now.plus(DAY);
    let seen = person.pass(50, 1).through;
    person.succeed(50, 1, seen);
    person.fail_times(9);
    assert_eq!(person.locked_for(), None);
    person.now = person.now.plus(DAY);
    person.fail(60, 1);
    assert_eq!(person.locked_for(), Some(30 * MINUTE));
}

#[test]
fn a_failure_given_back_never_was() {
    let mut person = Person::new();
    person.fail_times(9);
    person.fail(60, 1);
    assert!(person.locked_for().is_some());
    person.give_back(60, 1);
    assert_eq!((person.failures(), person.locked_for()), (9, None));
    person.give_back(60, 1);
    person.give_back(61, 1);
    assert_eq!(person.failures(), 9, "once, and only what was counted");
    assert_eq!(
        person.fail(60, 1),
        Standing { locked: None, budget: 0, through: 11 },
        "asked about again it counts again"
    );
    assert_eq!(person.locked_for(), Some(30 * MINUTE));
}

/// Whatever the order in which things are given back.
#[test]
fn giving_back_is_exact_in_any_order() {
    for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
        let mut person = Person::new();
        for challenge in 1..=4 {
            person.fail(challenge, 1);
        }
        for (challenge, left) in order.into_iter().zip([3, 2, 1]) {
            person.give_back(challenge, 1);
            assert_eq!(person.failures(), left, "{order:?}");
        }
    }
}

#[test]
fn giving_back_is_exact_within_one_challenge() {
    let mut person = Person::new();
    person.fail(1, 1);
    person.fail(1, 2);
    person.give_back(1, 1);
    assert_eq!(person.failures(), 1, "the earlier attempt of two");
    person.fail(1, 1);
    assert_eq!(person.failures(), 2, "asked about again after a later attempt, it counts");
}

#[test]
fn forgiving_and_giving_back_do_not_count_twice() {
    let mut person = Person::new();
    for challenge in 1..=5 {
        person.fail(challenge, 1);
    }
    person.give_back(5, 1);
    person.succeed(50, 1, 3);
    assert_eq!(person.failures(), 1, "1 to 3 forgiven, 5 given back, 4 left");
    person.give_back(2, 1);
    assert_eq!(person.failures(), 1, "2 is forgiven already");
    person.succeed(50, 2, 4);
    assert_eq!(person.failures(), 0);
    person.fail(6, 1);
    assert_eq!(person.failures(), 1);
}

/// A managed attempt is charged as a failure before the provider is asked, and so sees itself.
#[test]
fn a_managed_success_forgives_its_own_charge() {
    let mut person = Person::new();
    person.fail_times(3);
    let seen = person.fail(50, 1).through;
    person.succeed(50, 1, seen);
    assert_eq!(person.failures(), 0);
}

#[test]
fn a_charge_that_lost_its_race_to_a_success_is_given_back_by_it() {
    let mut person = Person::new();
    let seen = person.pass(50, 1).through;
    person.fail(50, 1);
    person.succeed(50, 1, seen);
    assert_eq!(person.failures(), 0);
}

#[test]
fn an_operators_lock_is_lifted_by_nothing_but_its_end_or_an_unlock() {
    let mut person = Person::new();
    person.fail_times(2);
    let until = person.now.plus(HOUR);
    assert_eq!(person.apply(&Command::Lock { until: Some(until) }).locked, Some(Locked { until: Some(until) }));
    person.succeed(50, 1, 1);
    person.give_back_last();
    assert_eq!(person.locked_for(), Some(HOUR));
    assert_eq!(person.fail(60, 1).locked, Some(Locked { until: Some(until) }));
    assert_eq!(person.pass(60, 1).locked, Some(Locked { until: Some(until) }));
    person.now = until;
    assert_eq!(person.locked_for(), None);
    person.apply(&Command::Lock { until: None });
    person.now = person.now.plus(LONG);
    assert_eq!(person.locked_for(), Some(FOR_GOOD));
    person.apply(&Command::Unlock);
    assert_eq!((person.failures(), person.locked_for()), (0, None));
}

#[test]
fn of_two_locks_the_later_is_told() {
    let mut person = Person::new();
    person.fail_times(10);
    person.apply(&Command::Lock { until: Some(person.now.plus(MINUTE)) });
    assert_eq!(person.locked_for(), Some(30 * MINUTE));
    person.apply(&Command::Lock { until: Some(person.now.plus(HOUR)) });
    assert_eq!(person.locked_for(), Some(HOUR));
    person.apply(&Command::Lock { until: None });
    assert_eq!(person.locked_for(), Some(FOR_GOOD));
}

#[test]
fn an_unlock_forgives_all_and_restarts_the_ladder() {
    let mut person = Person::new();
    person.fail_times(10);
    person.apply(&Command::Unlock);
    assert_eq!((person.failures(), person.locked_for()), (0, None));
    person.give_back_last();
    person.give_back_last();
    person.fail_times(9);
    assert_eq!((person.failures(), person.locked_for()), (9, None));
    person.fail(70, 1);
    assert_eq!(person.locked_for(), Some(30 * MINUTE));
}

#[test]
fn a_stricter_policy_counts_from_the_next_failure_on() {
    let mut person = Person::new();
    person.fail_times(7);
    person.policy = strict();
    assert_eq!(person.locked_for(), None);
    assert_eq!(person.subject.standing(person.now, &person.policy).budget, 1);
    person.fail(60, 1);
    assert_eq!(person.locked_for(), Some(30 * MINUTE));
}

/// An account has one subject, and its purposes may have ladders of their own.
#[test]
fn a_laxer_policy_lifts_no_lock_by_itself() {
    let mut person = Person::new();
    person.policy = strict();
    person.fail_times(5);
    let lock = person.locked_for();
    assert_eq!(lock, Some(30 * MINUTE));
    person.policy = LockPolicy::default();
    person.succeed(50, 1, 0);
    person.give_back(60, 1);
    assert_eq!(person.locked_for(), lock, "nothing was forgiven, nothing given back");
    person.give_back_last();
    assert_eq!(person.locked_for(), None);
}

#[test]
fn locks_of_a_stricter_policy_do_not_put_off_those_of_a_laxer_one() {
    let mut person = Person::new();
    person.policy = strict();
    person.fail_times(5);
    person.policy = LockPolicy::default();
    for challenge in 60..64 {
        person.now = person.now.plus(DAY);
        assert_eq!(person.fail(challenge, 1).budget, 69 - u32::from(challenge) - 5);
        assert_eq!(person.locked_for(), None);
    }
    person.fail(64, 1);
    assert_eq!(person.locked_for(), Some(30 * MINUTE), "the tenth in a row");
}

#[test]
fn time_never_runs_backwards() {
    let mut person = Person::new();
    person.fail_times(10);
    let locked_at = person.now;
    person.now = Timestamp::from_millis(locked_at.as_millis() - 60_000);
    assert_eq!(person.pass(60, 1).locked, Some(Locked { until: Some(locked_at.plus(30 * MINUTE)) }));
    person.apply(&Command::Unlock);
    assert_eq!(person.subject.latest_at, locked_at);
}

/// A thousand challenges leave a record of a bounded size, and what was forgotten still counts.
#[test]
fn charges_are_bounded() {
    let mut person = Person::new();
    let mut largest = 0;
    for number in 0..1_000_u32 {
        person.now = person.now.plus(2 * DAY);
        let challenge = Tag(u128::from(number).to_be_bytes());
        person.apply(&Command::Fail(Attempt { challenge, number: 1 }));
        largest = largest.max(postcard::to_allocvec(&person.subject).unwrap().len());
    }
    assert_eq!(person.failures(), 100);
    let (charge, head) = (16 + 5 + 10 + 1, 100);
    assert!(largest <= MAX_CHARGES * charge + head, "{largest} bytes");
}

#[test]
fn a_failure_is_kept_400_days_and_a_lock_for_good_10_years() {
    let mut person = Person::new();
    assert_eq!(person.subject.kept_for(person.now), HOUR);
    person.fail(1, 1);
    assert_eq!(person.subject.kept_for(person.now), 400 * DAY);
    person.apply(&Command::Lock { until: Some(person.now.plus(1000 * DAY)) });
    assert!(person.subject.kept_for(person.now) >= 1000 * DAY, "no lock is forgotten before its end");
    person.apply(&Command::Lock { until: None });
    assert_eq!(person.subject.kept_for(person.now), 3650 * DAY);
    person.apply(&Command::Unlock);
    assert_eq!(person.subject.kept_for(person.now.plus(SECOND)), HOUR);
}
