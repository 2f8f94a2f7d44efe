//! Locks: those that failures set, and those of operators.

use std::time::Duration;

use otpd::domain::{
    outcome::{Created, Sent, Verified},
    quota::QuotaPolicy,
};

use crate::requests::{ACCOUNT, accepted, create, is_not_matched, is_success, wrong};
use crate::world::{Replica, World};

fn world() -> World {
    World::new().policy(|policy| {
        policy.quotas = QuotaPolicy::default();
        policy.limits.resend_gaps.clear();
    })
}

/// Guesses wrong on one challenge after another until a guess is refused. Says how many failed.
async fn fail_until_locked(world: &World, replica: &Replica, prefix: &str) -> u32 {
    for number in 0..100 {
        let challenge = format!("{prefix}{}", number / 5);
        if number % 5 == 0 {
            match replica.create(&challenge, create(ACCOUNT)).await.unwrap() {
                Created::Success { .. } => {}
                Created::AccountLocked(_) => return number,
                Created::RiskDeclined => panic!("there is no quota"),
            }
            accepted(replica.send(&challenge, &format!("{challenge}-send")).await);
        }
        match replica.verify(&challenge, &format!("g{number}"), &wrong(&world.code())).await.unwrap() {
            Verified::NotMatched { .. } => {}
            Verified::AccountLocked(_) => return number,
            other => panic!("{other:?}"),
        }
    }
    panic!("never locked");
}

#[tokio::test]
async fn failures_lock_ever_longer_and_at_last_for_good() {
    let world = world();
    let replica = world.replica();
    let minute = 60;
    let mut failures = 0;
    let spans = [30, 120, 480, 1440, 1440, 1440];
    for (rung, minutes) in spans.into_iter().cycle().take(18).enumerate() {
        let failed = fail_until_locked(&world, &replica, &format!("c{rung}-")).await;
        assert_eq!(failed, if rung == 0 { 10 } else { 5 }, "rung {rung}");
        failures += failed;
        let until = replica.account(ACCOUNT).await.locked.expect("locked").until.expect("for a time");
        let minutes = if rung < spans.len() { minutes } else { 1440 };
        assert_eq!(until.since(world.now()).as_secs(), minutes * minute, "rung {rung}");
        world.clock.advance(until.since(world.now()));
        assert_eq!(replica.account(ACCOUNT).await.locked, None);
    }
    assert_eq!(failures, 95);
    assert_eq!(fail_until_locked(&world, &replica, "last-").await, 5);
    world.clock.advance(Duration::from_secs(5 * 365 * 86_400));
    let account = replica.account(ACCOUNT).await;
    assert_eq!((account.failures, account.locked.expect("locked").until), (100, None));
    assert_eq!(replica.unlock().await.failures, 0);
    let code = world.sent(&replica, "after").await;
    assert!(is_success(&replica.verify("after", "v", &code).await));
}

#[tokio::test]
async fn the_budget_counts_down_to_the_lock() {
    let world = world();
    let replica = world.replica();
    let mut told = Vec::new();
    for challenge in ["c", "d"] {
        let code = world.sent(&replica, challenge).await;
        for guess in 0..5 {
            match replica.verify(challenge, &format!("g{guess}"), &wrong(&code)).await.unwrap() {
                Verified::NotMatched { remaining } => told.push(remaining),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(told, [4, 3, 2, 1, 0, 4, 3, 2, 1, 0]);
    let account = replica.account(ACCOUNT).await;
    assert_eq!(account.failures, 10);
    assert!(account.locked.is_some(), "the failure that locks was still answered as one");
}

#[tokio::test]
async fn a_lock_refuses_everything_and_reveals_nothing() {
    let world = world();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    fail_until_locked(&world, &world.replica(), "d").await;
    for otp in [&code, &wrong(&code)] {
        let answer = replica.verify("c", &format!("v-{otp}"), otp).await;
        assert!(matches!(answer, Ok(Verified::AccountLocked(_))), "{answer:?}");
    }
    assert_eq!(replica.view("c").await.attempts, 0, "not used up");
    assert!(matches!(replica.send("c", "s").await, Ok(Sent::AccountLocked(_))));
    assert!(matches!(replica.create("e", create(ACCOUNT)).await, Ok(Created::AccountLocked(_))));
    assert_eq!(replica.failures().await, 10);
}

#[tokio::test]
async fn a_success_resets_and_a_new_challenge_does_not() {
    let world = world();
    let replica = world.replica();
    for challenge in ["c", "d"] {
        let code = world.sent(&replica, challenge).await;
        for guess in 0..4 {
            assert!(is_not_matched(&replica.verify(challenge, &format!("g{guess}"), &wrong(&code)).await));
        }
    }
    assert_eq!(replica.failures().await, 8);
    let code = world.sent(&replica, "e").await;
    assert_eq!(replica.failures().await, 8);
    assert!(is_success(&replica.verify("e", "v", &code).await));
    assert_eq!(replica.failures().await, 0);
    assert_eq!(fail_until_locked(&world, &replica, "f").await, 10);
}

#[tokio::test]
async fn an_operator_locks_and_unlocks() {
    let world = world();
    let (replica, other) = (world.replica(), world.replica());
    let code = world.sent(&replica, "c").await;
    assert!(is_not_matched(&other.verify("c", "g", &wrong(&code)).await));
    let until = world.now().plus(Duration::from_secs(60));
    assert_eq!(replica.lock(Some(until)).await.locked.expect("locked").until, Some(until));
    let refused = other.verify("c", "v", &code).await;
    assert!(matches!(refused, Ok(Verified::AccountLocked(locked)) if locked.until == Some(until)), "{refused:?}");
    // For good takes the place of a time.
    assert_eq!(other.lock(None).await.locked.expect("locked").until, None);
    world.clock.advance(Duration::from_secs(61));
    assert!(matches!(replica.verify("c", "v", &code).await, Ok(Verified::AccountLocked(_))));
    let unlocked = replica.unlock().await;
    assert_eq!((unlocked.failures, unlocked.locked), (0, None));
    assert!(is_success(&other.verify("c", "v", &code).await));
    assert_eq!(other.unlock().await.locked, None, "unlocking twice");
}

/// A success that was told again lifts no operator's lock.
#[tokio::test]
async fn a_success_does_not_lift_an_operators_lock() {
    let world = world();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    assert!(is_success(&replica.verify("c", "v", &code).await));
    replica.lock(None).await;
    for replica in [&replica, &world.replica()] {
        assert!(is_success(&replica.verify("c", "v", &code).await), "the recorded answer comes first");
        assert!(replica.account(ACCOUNT).await.locked.is_some());
    }
}
