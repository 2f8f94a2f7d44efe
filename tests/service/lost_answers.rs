//! Every operation of a use case fails once, before or after it is applied. The same request again finds its way.

use otpd::{
    domain::outcome::{Sent, Verified},
    service::error::Error,
};

use crate::{
    faults::Fault,
    requests::{ACCOUNT, accepted, create, is_not_matched, is_success, wrong},
    world::{Replica, World},
};

const FAULTS: [Fault; 6] =
    [Fault::Before, Fault::LostAnswer, Fault::Late(0), Fault::Late(2), Fault::Twice, Fault::Hang];

/// Who is asked again.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// The replica that failed.
    Same,
    /// One that remembers nothing.
    Fresh,
    /// One that remembers what was true before.
    Stale,
}

const AGAIN: [Again; 3] = [Again::Same, Again::Fresh, Again::Stale];

fn pick(world: &World, again: Again, same: &Replica, stale: &Replica) -> Replica {
    match again {
        Again::Same => same.clone(),
        Again::Fresh => world.replica(),
        Again::Stale => stale.clone(),
    }
}

/// Sends until the answer is final, across the lease if need be.
async fn send_until_final(world: &World, replica: &Replica, id: &str) -> Sent {
    for _ in 0..3 {
        match replica.send("c", id).await {
            Ok(sent) => return sent,
            Err(Error::RequestInProgress { .. }) => world.clock.advance(std::time::Duration::from_secs(11)),
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("no final answer");
}

#[tokio::test(start_paused = true)]
async fn a_send_survives_the_loss_of_any_answer() {
    let mut index = 0;
    loop {
        let mut over = true;
        for fault in FAULTS {
            for again in AGAIN {
                over &= lose_in_a_send(index, fault, again).await;
            }
        }
        if over {
            break;
        }
        index += 1;
    }
    assert!(index >= 4, "a send is a handful of operations, not {index}");
}

/// Says whether the send was over before that operation.
async fn lose_in_a_send(index: usize, fault: Fault, again: Again) -> bool {
    let case = format!("operation {index}, {fault:?}, {again:?}");
    let world = World::new().policy(|policy| policy.limits.resend_gaps.clear());
    let (one, stale) = (world.replica(), world.replica());
    stale.open("c").await;
    world.faults.script(&[(index, fault)]);
    let first = one.send("c", "s").await;
    let over = world.faults.count() <= index;
    world.faults.script(&[]);
    match &first {
        Ok(sent) => assert!(matches!(sent, Sent::Success(_)), "{case}: {first:?}"),
        Err(error) => assert!(matches!(error, Error::Store(_)), "{case}: {first:?}"),
    }
    if fault == Fault::Twice {
        accepted(first.as_ref().map(Clone::clone).map_err(|error| Error::Internal(format!("{case}: {error}"))));
    }
    let replica = pick(&world, again, &one, &stale);
    let last = send_until_final(&world, &replica, "s").await;
    let Sent::Success(dispatch) = &last else { panic!("{case}: {last:?}") };
    assert!(world.messages() <= 1, "{case}");
    assert!(!dispatch.confirmed || world.messages() == 1, "{case}");
    if let Ok(first) = first {
        assert_eq!(first, last, "{case}");
    }
    for replica in [&one, &stale, &world.replica()] {
        assert_eq!(replica.send("c", "s").await.expect(&case), last, "{case}");
    }
    let view = one.view("c").await;
    assert_eq!(view.options[0].1, 1, "{case}");
    assert_uses(&world, fault, &case);
    over
}

#[tokio::test(start_paused = true)]
async fn a_wrong_guess_survives_the_loss_of_any_answer() {
    verify_over_faults(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_right_guess_survives_the_loss_of_any_answer() {
    verify_over_faults(true).await;
}

async fn verify_over_faults(right: bool) {
    let mut index = 0;
    loop {
        let mut over = true;
        for fault in FAULTS {
            for again in AGAIN {
                over &= lose_in_a_verification(index, fault, again, right).await;
            }
        }
        if over {
            break;
        }
        index += 1;
    }
    assert!(index >= 1, "a verification is an operation at least");
}

async fn lose_in_a_verification(index: usize, fault: Fault, again: Again, right: bool) -> bool {
    let case = format!("operation {index}, {fault:?}, {again:?}, right: {right}");
    let world = World::new();
    let (one, stale) = (world.replica(), world.replica());
    let code = world.sent(&stale, "c").await;
    // Both replicas remember something; the stale one an older version.
    assert!(is_not_matched(&stale.verify("c", "before-1", &wrong(&code)).await));
    assert!(is_not_matched(&one.verify("c", "before-2", &wrong(&code)).await));
    let otp = if right { code.clone() } else { wrong(&code) };
    world.faults.script(&[(index, fault)]);
    let first = one.verify("c", "v", &otp).await;
    let over = world.faults.count() <= index;
    world.faults.script(&[]);
    if let Err(error) = &first {
        assert!(matches!(error, Error::Store(_)), "{case}: {first:?}");
        assert_ne!(fault, Fault::Twice, "{case}: {first:?}");
    }
    let replica = pick(&world, again, &one, &stale);
    let last = replica.verify("c", "v", &otp).await;
    if right {
        assert!(is_success(&last), "{case}: {last:?}");
    } else {
        assert!(matches!(last, Ok(Verified::NotMatched { remaining: 2 })), "{case}: {last:?}");
    }
    if let (Ok(first), Ok(last)) = (&first, &last) {
        assert_eq!(first, last, "{case}");
    }
    for replica in [&one, &stale, &world.replica()] {
        assert_eq!(replica.verify("c", "v", &otp).await.expect(&case), *last.as_ref().expect(&case), "{case}");
        assert_eq!(replica.failures().await, if right { 0 } else { 3 }, "{case}");
        assert_eq!(replica.view("c").await.attempts, 3, "{case}");
    }
    over
}

/// The creation and the send count once each. What a send acquired, and then did not know whether it was reserved, stays
/// acquired: it counts too much, which is the safe side.
#[track_caller]
fn assert_uses(world: &World, fault: Fault, case: &str) {
    let most = if fault == Fault::Twice { 2 } else { 3 };
    assert!((2..=most).contains(&world.uses()), "{case}: {} uses", world.uses());
}

#[tokio::test(start_paused = true)]
async fn a_creation_survives_the_loss_of_any_answer() {
    for fault in FAULTS {
        for index in 0..12 {
            let case = format!("operation {index}, {fault:?}");
            let world = World::new();
            let request = otpd::service::request::CreateChallenge { send_otp: true, ..create(ACCOUNT) };
            world.faults.script(&[(index, fault)]);
            let first = world.replica().create("c", request.clone()).await;
            world.faults.script(&[]);
            assert!(first.is_ok() || matches!(first, Err(Error::Store(_))), "{case}: {first:?}");
            let replica = world.replica();
            let mut last = replica.create("c", request.clone()).await;
            if let Err(Error::RequestInProgress { .. }) = last {
                world.clock.advance(std::time::Duration::from_secs(11));
                last = replica.create("c", request.clone()).await;
            }
            let last = last.expect(&case);
            if let Ok(first) = first {
                assert_eq!(first, last, "{case}");
            }
            assert!(world.messages() <= 1, "{case}");
            assert_uses(&world, fault, &case);
            assert_eq!(world.replica().create("c", request).await.expect(&case), last, "{case}");
        }
    }
}

/// A repetition of a creation is answered from what is on record, whatever becomes of its quotas.
#[tokio::test(start_paused = true)]
async fn a_repeated_creation_needs_no_quota() {
    let world = World::new();
    let (replica, line) = world.line();
    let created = replica.create("c", create(ACCOUNT)).await.unwrap();
    line.script(&[]);
    replica.create("c", create(ACCOUNT)).await.unwrap();
    let acquire = line.log().iter().position(|name| *name == "acquire").expect("quotas are acquired beside the rest");
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Hang] {
        line.script(&[(acquire, fault)]);
        assert_eq!(replica.create("c", create(ACCOUNT)).await.unwrap(), created, "{fault:?}");
        assert_eq!(world.uses(), 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_reveals_nothing() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.faults.set_gone(true);
    for otp in [code.clone(), wrong(&code)] {
        let answer = replica.verify("c", &format!("v-{otp}"), &otp).await;
        assert!(matches!(answer, Err(Error::Store(_))), "{answer:?}");
    }
    assert!(matches!(replica.send("c", "s").await, Err(Error::Store(_))));
    assert!(matches!(replica.create("d", create(ACCOUNT)).await, Err(Error::Store(_))));
    assert!(matches!(replica.cancel("c", "x").await, Err(Error::Store(_))));
    world.faults.set_gone(false);
    assert_eq!(replica.view("c").await.attempts, 0);
    assert!(is_success(&replica.verify("c", &format!("v-{code}"), &code).await));
}
