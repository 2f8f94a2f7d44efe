//! Codes of ours: order of answers, repeated answers, and time that passes in the middle.

use std::time::Duration;

use otpd::{
    domain::{
        outcome::{ChallengeState, Verified},
        purpose::Purpose,
        quota::QuotaPolicy,
    },
    service::{
        error::{Error, Precondition},
        request::{CreateChallenge, VerifyOtp},
    },
};

use crate::{
    faults::Fault,
    requests::{ACCOUNT, accepted, account_id, caller, create, is_not_matched, is_success, transaction, verify, wrong},
    world::World,
};

#[tokio::test]
async fn a_code_verifies_once() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    assert!(is_not_matched(&replica.verify("c", "v1", &wrong(&code)).await));
    let Ok(Verified::Success(proof)) = replica.verify("c", "v2", &code).await else { panic!("no success") };
    assert_eq!((proof.account, proof.purpose, proof.transaction), (account_id(ACCOUNT), Purpose::Login, None));
    assert_eq!(replica.verify("c", "v3", &code).await.unwrap(), Verified::AlreadyUsed);
    assert_eq!(replica.view("c").await.state, ChallengeState::Verified);
    let cancelled = replica.cancel("c", "x").await;
    assert!(matches!(cancelled, Err(Error::Precondition(Precondition::Verified))), "{cancelled:?}");
}

#[tokio::test]
async fn before_any_send_there_is_nothing_to_verify() {
    let world = World::new();
    let replica = world.replica();
    replica.open("c").await;
    let answer = replica.verify("c", "v", "123456").await;
    assert!(matches!(answer, Err(Error::Precondition(Precondition::NothingSent))), "{answer:?}");
    let unknown = replica.verify("unknown", "v", "123456").await;
    assert!(matches!(unknown, Err(Error::InvalidIdentifier)), "{unknown:?}");
}

#[tokio::test]
async fn codes_and_challenges_expire() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(replica.verify("c", "v1", &code).await.unwrap(), Verified::Expired);
    assert_eq!(replica.verify("c", "v2", &wrong(&code)).await.unwrap(), Verified::Expired);
    accepted(replica.send("c", "s2").await);
    let second = world.code();
    world.clock.advance(Duration::from_secs(299));
    assert!(is_not_matched(&replica.verify("c", "v3", &wrong(&second)).await));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(replica.verify("c", "v4", &second).await.unwrap(), Verified::Expired);
    assert_eq!(replica.view("c").await.state, ChallengeState::Expired);
    assert_eq!(replica.failures().await, 1);
    let cancelled = world.sent(&replica, "d").await;
    replica.cancel("d", "x").await.unwrap();
    replica.cancel("d", "x").await.unwrap();
    assert_eq!(replica.verify("d", "v", &cancelled).await.unwrap(), Verified::Expired);
}

/// What the caller believes is checked before anything is counted.
#[tokio::test]
async fn another_account_purpose_or_transaction_is_no_attempt() {
    let world = World::new();
    let replica = world.replica();
    let request =
        CreateChallenge { purpose: Purpose::Transaction, transaction: Some(transaction(1_500_000)), ..create(ACCOUNT) };
    replica.create("c", request).await.unwrap();
    accepted(replica.send("c", "s").await);
    let code = world.code();
    let others = [
        VerifyOtp { account: Some(account_id("joe")), ..verify("c", &code) },
        VerifyOtp { purpose: Some(Purpose::Login), ..verify("c", &code) },
        VerifyOtp { transaction: Some(transaction(1_500_001)), ..verify("c", &code) },
    ];
    for (index, other) in others.into_iter().enumerate() {
        let answer = replica.otp.verify_otp(caller(&format!("v{index}")), other).await;
        assert!(matches!(answer, Err(Error::InvalidIdentifier)), "{index}: {answer:?}");
    }
    assert_eq!((replica.view("c").await.attempts, replica.failures().await), (0, 0));
    let same = VerifyOtp {
        account: Some(account_id(ACCOUNT)),
        purpose: Some(Purpose::Transaction),
        transaction: Some(transaction(1_500_000)),
        ..verify("c", &code)
    };
    let Ok(Verified::Success(proof)) = replica.otp.verify_otp(caller("v"), same).await else { panic!("no success") };
    assert_eq!(proof.transaction, Some(transaction(1_500_000)));
    assert!(world.provider().outbox()[0].text.contains("EUR 1.50 to Books & Co"));
}

/// The answer of a success is lost. The same request is told it again, whatever has happened since.
#[tokio::test]
async fn a_lost_success_is_told_again_after_a_lock_and_past_the_end() {
    let world = World::new().policy(|policy| policy.quotas = QuotaPolicy::default());
    let (replica, stale) = (world.replica(), world.replica());
    let code = world.sent(&stale, "c").await;
    for guess in 0..4 {
        assert!(is_not_matched(&stale.verify("c", &format!("g{guess}"), &wrong(&code)).await));
    }
    let fresh = world.replica();
    world.faults.script(&[(1, Fault::LostAnswer)]);
    let lost = fresh.verify("c", "v", &code).await;
    assert!(matches!(lost, Err(Error::Store(_))), "{lost:?}");
    assert_eq!(world.faults.log(), ["locate", "commit"]);
    world.faults.script(&[]);
    assert_eq!((replica.view("c").await.state, replica.failures().await), (ChallengeState::Verified, 0));
    for challenge in ["d", "e"] {
        let other = world.sent(&replica, challenge).await;
        for guess in 0..5 {
            assert!(is_not_matched(&replica.verify(challenge, &format!("g{guess}"), &wrong(&other)).await));
        }
    }
    let locked = replica.account(ACCOUNT).await;
    assert!(locked.locked.is_some());
    let told = stale.verify("c", "v", &code).await;
    assert!(is_success(&told), "{told:?}");
    assert_eq!(replica.account(ACCOUNT).await, locked, "the failures came after it");
    world.clock.advance(Duration::from_secs(3600));
    for replica in [&fresh, &stale, &replica, &world.replica()] {
        assert_eq!(replica.verify("c", "v", &code).await.unwrap(), *told.as_ref().unwrap());
        assert_eq!(replica.failures().await, 10);
    }
}

/// Time passes at every operation of a verification: the code expires in between.
#[tokio::test]
async fn a_code_that_expires_in_the_middle_is_expired() {
    for right in [false, true] {
        for index in 0..6 {
            let case = format!("operation {index}, right: {right}");
            let world = World::new();
            let code = world.sent(&world.replica(), "c").await;
            let otp = if right { code.clone() } else { wrong(&code) };
            let replica = world.replica();
            let clock = world.clock.clone();
            world.faults.script(&[]);
            world.faults.set_hook(move |count, _| {
                if count == index {
                    clock.advance(Duration::from_secs(301));
                }
            });
            let answer = replica.verify("c", "v", &otp).await;
            world.faults.heal();
            let view = replica.view("c").await;
            match answer {
                Ok(Verified::Expired) => assert_eq!((view.attempts, replica.failures().await), (0, 0), "{case}"),
                Ok(Verified::Success(_)) if right => assert_eq!(view.attempts, 1, "{case}"),
                Ok(Verified::NotMatched { .. }) if !right => {
                    assert_eq!((view.attempts, replica.failures().await), (1, 1), "{case}");
                }
                other => panic!("{case}: {other:?}"),
            }
        }
    }
}

/// A clock that is set back while a refusal is made: what was expired a moment ago is judged as an attempt, or expired. An
/// attempt that is used up is a failure that counts.
#[tokio::test]
async fn a_clock_that_is_set_back_in_the_middle_skips_no_failure() {
    for index in 0..6 {
        let world = World::new();
        let code = world.sent(&world.replica(), "c").await;
        world.clock.advance(Duration::from_secs(300));
        let replica = world.replica();
        let clock = world.clock.clone();
        world.faults.script(&[]);
        world.faults.set_hook(move |count, _| {
            if count == index {
                clock.step_back(Duration::from_millis(500));
            }
        });
        let answer = replica.verify("c", "v", &wrong(&code)).await;
        world.faults.heal();
        let attempts = replica.view("c").await.attempts;
        assert!(matches!(answer, Ok(Verified::Expired | Verified::NotMatched { .. })), "operation {index}: {answer:?}");
        assert_eq!(replica.failures().await, attempts, "operation {index}");
    }
}

/// Replicas keep time within a second. The later one's word stands.
#[tokio::test]
async fn replicas_whose_clocks_differ_agree() {
    let world = World::new();
    let (late, early) =
        (world.replica(), world.replica_of(crate::world::KEY_1, world.clock.ahead(Duration::from_secs(1))));
    let code = world.sent(&early, "c").await;
    assert!(is_not_matched(&late.verify("c", "v1", &wrong(&code)).await));
    world.clock.advance(Duration::from_secs(300));
    assert_eq!(early.verify("c", "v2", &code).await.unwrap(), Verified::Expired);
    let answer = late.verify("c", "v3", &code).await;
    assert!(is_success(&answer) || matches!(answer, Ok(Verified::Expired)), "{answer:?}");
}
