//! What every store must do. Each case runs over each store.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::harness::{Easy, HOUR, Harness, Swap, content, name, record, soon, until, version, window};

/// Makes one test per case for a store.
#[macro_export]
macro_rules! conformance {
    ($start:expr) => {
        $crate::conformance!(
            $start; inserts_once, swaps_the_version_read, lost_races, names_are_apart, largest_record,
            no_write_shortens_the_time_to_live, expired_is_absent, expired_is_removed, takes_up_to_the_maximum,
            takes_are_idempotent, gives_back, windows_slide, several_windows, parallel_takes, times_without_end,
            checks, closed_store_refuses, passed_deadline, random_history
        );
    };
    ($start:expr; $($case:ident),*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let harness = $start.await;
            $crate::suite::$case(&harness).await;
        }
    )* };
}

pub(crate) use crate::history::random_history;

pub(crate) async fn inserts_once(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.load(1).await, None);
    assert_eq!(store.insert(1, 10, HOUR).await, None);
    assert_eq!(store.load(1).await, Some(10));
    assert_eq!(store.insert(1, 11, HOUR).await, Some(10));
    assert_eq!(store.load(1).await, Some(10));
}

pub(crate) async fn swaps_the_version_read(harness: &impl Harness) {
    let store = Easy(harness.store());
    assert_eq!(store.swap(1, 10, 11, HOUR).await, Swap::Missing);
    store.insert(1, 10, HOUR).await;
    assert_eq!(store.swap(1, 10, 11, HOUR).await, Swap::Done);
    assert_eq!(store.load(1).await, Some(11));
    assert_eq!(store.swap(1, 10, 12, HOUR).await, Swap::Stale(11));
    assert_eq!(store.load(1).await, Some(11));
}

/// 100 swaps of one version at once: exactly one wins, and all others are told its record or a later one.
pub(crate) async fn lost_races(harness: &impl Harness) {
    let store = harness.store();
    for round in 0..5 {
        let n = name(round);
        store.insert(n, &record(0), HOUR, soon()).await.unwrap();
        let mut racers = JoinSet::new();
        for racer in 1..=100 {
            let store = harness.store();
            racers
                .spawn(async move { (racer, store.swap(n, version(0), &record(racer), HOUR, soon()).await.unwrap()) });
        }
        let answers = racers.join_all().await;
        let present = content(&store.load(n, soon()).await.unwrap().unwrap());
        for (racer, answer) in answers {
            let expected = if racer == present { Swap::Done } else { Swap::Stale(present) };
            let answer = match answer {
                otpd::ports::store::Swapped::Done => Swap::Done,
                otpd::ports::store::Swapped::Stale(record) => Swap::Stale(content(&record)),
                otpd::ports::store::Swapped::Missing => Swap::Missing,
            };
            assert_eq!(answer, expected, "racer {racer}");
        }
    }
}

/// A record and a quota may have the same name, and are different things.
pub(crate) async fn names_are_apart(harness: &impl Harness) {
    let store = Easy(harness.store());
    let one = [window(1, HOUR)];
    assert!(store.take(1, 1, &one, 5_000_000).await);
    store.insert(1, 10, HOUR).await;
    store.insert(2, 20, HOUR).await;
    assert!(store.take(2, 1, &one, 5_000_000).await);
    assert_eq!((store.load(1).await, store.load(2).await), (Some(10), Some(20)));
}

pub(crate) async fn largest_record(harness: &impl Harness) {
    let store = harness.store();
    let bytes = (0..=u8::MAX).cycle().take(otpd::ports::store::Sealed::MAX_LENGTH).collect();
    let largest = otpd::ports::store::Sealed::from_bytes(bytes).unwrap();
    store.insert(name(1), &largest, HOUR, soon()).await.unwrap();
    assert_eq!(store.load(name(1), soon()).await.unwrap(), Some(largest));
}

pub(crate) async fn no_write_shortens_the_time_to_live(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.insert(1, 10, HOUR).await;
    store.insert(2, 20, Duration::from_secs(1)).await;
    assert_eq!(store.swap(1, 10, 11, Duration::from_millis(1)).await, Swap::Done);
    assert_eq!(store.swap(2, 20, 21, HOUR).await, Swap::Done);
    harness.pass(Duration::from_millis(1_100)).await;
    assert_eq!((store.load(1).await, store.load(2).await), (Some(11), Some(21)));
}

pub(crate) async fn expired_is_absent(harness: &impl Harness) {
    let store = Easy(harness.store());
    let short = Duration::from_millis(300);
    for n in 1..=3 {
        store.insert(n, n, short).await;
    }
    harness.pass(short).await;
    assert_eq!(store.load(1).await, None);
    assert_eq!(store.swap(2, 2, 20, HOUR).await, Swap::Missing);
    assert_eq!(store.insert(3, 30, HOUR).await, None);
    assert_eq!(store.load(3).await, Some(30));
}

/// What is expired goes away by itself, and what was written again over it stays.
pub(crate) async fn expired_is_removed(harness: &impl Harness) {
    let store = Easy(harness.store());
    let short = Duration::from_millis(300);
    for n in 0..1_000 {
        store.insert(n, n, short).await;
    }
    for take in 0..5 {
        assert!(store.take(1, take, &[window(10, Duration::from_secs(1))], 5_000_000).await);
    }
    harness.pass(short).await;
    store.insert(7, 70, Duration::from_secs(1)).await;
    store.swap(7, 70, 71, Duration::from_secs(2)).await;
    harness.pass(Duration::from_millis(700)).await;
    assert_eq!(store.load(7).await, Some(71));
    harness.pass(Duration::from_millis(1_300)).await;
    until("nothing is left", || harness.is_empty()).await;
}

pub(crate) async fn takes_up_to_the_maximum(harness: &impl Harness) {
    let store = Easy(harness.store());
    let three = [window(3, HOUR)];
    for take in 1..=3 {
        assert!(store.take(1, take, &three, 5_000_000).await);
    }
    assert!(!store.take(1, 4, &three, 5_000_000).await);
    // A refusal counts nothing.
    assert!(store.take(1, 5, &[window(4, HOUR)], 5_000_000).await);
    assert!(!store.take(1, 6, &[window(4, HOUR)], 5_000_000).await);
}

pub(crate) async fn takes_are_idempotent(harness: &impl Harness) {
    let store = Easy(harness.store());
    let two = [window(2, HOUR)];
    for _ in 0..5 {
        assert!(store.take(1, 1, &two, 5_000_000).await);
    }
    assert!(store.take(1, 2, &two, 5_000_000).await);
    assert!(!store.take(1, 3, &two, 5_000_000).await);
    assert!(store.take(1, 1, &two, 5_000_001).await, "a take that counts already is not refused");
}

pub(crate) async fn gives_back(harness: &impl Harness) {
    let store = Easy(harness.store());
    let one = [window(1, HOUR)];
    store.give_back(1, 1).await;
    assert!(store.take(1, 1, &one, 5_000_000).await);
    store.give_back(1, 2).await;
    assert!(!store.take(1, 2, &one, 5_000_000).await);
    store.give_back(1, 1).await;
    store.give_back(1, 1).await;
    assert!(store.take(1, 2, &one, 5_000_000).await);
    assert!(!store.take(1, 1, &one, 5_000_000).await);
}

/// A take counts in a window while it is later than `now - per`.
pub(crate) async fn windows_slide(harness: &impl Harness) {
    let store = Easy(harness.store());
    let two = [window(2, Duration::from_secs(10))];
    assert!(store.take(1, 1, &two, 100_000).await);
    assert!(store.take(1, 2, &two, 104_000).await);
    assert!(!store.take(1, 3, &two, 109_999).await);
    assert!(store.take(1, 3, &two, 110_000).await, "the first take has left");
    assert!(!store.take(1, 4, &two, 113_999).await);
    assert!(store.take(1, 4, &two, 114_000).await);
    // Replicas may be a second apart: a take in the future counts too.
    assert!(!store.take(1, 5, &two, 113_000).await);
}

pub(crate) async fn several_windows(harness: &impl Harness) {
    let store = Easy(harness.store());
    let windows = [window(3, Duration::from_secs(100)), window(2, Duration::from_secs(10))];
    assert!(store.take(1, 1, &windows, 1_000_000).await);
    assert!(store.take(1, 2, &windows, 1_000_000).await);
    assert!(!store.take(1, 3, &windows, 1_009_999).await, "the short window is full");
    assert!(store.take(1, 3, &windows, 1_010_000).await);
    assert!(!store.take(1, 4, &windows, 1_020_000).await, "the long window is full");
    assert!(store.take(1, 4, &windows, 1_100_000).await);
}

/// 100 takes at once of a quota of 10, each asked twice.
pub(crate) async fn parallel_takes(harness: &impl Harness) {
    let mut takers = JoinSet::new();
    for n in 0..200 {
        let store = Easy(harness.store());
        takers.spawn(async move { (n % 100, store.take(1, n % 100, &[window(10, HOUR)], 5_000_000).await) });
    }
    let answers = takers.join_all().await;
    let winners: std::collections::BTreeSet<u64> = answers.iter().filter(|(_, won)| *won).map(|(n, _)| *n).collect();
    assert_eq!(winners.len(), 10);
}

pub(crate) async fn times_without_end(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.insert(1, 10, Duration::MAX).await;
    assert_eq!(store.swap(1, 10, 11, Duration::MAX).await, Swap::Done);
    assert_eq!(store.load(1).await, Some(11));
    let latest = otpd::domain::time::Timestamp::MAX.as_millis();
    let one = [window(1, Duration::from_secs(10))];
    assert!(store.take(1, 1, &one, latest - 10_000).await);
    assert!(!store.take(1, 2, &one, latest - 1).await);
    assert!(store.take(1, 2, &one, latest).await);
    assert!(store.take(2, 1, &[window(1, HOUR)], 0).await);
    assert!(!store.take(2, 2, &[window(1, HOUR)], 1).await, "before one window has passed since the epoch");
}

pub(crate) async fn checks(harness: &impl Harness) {
    harness.store().check(soon()).await.unwrap();
}

pub(crate) async fn closed_store_refuses(harness: &impl Harness) {
    let store = harness.store();
    store.insert(name(1), &record(10), HOUR, soon()).await.unwrap();
    store.close(soon()).await;
    store.close(soon()).await;
    store.load(name(1), soon()).await.unwrap_err();
    store.insert(name(2), &record(10), HOUR, soon()).await.unwrap_err();
    store.check(soon()).await.unwrap_err();
}

/// A deadline that has passed is an error, not a hang.
pub(crate) async fn passed_deadline(harness: &impl Harness) {
    let store = harness.store();
    let passed = otpd::ports::clock::Deadline::after(Duration::ZERO);
    for _ in 0..100 {
        // An answer in no time would be fine, too.
        if let Err(error) = store.insert(name(1), &record(1), HOUR, passed).await {
            assert_eq!(error.to_string(), "store cannot insert: deadline passed");
        }
    }
    store.check(soon()).await.unwrap();
}
