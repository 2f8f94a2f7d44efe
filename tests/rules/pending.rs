//! Pending failures, of attempts that a provider is judging; and locks as the commits of others see them.

use std::sync::Arc;

use otpd::domain::{
    lockout::{Lockout, Operation},
    outcome::{Locked, Verified},
    policy::LockPolicy,
    rules::{AskResult, AskStep, Comparison, State, VerifyStep},
};

use super::{
    account::{Account, locked, matched},
    fixture::{DAY, HOUR, MINUTE, SECOND, decided, verify},
    language::START,
};

#[test]
fn a_pending_failure_denies_like_a_counted_one() {
    let mut account = Account::new();
    account.fail_times(1, 7);
    let first = account.ask(1, 1).unwrap();
    account.now = account.now.plus(SECOND);
    let second = account.ask(2, 2).unwrap();
    account.now = account.now.plus(SECOND);
    let third = account.ask(3, 3).unwrap();
    let until = START.plus(14 * DAY + 10 * SECOND);
    let denied = Err(VerifyStep::InProgress { until });
    assert_eq!(account.fail(1), denied, "until the first of them is settled");
    assert_eq!(account.ask(4, 4).map(|_| 0), denied);
    assert!(!account.succeed(1), "a right code as well");
    assert_eq!((account.lockout.failures(), account.locked_for()), (7, None), "nothing is counted, nothing locks");
    assert_eq!(account.settle(&second, AskResult::NotJudged), AskStep::Refunded);
    assert_eq!(account.fail(1), Ok(2), "the eighth");
    assert_eq!(account.fail(1), denied);
    assert_eq!(
        account.settle(&first, AskResult::NotMatched { left: None }),
        AskStep::Answer(Verified::NotMatched { remaining: 1 })
    );
    assert_eq!(
        account.settle(&third, AskResult::NotMatched { left: None }),
        AskStep::Answer(Verified::NotMatched { remaining: 0 })
    );
    assert_eq!(account.locked_for(), Some(30 * MINUTE), "a lock is written when the failure that locks is settled");
}

#[test]
fn a_contacts_pending_failures_deny_that_contact_alone() {
    let mut account = Account::locking_at(3);
    account.fail(1).unwrap();
    account.fail(1).unwrap();
    account.succeed(2);
    let pending = account.ask(1, 1).unwrap();
    assert!(matches!(account.fail(1), Err(VerifyStep::InProgress { .. })), "the third would lock the contact");
    assert_eq!(account.fail(2), Ok(2));
    account.settle(&pending, AskResult::Unknown);
    assert_eq!(account.fail(1), Ok(0));
}

#[test]
fn settling_removes_its_own_pending_failure_and_no_other() {
    let mut account = Account::locking_at(2);
    let pending = account.ask(1, 1).unwrap();
    let other = account.ask(2, 2).unwrap();
    assert_eq!(account.settle(&pending, AskResult::NotJudged), AskStep::Refunded);
    account.settle(&pending, AskResult::NotJudged);
    let again = account.ask(1, 3).unwrap();
    assert!(matches!(account.fail(1), Err(VerifyStep::InProgress { .. })), "the other one is still there");
    account.settle(&other, AskResult::Unknown);
    account.settle(&again, AskResult::Unknown);
    assert_eq!(account.fail(1), Ok(1));
}

/// V6. A pending failure is dropped by the next worker after its lease; what then arrives counts anew.
#[test]
fn v6_a_failure_whose_entry_is_gone_counts_anew() {
    let mut account = Account::new();
    let pending = account.ask(1, 1).unwrap();
    account.now = account.now.plus(10 * SECOND);
    account.fail(2).unwrap();
    assert_eq!(account.lockout.failures(), 1, "the entry was dropped, not counted");
    assert_eq!(
        account.settle(&pending, AskResult::NotMatched { left: None }),
        AskStep::Answer(Verified::NotMatched { remaining: 8 })
    );
    assert_eq!(account.lockout.failures(), 2);
}

/// What is overdue is written with the next commit, and is none by itself: a recorded answer is given without one.
#[test]
fn an_overdue_pending_failure_is_no_reason_to_write() {
    let mut account = Account::new();
    let answered = account.challenge(1, "console");
    let answered = decided(&answered, &verify("v", 1, Comparison::Differs), account.now, &account.policy).state;
    account.lockout = Arc::clone(&answered.lockout);
    account.ask(1, 1).unwrap();
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
        let pending = account.ask(1, 1).unwrap();
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
    let pending = account.ask(1, 1).unwrap();
    assert!(matches!(account.settle(&pending, matched()), AskStep::Answer(Verified::Success(_))));
    assert_eq!(*account.lockout, Lockout::default());

    let pending = account.ask(1, 2).unwrap();
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
    let pending = account.ask(1, 1).unwrap();
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

/// Under another ladder an ask that was in flight may count under a lock; it never shortens that.
#[test]
fn a_failure_under_a_lock_does_not_shorten_it() {
    let mut account = Account::locking_at(2);
    account.policy.spans = vec![DAY];
    let pending = account.ask(1, 1).unwrap();
    account.policy.first_after = 1;
    account.now = account.now.plus(20 * SECOND);
    account.fail(1).unwrap();
    assert_eq!(account.locked_for(), Some(DAY));
    account.policy = LockPolicy { first_after: 2, spans: vec![MINUTE], ..account.policy.clone() };
    account.settle(&pending, AskResult::NotMatched { left: None });
    assert_eq!(account.locked_for(), Some(DAY), "not the minute of the new ladder");
}
