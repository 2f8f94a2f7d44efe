//! Providers that make and check their own codes.

use std::time::Duration;

use otpd::{
    domain::{
        destination::Channel,
        outcome::{ChallengeState, Created, Sent, Verified},
    },
    service::{
        error::Error,
        request::{CreateChallenge, Reach},
    },
};

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    requests::{
        ACCOUNT, NUMBER, accepted, count, create, created, is_not_matched, is_success, phone, reach, register, wrong,
    },
    tasks::{at_once, ended, killed_when, start},
    world::World,
};

const PAST_LEASE: Duration = Duration::from_secs(11);

fn managed(check_repeatable: bool) -> World {
    World::with(vec![FakeProvider::managed("managed", check_repeatable)])
}

#[tokio::test]
async fn the_provider_says_what_the_code_is_worth() {
    let world = managed(true);
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    let answer = replica.verify("c", "wrong", &wrong(&code)).await;
    assert!(matches!(answer, Ok(Verified::NotMatched { remaining: 4 })), "{answer:?}");
    assert_eq!(replica.failures().await, 1);
    let Ok(Verified::Success(proof)) = replica.verify("c", "right", &code).await else { panic!("no success") };
    assert_eq!((proof.evidence.eci.as_str(), proof.evidence.verification_id.as_str()), ("05", "managed-0"));
    assert_eq!(replica.failures().await, 0);
    let questions = world.provider().questions();
    assert_eq!((questions[0].otp.clone(), questions[1].otp.clone()), (wrong(&code), code.clone()));
    assert_eq!((questions[0].reference.as_str(), questions.len()), ("managed-0", 2));
    // Told again without asking.
    assert_eq!(replica.verify("c", "right", &code).await.unwrap(), Verified::Success(proof));
    assert!(is_not_matched(&replica.verify("c", "wrong", &wrong(&code)).await));
    assert_eq!(world.provider().questions().len(), 2);
    assert!(matches!(replica.verify("c", "third", &code).await, Ok(Verified::AlreadyUsed)));
    assert_eq!(world.provider().questions().len(), 2);
}

/// The provider's word decides, whatever was typed.
#[tokio::test]
async fn the_provider_has_the_last_word() {
    let world = managed(false);
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.provider().checks([Judge::NotMatch, Judge::Match]);
    assert!(is_not_matched(&replica.verify("c", "v", &code).await));
    assert!(is_success(&replica.verify("c", "w", &wrong(&code)).await));
}

/// What a provider refuses to compare is no failure of the person.
#[tokio::test]
async fn other_verdicts_of_the_provider() {
    let cases = [
        (Judge::Gone, Verified::Expired, ChallengeState::Sent, Verified::Expired),
        (Judge::Used, Verified::AlreadyUsed, ChallengeState::Sent, Verified::Expired),
        (Judge::Exceeded, Verified::AttemptsExceeded, ChallengeState::AttemptsExceeded, Verified::AttemptsExceeded),
    ];
    for (judge, first, state, next) in cases {
        let world = managed(false);
        let replica = world.replica();
        let code = world.sent(&replica, "c").await;
        world.provider().checks([judge.clone()]);
        assert_eq!(replica.verify("c", "v", &code).await.unwrap(), first, "{judge:?}");
        assert_eq!(replica.failures().await, 0, "{judge:?}");
        assert_eq!(world.replica().verify("c", "v", &code).await.unwrap(), first, "{judge:?}");
        assert_eq!(replica.view("c").await.state, state, "{judge:?}");
        assert_eq!(replica.verify("c", "w", &code).await.unwrap(), next, "{judge:?}");
        assert_eq!(world.provider().questions().len(), 1, "{judge:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_check_is_asked_again_by_the_same_request() {
    for silence in [Judge::Unknown, Judge::Hang, Judge::CompareUnheard] {
        let world = managed(true);
        let replica = world.replica();
        let code = world.sent(&replica, "c").await;
        world.provider().checks([silence.clone()]);
        let answer = replica.verify("c", "v", &code).await;
        assert!(matches!(answer, Err(Error::VerificationOutcomeUnknown)), "{answer:?}");
        assert_eq!(replica.failures().await, 0, "{silence:?}");
        assert_eq!(replica.view("c").await.attempts, 1);
        let other = replica.verify("c", "v", &wrong(&code)).await;
        assert!(matches!(other, Err(Error::IdempotencyViolation)), "{other:?}");
        assert!(is_success(&world.replica().verify("c", "v", &code).await), "{silence:?}");
        assert_eq!(replica.view("c").await.attempts, 1);
        let questions = world.provider().questions();
        assert_eq!(questions.len(), 2);
        assert_eq!(questions[0].idempotency_key, questions[1].idempotency_key);
        assert_eq!((questions[0].repeated, questions[1].repeated), (false, true));
    }
}

/// A check that may not be repeated consumed the code the first time. Its "gone" is never a success.
#[tokio::test(start_paused = true)]
async fn gone_in_answer_to_a_repeated_check_is_no_success_and_ends_the_challenge() {
    for check in [Judge::Compare, Judge::Used] {
        let world = managed(false);
        let replica = world.replica();
        let code = world.sent(&replica, "c").await;
        world.provider().checks([Judge::CompareUnheard, check]);
        assert!(matches!(replica.verify("c", "v", &code).await, Err(Error::VerificationOutcomeUnknown)));
        for _ in 0..2 {
            assert_eq!(replica.verify("c", "v", &code).await.unwrap(), Verified::Expired);
        }
        assert_eq!(replica.view("c").await.state, ChallengeState::Cancelled);
        assert_eq!(replica.failures().await, 0);
        assert_eq!(replica.send("c", "again").await.unwrap(), Sent::ChallengeOptionExpired);
    }
}

#[tokio::test(start_paused = true)]
async fn another_request_after_an_unanswered_check_is_another_attempt() {
    let world = managed(true);
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.provider().checks([Judge::Unknown]);
    assert!(matches!(replica.verify("c", "v", &wrong(&code)).await, Err(Error::VerificationOutcomeUnknown)));
    let second = replica.verify("c", "w", &wrong(&code)).await;
    assert!(matches!(second, Ok(Verified::NotMatched { remaining: 3 })), "{second:?}");
    assert_eq!(replica.failures().await, 1);
    // The first is asked again after the second: it was never counted, and is now.
    let first = replica.verify("c", "v", &wrong(&code)).await;
    assert!(is_not_matched(&first), "{first:?}");
    assert_eq!(replica.failures().await, 2);
    assert_eq!(replica.view("c").await.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn one_question_at_a_time() {
    let world = managed(true);
    let replicas = [world.replica(), world.replica()];
    let code = world.sent(&replicas[0], "c").await;
    world.provider().checks([Judge::Hold]);
    let asking = {
        let (replica, code) = (replicas[0].clone(), code.clone());
        at_once([async move { replica.verify("c", "v", &code).await }])
    };
    let others = async {
        while world.provider().questions().is_empty() {
            tokio::task::yield_now().await;
        }
        for replica in &replicas {
            for id in ["v", "w"] {
                let answer = replica.verify("c", id, &code).await;
                assert!(matches!(answer, Err(Error::RequestInProgress { .. })), "{answer:?}");
            }
        }
        world.provider().release();
    };
    let (answers, ()) = tokio::join!(asking, others);
    assert!(is_success(&answers[0]), "{answers:?}");
    assert_eq!(world.provider().questions().len(), 1);
    assert_eq!(replicas[1].failures().await, 0);
}

#[tokio::test(start_paused = true)]
async fn many_guesses_at_once_ask_one_after_the_other_and_at_most_five_times() {
    let world = managed(true).interleaved(3);
    let replicas = [world.replica(), world.replica(), world.replica()];
    let code = world.sent(&replicas[0], "c").await;
    for round in 0..20 {
        let guesses = (0..30).map(|index| {
            let (replica, otp) = (replicas[index % 3].clone(), wrong(&code));
            async move { replica.verify("c", &format!("g{round}-{index}"), &otp).await }
        });
        for answer in at_once(guesses).await {
            let fine = matches!(
                answer,
                Ok(Verified::NotMatched { .. } | Verified::AttemptsExceeded) | Err(Error::RequestInProgress { .. })
            );
            assert!(fine, "{answer:?}");
        }
    }
    assert_eq!(world.provider().questions().len(), 5);
    assert_eq!(replicas[0].failures().await, 5);
}

/// Checks of two challenges of one account stay unanswered, in whatever order.
#[tokio::test(start_paused = true)]
async fn unanswered_checks_of_one_account_are_no_failures() {
    for slow_first in [false, true] {
        let world = managed(true);
        let replica = world.replica();
        let codes = [world.sent(&replica, "c").await, world.sent(&replica, "d").await];
        let slow = |slow: bool| Judge::After(Duration::from_secs(if slow { 2 } else { 1 }), Box::new(Judge::Unknown));
        world.provider().checks([slow(slow_first), slow(!slow_first)]);
        let asks = ["c", "d"].into_iter().zip(codes).map(|(challenge, code)| {
            let replica = replica.clone();
            async move { replica.verify(challenge, "v", &code).await }
        });
        let answers = at_once(asks).await;
        assert_eq!(count(&answers, |answer| matches!(answer, Err(Error::VerificationOutcomeUnknown))), 2);
        assert_eq!(replica.failures().await, 0, "slow first: {slow_first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_code_cancelled_while_it_is_checked_is_no_failure() {
    let world = managed(true);
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.provider().checks([Judge::Hold]);
    let asking = {
        let (replica, code) = (replica.clone(), code.clone());
        at_once([async move { replica.verify("c", "v", &code).await }])
    };
    let cancelling = async {
        while world.provider().questions().is_empty() {
            tokio::task::yield_now().await;
        }
        replica.cancel("c", "x").await.unwrap();
        world.provider().release();
    };
    let (answers, ()) = tokio::join!(asking, cancelling);
    assert!(matches!(answers[0], Ok(Verified::Expired)), "{answers:?}");
    assert_eq!(replica.failures().await, 0);
}

/// The wall clock passes the lease while the provider is asked, and another request asks meanwhile. The late answer is still
/// its attempt's, as long as that has none.
#[tokio::test(start_paused = true)]
async fn an_answer_after_the_lease_is_its_attempts_all_the_same() {
    for right in [false, true] {
        let world = managed(false);
        let (replica, other) = (world.replica(), world.replica());
        let code = world.sent(&replica, "c").await;
        world.provider().checks([Judge::Hold]);
        let typed = if right { code.clone() } else { wrong(&code) };
        let asking = {
            let replica = replica.clone();
            start(async move { replica.verify("c", "v", &typed).await })
        };
        let settling = async {
            while world.provider().questions().is_empty() {
                tokio::task::yield_now().await;
            }
            world.clock.advance(PAST_LEASE);
            let answer = other.verify("c", "w", "000000").await;
            assert!(is_not_matched(&answer), "{answer:?}");
            world.provider().release();
        };
        let (answer, ()) = tokio::join!(ended(asking), settling);
        if right {
            assert!(is_success(&answer), "{answer:?}");
        } else {
            assert!(is_not_matched(&answer), "{answer:?}");
        }
        assert_eq!(replica.failures().await, if right { 0 } else { 2 });
        assert_eq!(replica.view("c").await.attempts, 2);
    }
}

/// A resend while a check is in flight would void the code that is being checked.
#[tokio::test(start_paused = true)]
async fn a_resend_does_not_overtake_a_check() {
    let world = managed(true).policy(|policy| policy.limits.resend_gaps.clear());
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.provider().checks([Judge::Hold]);
    let asking = {
        let (replica, code) = (replica.clone(), wrong(&code));
        at_once([async move { replica.verify("c", "v", &code).await }])
    };
    let resending = async {
        while world.provider().questions().is_empty() {
            tokio::task::yield_now().await;
        }
        let resend = replica.send("c", "s2").await;
        assert!(matches!(resend, Err(Error::RequestInProgress { .. })), "{resend:?}");
        world.provider().release();
    };
    let (answers, ()) = tokio::join!(asking, resending);
    assert!(is_not_matched(&answers[0]), "{answers:?}");
    accepted(replica.send("c", "s2").await);
    assert!(is_success(&replica.verify("c", "w", &world.code()).await));
}

/// A check of a registration is abandoned, and a message goes out over another channel meanwhile. Ten failures lock the
/// contact: none may be left over from the abandoned check.
#[tokio::test(start_paused = true)]
async fn an_abandoned_check_is_no_failure_of_its_contact() {
    let world = managed(true).policy(|policy| policy.limits.resend_gaps.clear());
    let replica = world.replica();
    let voice = Reach { channel: Channel::Voice, ..reach("o2", phone(NUMBER)) };
    let request =
        CreateChallenge { destinations: vec![reach("o1", phone(NUMBER)), voice], ..register(ACCOUNT, NUMBER) };
    created(replica.create("c", request).await);
    accepted(replica.send("c", "s1").await);
    world.provider().checks([Judge::Hang]);
    let happened = || !world.provider().questions().is_empty();
    assert!(killed_when(happened, world.replica().verify("c", "v", "000000")).await.is_none());
    world.clock.advance(PAST_LEASE);
    accepted(replica.send_to("c", "s2", "o2").await);
    for challenge in ["d", "e"] {
        created(replica.create(challenge, register("fresh", NUMBER)).await);
        accepted(replica.send(challenge, &format!("{challenge}-send")).await);
        for guess in 0..5 {
            let answer = replica.verify(challenge, &format!("g{guess}"), "000000").await;
            assert!(is_not_matched(&answer), "{challenge}, {guess}: {answer:?}");
        }
    }
    let locked = replica.create("f", register("fresh", NUMBER)).await;
    assert!(matches!(locked, Ok(Created::AccountLocked(_))), "{locked:?}");
}

#[tokio::test]
async fn parameters_reach_the_provider_and_no_further() {
    let world = managed(true);
    let replica = world.replica();
    replica.create("c", create(ACCOUNT)).await.unwrap();
    let mut send = crate::requests::send("c", "o1");
    send.parameters.insert("card".to_owned(), otpd::secret::Secret::new("4111111111111111".to_owned()));
    replica.otp.send_otp(crate::requests::caller("s"), send).await.unwrap();
    let mut verify = crate::requests::verify("c", &world.code());
    verify.parameters.insert("card".to_owned(), otpd::secret::Secret::new("4111111111111111".to_owned()));
    assert!(is_success(&replica.otp.verify_otp(crate::requests::caller("v"), verify).await));
    assert_eq!(world.provider().outbox()[0].parameters["card"].expose(), "4111111111111111");
    assert_eq!(world.provider().questions()[0].parameters["card"].expose(), "4111111111111111");
}

/// The code of a send that may have arrived works.
#[tokio::test(start_paused = true)]
async fn an_unconfirmed_send_can_be_verified() {
    let world = World::new();
    let replica = world.replica();
    world.provider().deliveries([Deliver::Hang]);
    replica.open("c").await;
    let sent = replica.send("c", "s").await.unwrap();
    assert!(matches!(sent, Sent::Success(ref dispatch) if !dispatch.confirmed), "{sent:?}");
    assert!(is_success(&replica.verify("c", "v", &world.code()).await));
}
