//! What every store must do with quotas: the part of the suite that is about them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use otpd::{
    domain::time::Timestamp,
    ports::store::Acquired::{Before, Now, Refused},
};
use tokio::task::JoinSet;

use crate::harness::{Easy, HOUR, Harness, SECOND, window};

pub(crate) async fn acquires_up_to_the_maximum(harness: &impl Harness) {
    let store = Easy(harness.store());
    let three = [window(3, HOUR)];
    for usage in 1..=3 {
        assert_eq!(store.acquire(1, usage, &three, 5_000_000).await, Now);
    }
    assert_eq!(store.acquire(1, 4, &three, 5_000_000).await, Refused);
    assert_eq!(store.acquire(2, 4, &three, 5_000_000).await, Now, "another quota");
    // A refusal counts nothing.
    assert_eq!(store.acquire(1, 5, &[window(4, HOUR)], 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 6, &[window(4, HOUR)], 5_000_000).await, Refused);
    assert_eq!(store.acquire(3, 1, &[window(0, HOUR)], 5_000_000).await, Refused);
}

pub(crate) async fn acquiring_again(harness: &impl Harness) {
    let store = Easy(harness.store());
    let two = [window(2, HOUR)];
    assert_eq!(store.acquire(1, 1, &two, 5_000_000).await, Now);
    for _ in 0..5 {
        assert_eq!(store.acquire(1, 1, &two, 5_000_000).await, Before);
    }
    assert_eq!(store.acquire(1, 2, &two, 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 3, &two, 5_000_000).await, Refused);
    assert_eq!(store.acquire(1, 1, &two, 5_000_001).await, Before, "a use that counts already is not refused");
    // Acquiring again does not renew: the first two leave the window an hour after they were counted.
    assert_eq!(store.usage(1, &two, 5_000_000 + 3_600_000).await, [0]);
    assert_eq!(store.acquire(1, 1, &two, 5_000_000 + 3_600_000).await, Now, "a use that counts no longer is new");
    assert_eq!(store.usage(1, &two, 5_000_000 + 3_600_000).await, [1]);
}

pub(crate) async fn refunds(harness: &impl Harness) {
    let store = Easy(harness.store());
    let one = [window(1, HOUR)];
    store.refund(&[(1, 1)]).await;
    assert_eq!(store.acquire(1, 1, &one, 5_000_000).await, Now);
    store.refund(&[(1, 2)]).await;
    store.refund(&[(2, 1)]).await;
    assert_eq!(store.acquire(1, 2, &one, 5_000_000).await, Refused, "only its own name is refunded");
    store.refund(&[(1, 1)]).await;
    store.refund(&[(1, 1)]).await;
    assert_eq!(store.acquire(1, 2, &one, 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 1, &one, 5_000_000).await, Refused);
    // Several at once, each by itself: one of them is not there.
    assert_eq!(store.acquire(2, 1, &one, 5_000_000).await, Now);
    store.refund(&[(2, 1), (3, 1), (1, 2)]).await;
    assert_eq!((store.usage(1, &one, 5_000_000).await, store.usage(2, &one, 5_000_000).await), (vec![0], vec![0]));
    store.refund(&[]).await;
}

/// A use counts in a window while it is later than `now - per`.
pub(crate) async fn windows_slide(harness: &impl Harness) {
    let store = Easy(harness.store());
    let two = [window(2, SECOND * 10)];
    assert_eq!(store.acquire(1, 1, &two, 100_000).await, Now);
    assert_eq!(store.acquire(1, 2, &two, 104_000).await, Now);
    assert_eq!(store.acquire(1, 3, &two, 109_999).await, Refused);
    assert_eq!(store.acquire(1, 3, &two, 110_000).await, Now, "the first use has left");
    assert_eq!(store.acquire(1, 4, &two, 113_999).await, Refused);
    assert_eq!(store.acquire(1, 4, &two, 114_000).await, Now);
    // Replicas may be a second apart: a use in the future counts too.
    assert_eq!(store.acquire(1, 5, &two, 113_000).await, Refused);
}

pub(crate) async fn several_windows(harness: &impl Harness) {
    let store = Easy(harness.store());
    let windows = [window(3, SECOND * 100), window(2, SECOND * 10)];
    assert_eq!(store.acquire(1, 1, &windows, 1_000_000).await, Now);
    assert_eq!(store.acquire(1, 2, &windows, 1_000_000).await, Now);
    assert_eq!(store.acquire(1, 3, &windows, 1_009_999).await, Refused, "the short window is full");
    assert_eq!(store.acquire(1, 3, &windows, 1_010_000).await, Now);
    assert_eq!(store.acquire(1, 4, &windows, 1_020_000).await, Refused, "the long window is full");
    assert_eq!(store.acquire(1, 4, &windows, 1_100_000).await, Now);
}

/// A thousand uses at once of a quota of ten, each asked for twice.
pub(crate) async fn parallel_acquires(harness: &impl Harness) {
    let mut racers = JoinSet::new();
    for n in 0..2_000 {
        let store = Easy(harness.store());
        racers.spawn(async move { (n % 1_000, store.acquire(1, n % 1_000, &[window(10, HOUR)], 5_000_000).await) });
    }
    let answers = racers.join_all().await;
    let names =
        |wanted| -> Vec<u64> { answers.iter().filter(|(_, answer)| *answer == wanted).map(|(n, _)| *n).collect() };
    let winners: BTreeSet<u64> = names(Now).into_iter().collect();
    assert_eq!((names(Now).len(), winners.len()), (10, 10));
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    for n in names(Before) {
        *told.entry(n).or_default() += 1;
    }
    assert!(told.iter().all(|(n, times)| winners.contains(n) && *times == 1), "{told:?}");
    assert_eq!(Easy(harness.store()).usage(1, &[window(10, HOUR)], 5_000_000).await, [10]);
}

/// What a long window counts is not forgotten by calls with a shorter one, nor by the end of the short one's time.
pub(crate) async fn a_longer_window_is_never_forgotten(harness: &impl Harness) {
    let store = Easy(harness.store());
    let (long, short) = ([window(2, HOUR)], [window(100, SECOND)]);
    assert_eq!(store.acquire(1, 1, &long, 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 2, &long, 5_000_000).await, Now);
    assert_eq!(store.acquire(1, 3, &long, 5_000_000).await, Refused);
    assert_eq!(store.acquire(1, 4, &short, 5_001_200).await, Now);
    assert_eq!(store.acquire(1, 5, &long, 5_001_200).await, Refused);
    assert_eq!(store.usage(1, &long, 5_001_200).await, [3]);

    // A call that counts nothing, be it refused or a repetition, has its window remembered as well.
    for (quota, usage, answer) in [(2, 3, Refused), (3, 1, Before)] {
        assert_eq!(store.acquire(quota, 1, &short, 5_000_000).await, Now);
        assert_eq!(store.acquire(quota, 2, &short, 5_000_000).await, Now);
        assert_eq!(store.acquire(quota, usage, &long, 5_000_500).await, answer);
    }
    harness.pass(Duration::from_millis(1_200)).await;
    for quota in [2, 3] {
        assert_eq!(store.acquire(quota, 4, &short, 5_001_200).await, Now);
        assert_eq!(store.usage(quota, &long, 5_001_200).await, [3], "quota {quota}");
        assert_eq!(store.acquire(quota, 5, &long, 5_001_200).await, Refused);
    }
}

pub(crate) async fn tells_usage(harness: &impl Harness) {
    let store = Easy(harness.store());
    let windows = [window(10, SECOND * 10), window(20, SECOND * 100)];
    assert_eq!(store.usage(1, &windows, 1_000_000).await, [0, 0]);
    for (usage, now) in [(1, 1_000_000), (2, 1_050_000), (3, 1_055_000)] {
        store.acquire(1, usage, &windows, now).await;
    }
    assert_eq!(store.usage(1, &windows, 1_059_999).await, [2, 3]);
    assert_eq!(store.usage(1, &windows, 1_060_000).await, [1, 3]);
    assert_eq!(store.usage(1, &windows, 1_100_000).await, [0, 2]);
    store.refund(&[(1, 3)]).await;
    assert_eq!(store.usage(1, &windows, 1_060_000).await, [0, 2]);
    assert_eq!(store.usage(1, &windows[..1], 1_055_000).await, [1]);
}

pub(crate) async fn clears(harness: &impl Harness) {
    let store = Easy(harness.store());
    let two = [window(2, HOUR)];
    store.clear(1).await;
    for quota in [1, 2] {
        assert_eq!(store.acquire(quota, 1, &two, 5_000_000).await, Now);
        assert_eq!(store.acquire(quota, 2, &two, 5_000_000).await, Now);
    }
    store.clear(1).await;
    assert_eq!(store.usage(1, &two, 5_000_000).await, [0]);
    assert_eq!(store.usage(2, &two, 5_000_000).await, [2], "another quota");
    assert_eq!(store.acquire(1, 1, &two, 5_000_000).await, Now);
    store.refund(&[(1, 2)]).await;
    assert_eq!(store.usage(1, &two, 5_000_000).await, [1]);
}

/// Times to live and times of day as long and as late as there are.
pub(crate) async fn times_without_end(harness: &impl Harness) {
    let store = Easy(harness.store());
    store.commit_for(1, &[(1, None, Some(10))], Duration::MAX).await;
    store.commit_for(1, &[(1, Some(10), Some(11))], Duration::MAX).await;
    assert_eq!(store.read(1, &[1]).await, [Some(11)]);
    assert!(store.claim(1, 1, Duration::MAX).await.unwrap() > HOUR);
    let latest = Timestamp::MAX.as_millis();
    let one = [window(1, SECOND * 10)];
    assert_eq!(store.acquire(1, 1, &one, latest - 10_000).await, Now);
    assert_eq!(store.acquire(1, 2, &one, latest - 1).await, Refused);
    assert_eq!(store.acquire(1, 2, &one, latest).await, Now);
    assert_eq!(store.acquire(2, 1, &[window(1, HOUR)], 0).await, Now);
    let early = store.acquire(2, 2, &[window(1, HOUR)], 1).await;
    assert_eq!(early, Refused, "before one window has passed since the epoch");
    assert_eq!(store.usage(2, &[window(1, HOUR)], 1).await, [1]);
}
