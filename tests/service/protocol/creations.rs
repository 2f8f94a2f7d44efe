//! Creations, the index and the account's lock: V12, V13.

use std::time::Duration;

use otpd::{
    domain::{
        outcome::{ChallengeState, Created, Verified},
        quota::Window,
    },
    ports::clock::Deadline,
    service::{error::Error, request::Caller},
};

use crate::{
    faults::When,
    requests::{ACCOUNT, NUMBER, accepted, caller, create, created, is_not_matched, is_success, register, wrong},
    tasks::{ended, start},
    world::World,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A creator paused beyond the life of its claim, another account claimed and committed, and then the first committed: two
/// challenges under one id.
#[tokio::test(start_paused = true)]
async fn v12_a_creator_whose_claim_has_run_out_starts_over() {
    let world = World::new();
    let ((one, line), two) = (world.line(), world.replica());
    let pause = line.pause_next("read", When::After);
    let patient = Caller { deadline: Deadline::after(100 * HOUR), ..caller("c") };
    let late = start(async move { one.otp.create_challenge(patient, create(ACCOUNT)).await });
    pause.reached().await;
    world.clock.advance(26 * HOUR);
    tokio::time::advance(26 * HOUR).await;
    created(two.create("c", create("joe")).await);
    pause.resume();
    let late = ended(late).await;
    assert!(matches!(late, Err(Error::IdempotencyViolation)), "{late:?}");
    assert_eq!(world.memory.records(), 1, "one challenge");
    assert_eq!(two.view("c").await.account.as_str(), "joe");
    assert_eq!(world.replica().view("c").await.account.as_str(), "joe");
}

/// The same, and nobody else has claimed meanwhile: the creator claims again.
#[tokio::test(start_paused = true)]
async fn v12_a_creator_that_starts_over_creates() {
    let world = World::new();
    let (one, line) = world.line();
    let pause = line.pause_next("read", When::After);
    let patient = Caller { deadline: Deadline::after(100 * HOUR), ..caller("c") };
    let late = start({
        let one = one.clone();
        async move { one.otp.create_challenge(patient, create(ACCOUNT)).await }
    });
    pause.reached().await;
    world.clock.advance(26 * HOUR);
    tokio::time::advance(26 * HOUR).await;
    pause.resume();
    created(ended(late).await);
    let view = one.view("c").await;
    assert_eq!((view.state, view.created_at), (ChallengeState::Created, world.now()));
    assert_eq!(world.uses(), 1);
}

/// The worker whose quota was answered late gave back the use that the challenge of the other one rests on: any number of
/// challenges under a limited quota.
#[tokio::test(start_paused = true)]
async fn a_use_that_another_workers_creation_rests_on_stays() {
    for (operation, pause) in [("acquire", When::After), ("commit", When::Before)] {
        let world = World::new().policy(|policy| policy.quotas.account_creations = vec![Window { max: 3, per: HOUR }]);
        let mut opened = 0;
        for number in 0..10 {
            let id = format!("c{number}");
            let ((one, line), two) = (world.line(), world.replica());
            let late_by = Duration::from_secs(if number % 2 == 0 { 1 } else { 61 });
            let pause = line.pause_next(operation, pause);
            let patient = Caller { deadline: Deadline::after(HOUR), ..caller(&id) };
            let late = start(async move { one.otp.create_challenge(patient, create(ACCOUNT)).await });
            if operation == "acquire" || opened < 3 {
                pause.reached().await;
            }
            opened += usize::from(matches!(two.create(&id, create(ACCOUNT)).await, Ok(Created::Success { .. })));
            world.clock.advance(late_by);
            tokio::time::advance(late_by).await;
            pause.resume();
            ended(late).await.unwrap();
        }
        assert_eq!((opened, world.uses()), (3, 3), "{operation}");
    }
}

/// An empty claim was taken over.
#[tokio::test(start_paused = true)]
async fn v12_a_claim_without_a_challenge_is_never_taken_over() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    one.lock(Some(world.now().plus(HOUR))).await;
    assert!(matches!(one.create("c", create(ACCOUNT)).await, Ok(Created::AccountLocked(_))));
    let other = two.create("c", create("joe")).await;
    assert!(matches!(other, Err(Error::IdempotencyViolation)), "{other:?}");
    one.unlock().await;
    created(two.create("c", create(ACCOUNT)).await);
}

/// The first send lengthened the life of the challenge, and not that of its index entry.
#[tokio::test(start_paused = true)]
async fn v12_a_challenge_is_found_for_as_long_as_it_lives() {
    let world = World::new();
    let (replica, stale) = (world.replica(), world.replica());
    replica.open("c").await;
    assert_eq!(stale.view("c").await.account.as_str(), ACCOUNT);
    world.clock.advance(Duration::from_secs(599));
    accepted(replica.send("c", "s").await);
    world.clock.advance(24 * HOUR);
    assert_eq!(world.replica().view("c").await.state, ChallengeState::Expired);
    // An hour is left of the index entry when the challenge is forgotten.
    world.clock.advance(Duration::from_secs(2));
    let gone = world.replica().send("c", "s").await;
    assert!(matches!(gone, Err(Error::InvalidIdentifier)), "{gone:?}");
    assert_eq!((world.memory.records(), world.memory.index_entries()), (0, 1));
    let other = replica.create("c", create("joe")).await;
    assert!(matches!(other, Err(Error::IdempotencyViolation)), "{other:?}");
    world.clock.advance(HOUR);
    created(replica.create("c", create("joe")).await);
    assert_eq!(stale.view("c").await.account.as_str(), "joe", "what memory does not find is looked up");
}

/// A challenge that was not there a moment ago is looked up afresh.
#[tokio::test]
async fn not_found_is_not_remembered() {
    let world = World::new();
    let (one, two) = (world.replica(), world.replica());
    let unknown = one.send("c", "s").await;
    assert!(matches!(unknown, Err(Error::InvalidIdentifier)), "{unknown:?}");
    two.open("c").await;
    accepted(one.send("c", "s").await);
}

/// A registration read its account's lock, and committed after an operator had locked. That is accepted for a call that is past
/// its last read, and for no other.
#[tokio::test(start_paused = true)]
async fn v13_a_registration_reads_the_account_lock_before_each_commit() {
    for conflict in [false, true] {
        let world = World::new();
        let ((one, line), two) = (world.line(), world.replica());
        created(one.create("c", register(ACCOUNT, NUMBER)).await);
        accepted(one.send("c", "s").await);
        let code = world.code();
        let pause = line.pause_next("commit", When::Before);
        let verifying = start({
            let (one, code) = (one.clone(), code.clone());
            async move { one.verify("c", "v", &code).await }
        });
        pause.reached().await;
        if conflict {
            assert!(is_not_matched(&two.verify("c", "other", &wrong(&code)).await));
        }
        two.lock(None).await;
        pause.resume();
        let answer = ended(verifying).await;
        if conflict {
            assert!(matches!(answer, Ok(Verified::AccountLocked(_))), "{answer:?}");
            assert_eq!(two.view("c").await.attempts, 1);
            let later = one.verify("c", "later", &code).await;
            assert!(matches!(later, Ok(Verified::AccountLocked(_))), "{later:?}");
        } else {
            assert!(is_success(&answer), "past its last read: {answer:?}");
        }
    }
}
