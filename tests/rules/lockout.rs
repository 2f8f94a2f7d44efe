//! The lockout: when failures lock, what resets them, and what operators do.

use std::sync::Arc;

use otpd::domain::{
    ids::AccountId,
    lockout::{Lockout, MAX_CONTACTS, Operated, Operation},
    outcome::Receipt,
    policy::LockPolicy,
    rules::{Comparison, SettleSend, Settlement},
    time::Timestamp,
};

use super::{
    account::{Account, FOR_GOOD, locked},
    fixture::{DAY, HOUR, MINUTE, SECOND, decided, key, state, token, verify},
    language::START,
};

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

/// Several accounts may register one number. The verifications of one that starts many push out its own alone.
#[test]
fn an_account_with_many_verifications_forgets_its_own() {
    let mut state = state("open", Lockout::default());
    let mut start = |account: &str, reference: &str| {
        Arc::make_mut(&mut state.challenge).account = AccountId::parse(account).unwrap();
        let receipt = Receipt { reference: reference.to_owned(), running_for: Some(HOUR), ..Receipt::default() };
        let (key, settlement) = (key(reference, "SendOtp"), Settlement::Accepted(receipt));
        let settle = SettleSend { key, token: token(1), provider: "managed".to_owned(), settlement };
        state = decided(&state, &settle, START, &LockPolicy::default()).state;
        Arc::clone(&state.lockout)
    };
    start("jane", "hers");
    let known = |lockout: &Lockout, account: &str| {
        let running = lockout.running(&AccountId::parse(account).unwrap(), "managed", START);
        running.into_iter().map(|it| it.reference).collect::<Vec<_>>()
    };
    for number in 0..20 {
        let lockout = start("mallory", &format!("m{number}"));
        assert_eq!(known(&lockout, "jane"), ["hers"], "{number}");
        assert_eq!(known(&lockout, "mallory").last(), Some(&format!("m{number}")));
    }
    let lockout = start("jane", "next");
    assert_eq!(known(&lockout, "jane"), ["next"], "of the same account first");
    assert_eq!(known(&lockout, "mallory").len(), 7);
}
