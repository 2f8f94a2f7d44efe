//! The lockout: when failures lock, what resets them, and what operators do. Failures and successes come from challenges, each
//! of its own, as they do outside of tests.

use std::{sync::Arc, time::Duration};

use otpd::domain::{
    challenge::Challenge,
    lockout::{Lockout, MAX_CONTACTS, Operated, Operation},
    outcome::{Evidence, Locked, Verified},
    policy::LockPolicy,
    rules::{AskResult, AskStep, Command, Comparison, SettleAsk, State, VerifyStep},
    time::Timestamp,
};

use super::{
    fixture::{DAY, HOUR, MINUTE, SECOND, contact, decided, key, state, token, verify, with_code},
    language::START,
};

/// How long a lock lasts that does not end.
const FOR_GOOD: Duration = Duration::MAX;

/// One account and its lockout. Contacts go by number.
struct Account {
    lockout: Arc<Lockout>,
    policy: LockPolicy,
    now: Timestamp,
}

/// An attempt that a provider is judging.
struct Pending {
    challenge: Arc<Challenge>,
    settle: SettleAsk,
}

impl Account {
    fn new() -> Self {
        Self { lockout: Arc::default(), policy: LockPolicy::default(), now: START }
    }

    fn locking_at(first_after: u32) -> Self {
        Self { policy: LockPolicy { first_after, ..LockPolicy::default() }, ..Self::new() }
    }

    /// A challenge of its own, whose code has been sent.
    fn challenge(&self, number: usize, via: &str) -> State {
        let mut state = state("open attempts=20", Lockout::default());
        let challenge = Arc::make_mut(&mut state.challenge);
        (challenge.created_at, challenge.latest_at) = (self.now, self.now);
        challenge.options[0].contact = contact(number);
        let mut state = with_code(&state, &format!("opt1 via={via}"), self.now);
        state.lockout = Arc::clone(&self.lockout);
        state
    }

    fn decide<C: Command>(&mut self, state: &State, command: &C) -> C::Outcome
    where
        C::Outcome: PartialEq + std::fmt::Debug,
    {
        let decision = decided(state, command, self.now, &self.policy);
        self.lockout = decision.state.lockout;
        decision.outcome
    }

    fn guess(&mut self, number: usize, comparison: Comparison) -> VerifyStep {
        let challenge = self.challenge(number, "console");
        self.decide(&challenge, &verify("v", 1, comparison))
    }

    /// A wrong code for a contact. What is left, where it was compared.
    fn fail(&mut self, number: usize) -> Result<u32, VerifyStep> {
        match self.guess(number, Comparison::Differs) {
            VerifyStep::Answer(Verified::NotMatched { remaining }) => Ok(remaining),
            other => Err(other),
        }
    }

    /// So many failures, each past any lock that ends.
    fn fail_times(&mut self, number: usize, count: usize) {
        for _ in 0..count {
            self.now = self.now.plus(2 * DAY);
            assert!(self.fail(number).is_ok(), "each is compared");
        }
    }

    fn succeed(&mut self, number: usize) -> bool {
        let told = self.guess(number, Comparison::Matches);
        matches!(told, VerifyStep::Answer(Verified::Success(_)))
    }

    /// Reserves an attempt that a provider judges.
    fn ask(&mut self, number: usize, worker: u32) -> Result<Pending, VerifyStep> {
        let challenge = self.challenge(number, "managed");
        let (key, token) = (key("v", "VerifyOtp"), token(worker));
        let decision = decided(&challenge, &super::fixture::ask("v", worker), self.now, &self.policy);
        let VerifyStep::Ask(_) = &decision.outcome else { return Err(decision.outcome) };
        self.lockout = decision.state.lockout;
        let settle = SettleAsk { key, token, option: 0, result: AskResult::NotMatched };
        Ok(Pending { challenge: decision.state.challenge, settle })
    }

    fn settle(&mut self, pending: &Pending, result: AskResult) -> AskStep {
        let challenge = Arc::clone(&pending.challenge);
        let state = State { challenge, lockout: Arc::clone(&self.lockout), account_lock: None };
        self.decide(&state, &SettleAsk { result, ..pending.settle.clone() })
    }

    fn operate(&mut self, id: &str, operation: Operation) -> Operated {
        Arc::make_mut(&mut self.lockout).operate(key(id, &format!("{operation:?}")), operation)
    }

    /// How long the account's lock still lasts; `None`: it is not locked.
    fn locked_for(&self) -> Option<Duration> {
        self.span(self.lockout.account_locked(self.now))
    }

    fn contact_locked_for(&self, number: usize) -> Option<Duration> {
        self.span(self.lockout.locked(contact(number), self.now))
    }

    fn span(&self, lock: Option<Locked>) -> Option<Duration> {
        lock.map(|lock| lock.until.map_or(FOR_GOOD, |until| until.since(self.now)))
    }
}

fn locked(until: Option<Timestamp>) -> Result<u32, VerifyStep> {
    Err(VerifyStep::Answer(Verified::AccountLocked(Locked { until })))
}

fn matched() -> AskResult {
    AskResult::Matched(Evidence::default())
}

/// The ladder of the design: 10 failures lock for 30 min, every 5 more for 2 h, 8 h, 24 h, 24 h…, and 100 for good. Each
/// failure comes when the lock before has just ended.
#[test]
fn the_ladder() {
    let mut account = Account::new();
    for count in 1_u32..=100 {
        assert!(account.fail(1).is_ok(), "failure {count} is compared, even the one that locks");
        let expected = match count {
            10 => Some(30 * MINUTE),
            15 => Some(2 * HOUR),
            20 => Some(8 * HOUR),
            100 => Some(FOR_GOOD),
            _ if count > 20 && count.is_multiple_of(5) => Some(24 * HOUR),
            _ => None,
        };
        assert_eq!(account.locked_for(), expected, "after {count} failures");
        assert_eq!(account.lockout.failures(), count);
        if let Some(span) = expected.filter(|span| *span != FOR_GOOD) {
            let end = account.now.plus(span);
            account.now = Timestamp::from_millis(end.as_millis() - 1);
            assert_eq!(account.fail(1), locked(Some(end)));
            assert!(!account.succeed(1), "a right code is refused as well");
            account.now = end;
            assert_eq!(account.locked_for(), None, "a lock has ended at its end");
        }
    }
    account.now = account.now.plus(3650 * DAY);
    assert_eq!(account.fail(1), locked(None), "for good");
    assert_eq!(account.lockout.failures(), 100, "what is refused does not count");
}

#[test]
fn what_is_left_is_what_is_left_to_the_next_lock() {
    let mut account = Account::new();
    for count in 1..=25_u32 {
        account.now = account.now.plus(2 * DAY);
        let expected = match count {
            10 | 15 | 20 | 25 => 0,
            _ if count < 10 => 10 - count,
            _ => 5 - count % 5,
        };
        assert_eq!(account.fail(1), Ok(expected), "after {count} failures");
    }
    let mut strict = Account::locking_at(5);
    assert_eq!(strict.fail(1), Ok(4), "a tenant may be stricter (PSD2)");
}

/// The count that locks for good need not be one of the ladder's.
#[test]
fn a_lock_for_good_may_come_between_two_rungs() {
    let mut account = Account::new();
    account.policy.for_good_after = 12;
    account.fail_times(1, 11);
    assert_eq!(account.locked_for(), None);
    account.fail_times(1, 1);
    assert_eq!(account.locked_for(), Some(FOR_GOOD));
}

#[test]
fn a_success_resets_and_restarts_the_ladder() {
    let mut account = Account::new();
    account.fail_times(1, 15);
    account.now = account.now.plus(DAY);
    assert!(account.succeed(1));
    assert_eq!(*account.lockout, Lockout::default(), "zeroed");
    account.fail_times(1, 9);
    assert_eq!(account.locked_for(), None);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
}

/// A success over an untouched lockout leaves it untouched, so that a thousand at once conflict with nothing.
#[test]
fn c15_a_success_over_an_untouched_lockout_writes_nothing_to_it() {
    let mut account = Account::new();
    assert!(account.succeed(1));
    assert_eq!(*account.lockout, Lockout::default());
    account.fail_times(2, 3);
    assert!(account.succeed(1));
    let before = Arc::clone(&account.lockout);
    assert!(account.succeed(1), "nothing of this contact or in total");
    assert_eq!(account.lockout, before);
}

/// One account, phone and mail: owning the mailbox buys no guesses at the phone.
#[test]
fn c34_a_success_resets_its_own_contact_only() {
    let (phone, mail) = (1, 2);
    let mut account = Account::new();
    for round in 0..9 {
        assert_eq!(account.contact_locked_for(phone), None, "round {round}");
        account.fail(phone).unwrap();
        assert!(account.succeed(mail));
    }
    assert_eq!(account.lockout.failures(), 0);
    assert_eq!(account.fail(phone), Ok(0), "the tenth at the phone");
    assert_eq!(account.contact_locked_for(phone), Some(30 * MINUTE));
    assert_eq!(account.locked_for(), None, "the account itself is not locked");
    assert_eq!(account.fail(phone), locked(Some(account.now.plus(30 * MINUTE))));
    assert!(account.succeed(mail), "the other contact goes on");
    assert_eq!(account.contact_locked_for(phone), Some(30 * MINUTE), "which lifts nothing");
    account.now = account.now.plus(30 * MINUTE);
    for _ in 0..5 {
        account.fail(phone).unwrap();
        account.succeed(mail);
    }
    assert_eq!(account.contact_locked_for(phone), Some(2 * HOUR), "the contact's own ladder goes on");
    account.now = account.now.plus(2 * HOUR);
    assert!(account.succeed(phone));
    account.fail_times(phone, 9);
    assert_eq!(account.contact_locked_for(phone), None, "its own success resets it");
}

#[test]
fn failures_at_several_contacts_add_up_in_total() {
    let mut account = Account::new();
    for number in 0..10 {
        assert_eq!(account.locked_for(), None);
        account.fail(number).unwrap();
    }
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
    assert_eq!(account.contact_locked_for(77), Some(30 * MINUTE), "the account's lock stops everything");
}

/// V14. Further contacts share one count and its lock, and no count is evicted.
#[test]
fn v14_the_33rd_contact_counts_too() {
    let mut account = Account::new();
    account.policy.for_good_after = 1_000;
    let own = 0;
    for number in 1..=MAX_CONTACTS {
        account.fail_times(number, 1);
        account.succeed(own);
    }
    let (a, b) = (100, 200);
    for _ in 0..4 {
        account.fail_times(a, 1);
        account.succeed(own);
        account.fail_times(b, 1);
        account.succeed(own);
    }
    account.fail_times(a, 1);
    account.succeed(own);
    assert_eq!(account.fail(b), Ok(0), "the tenth of those that share");
    account.succeed(own);
    for sharing in [a, b, 300] {
        assert_eq!(account.contact_locked_for(sharing), Some(30 * MINUTE));
    }
    assert_eq!(account.contact_locked_for(1), None, "the others have counts of their own");
    assert!(account.succeed(1), "whose success frees its count");
    assert_eq!(account.contact_locked_for(a), Some(30 * MINUTE), "but gives no new guesses to those that share");
    account.fail_times(2, 8);
    account.succeed(own);
    assert_eq!(account.fail(2), Ok(0), "the tenth of a contact that failed once at the beginning");
}

#[test]
fn a_record_is_bounded_however_many_contacts_there_are() {
    let mut account = Account::new();
    (account.policy.for_good_after, account.policy.spans) = (u32::MAX, vec![SECOND]);
    for number in 0..500 {
        account.fail_times(number, 1);
        account.operate(&format!("op{number}"), Operation::Lock(Some(START)));
    }
    let length = postcard::to_allocvec(&*account.lockout).unwrap().len();
    assert!(length < 2_000, "{length} bytes");
}

#[test]
fn a_pending_failure_denies_like_a_counted_one() {
    let mut account = Account::new();
    account.fail_times(1, 7);
    let first = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    account.now = account.now.plus(SECOND);
    let second = account.ask(2, 2).unwrap_or_else(|denied| panic!("{denied:?}"));
    account.now = account.now.plus(SECOND);
    let third = account.ask(3, 3).unwrap_or_else(|denied| panic!("{denied:?}"));
    let until = START.plus(14 * DAY + 10 * SECOND);
    let denied = Err(VerifyStep::InProgress { until });
    assert_eq!(account.fail(1), denied, "until the first of them is settled");
    assert_eq!(account.ask(4, 4).map(|_| 0), denied);
    assert!(!account.succeed(1), "a right code as well");
    assert_eq!((account.lockout.failures(), account.locked_for()), (7, None), "nothing is counted, nothing locks");
    assert_eq!(account.settle(&second, AskResult::NotJudged), AskStep::Refunded);
    assert_eq!(account.fail(1), Ok(2), "the eighth");
    assert_eq!(account.fail(1), denied);
    assert_eq!(account.settle(&first, AskResult::NotMatched), AskStep::Answer(Verified::NotMatched { remaining: 1 }));
    assert_eq!(account.settle(&third, AskResult::NotMatched), AskStep::Answer(Verified::NotMatched { remaining: 0 }));
    assert_eq!(account.locked_for(), Some(30 * MINUTE), "a lock is written when the failure that locks is settled");
}

#[test]
fn a_contacts_pending_failures_deny_that_contact_alone() {
    let mut account = Account::locking_at(3);
    account.fail(1).unwrap();
    account.fail(1).unwrap();
    account.succeed(2);
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    assert!(matches!(account.fail(1), Err(VerifyStep::InProgress { .. })), "the third would lock the contact");
    assert_eq!(account.fail(2), Ok(2));
    account.settle(&pending, AskResult::Unknown);
    assert_eq!(account.fail(1), Ok(0));
}

#[test]
fn settling_removes_its_own_pending_failure_and_no_other() {
    let mut account = Account::locking_at(2);
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    let other = account.ask(2, 2).unwrap_or_else(|denied| panic!("{denied:?}"));
    assert_eq!(account.settle(&pending, AskResult::NotJudged), AskStep::Refunded);
    account.settle(&pending, AskResult::NotJudged);
    let again = account.ask(1, 3).unwrap_or_else(|denied| panic!("{denied:?}"));
    assert!(matches!(account.fail(1), Err(VerifyStep::InProgress { .. })), "the other one is still there");
    account.settle(&other, AskResult::Unknown);
    account.settle(&again, AskResult::Unknown);
    assert_eq!(account.fail(1), Ok(1));
}

/// V6. A pending failure is dropped by the next worker after its lease; what then arrives counts anew.
#[test]
fn v6_a_failure_whose_entry_is_gone_counts_anew() {
    let mut account = Account::new();
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    account.now = account.now.plus(10 * SECOND);
    account.fail(2).unwrap();
    assert_eq!(account.lockout.failures(), 1, "the entry was dropped, not counted");
    assert_eq!(account.settle(&pending, AskResult::NotMatched), AskStep::Answer(Verified::NotMatched { remaining: 8 }));
    assert_eq!(account.lockout.failures(), 2);
}

/// What is overdue is written with the next commit, and is none by itself: a recorded answer is given without one.
#[test]
fn an_overdue_pending_failure_is_no_reason_to_write() {
    let mut account = Account::new();
    let answered = account.challenge(1, "console");
    let answered = decided(&answered, &verify("v", 1, Comparison::Differs), account.now, &account.policy).state;
    account.lockout = Arc::clone(&answered.lockout);
    account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    account.now = account.now.plus(10 * SECOND);
    let state = State { lockout: Arc::clone(&account.lockout), ..answered };
    let again = decided(&state, &verify("v", 2, Comparison::Differs), account.now, &account.policy);
    assert_eq!(again.outcome, VerifyStep::Recorded(Verified::NotMatched { remaining: 9 }));
    assert_eq!(again.state, state);
}

/// V5. What never left is not taken off what others have counted.
#[test]
fn v5_an_ask_that_never_left_takes_nothing_from_others() {
    for unlock in [false, true] {
        let mut account = Account::new();
        let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
        if unlock {
            account.operate("u", Operation::Unlock);
        } else {
            assert!(account.succeed(1));
        }
        account.fail(1).unwrap();
        assert_eq!(account.settle(&pending, AskResult::NotJudged), AskStep::Refunded);
        assert_eq!(account.lockout.failures(), 1, "the failure that was told");
    }
}

/// V7. The right code is the tenth attempt: it is pending, locks nothing, and succeeds. Under an operator's lock it does not.
#[test]
fn v7_a_pending_attempt_does_not_meet_its_own_lock() {
    let mut account = Account::new();
    account.fail_times(1, 9);
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    assert!(matches!(account.settle(&pending, matched()), AskStep::Answer(Verified::Success(_))));
    assert_eq!(*account.lockout, Lockout::default());

    let pending = account.ask(1, 2).unwrap_or_else(|denied| panic!("{denied:?}"));
    let until = account.now.plus(HOUR);
    account.operate("lock", Operation::Lock(Some(until)));
    let told = AskStep::Answer(Verified::AccountLocked(Locked { until: Some(until) }));
    assert_eq!(account.settle(&pending, matched()), told);
}

/// C4. One ladder per tenant: the failure that waits for its provider does not take the lock of others away.
#[test]
fn c4_an_unanswered_ask_lifts_no_lock() {
    let mut account = Account::locking_at(5);
    for _ in 0..4 {
        account.fail(1).unwrap();
    }
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    assert!(matches!(account.fail(1), Err(VerifyStep::InProgress { .. })));
    account.settle(&pending, AskResult::Unknown);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
    account.settle(&pending, AskResult::Unknown);
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
}

/// C18, C35. What was admitted before a lock is decided by the lockout of its commit: the order of answers is the order of
/// commits. A worker that lost the commit to the failure that locks decides again.
#[test]
fn c18_c35_no_attempt_is_compared_under_a_lock() {
    let mut account = Account::new();
    account.fail_times(1, 9);
    let admitted = account.challenge(1, "console");
    account.fail(1).unwrap();
    let until = account.now.plus(30 * MINUTE);
    for comparison in [Comparison::Differs, Comparison::Matches] {
        let again = State { lockout: Arc::clone(&account.lockout), ..admitted.clone() };
        let decision = decided(&again, &verify("v", 1, comparison), account.now, &account.policy);
        assert_eq!(decision.outcome, VerifyStep::Answer(Verified::AccountLocked(Locked { until: Some(until) })));
        assert_eq!(decision.state, again, "and nothing is used up");
    }
    let mut account = Account::new();
    account.operate("lock", Operation::Lock(None));
    assert_eq!(account.fail(1), locked(None));
    assert!(account.ask(1, 1).is_err());
}

/// C2. A lock is judged and dated by the clock of the moment: a failure that was written two years ahead changes no later one.
#[test]
fn c2_a_wrong_clock_neither_lifts_nor_stretches_a_lock() {
    let mut account = Account::new();
    account.now = START.plus(730 * DAY);
    account.fail(1).unwrap();
    account.now = START;
    for _ in 0..9 {
        account.fail(1).unwrap();
    }
    assert_eq!(account.locked_for(), Some(30 * MINUTE), "not 730 days");
    account.operate("u", Operation::Unlock);
    for _ in 0..10 {
        account.fail(1).unwrap();
    }
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
    account.now = account.now.plus(30 * MINUTE);
    assert_eq!(account.locked_for(), None);
}

#[test]
fn c2_what_is_recorded_ahead_does_not_date_a_lock() {
    let mut account = Account::locking_at(1);
    let mut ahead = account.challenge(1, "console");
    Arc::make_mut(&mut ahead.challenge).latest_at = START.plus(60 * SECOND);
    let decision = decided(&ahead, &verify("v", 1, Comparison::Differs), START, &account.policy);
    account.lockout = decision.state.lockout;
    assert_eq!(account.locked_for(), Some(30 * MINUTE), "dated by the clock, not by the challenge");
}

/// Under another ladder an ask that was in flight may count under a lock; it never shortens that.
#[test]
fn a_failure_under_a_lock_does_not_shorten_it() {
    let mut account = Account::locking_at(2);
    account.policy.spans = vec![DAY];
    let pending = account.ask(1, 1).unwrap_or_else(|denied| panic!("{denied:?}"));
    account.policy.first_after = 1;
    account.now = account.now.plus(20 * SECOND);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(DAY));
    account.policy = LockPolicy { first_after: 2, spans: vec![MINUTE], ..account.policy.clone() };
    account.settle(&pending, AskResult::NotMatched);
    assert_eq!(account.locked_for(), Some(DAY), "not the minute of the new ladder");
}

#[test]
fn an_operators_lock_is_lifted_by_nothing_but_its_end_or_an_unlock() {
    let mut account = Account::new();
    account.fail_times(1, 2);
    let until = account.now.plus(HOUR);
    assert_eq!(account.operate("a", Operation::Lock(Some(until))), Operated::Now);
    assert_eq!(account.fail(1), locked(Some(until)));
    assert!(!account.succeed(1));
    account.now = until;
    assert_eq!(account.locked_for(), None);
    assert!(account.succeed(1));
    account.operate("b", Operation::Lock(None));
    account.now = account.now.plus(3000 * DAY);
    assert_eq!(account.locked_for(), Some(FOR_GOOD));
    account.operate("c", Operation::Unlock);
    assert_eq!((account.lockout.failures(), account.locked_for()), (0, None));
}

#[test]
fn an_unlock_resets_everything_and_restarts_the_ladder() {
    let mut account = Account::new();
    account.fail_times(1, 10);
    account.operate("u", Operation::Unlock);
    assert_eq!((account.lockout.failures(), account.contact_locked_for(1)), (0, None));
    account.fail_times(1, 9);
    assert_eq!(account.locked_for(), None);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
}

/// C13.
#[test]
fn c13_a_lock_never_shortens_a_longer_one() {
    let mut account = Account::new();
    account.operate("a", Operation::Lock(Some(START.plus(HOUR))));
    account.operate("b", Operation::Lock(Some(START.plus(2 * SECOND))));
    assert_eq!(account.locked_for(), Some(HOUR));
    account.operate("c", Operation::Lock(Some(START.plus(DAY))));
    assert_eq!(account.locked_for(), Some(DAY));
    account.operate("d", Operation::Lock(None));
    account.operate("e", Operation::Lock(Some(START.plus(DAY))));
    assert_eq!(account.locked_for(), Some(FOR_GOOD));
}

/// C13. A late repetition never undoes what came after.
#[test]
fn c13_operations_are_idempotent() {
    let mut account = Account::new();
    account.fail_times(1, 10);
    assert_eq!(account.operate("unlock", Operation::Unlock), Operated::Now);
    assert_eq!(account.operate("lock", Operation::Lock(None)), Operated::Now);
    assert_eq!(account.operate("unlock", Operation::Unlock), Operated::Before);
    assert_eq!(account.locked_for(), Some(FOR_GOOD));
    assert_eq!(account.operate("lock", Operation::Unlock), Operated::Conflict, "other content");
    assert!(account.lockout.has_operated(key("lock", "")));
    assert_eq!(account.operate("again", Operation::Unlock), Operated::Now);
    for number in 0..15 {
        account.operate(&format!("later{number}"), Operation::Lock(Some(START)));
    }
    assert_eq!(account.operate("again", Operation::Unlock), Operated::Before, "the last 16 are remembered");
    assert!(!account.lockout.has_operated(key("unlock", "")));
}

#[test]
fn an_operators_lock_and_one_of_failures_are_told_as_the_later() {
    let mut account = Account::new();
    account.fail_times(1, 10);
    account.operate("a", Operation::Lock(Some(account.now.plus(MINUTE))));
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
    account.operate("b", Operation::Lock(Some(account.now.plus(HOUR))));
    assert_eq!(account.locked_for(), Some(HOUR));
    assert_eq!(account.lockout.operator_locked(account.now).unwrap().until, Some(account.now.plus(HOUR)));
}

#[test]
fn a_stricter_policy_counts_from_the_next_failure_on() {
    let mut account = Account::new();
    account.fail_times(1, 7);
    account.policy.first_after = 5;
    assert_eq!(account.locked_for(), None);
    assert_eq!(account.fail(1), Ok(2), "the next rung of the ladder of today is 10");
    account.fail_times(1, 2);
    assert_eq!(account.locked_for(), Some(2 * HOUR));
}

#[test]
fn a_laxer_policy_lifts_no_lock_by_itself() {
    let mut account = Account::locking_at(5);
    account.fail_times(1, 5);
    account.policy = LockPolicy::default();
    assert_eq!(account.locked_for(), Some(30 * MINUTE));
    account.fail_times(1, 4);
    assert_eq!(account.locked_for(), None);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(30 * MINUTE), "the tenth in a row");
}

#[test]
fn kept_400_days_after_the_last_write_and_a_lock_for_good_10_years() {
    let mut account = Account::new();
    account.fail(1).unwrap();
    assert_eq!(account.lockout.kept_for(account.now), 400 * DAY);
    account.operate("a", Operation::Lock(Some(account.now.plus(1000 * DAY))));
    assert!(account.lockout.kept_for(account.now) > 1000 * DAY, "no lock is forgotten before its end");
    account.operate("b", Operation::Lock(None));
    assert_eq!(account.lockout.kept_for(account.now), 3650 * DAY);
    account.operate("c", Operation::Unlock);
    assert_eq!(account.lockout.kept_for(account.now), 400 * DAY, "operators' requests are remembered");
    account.policy.for_good_after = 3;
    account.fail_times(1, 3);
    assert_eq!(account.lockout.kept_for(account.now), 3650 * DAY);
}
