//! Failures and locks: C4, C7, C15, C18, C34, C35.

use std::time::Duration;

use otpd::{
    domain::{
        code::CodeOwner,
        destination::Channel,
        outcome::{Created, Sent, Verified},
        policy::Limits,
        purpose::Purpose,
        quota::QuotaPolicy,
    },
    ports::provider::Capabilities,
    service::{error::Error, request::CreateChallenge},
};

use crate::{
    fake::{FakeProvider, Judge},
    faults::When,
    requests::{
        ACCOUNT, NUMBER, accepted, count, create, created, is_not_matched, is_success, mailbox, phone, reach, register,
        transaction, wrong,
    },
    tasks::{at_once, ended, killed_after, start},
    world::{Replica, World},
};

/// Codes of ours by SMS, and a provider's own by e-mail.
fn sms_and_managed_mail() -> World {
    let provider = |name: &str, channel, code_owner| {
        let timeout = Duration::from_secs(5);
        let capabilities = Capabilities {
            code_owner,
            channels: vec![channel],
            contact_on_file: false,
            purposes: Purpose::ALL.to_vec(),
            currencies: None,
            prefix: None,
            send_repeatable: false,
            timeout,
            code_life: None,
        };
        FakeProvider::with(name, capabilities)
    };
    let managed = CodeOwner::Provider { check_repeatable: true };
    World::with(vec![provider("sms", Channel::Sms, CodeOwner::Otpd), provider("mail", Channel::Email, managed)])
}

fn without_quotas(world: World) -> World {
    world.policy(|policy| {
        policy.quotas = QuotaPolicy::default();
        policy.limits.resend_gaps.clear();
    })
}

fn by_mail(account: &str) -> CreateChallenge {
    CreateChallenge { destinations: vec![reach("o1", mailbox("jane@example.com"))], ..create(account) }
}

async fn open_and_send(replica: &Replica, challenge: &str, request: CreateChallenge) {
    created(replica.create(challenge, request).await);
    accepted(replica.send(challenge, &format!("{challenge}-send")).await);
}

/// So many wrong guesses by SMS, five a challenge.
async fn fail(world: &World, replica: &Replica, prefix: &str, times: usize) {
    for number in 0..times {
        let challenge = format!("{prefix}-{}", number / 5);
        if number % 5 == 0 {
            open_and_send(replica, &challenge, create(ACCOUNT)).await;
        }
        let answer = replica.verify(&challenge, &format!("g{number}"), &wrong(&world.code())).await;
        assert!(is_not_matched(&answer), "{prefix}, {number}: {answer:?}");
    }
}

/// Purposes had ladders of their own, so that uncounting a failure by one lifted the lock of the other.
#[tokio::test(start_paused = true)]
async fn c4_one_ladder_locks_for_all_purposes() {
    let world = without_quotas(sms_and_managed_mail()).policy(|policy| {
        policy.lock.first_after = 5;
        let of_transactions = Limits { max_verification_attempts: 10, ..policy.limits.clone() };
        policy.by_purpose.insert(Purpose::Transaction, of_transactions);
    });
    let (one, two) = (world.replica(), world.replica());
    let purchase =
        CreateChallenge { purpose: Purpose::Transaction, transaction: Some(transaction(1_000_000)), ..create(ACCOUNT) };
    open_and_send(&one, "purchase", purchase).await;
    let code = world.code();
    for guess in 0..3 {
        assert!(is_not_matched(&one.verify("purchase", &format!("g{guess}"), &wrong(&code)).await));
    }
    open_and_send(&one, "login", by_mail(ACCOUNT)).await;
    world.providers[1].checks([Judge::HoldThen(Box::new(Judge::Unknown))]);
    let asking = start({
        let one = one.clone();
        async move { one.verify("login", "v", "000000").await }
    });
    while world.providers[1].questions().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(is_not_matched(&two.verify("purchase", "g3", &wrong(&code)).await), "the fourth");
    let denied = two.verify("purchase", "g4", &wrong(&code)).await;
    assert!(matches!(denied, Err(Error::RequestInProgress { .. })), "a pending failure denies: {denied:?}");
    world.providers[1].release();
    let silent = ended(asking).await;
    assert!(matches!(silent, Err(Error::VerificationOutcomeUnknown)), "{silent:?}");
    assert_eq!(one.failures().await, 4);
    assert!(is_not_matched(&two.verify("purchase", "g4", &wrong(&code)).await), "the fifth");
    for (challenge, otp) in [("purchase", code.as_str()), ("login", "000000")] {
        let locked = one.verify(challenge, "last", otp).await;
        assert!(matches!(locked, Ok(Verified::AccountLocked(_))), "{challenge}: {locked:?}");
    }
    let repeated = one.verify("login", "v", "000000").await;
    assert!(matches!(repeated, Ok(Verified::AccountLocked(_))), "its attempt has no outcome: {repeated:?}");
    assert!(two.account(ACCOUNT).await.locked.is_some());
}

/// An operator locked an account, and its registration was created, sent and verified.
#[tokio::test(start_paused = true)]
async fn c7_an_operators_lock_stops_registrations_of_the_account() {
    let world = without_quotas(World::new());
    let (one, two) = (world.replica(), world.replica());
    open_and_send(&one, "before", register(ACCOUNT, NUMBER)).await;
    let code = world.code();
    two.lock(None).await;
    let refused = one.create("c", register(ACCOUNT, NUMBER)).await;
    assert!(matches!(refused, Ok(Created::AccountLocked(_))), "{refused:?}");
    let refused = one.send("before", "again").await;
    assert!(matches!(refused, Ok(Sent::AccountLocked(_))), "{refused:?}");
    for otp in [&code, &wrong(&code)] {
        let refused = one.verify("before", &format!("v-{otp}"), otp).await;
        assert!(matches!(refused, Ok(Verified::AccountLocked(_))), "{refused:?}");
    }
    assert_eq!(one.view("before").await.attempts, 0);
    created(one.create("c", register("joe", NUMBER)).await);
    two.unlock().await;
    assert!(is_success(&one.verify("before", &format!("v-{code}"), &code).await));
}

/// A thousand right codes at once, each of its own challenge, one account: 139 were told CONTENTION.
#[tokio::test(start_paused = true)]
async fn c15_a_thousand_successes_of_one_account_conflict_with_nothing() {
    for failed_before in [false, true] {
        let world = without_quotas(World::new()).interleaved(15);
        let replicas = world.replicas(2);
        if failed_before {
            fail(&world, &replicas[0], "before", 9).await;
        }
        let mut codes = Vec::new();
        for number in 0..1000 {
            codes.push(world.sent(&replicas[number % 2], &format!("c{number}")).await);
        }
        world.faults.script(&[]);
        let guesses = codes.into_iter().enumerate().map(|(number, code)| {
            let replica = replicas[number % 2].clone();
            async move { replica.verify(&format!("c{number}"), "v", &code).await }
        });
        let answers = at_once(guesses).await;
        assert_eq!(count(&answers, is_success), 1000, "{:?}", answers.iter().find(|answer| !is_success(answer)));
        let commits = count(&world.faults.log(), |name| *name == "commit");
        if failed_before {
            assert!(commits <= 3000, "the first success resets, and the others start over: {commits}");
        } else {
            assert_eq!(commits, 1000, "an untouched lockout conflicts with nothing");
        }
        assert_eq!(replicas[0].failures().await, 0);
    }
}

/// An attempt was counted and not recorded, since its process died; its repetition went ahead under a lock.
#[tokio::test(start_paused = true)]
async fn c18_an_attempt_is_counted_and_recorded_or_neither() {
    let mut ended = false;
    for polls in 0..100 {
        let world = without_quotas(World::new());
        let (dying, next) = (world.replica(), world.replica());
        open_and_send(&next, "c", create(ACCOUNT)).await;
        let code = wrong(&world.code());
        world.faults.step();
        ended = Box::pin(killed_after(polls, dying.verify("c", "v", &code))).await.is_some();
        let recorded = next.view("c").await.attempts;
        assert_eq!(next.failures().await, recorded, "{polls} polls");
        next.lock(None).await;
        let repeated = next.verify("c", "v", &code).await;
        if recorded == 1 {
            assert!(is_not_matched(&repeated), "{polls} polls: {repeated:?}");
        } else {
            assert!(matches!(repeated, Ok(Verified::AccountLocked(_))), "{polls} polls: {repeated:?}");
        }
        if ended {
            break;
        }
    }
    assert!(ended);
}

/// Nine wrong codes at the phone, a success by mail, nine wrong at the phone, and so on: never a lock.
#[tokio::test(start_paused = true)]
async fn c34_owning_one_contact_buys_no_guesses_at_another() {
    let world = without_quotas(World::new());
    let replica = world.replica();
    let with_mail = |id: &str| CreateChallenge {
        destinations: vec![reach("o1", phone(NUMBER)), reach("o2", mailbox("jane@example.com"))],
        ..create(id)
    };
    fail(&world, &replica, "first", 9).await;
    created(replica.create("mail", with_mail(ACCOUNT)).await);
    accepted(replica.send_to("mail", "s", "o2").await);
    assert!(is_success(&replica.verify("mail", "v", &world.code()).await));
    assert_eq!(replica.failures().await, 0, "in total");
    open_and_send(&replica, "phone", create(ACCOUNT)).await;
    let answer = replica.verify("phone", "tenth", &wrong(&world.code())).await;
    assert!(matches!(answer, Ok(Verified::NotMatched { remaining: 0 })), "{answer:?}");
    let locked = replica.verify("phone", "right", &world.code()).await;
    assert!(matches!(locked, Ok(Verified::AccountLocked(_))), "{locked:?}");
    assert!(matches!(replica.create("later", create(ACCOUNT)).await, Ok(Created::AccountLocked(_))));
    // The mailbox is another contact: the account is open for it.
    created(replica.create("both", with_mail(ACCOUNT)).await);
    assert!(matches!(replica.send("both", "s1").await, Ok(Sent::AccountLocked(_))));
    accepted(replica.send_to("both", "s2", "o2").await);
    assert!(is_success(&replica.verify("both", "v", &world.code()).await));
    let still = replica.send("phone", "again").await;
    assert!(matches!(still, Ok(Sent::AccountLocked(_))), "a success elsewhere lifts nothing: {still:?}");
}

/// After one caller was told `account_locked`, another guess that had been admitted before was compared.
#[tokio::test(start_paused = true)]
async fn c35_the_order_of_answers_is_the_order_of_commits() {
    for right in [false, true] {
        let world = without_quotas(World::new());
        let ((one, line), two) = (world.line(), world.replica());
        fail(&world, &two, "before", 9).await;
        open_and_send(&one, "c", create(ACCOUNT)).await;
        let code = if right { world.code() } else { wrong(&world.code()) };
        let pause = line.pause_next("commit", When::Before);
        let admitted = start({
            let (one, code) = (one.clone(), code.clone());
            async move { one.verify("c", "v", &code).await }
        });
        pause.reached().await;
        fail(&world, &two, "tenth", 1).await;
        let told = two.verify("tenth-0", "other", "000000").await;
        assert!(matches!(told, Ok(Verified::AccountLocked(_))), "{told:?}");
        pause.resume();
        let late = ended(admitted).await;
        assert!(matches!(late, Ok(Verified::AccountLocked(_))), "{late:?}");
        assert_eq!((two.view("c").await.attempts, two.failures().await), (0, 10));
    }
}
