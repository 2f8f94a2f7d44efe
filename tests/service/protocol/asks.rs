//! Codes that a provider checks: V1 and V5 to V11.

use std::time::Duration;

use otpd::{
    domain::outcome::{ChallengeState, Verified},
    service::error::Error,
};

use crate::{
    fake::{FakeProvider, Judge},
    faults::Fault,
    requests::{ACCOUNT, accepted, is_not_matched, is_success, wrong},
    tasks::{ended, start},
    world::{Replica, World},
};

const PAST_LEASE: Duration = Duration::from_secs(11);

fn managed() -> World {
    World::with(vec![FakeProvider::managed("managed", true)]).policy(|policy| policy.limits.resend_gaps.clear())
}

/// Starts a check, and waits until its provider is asked.
async fn asked(
    world: &World,
    replica: &Replica,
    challenge: &'static str,
    id: &'static str,
    otp: String,
) -> tokio::task::JoinSet<Result<Verified, Error>> {
    let (replica, before) = (replica.clone(), world.provider().questions().len());
    let asking = start(async move { replica.verify(challenge, id, &otp).await });
    while world.provider().questions().len() == before {
        tokio::task::yield_now().await;
    }
    asking
}

fn held(then: Judge) -> Judge {
    Judge::HoldThen(Box::new(then))
}

/// As for sends: a worker that did not know whether its reservation was applied asked by another's.
#[tokio::test(start_paused = true)]
async fn v1_only_the_worker_that_finds_its_own_token_asks() {
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Late(0), Fault::Late(1), Fault::Twice] {
        let world = managed();
        let ((one, line), two) = (world.line(), world.replica());
        let code = world.sent(&one, "c").await;
        world.provider().checks([Judge::Hold, Judge::Hold, Judge::Hold]);
        line.script(&[(0, fault)]);
        let first = {
            let (one, code) = (one.clone(), code.clone());
            start(async move { one.verify("c", "v", &code).await })
        };
        let second = {
            let code = code.clone();
            start(async move { two.verify("c", "v", &code).await })
        };
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        let third = one.verify("c", "v", &code).await;
        assert!(matches!(third, Err(Error::RequestInProgress { .. })), "{fault:?}: {third:?}");
        assert!(world.provider().questions().len() <= 1, "{fault:?}: one ask in flight");
        world.provider().release();
        let answers = [ended(first).await, ended(second).await];
        for answer in &answers {
            let fine = is_success(answer) || matches!(answer, Err(Error::Store(_) | Error::RequestInProgress { .. }));
            assert!(fine, "{fault:?}: {answers:?}");
        }
        world.clock.advance(PAST_LEASE);
        world.provider().checks([]);
        assert!(is_success(&one.verify("c", "v", &code).await), "{fault:?}");
        assert_eq!(one.view("c").await.attempts, 1, "{fault:?}");
    }
}

/// A failure of an ask was uncounted by subtraction, after a reset and another failure.
#[tokio::test(start_paused = true)]
async fn v5_an_ask_that_never_left_takes_back_nothing_of_others() {
    for unlocked in [false, true] {
        let world = managed();
        let (one, two) = (world.replica(), world.replica());
        let codes = [world.sent(&one, "a").await, world.sent(&one, "b").await, world.sent(&one, "c").await];
        world.provider().checks([held(Judge::Fail)]);
        let asking = asked(&world, &one, "a", "v", codes[0].clone()).await;
        if unlocked {
            two.unlock().await;
        } else {
            assert!(is_success(&two.verify("b", "v", &codes[1]).await));
        }
        assert!(is_not_matched(&two.verify("c", "v", &wrong(&codes[2])).await));
        world.provider().release();
        let answer = ended(asking).await;
        assert!(matches!(answer, Err(Error::ProviderUnavailable { .. })), "{answer:?}");
        assert_eq!(one.failures().await, 1, "the told failure counts");
        assert_eq!(one.view("a").await.attempts, 0, "the attempt is refunded");
        assert!(is_success(&two.verify("a", "v", &codes[0]).await), "its id is free");
    }
}

/// A pending failure was dropped after its lease, and the answer that came late was not counted.
#[tokio::test(start_paused = true)]
async fn v6_a_late_failure_is_counted_anew() {
    let world = managed();
    let (one, two) = (world.replica(), world.replica());
    let codes = [world.sent(&one, "a").await, world.sent(&one, "b").await];
    world.provider().checks([held(Judge::NotMatch)]);
    let asking = asked(&world, &one, "a", "v", wrong(&codes[0])).await;
    world.clock.advance(PAST_LEASE);
    assert!(is_not_matched(&two.verify("b", "v", &wrong(&codes[1])).await), "drops the overdue one");
    world.provider().release();
    assert!(is_not_matched(&ended(asking).await));
    assert_eq!(two.failures().await, 2);
}

/// After nine failures the reservation of a right code counted as the tenth and locked; or a success was committed under an
/// operator's lock.
#[tokio::test(start_paused = true)]
async fn v7_a_final_success_is_judged_by_the_lockout_without_its_own_entry() {
    for locked in [false, true] {
        let world = managed();
        let (one, two) = (world.replica(), world.replica());
        for challenge in ["a", "b"] {
            let code = world.sent(&one, challenge).await;
            for guess in 0..if challenge == "a" { 5 } else { 4 } {
                assert!(is_not_matched(&one.verify(challenge, &format!("g{guess}"), &wrong(&code)).await));
            }
        }
        let code = world.sent(&one, "c").await;
        assert_eq!(one.failures().await, 9);
        world.provider().checks([Judge::Hold]);
        let asking = asked(&world, &one, "c", "v", code.clone()).await;
        // The tenth failure is pending: another guess is denied meanwhile, and nothing is locked.
        let other = two.verify("b", "tenth", "000000").await;
        assert!(matches!(other, Err(Error::RequestInProgress { .. })), "{other:?}");
        assert_eq!(two.account(ACCOUNT).await.locked, None);
        if locked {
            two.lock(None).await;
        }
        world.provider().release();
        let answer = ended(asking).await;
        if locked {
            assert!(matches!(answer, Ok(Verified::AccountLocked(_))), "{answer:?}");
            assert_eq!(two.view("c").await.state, ChallengeState::Sent);
            two.unlock().await;
            assert!(is_success(&two.verify("c", "v", &code).await), "the attempt keeps its chance");
        } else {
            assert!(is_success(&answer), "{answer:?}");
            assert_eq!(two.failures().await, 0);
        }
    }
}

/// The first ask was judged after its lease, the second of the same request never left: attempt and failure were given back,
/// for up to ten free guesses.
#[tokio::test(start_paused = true)]
async fn v8_an_attempt_that_may_have_been_judged_is_never_refunded() {
    for judged_first in [false, true] {
        let world = managed();
        let (one, two) = (world.replica(), world.replica());
        let code = wrong(&world.sent(&one, "c").await);
        world.provider().checks([held(Judge::NotMatch), held(Judge::Fail)]);
        let first = asked(&world, &one, "c", "v", code.clone()).await;
        world.clock.advance(PAST_LEASE);
        if judged_first {
            world.provider().release();
            assert!(is_not_matched(&ended(first).await), "no other ask is in flight");
            assert!(is_not_matched(&two.verify("c", "v", &code).await), "told again");
            assert_eq!(world.provider().questions().len(), 1);
        } else {
            let second = asked(&world, &two, "c", "v", code.clone()).await;
            world.provider().release();
            let answer = ended(first).await;
            assert!(matches!(answer, Err(Error::VerificationOutcomeUnknown)), "{answer:?}");
            world.provider().release();
            let answer = ended(second).await;
            assert!(matches!(answer, Err(Error::VerificationOutcomeUnknown)), "{answer:?}");
            assert_eq!(two.view("c").await.attempts, 1, "kept");
            assert!(is_not_matched(&two.verify("c", "v", &code).await));
        }
        assert_eq!((two.view("c").await.attempts, two.failures().await), (1, 1));
    }
}

/// One attempt asked about two codes, across a resend.
#[tokio::test(start_paused = true)]
async fn v9_an_attempt_is_about_the_code_that_was_live_when_it_was_made() {
    let world = managed();
    let (one, two) = (world.replica(), world.replica());
    let code = world.sent(&one, "c").await;
    world.provider().checks([Judge::CompareUnheard]);
    let lost = one.verify("c", "v", &wrong(&code)).await;
    assert!(matches!(lost, Err(Error::VerificationOutcomeUnknown)), "{lost:?}");
    accepted(two.send("c", "resend").await);
    for replica in [&one, &two] {
        let answer = replica.verify("c", "v", &wrong(&code)).await;
        assert!(matches!(answer, Ok(Verified::NotMatched { remaining: 4 })), "{answer:?}");
    }
    assert_eq!((world.provider().questions().len(), one.failures().await), (1, 1));
    assert!(is_success(&one.verify("c", "w", &world.code()).await));
}

/// With one attempt allowed, an approval whose answer was lost could not be asked for again.
#[tokio::test(start_paused = true)]
async fn v10_a_lost_approval_of_the_last_attempt_is_asked_for_again() {
    for lost_commit in [false, true] {
        let world = managed().policy(|policy| policy.limits.max_verification_attempts = 1);
        let ((one, line), two) = (world.line(), world.replica());
        let code = world.sent(&one, "c").await;
        if lost_commit {
            line.script(&[(1, Fault::Before)]);
            let lost = one.verify("c", "v", &code).await;
            assert!(matches!(lost, Err(Error::Store(_))), "{lost:?}");
            world.clock.advance(PAST_LEASE);
        } else {
            world.provider().checks([Judge::CompareUnheard]);
            let lost = one.verify("c", "v", &code).await;
            assert!(matches!(lost, Err(Error::VerificationOutcomeUnknown)), "{lost:?}");
        }
        let other = two.verify("c", "w", &code).await;
        assert!(matches!(other, Ok(Verified::AttemptsExceeded)), "{other:?}");
        assert!(is_success(&two.verify("c", "v", &code).await), "lost commit: {lost_commit}");
        assert_eq!(two.view("c").await.attempts, 1);
    }
}

/// "Gone" to another request's ask ended the challenge, and the approval before it was lost.
#[tokio::test(start_paused = true)]
async fn v11_gone_to_another_ask_does_not_end_what_an_approval_may_be_asked_for() {
    let world = managed();
    let (one, two) = (world.replica(), world.replica());
    let code = world.sent(&one, "c").await;
    world.provider().checks([held(Judge::CompareUnheard)]);
    let slow = asked(&world, &one, "c", "a", code.clone()).await;
    world.clock.advance(PAST_LEASE);
    world.provider().release();
    let answer = ended(slow).await;
    assert!(matches!(answer, Err(Error::VerificationOutcomeUnknown)), "{answer:?}");
    assert_eq!(two.verify("c", "b", &code).await.unwrap(), Verified::Expired, "gone, as the provider says");
    assert!(is_success(&two.verify("c", "a", &code).await), "the first is approved");
}
