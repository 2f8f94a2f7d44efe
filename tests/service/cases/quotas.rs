//! Quotas: C1, C11, C14, H6.

use std::time::Duration;

use otpd::{
    domain::{
        outcome::{Created, QuotaUsage, Sent},
        purpose::Purpose,
        quota::Window,
    },
    service::{error::Error, request::CreateChallenge},
};

use crate::{
    faults::When,
    requests::{ACCOUNT, NUMBER, accepted, count, create, created, is_success, of_contact, transaction},
    tasks::{at_once, ended, start},
    world::{KEY_1, Replica, World},
};

const HOUR: Duration = Duration::from_secs(3600);

fn hour(max: u32) -> Vec<Window> {
    vec![Window { max, per: HOUR }]
}

/// A login send of a short window made the store forget what the hour of a transaction still counted.
#[tokio::test]
async fn c1_quotas_are_the_tenants_and_no_policy_forgets_what_another_counts() {
    let world = World::new().policy(|policy| policy.quotas.destination_sends = hour(2));
    let mut short = world.policy.clone();
    short.quotas.destination_sends = vec![Window { max: 100, per: Duration::from_secs(1) }];
    let one = world.replica();
    let other = world.replica_under(&short, world.faults.clone(), KEY_1, world.clock.clone());
    let purchase =
        CreateChallenge { purpose: Purpose::Transaction, transaction: Some(transaction(1_000_000)), ..create(ACCOUNT) };
    for (challenge, request) in [("a", purchase.clone()), ("b", create(ACCOUNT)), ("c", purchase.clone())] {
        created(one.create(challenge, request).await);
        let sent = one.send(challenge, "s").await.unwrap();
        assert_eq!(matches!(sent, Sent::Success(_)), challenge != "c", "{challenge}: {sent:?}");
    }
    world.clock.advance(Duration::from_millis(1200));
    created(other.create("d", create("joe")).await);
    accepted(other.send("d", "s").await);
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(one.send("c", "again").await.unwrap(), Sent::RiskDeclined);
}

/// Thirty creations without a guess denied an account for an hour; six successful logins within an hour, and the sixth send was
/// declined.
#[tokio::test(start_paused = true)]
async fn c11_what_is_verified_is_refunded_and_operators_clear_the_rest() {
    let world = World::new().policy(|policy| policy.quotas.account_sends = hour(5));
    let (one, two) = (world.replica(), world.replica());
    for login in 0..12 {
        let challenge = format!("login-{login}");
        let code = world.sent(&one, &challenge).await;
        assert!(is_success(&two.verify(&challenge, "v", &code).await));
        world.uses_become(0).await;
        // A repetition is refunded already.
        created(two.create(&challenge, create(ACCOUNT)).await);
        assert!(is_success(&one.verify(&challenge, "v", &code).await));
        assert_eq!(world.uses(), 0);
    }
    for number in 0..30 {
        one.open(&format!("idle-{number}")).await;
    }
    assert_eq!(one.create("denied", create(ACCOUNT)).await.unwrap(), Created::RiskDeclined);
    accepted(one.send("idle-0", "s").await);
    let usage = |quota, uses, max| QuotaUsage { quota, uses, window: Window { max, per: HOUR } };
    let seen = two.account(ACCOUNT).await.quotas;
    assert_eq!(seen, [usage("account_sends", 1, 5), usage("account_creations", 30, 30)]);
    let day = Window { max: 10, per: 24 * HOUR };
    let of_number = [usage("destination_sends", 1, 5), QuotaUsage { quota: "destination_sends", uses: 1, window: day }];
    assert_eq!(two.lockout(of_contact(NUMBER)).await.quotas, of_number);

    let cleared = two.unlock().await.quotas;
    assert_eq!(cleared, [usage("account_sends", 0, 5), usage("account_creations", 0, 30)]);
    created(one.create("denied", create(ACCOUNT)).await);
    assert_eq!(two.lockout(of_contact(NUMBER)).await.quotas, of_number, "the number's are its own");
    let cleared = two.unlock_as("number", of_contact(NUMBER)).await.unwrap().quotas;
    assert!(cleared.iter().all(|usage| usage.uses == 0), "{cleared:?}");
}

/// One id, two accounts at once: the one that was refused with IDEMPOTENCY_VIOLATION was counted as a creation.
#[tokio::test(start_paused = true)]
async fn c14_a_violation_counts_nothing() {
    for seed in 0..20 {
        let world = World::new().interleaved(seed);
        let replicas = world.replicas(2);
        let creations = ["jane", "joe"].into_iter().zip(replicas.clone()).map(|(account, replica)| async move {
            let refused = matches!(replica.create("c", create(account)).await, Err(Error::IdempotencyViolation));
            (account, refused)
        });
        let answers = at_once(creations).await;
        assert_eq!(count(&answers, |(_, refused)| *refused), 1, "seed {seed}: {answers:?}");
        for (account, refused) in answers {
            let uses = replicas[0].account(account).await.quotas[0].uses;
            assert_eq!(uses, u32::from(!refused), "seed {seed}: {account}");
        }
        // Nor does other content of the same account.
        let other = CreateChallenge { locale: "de".to_owned(), ..create("jane") };
        assert!(matches!(replicas[0].create("c", other).await, Err(Error::IdempotencyViolation)));
        assert_eq!(world.uses(), 1, "seed {seed}");
    }
}

/// The quota's answer to replica 1 was late, the same creation succeeded at replica 2, and replica 1 then refunded the use that
/// it rested on: ten challenges under "3 per hour".
#[tokio::test(start_paused = true)]
async fn h6_a_use_that_a_creation_may_rest_on_is_not_refunded_by_its_repetition() {
    for (operation, when) in [("acquire", When::After), ("claim", When::After), ("read", When::After)] {
        let world = World::new().policy(|policy| policy.quotas.account_creations = hour(3));
        let ((one, line), two) = (world.line(), world.replica());
        for number in 0..3 {
            let challenge = format!("c{number}");
            let pause = line.pause_next(operation, when);
            let late = start({
                let (one, challenge) = (one.clone(), challenge.clone());
                async move { one.create(&challenge, create(ACCOUNT)).await }
            });
            pause.reached().await;
            created(two.create(&challenge, create(ACCOUNT)).await);
            pause.resume();
            created(ended(late).await);
            assert_eq!(world.uses(), number + 1, "{operation}");
        }
        assert_eq!(two.create("c3", create(ACCOUNT)).await.unwrap(), Created::RiskDeclined, "{operation}");
    }
}

/// The same when replica 1 never hears of its quota: the use stays for the repetition.
#[tokio::test(start_paused = true)]
async fn h6_a_use_in_doubt_stays_for_the_repetition() {
    let world = World::new().policy(|policy| policy.quotas.account_creations = hour(3));
    let (one, line) = world.line();
    let (two, mut opened): (Replica, usize) = (world.replica(), 0);
    for number in 0..10 {
        let challenge = format!("c{number}");
        let pause = line.pause_next("acquire", When::After);
        let lost = one.create(&challenge, create(ACCOUNT)).await;
        drop(pause);
        assert!(matches!(lost, Err(Error::Store(_))), "{lost:?}");
        opened += usize::from(matches!(two.create(&challenge, create(ACCOUNT)).await, Ok(Created::Success { .. })));
    }
    assert_eq!((opened, world.uses()), (3, 3));
}
