//! What operators see and do: C3, C12, C13.

use std::time::Duration;

use otpd::{
    domain::outcome::{Created, Locked, Verified},
    service::error::Error,
};

use crate::requests::{
    ACCOUNT, NUMBER, accepted, create, created, is_not_matched, is_success, of_account, of_contact, register, wrong,
};
use crate::world::{KEY_1, KEY_2, World};

const MINUTE: Duration = Duration::from_secs(60);

/// Ten failures of registrations at one number locked the number, and no operator could see or lift it.
#[tokio::test]
async fn c3_operators_see_and_lift_the_lockout_of_a_contact() {
    let world = World::new().policy(|policy| policy.quotas.destination_sends.clear());
    let (replica, other) = (world.replica(), world.replica());
    for challenge in ["c", "d"] {
        created(replica.create(challenge, register(challenge, NUMBER)).await);
        accepted(replica.send(challenge, &format!("{challenge}-send")).await);
        for guess in 0..5 {
            assert!(is_not_matched(&replica.verify(challenge, &format!("g{guess}"), &wrong(&world.code())).await));
        }
    }
    let seen = other.lockout(of_contact(NUMBER)).await;
    assert_eq!((seen.failures, seen.locked.is_some()), (10, true));
    assert_eq!(other.account("c").await.failures, 0);
    let refused = replica.create("e", register("fresh", NUMBER)).await;
    assert!(matches!(refused, Ok(Created::AccountLocked(_))), "{refused:?}");
    let lifted = other.unlock_as("unlock", of_contact(NUMBER)).await.unwrap();
    assert_eq!((lifted.failures, lifted.locked), (0, None));
    created(replica.create("e", register("fresh", NUMBER)).await);
    // An operator locks it as well.
    let locked = other.lock_as("lock", of_contact(NUMBER), None).await.unwrap();
    assert_eq!(locked.locked, Some(Locked { until: None }));
    let refused = replica.send("e", "s").await;
    assert!(matches!(refused, Ok(otpd::domain::outcome::Sent::AccountLocked(_))), "{refused:?}");
    created(replica.create("login", create(ACCOUNT)).await);
}

/// A lockout was sealed with a key that has left the ring: INTERNAL for the account, UnlockAccount as well.
#[tokio::test]
async fn c12_an_unlock_replaces_a_lockout_that_cannot_be_opened() {
    let world = World::new();
    let new = world.replica_of(&format!("{KEY_2},{KEY_1}"), world.clock.clone());
    let code = world.sent(&new, "c").await;
    assert!(is_not_matched(&new.verify("c", "v", &wrong(&code)).await));
    let old = world.replica_of(KEY_1, world.clock.clone());
    let closed = old.create("d", create(ACCOUNT)).await;
    assert!(matches!(closed, Err(Error::Internal(_))), "fails closed: {closed:?}");
    let closed = old.lock_as("lock", of_account(ACCOUNT), None).await;
    assert!(matches!(closed, Err(Error::Internal(_))), "a lock replaces nothing: {closed:?}");
    let unlocked = old.unlock_as("unlock", of_account(ACCOUNT)).await.unwrap();
    assert_eq!((unlocked.failures, unlocked.locked), (0, None));
    created(old.create("d", create(ACCOUNT)).await);
    accepted(old.send("d", "s").await);
    assert!(is_success(&old.verify("d", "v", &world.code()).await));
}

/// The same UnlockAccount again, late, lifted a lock made after it; a lock for 2 s shortened one for good.
#[tokio::test]
async fn c13_operators_requests_are_idempotent_and_shorten_no_lock() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    let soon = world.now().plus(Duration::from_secs(2));
    let lock = |id: &'static str, until| one.lock_as(id, of_account(ACCOUNT), until);
    assert_eq!(two.unlock_as("unlock", of_account(ACCOUNT)).await.unwrap().locked, None);
    assert_eq!(lock("for-good", None).await.unwrap().locked, Some(Locked { until: None }));
    assert_eq!(lock("short", Some(soon)).await.unwrap().locked, Some(Locked { until: None }), "not shortened");
    let late = two.unlock_as("unlock", of_account(ACCOUNT)).await.unwrap();
    assert_eq!(late.locked, Some(Locked { until: None }), "a late repetition lifts nothing");
    world.clock.advance(MINUTE);
    assert!(one.account(ACCOUNT).await.locked.is_some());
    assert_eq!(two.unlock_as("unlock-again", of_account(ACCOUNT)).await.unwrap().locked, None);
    assert_eq!(lock("for-good", None).await.unwrap().locked, None, "a late repetition locks nothing");
    let longer = world.now().plus(2 * MINUTE);
    assert_eq!(lock("timed", Some(longer)).await.unwrap().locked, Some(Locked { until: Some(longer) }));
    let longest = world.now().plus(3 * MINUTE);
    assert_eq!(lock("longer", Some(longest)).await.unwrap().locked, Some(Locked { until: Some(longest) }));

    // One id, other content.
    for conflict in [
        lock("timed", None).await,
        lock("unlock", Some(longest)).await,
        two.unlock_as("timed", of_account(ACCOUNT)).await,
    ] {
        assert!(matches!(conflict, Err(Error::IdempotencyViolation)), "{conflict:?}");
    }
    assert_eq!(one.account(ACCOUNT).await.locked, Some(Locked { until: Some(longest) }));
    // The same id for another account is another request.
    assert_eq!(one.lock_as("timed", of_account("joe"), None).await.unwrap().locked, Some(Locked { until: None }));
}

/// A late repetition of an unlock does not clear quotas again either, and one whose answer was lost is done once.
#[tokio::test(start_paused = true)]
async fn c13_a_late_unlock_clears_no_quota_again() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.open("c").await;
    assert_eq!(world.uses(), 1);
    two.unlock_as("unlock", of_account(ACCOUNT)).await.unwrap();
    assert_eq!(world.uses(), 0);
    one.open("d").await;
    two.unlock_as("unlock", of_account(ACCOUNT)).await.unwrap();
    assert_eq!(world.uses(), 1);
    for fault in [crate::faults::Fault::LostAnswer, crate::faults::Fault::Twice, crate::faults::Fault::Before] {
        let id = format!("{fault:?}");
        // The lockout, the two quotas, the lockout again, and the commit.
        world.faults.script(&[(4, fault)]);
        let until = world.now().plus(MINUTE);
        let first = two.unlock_as(&id, of_account(ACCOUNT)).await;
        assert_eq!(world.faults.log().get(4), Some(&"commit"));
        world.faults.script(&[]);
        assert_eq!(first.is_ok(), fault == crate::faults::Fault::Twice, "{first:?}");
        two.unlock_as(&id, of_account(ACCOUNT)).await.unwrap();
        one.lock_as(&format!("lock-{id}"), of_account(ACCOUNT), Some(until)).await.unwrap();
        let again = two.unlock_as(&id, of_account(ACCOUNT)).await.unwrap();
        assert_eq!(again.locked, Some(Locked { until: Some(until) }), "{id}");
        world.clock.advance(2 * MINUTE);
    }
    assert!(!matches!(one.verify("d", "v", "000000").await, Ok(Verified::AccountLocked(_))));
}

/// The repetition of a lock that has ended since is answered; a new lock that would end before it begins is a mistake.
#[tokio::test]
async fn c13_a_lock_that_has_ended_may_be_repeated() {
    let world = World::new();
    let replica = world.replica();
    let until = Some(world.now().plus(Duration::from_secs(2)));
    let locked = replica.lock_as("lock", of_account(ACCOUNT), until).await.unwrap();
    assert!(locked.locked.is_some());
    world.clock.advance(Duration::from_secs(3));
    assert_eq!(replica.lock_as("lock", of_account(ACCOUNT), until).await.unwrap().locked, None);
    let late = replica.lock_as("late", of_account(ACCOUNT), until).await;
    assert!(matches!(late, Err(Error::LockInThePast)), "{late:?}");
}
