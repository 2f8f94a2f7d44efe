//! What every store must do with records and index entries. Each case runs over each store. Quotas are in `quotas.rs`.

use std::{collections::BTreeSet, time::Duration};

use otpd::ports::{
    clock::Deadline,
    store::{Acquired, Change, Committed, Sealed, Write},
};
use tokio::task::JoinSet;

use crate::harness::{
    Easy, HOUR, Harness, LOCKOUT, Outcome, SECOND, changes, content, contents, name, named, partition, soon, until,
    window,
};
pub(crate) use crate::{
    history::random_history,
    quotas::{
        a_longer_window_is_never_forgotten, acquires_up_to_the_maximum, acquiring_again, clears, parallel_acquires,
        refunds, several_windows, tells_usage, times_without_end, windows_slide,
    },
};

/// Hands the name of every case to another macro, after what that macro is given.
#[macro_export]
macro_rules! cases {
    ($then:ident; $($given:tt)*) => {
        $crate::$then!(
            $($given)*; writes_all, conflicts_tell_what_is_there, nothing_is_written_in_part, checks_without_writing,
            expects_absence, commits_twice, lost_races, an_untouched_record_conflicts_with_nothing, kinds_are_apart,
            largest_record, no_write_shortens_the_time_to_live, expired_is_absent, expired_is_removed,
            locates, claims_are_never_taken_over, claims_are_renewed, claims_outlive_records, racing_claims,
            acquires_up_to_the_maximum, acquiring_again, refunds, windows_slide, several_windows, parallel_acquires,
            a_longer_window_is_never_forgotten, tells_usage, clears, times_without_end,
            checks, scans, closed_store_refuses, passed_deadline, random_history
        );
    };
}

/// Makes one test per case for a store.
#[macro_export]
macro_rules! conformance {
    ($start:expr) => {
        $crate::cases!(conformance; $start);
    };
    ($start:expr; $($case:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let harness = $start.await;
            $crate::suite::$case(&harness).await;
        }
    )* };
}

/// Runs one case after the other over servers that take long to start, and tells all that failed. `$next` makes the harness of
/// a case, with a store that is empty.
#[macro_export]
macro_rules! conformance_in_turn {
    ($next:expr) => {
        $crate::cases!(conformance_in_turn; $next)
    };
    ($next:expr; $($case:ident),*) => {{
        let mut failed = Vec::new();
        $(
            let harness = $next.await;
            let case = tokio_util::task::TaskTracker::new().spawn(async move { $crate::suite::$case(&harness).await });
            if case.await.is_err() {
                failed.push(stringify!($case));
            }
        )*
        assert!(failed.is_empty(), "failed: {failed:?}");
    }};
}

pub(crate) async fn writes_all(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.read(1, &[LOCKOUT, 1]).await, [None, None]);
    assert_eq!(store.commit(1, &[(LOCKOUT, None, Some(10)), (1, None, Some(20))]).await, Outcome::Done);
    assert_eq!(store.read(1, &[1, 2, LOCKOUT]).await, [Some(20), None, Some(10)], "in the order asked for");
    assert_eq!(store.commit(1, &[(LOCKOUT, Some(10), Some(11)), (1, Some(20), Some(21))]).await, Outcome::Done);
    assert_eq!(store.read(1, &[LOCKOUT, 1]).await, [Some(11), Some(21)]);
    assert_eq!(store.read(2, &[LOCKOUT, 1]).await, [None, None], "another partition");
    assert_eq!(store.read(1, &[]).await, []);
}

/// Whichever change is not as expected, the records are told in the order of the changes.
pub(crate) async fn conflicts_tell_what_is_there(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit(1, &[(1, None, Some(10)), (2, None, Some(20))]).await;
    let there = Outcome::Conflict(vec![Some(20), None, Some(10)]);
    for (two, three, one) in
        [(21, None, 10), (20, Some(30), 10), (20, None, 11), (21, Some(30), 11), (21, Some(30), 10)]
    {
        let wrong = [(2, Some(two), Some(22)), (3, three, Some(32)), (1, Some(one), Some(12))];
        assert_eq!(store.commit(1, &wrong).await, there, "{wrong:?}");
    }
    assert_eq!(store.read(1, &[1, 2, 3]).await, [Some(10), Some(20), None]);
}

pub(crate) async fn nothing_is_written_in_part(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit(1, &[(5, None, Some(50))]).await;
    let names = [1, 2, 3, 4, 5];
    let mut all: Vec<_> = names.iter().map(|n| (*n, None, Some(*n))).collect();
    for _ in 0..5 {
        assert!(matches!(store.commit(1, &all).await, Outcome::Conflict(_)));
        assert_eq!(store.read(1, &names).await, [None, None, None, None, Some(50)]);
        // The one that is wrong is in each position once.
        all.rotate_left(1);
    }
}

/// A change without a write is a condition: it may refuse the commit, and changes nothing.
pub(crate) async fn checks_without_writing(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.commit(1, &[(LOCKOUT, None, None), (1, None, Some(10))]).await, Outcome::Done);
    store.commit(1, &[(LOCKOUT, None, Some(5))]).await;
    let refused = store.commit(1, &[(LOCKOUT, None, None), (1, Some(10), Some(11))]).await;
    assert_eq!(refused, Outcome::Conflict(vec![Some(5), Some(10)]));
    let refused = store.commit(1, &[(1, Some(10), Some(11)), (LOCKOUT, Some(6), None)]).await;
    assert_eq!(refused, Outcome::Conflict(vec![Some(10), Some(5)]));
    assert_eq!(store.commit(1, &[(LOCKOUT, Some(5), None), (1, Some(10), Some(11))]).await, Outcome::Done);
    assert_eq!(store.read(1, &[LOCKOUT, 1]).await, [Some(5), Some(11)]);
    assert_eq!(store.commit(1, &[(LOCKOUT, Some(5), None)]).await, Outcome::Done);
}

pub(crate) async fn expects_absence(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.commit(1, &[(1, Some(10), Some(11))]).await, Outcome::Conflict(vec![None]));
    assert_eq!(store.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    assert_eq!(store.commit(1, &[(1, None, Some(11))]).await, Outcome::Conflict(vec![Some(10)]));
    assert_eq!(store.read(1, &[1]).await, [Some(10)]);
}

/// A commit that is applied a second time, as when its answer was lost, is answered with its own records.
pub(crate) async fn commits_twice(harness: &impl Harness) {
    let store = Easy(harness.store());
    for twice in [
        [(LOCKOUT, None, Some(10)), (1, None, Some(20))],
        [(LOCKOUT, Some(10), Some(11)), (1, Some(20), Some(21))],
        [(LOCKOUT, Some(11), None), (1, Some(21), Some(22))],
    ] {
        assert_eq!(store.commit(1, &twice).await, Outcome::Done);
        let own = twice.iter().map(|(_, expected, write)| write.or(*expected)).collect();
        assert_eq!(store.commit(1, &twice).await, Outcome::Conflict(own));
    }
    assert_eq!(store.read(1, &[LOCKOUT, 1]).await, [Some(11), Some(22)]);
}

/// A thousand commits that expect the same: exactly one wins, both its records are there, and all others are told them.
pub(crate) async fn lost_races(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit(1, &[(LOCKOUT, None, Some(0)), (1, None, Some(0))]).await;
    let mut racers = JoinSet::new();
    for racer in 1..=1_000 {
        let store = Easy(harness.store());
        racers.spawn(async move {
            (racer, store.commit(1, &[(LOCKOUT, Some(0), Some(racer)), (1, Some(0), Some(racer))]).await)
        });
    }
    let answers = racers.join_all().await;
    let present = store.read(1, &[LOCKOUT, 1]).await;
    let winner = present[0].unwrap();
    assert_eq!(present, [Some(winner), Some(winner)]);
    for (racer, answer) in answers {
        let expected = if racer == winner { Outcome::Done } else { Outcome::Conflict(present.clone()) };
        assert_eq!(answer, expected, "racer {racer}");
    }
}

/// A hundred commits that only look at one record, each writing another: none is in the way of another.
pub(crate) async fn an_untouched_record_conflicts_with_nothing(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit(1, &[(LOCKOUT, None, Some(5))]).await;
    let mut racers = JoinSet::new();
    for racer in 1..=100 {
        let store = Easy(harness.store());
        racers.spawn(async move { store.commit(1, &[(LOCKOUT, Some(5), None), (racer, None, Some(racer))]).await });
    }
    assert!(racers.join_all().await.iter().all(|answer| *answer == Outcome::Done));
    let names: Vec<u64> = (1..=100).collect();
    assert_eq!(store.read(1, &names).await, names.iter().map(|n| Some(*n)).collect::<Vec<_>>());
}

/// A record, an index entry and a quota may have the same name, and are different things.
pub(crate) async fn kinds_are_apart(harness: &impl Harness) {
    let store = Easy(harness.store());
    let one = [window(1, HOUR)];
    assert_eq!(store.acquire(1, 1, &one, 5_000_000).await, Acquired::Now);
    assert_eq!(store.claim(1, 1, HOUR).await, Some(HOUR));
    assert_eq!(store.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    assert_eq!(store.acquire(1, 2, &one, 5_000_000).await, Acquired::Refused);
    assert_eq!(store.locate(1, &[1]).await.map(|(of, _, records)| (of, records)), Some((1, vec![Some(10)])));
}

pub(crate) async fn largest_record(harness: &impl Harness) {
    let store = harness.store();
    let bytes = (0..=u8::MAX).cycle().take(Sealed::MAX_LENGTH).collect();
    let largest = Sealed::from_bytes(bytes).unwrap();
    let write = Some(Write { record: largest.clone(), ttl: HOUR });
    let change = Change { name: name(1), expected: None, write };
    assert_eq!(store.commit(partition(1), &[change], soon()).await.unwrap(), Committed::Done);
    assert_eq!(store.read(partition(1), &[name(1)], soon()).await.unwrap(), [Some(largest)]);
}

pub(crate) async fn no_write_shortens_the_time_to_live(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit_for(1, &[(1, None, Some(10))], HOUR).await;
    // Long enough for what follows on a busy machine.
    store.commit_for(1, &[(2, None, Some(20)), (3, None, Some(30))], SECOND * 3).await;
    let shorter = [(1, Some(10), Some(11))];
    assert_eq!(store.commit_for(1, &shorter, Duration::from_millis(1)).await, Outcome::Done);
    assert_eq!(store.commit_for(1, &[(2, Some(20), Some(21)), (3, Some(30), None)], HOUR).await, Outcome::Done);
    harness.pass(SECOND * 3).await;
    assert_eq!(store.read(1, &[1, 2, 3]).await, [Some(11), Some(21), None], "looking at a record renews nothing");
}

pub(crate) async fn expired_is_absent(harness: &impl Harness) {
    let store = Easy(harness.store());
    let short = Duration::from_millis(300);
    store.commit_for(1, &[(1, None, Some(1)), (2, None, Some(2)), (3, None, Some(3))], short).await;
    store.claim(1, 1, short).await;
    store.claim(2, 1, short).await;
    harness.pass(short).await;
    assert_eq!(store.read(1, &[1, 2, 3]).await, [None, None, None]);
    assert_eq!(store.commit(1, &[(2, Some(2), Some(20))]).await, Outcome::Conflict(vec![None]));
    assert_eq!(store.commit(1, &[(1, None, None), (3, None, Some(30))]).await, Outcome::Done);
    assert_eq!(store.read(1, &[3]).await, [Some(30)]);
    assert_eq!(store.locate(1, &[3]).await, None);
    assert_eq!(store.claim(2, 7, HOUR).await, Some(HOUR), "an entry that is over belongs to nothing");
}

/// What is expired goes away by itself, and what was written again over it stays.
pub(crate) async fn expired_is_removed(harness: &impl Harness) {
    let store = Easy(harness.store());
    let short = Duration::from_millis(300);
    for n in 1..=500 {
        store.commit_for(n, &[(LOCKOUT, None, Some(n)), (1, None, Some(n))], short).await;
        store.claim(n, n, short).await;
    }
    for usage in 0..5 {
        assert_eq!(store.acquire(1, usage, &[window(10, SECOND)], 5_000_000).await, Acquired::Now);
    }
    harness.pass(short).await;
    store.commit_for(7, &[(1, None, Some(70))], SECOND * 3).await;
    store.commit_for(7, &[(1, Some(70), Some(71))], SECOND * 6).await;
    // Over the time of the first write, and over the windows, though quotas are kept a little longer than these.
    harness.pass(SECOND * 3).await;
    assert_eq!(store.read(7, &[1]).await, [Some(71)]);
    harness.pass(SECOND * 3).await;
    until("nothing is left", || harness.is_empty()).await;
}

pub(crate) async fn locates(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.locate(1, &[LOCKOUT, 1]).await, None);
    store.claim(1, 7, HOUR).await;
    store.commit(7, &[(LOCKOUT, None, Some(10)), (1, None, Some(20))]).await;
    store.commit(8, &[(1, None, Some(30))]).await;
    let (of, _, records) = store.locate(1, &[1, 2, LOCKOUT]).await.unwrap();
    assert_eq!((of, records), (7, vec![Some(20), None, Some(10)]));
    let (of, _, records) = store.locate(1, &[]).await.unwrap();
    assert_eq!((of, records), (7, vec![]));
}

pub(crate) async fn claims_are_never_taken_over(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert!(store.claim(1, 7, SECOND * 3).await.is_some());
    assert_eq!(store.claim(1, 8, HOUR).await, None);
    assert_eq!(store.locate(1, &[]).await.unwrap().0, 7);
    harness.pass(SECOND * 3).await;
    assert_eq!(store.locate(1, &[]).await, None, "a claim for another partition renews nothing");
    assert_eq!(store.claim(1, 8, HOUR).await, Some(HOUR));
    assert_eq!(store.locate(1, &[]).await.unwrap().0, 8);
}

/// An entry tells its remaining life, is renewed by a longer claim, and never shortened.
pub(crate) async fn claims_are_renewed(harness: &impl Harness) {
    let store = Easy(harness.store());
    let minute = SECOND * 60;
    assert_eq!(store.claim(1, 7, minute).await, Some(minute));
    harness.pass(SECOND).await;
    let left = store.claim(1, 7, SECOND).await.unwrap();
    assert!((SECOND * 30..=SECOND * 59).contains(&left), "{left:?}");
    let located = store.locate(1, &[]).await.unwrap().1;
    assert!((SECOND * 30..=left).contains(&located), "{located:?} of {left:?}");
    assert_eq!(store.claim(1, 7, HOUR).await, Some(HOUR));
    let located = store.locate(1, &[]).await.unwrap().1;
    assert!((HOUR / 2..=HOUR).contains(&located), "{located:?}");
}

pub(crate) async fn claims_outlive_records(harness: &impl Harness) {
    let store = Easy(harness.store());
    let short = Duration::from_millis(300);
    store.claim(1, 7, HOUR).await;
    store.commit_for(7, &[(1, None, Some(10))], short).await;
    harness.pass(short).await;
    let (of, _, records) = store.locate(1, &[1]).await.unwrap();
    assert_eq!((of, records), (7, vec![None]));
    assert_eq!(store.claim(1, 8, HOUR).await, None);
}

/// A hundred claims of one entry for ten partitions: one partition has it, and whoever claims for it is told so.
pub(crate) async fn racing_claims(harness: &impl Harness) {
    let mut racers = JoinSet::new();
    for racer in 0..100 {
        let store = Easy(harness.store());
        racers.spawn(async move { (racer % 10, store.claim(1, racer % 10, HOUR).await.is_some()) });
    }
    let answers = racers.join_all().await;
    let winners: BTreeSet<u64> = answers.iter().filter(|(_, ours)| *ours).map(|(of, _)| *of).collect();
    let (of, _, _) = Easy(harness.store()).locate(1, &[]).await.unwrap();
    assert_eq!(winners, BTreeSet::from([of]));
    assert!(answers.iter().all(|(racer, ours)| *ours == (*racer == of)));
}

pub(crate) async fn checks(harness: &impl Harness) {
    harness.store().check(soon()).await.unwrap();
}

/// All records, none that is gone, and nothing else; and each can be committed under the name that the scan tells.
pub(crate) async fn scans(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.claim(1, 1, HOUR).await;
    store.acquire(1, 1, &[window(1, HOUR)], 1).await;
    store.commit_for(0, &[(1, None, Some(1))], Duration::from_millis(1)).await;
    for n in 1..=700 {
        store.commit(n, &[(LOCKOUT, None, Some(2 * n)), (n, None, Some(2 * n + 1))]).await;
    }
    harness.pass(Duration::from_millis(10)).await;
    let (mut told, mut from) = (BTreeSet::new(), None);
    loop {
        let page = store.0.scan(from, soon()).await.unwrap();
        assert!(page.records.len() <= 2_000, "a page is bounded");
        for (partition, name, record) in page.records {
            told.insert(content(&record));
            let again = Write { record, ttl: Duration::ZERO };
            let change = Change { name, expected: Some(again.record.version()), write: Some(again) };
            assert_eq!(store.0.commit(partition, &[change], soon()).await.unwrap(), Committed::Done);
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(told, (2..=1_401).collect::<BTreeSet<u64>>());
}

pub(crate) async fn closed_store_refuses(harness: &impl Harness) {
    let store = harness.store();
    let write = changes(&[(1, None, Some(10))], HOUR);
    store.commit(partition(1), &write, soon()).await.unwrap();
    store.close(soon()).await;
    store.close(soon()).await;
    store.read(partition(1), &[name(1)], soon()).await.unwrap_err();
    store.locate(named(1), &[name(1)], soon()).await.unwrap_err();
    store.commit(partition(2), &write, soon()).await.unwrap_err();
    store.claim(named(1), partition(1), HOUR, soon()).await.unwrap_err();
    store.check(soon()).await.unwrap_err();
}

/// A deadline that has passed is an error, not a hang.
pub(crate) async fn passed_deadline(harness: &impl Harness) {
    let store = harness.store();
    let passed = Deadline::after(Duration::ZERO);
    for n in 0..100 {
        // An answer in no time would be fine, too.
        if let Err(error) = store.commit(partition(1), &changes(&[(n, None, Some(n))], HOUR), passed).await {
            assert_eq!(error.to_string(), "store cannot commit: deadline passed");
        }
        if let Err(error) = store.read(partition(1), &[name(n)], passed).await {
            assert_eq!(error.to_string(), "store cannot read: deadline passed");
        }
    }
    store.check(soon()).await.unwrap();
    let records = store.read(partition(1), &[name(1)], soon()).await.unwrap();
    assert!(contents(&records).iter().flatten().all(|n| *n == 1));
    assert!(records.iter().flatten().all(|record| content(record) == 1));
}
