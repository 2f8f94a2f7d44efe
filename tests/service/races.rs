//! Many requests at once, on one replica and on several.

use std::sync::Arc;

use otpd::{
    domain::{
        outcome::{Created, Sent, Verified},
        quota::QuotaPolicy,
    },
    service::error::Error,
};

use crate::{
    broken::{BrokenStore, Commits},
    faults::FaultyStore,
    requests::{ACCOUNT, accepted, count, create, is_not_matched, is_success, register, wrong},
    tasks::at_once,
    world::{KEY_1, Replica, World},
};

/// Verifies so many times at once, spread over the replicas, each with its own request id.
async fn guess(replicas: &[Replica], challenge: &str, times: usize, otp: &str) -> Vec<Result<Verified, Error>> {
    let guesses = (0..times).map(|number| {
        let replica = replicas[number % replicas.len()].clone();
        let (challenge, id, otp) = (challenge.to_owned(), format!("{challenge}-guess-{number}"), otp.to_owned());
        async move { replica.verify(&challenge, &id, &otp).await }
    });
    at_once(guesses).await
}

#[tokio::test(start_paused = true)]
async fn a_thousand_wrong_guesses_at_once_are_five_comparisons() {
    for number in 1..=3 {
        let world = World::new().interleaved(7);
        let replicas = world.replicas(number);
        world.sent(&replicas[0], "c").await;
        let answers = guess(&replicas, "c", 1000, &world.wrong_code()).await;
        assert_eq!(count(&answers, is_not_matched), 5, "{number} replicas");
        let exceeded = count(&answers, |answer| matches!(answer, Ok(Verified::AttemptsExceeded)));
        assert_eq!(exceeded, 995, "{number} replicas");
        assert_eq!(replicas[0].failures().await, 5);
        assert_eq!(replicas[0].view("c").await.attempts, 5);
        // Not even the right one is compared now.
        assert!(matches!(replicas[0].verify("c", "late", &world.code()).await, Ok(Verified::AttemptsExceeded)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_code_verifies_once_however_often_it_is_given_at_once() {
    for number in 1..=3 {
        let world = World::new().interleaved(11);
        let replicas = world.replicas(number);
        let code = world.sent(&replicas[0], "c").await;
        let answers = guess(&replicas, "c", 100, &code).await;
        assert_eq!(count(&answers, is_success), 1, "{number} replicas");
        let used = count(&answers, |answer| matches!(answer, Ok(Verified::AlreadyUsed)));
        assert_eq!(used, 99, "{number} replicas: {answers:?}");
        assert_eq!(replicas[0].view("c").await.attempts, 1);
        assert_eq!(replicas[0].failures().await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_right_code_under_one_request_id_is_one_attempt() {
    for number in 1..=3 {
        let world = World::new().interleaved(13);
        let replicas = world.replicas(number);
        let code = world.sent(&replicas[0], "c").await;
        let all = (0..100).map(|index| {
            let (replica, code) = (replicas[index % number].clone(), code.clone());
            async move { replica.verify("c", "same", &code).await }
        });
        let answers = at_once(all).await;
        let fine = |answer: &_| is_success(answer) || matches!(answer, Err(Error::RequestInProgress { .. }));
        assert_eq!(count(&answers, fine), 100, "{number} replicas: {answers:?}");
        assert!(count(&answers, is_success) >= 1);
        assert_eq!(replicas[0].view("c").await.attempts, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_code_under_one_request_id_is_one_failure() {
    let world = World::new().interleaved(17);
    let replicas = world.replicas(3);
    world.sent(&replicas[0], "c").await;
    let wrong = world.wrong_code();
    let all = (0..100).map(|index| {
        let (replica, wrong) = (replicas[index % 3].clone(), wrong.clone());
        async move { replica.verify("c", "same", &wrong).await }
    });
    let answers = at_once(all).await;
    assert_eq!(count(&answers, |answer| matches!(answer, Ok(Verified::NotMatched { remaining: 4 }))), 100);
    assert_eq!(replicas[0].view("c").await.attempts, 1);
    assert_eq!(replicas[0].failures().await, 1);
}

#[tokio::test(start_paused = true)]
async fn one_request_id_sends_one_message() {
    for number in 1..=3 {
        let world = World::new().interleaved(19);
        let replicas = world.replicas(number);
        replicas[0].open("c").await;
        let all = (0..100).map(|index| {
            let replica = replicas[index % number].clone();
            async move { replica.send("c", "same").await }
        });
        let answers = at_once(all).await;
        let first = accepted(replicas[0].send("c", "same").await);
        for answer in answers {
            match answer {
                Ok(Sent::Success(dispatch)) => assert_eq!(dispatch, first),
                Err(Error::RequestInProgress { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(world.messages(), 1, "{number} replicas");
    }
}

#[tokio::test(start_paused = true)]
async fn many_request_ids_send_as_the_gaps_allow() {
    let world = World::new().interleaved(23);
    let replicas = world.replicas(3);
    replicas[0].open("c").await;
    let answers = send_many(&replicas, 100, "send").await;
    assert_eq!(count(&answers, |answer| matches!(answer, Ok(Sent::Success(_)))), 1);
    assert_eq!(count(&answers, |answer| matches!(answer, Ok(Sent::ResendTooSoon { .. }))), 99);
    assert_eq!(world.messages(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_request_ids_send_as_often_as_the_option_allows() {
    let world = World::new().policy(|policy| policy.limits.resend_gaps.clear()).interleaved(29);
    let replicas = world.replicas(3);
    replicas[0].open("c").await;
    for round in 1..=4 {
        let answers = send_many(&replicas, 100, &format!("round-{round}")).await;
        let accepted = count(&answers, |answer| matches!(answer, Ok(Sent::Success(_))));
        let in_flight = count(&answers, |answer| matches!(answer, Ok(Sent::ResendTooSoon { .. })));
        let exceeded = count(&answers, |answer| matches!(answer, Ok(Sent::SendLimitExceeded)));
        assert_eq!(accepted + in_flight + exceeded, 100, "round {round}: {answers:?}");
        assert!(accepted >= 1 || exceeded == 100, "one send in flight at a time: {answers:?}");
    }
    assert_eq!(world.messages(), 3);
    assert_eq!(world.uses(), 4, "the creation, and each send once");
}

async fn send_many(replicas: &[Replica], times: usize, prefix: &str) -> Vec<Result<Sent, Error>> {
    let sends = (0..times).map(|index| {
        let (replica, id) = (replicas[index % replicas.len()].clone(), format!("{prefix}-{index}"));
        async move { replica.send("c", &id).await }
    });
    at_once(sends).await
}

#[tokio::test(start_paused = true)]
async fn one_request_id_creates_once() {
    let world = World::new().interleaved(31);
    let replicas = world.replicas(3);
    let all = (0..100).map(|index| {
        let replica = replicas[index % 3].clone();
        async move {
            let request = otpd::service::request::CreateChallenge { send_otp: true, ..create(ACCOUNT) };
            replica.create("c", request).await
        }
    });
    let answers = at_once(all).await;
    let fine = |answer: &_| {
        matches!(
            answer,
            Ok(Created::Success { send: Some(Sent::Success(_)), .. }) | Err(Error::RequestInProgress { .. })
        )
    };
    assert_eq!(count(&answers, fine), 100, "{answers:?}");
    assert_eq!(world.messages(), 1);
    // One creation, and one send to the destination.
    assert_eq!(world.uses(), 2);
}

/// Twelve challenges on one account; all of their codes guessed wrong at once, and of one also right.
#[tokio::test(start_paused = true)]
async fn parallel_challenges_buy_no_guesses() {
    for seed in 0..10 {
        let world = World::new().policy(|policy| policy.quotas = QuotaPolicy::default()).interleaved(seed);
        let replicas = world.replicas(3);
        let mut codes = Vec::new();
        for number in 0..12 {
            codes.push(world.sent(&replicas[number % 3], &format!("c{number}")).await);
        }
        let guesses = (0..12 * 6).map(|index| {
            let (replica, number) = (replicas[index % 3].clone(), index / 6);
            let right = number == 5 && index % 6 == 3;
            let otp = if right { codes[number].clone() } else { wrong(&codes[number]) };
            async move { replica.verify(&format!("c{number}"), &format!("g{index}"), &otp).await }
        });
        let answers = at_once(guesses).await;
        let failed = count(&answers, is_not_matched);
        let view = replicas[0].account(ACCOUNT).await;
        if count(&answers, is_success) == 0 {
            assert_eq!(failed, 10, "seed {seed}: {answers:?}");
            assert_eq!(view.failures, 10, "seed {seed}");
        } else {
            // The success resets what came before it; from then on it is ten again.
            assert!((10..20).contains(&failed), "seed {seed}: {failed}");
            assert_eq!(view.failures, 10, "seed {seed}");
        }
        let until = view.locked.expect("locked").until.expect("for a time");
        assert_eq!(until.since(world.now()).as_secs(), 30 * 60, "seed {seed}");
        let right = replicas[1].verify("c9", "after", &codes[9]).await;
        assert!(matches!(right, Ok(Verified::AccountLocked(_))), "seed {seed}: {right:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_account_buys_no_guesses_at_a_registration() {
    let world = World::new().policy(|policy| policy.quotas = QuotaPolicy::default());
    let replica = world.replica();
    for number in 0..2 {
        let challenge = format!("c{number}");
        replica.create(&challenge, register(&format!("fresh-{number}"), "+14155550100")).await.unwrap();
        accepted(replica.send(&challenge, &format!("s{number}")).await);
        for guess in 0..5 {
            let answer = replica.verify(&challenge, &format!("g{guess}"), &world.wrong_code()).await;
            assert!(is_not_matched(&answer), "{answer:?}");
        }
    }
    let refused = replica.create("c2", register("fresh-2", "+14155550100")).await;
    assert!(matches!(refused, Ok(Created::AccountLocked(_))), "{refused:?}");
    // Neither the accounts nor another destination are touched.
    assert_eq!(replica.account("fresh-0").await.failures, 0);
    let other = replica.create("c3", register("fresh-2", "+14155550101")).await;
    assert!(matches!(other, Ok(Created::Success { .. })), "{other:?}");
}

/// Every commit is a conflict. A request gives up after 64 of them, and has used nothing up.
#[tokio::test(start_paused = true)]
async fn a_request_gives_up_after_sixty_four_conflicts() {
    let world = World::new().policy(|policy| policy.limits.resend_gaps.clear());
    let code = world.sent(&world.replica(), "c").await;
    let uses = world.uses();
    let broken = BrokenStore { inner: world.memory.clone(), commits: Commits::Never };
    let counting = Arc::new(FaultyStore::new(Arc::new(broken)));
    let loser = world.replica_over(counting.clone(), KEY_1, world.clock.clone());
    let sent = loser.send("c", "s").await;
    assert!(matches!(sent, Err(Error::Contention)), "{sent:?}");
    assert_eq!(count(&counting.log(), |name| *name == "commit"), 64);
    assert_eq!(world.uses(), uses, "what was acquired is refunded");
    for otp in [code.clone(), wrong(&code)] {
        let verified = loser.verify("c", &format!("v-{otp}"), &otp).await;
        assert!(matches!(verified, Err(Error::Contention)), "{verified:?}");
    }
    let opened = loser.create("d", create(ACCOUNT)).await;
    assert!(matches!(opened, Err(Error::Contention)), "{opened:?}");
    // Another replica may be creating by the same request, and rest on what this one acquired.
    assert_eq!(world.uses(), uses + 1);
    let replica = world.replica();
    assert_eq!((replica.view("c").await.attempts, world.messages()), (0, 1));
    assert!(is_success(&replica.verify("c", &format!("v-{code}"), &code).await));
}
