//! Sends: V1 to V4, V15, V16.

use std::time::Duration;

use otpd::{
    domain::outcome::{Created, Sent},
    domain::quota::Window,
    service::error::Error,
};

use crate::{
    fake::{Deliver, FakeProvider},
    faults::{Fault, When},
    requests::{ACCOUNT, accepted, create, created, is_not_matched, is_success},
    tasks::{ended, killed_when, start},
    world::World,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Longer than any lease here.
const PAST_LEASE: Duration = Duration::from_secs(16);

fn without_gaps(providers: Vec<std::sync::Arc<FakeProvider>>) -> World {
    World::with(providers).policy(|policy| policy.limits.resend_gaps.clear())
}

/// Replica 1 reserved, did not know whether that was applied, found its id in flight and delivered what replica 2 had
/// reserved.
#[tokio::test(start_paused = true)]
async fn v1_only_the_worker_that_finds_its_own_token_delivers() {
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Late(0), Fault::Late(2), Fault::Twice] {
        let world = without_gaps(vec![FakeProvider::ours("sms")]);
        let ((one, line), two) = (world.line(), world.replica());
        one.open("c").await;
        world.provider().always_deliver(Deliver::Hold);
        // The quota, and then the reservation.
        line.script(&[(2, fault)]);
        let first = {
            let one = one.clone();
            start(async move { one.send("c", "s").await })
        };
        let second = start(async move { two.send("c", "s").await });
        let mut waiting = 0;
        while world.messages() == 0 && waiting < 1000 {
            tokio::task::yield_now().await;
            waiting += 1;
        }
        let third = {
            let one = one.clone();
            start(async move { one.send("c", "s").await })
        };
        world.provider().release();
        let answers = [ended(first).await, ended(second).await, ended(third).await];
        for answer in &answers {
            let fine = matches!(answer, Ok(Sent::Success(_)) | Err(Error::Store(_) | Error::RequestInProgress { .. }));
            assert!(fine, "{fault:?}: {answers:?}");
        }
        world.clock.advance(PAST_LEASE);
        assert!(matches!(one.send("c", "s").await, Ok(Sent::Success(_))), "{fault:?}");
        assert!(world.messages() <= 1, "{fault:?}: {} messages", world.messages());
        assert_eq!(one.view("c").await.options[0].1, 1, "{fault:?}");
    }
}

/// Replica 1 settled its send as failed, did not hear that this was applied, repeated the settle after replica 2 had reserved
/// the same id again, and refunded what replica 2 then delivered.
#[tokio::test(start_paused = true)]
async fn v2_a_settle_never_refunds_the_reservation_of_another() {
    for fault in [Fault::LostAnswer, Fault::Twice, Fault::Late(1), Fault::Before] {
        let world = without_gaps(vec![FakeProvider::ours("sms")]);
        let ((one, line), two) = (world.line(), world.replica());
        one.open("c").await;
        world.provider().deliveries([Deliver::Fail(None), Deliver::Hold]);
        line.script(&[(2, fault)]);
        let failed = one.send("c", "s").await;
        assert!(matches!(failed, Err(Error::Store(_) | Error::ProviderUnavailable { .. })), "{fault:?}: {failed:?}");
        if matches!(fault, Fault::Late(_) | Fault::Before) {
            // Not settled: the send is unconfirmed after its lease, and nothing else is sent for it.
            world.clock.advance(PAST_LEASE);
            assert!(matches!(two.send("c", "s").await, Ok(Sent::Success(sent)) if !sent.confirmed), "{fault:?}");
            assert_eq!((world.messages(), one.view("c").await.options[0].1), (1, 1), "{fault:?}");
            continue;
        }
        let again = start(async move { two.send("c", "s").await });
        while world.messages() < 2 {
            tokio::task::yield_now().await;
        }
        let other = one.send("c", "other").await;
        assert!(matches!(other, Ok(Sent::ResendTooSoon { .. })), "{fault:?}: {other:?}");
        world.provider().release();
        accepted(ended(again).await);
        assert_eq!(one.view("c").await.options[0].1, 1, "{fault:?}");
        // The creation and the send, and what stays in doubt.
        let doubtful = usize::from(fault == Fault::LostAnswer);
        assert_eq!(world.uses(), 2 + doubtful, "{fault:?}");
    }
}

/// Uses of quotas had no names, so that a success refunded somebody else's.
#[tokio::test(start_paused = true)]
async fn v3_a_success_refunds_its_own_uses_only() {
    let world = without_gaps(vec![FakeProvider::ours("sms")]);
    let ((one, line), two) = (world.line(), world.replica());
    let code = world.sent(&two, "c").await;
    one.open("d").await;
    assert_eq!(world.uses(), 3);
    let pause = line.pause_next("commit", When::Before);
    let sending = {
        let one = one.clone();
        start(async move { one.send("d", "s").await })
    };
    pause.reached().await;
    assert_eq!(world.uses(), 4, "acquired, and not yet reserved");
    assert!(is_success(&two.verify("c", "v", &code).await));
    world.uses_become(2).await;
    pause.resume();
    accepted(ended(sending).await);
    assert_eq!(world.uses(), 2);

    // The challenge is verified while another send of it has acquired and not yet reserved.
    let code = world.code();
    let pause = line.pause_next("commit", When::Before);
    let sending = {
        let one = one.clone();
        start(async move { one.send("d", "late").await })
    };
    pause.reached().await;
    assert!(is_success(&two.verify("d", "v", &code).await));
    pause.resume();
    assert_eq!(ended(sending).await.unwrap(), Sent::ChallengeOptionExpired);
    world.uses_become(0).await;
    assert_eq!(world.messages(), 2);
}

/// Uses were named by request id, so that a worker which found the id in progress refunded the use of the message that went
/// out.
#[tokio::test(start_paused = true)]
async fn v3_a_worker_that_finds_its_request_in_progress_refunds_its_own_use() {
    let world = without_gaps(vec![FakeProvider::ours("sms")]);
    let ((one, line), two) = (world.line(), world.replica());
    one.open("c").await;
    world.provider().always_deliver(Deliver::Hold);
    let pause = line.pause_next("commit", When::Before);
    let late = {
        let one = one.clone();
        start(async move { one.send("c", "s").await })
    };
    pause.reached().await;
    let sending = start(async move { two.send("c", "s").await });
    while world.messages() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.uses(), 3);
    pause.resume();
    world.uses_become(2).await;
    world.provider().release();
    let (late, sending) = (ended(late).await, ended(sending).await);
    assert_eq!(accepted(late), accepted(sending));
    assert_eq!((world.uses(), world.messages()), (2, 1));
}

/// A quota refused while the commit beside it was applied: the challenge was there, or the code before was void.
#[tokio::test(start_paused = true)]
async fn v4_what_a_quota_refuses_is_not_there() {
    let world = without_gaps(vec![FakeProvider::ours("sms")]).policy(|policy| {
        policy.quotas.account_creations = vec![Window { max: 1, per: HOUR }];
        policy.quotas.destination_sends = vec![Window { max: 1, per: HOUR }];
    });
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    for _ in 0..2 {
        assert_eq!(replica.create("d", create(ACCOUNT)).await.unwrap(), Created::RiskDeclined);
    }
    let unknown = replica.send("d", "s").await;
    assert!(matches!(unknown, Err(Error::InvalidIdentifier)), "{unknown:?}");
    assert_eq!(replica.send("c", "again").await.unwrap(), Sent::RiskDeclined);
    assert!(is_success(&replica.verify("c", "v", &code).await));
}

/// Provider 1 failed, provider 2 delivered, and the process died before the settle: the check went to provider 1.
#[tokio::test(start_paused = true)]
async fn v15_a_check_goes_to_the_provider_that_delivered_last() {
    let world = without_gaps(vec![FakeProvider::managed("first", true), FakeProvider::managed("second", true)]);
    let (dying, next) = (world.replica(), world.replica());
    next.open("c").await;
    world.providers[0].deliveries([Deliver::Fail(None)]);
    world.providers[1].deliveries([Deliver::Hang]);
    let happened = || world.providers[1].calls() == 1;
    assert!(killed_when(happened, dying.send("c", "s")).await.is_none());
    world.clock.advance(PAST_LEASE);
    let code = world.providers[1].last_code();
    world.providers[1].checks([crate::fake::Judge::Match]);
    assert!(is_success(&next.verify("c", "v", &code).await));
    assert_eq!((world.providers[0].questions().len(), world.providers[1].questions().len()), (0, 1));
}

/// Two sends were in flight and both failed: the code that came back was one that was never delivered.
#[tokio::test(start_paused = true)]
async fn v16_one_send_is_in_flight_and_the_delivered_code_lives_again() {
    let world = without_gaps(vec![FakeProvider::ours("sms")]);
    let (one, two) = (world.replica(), world.replica());
    let code = world.sent(&one, "c").await;
    world.provider().deliveries([Deliver::HoldThen(Box::new(Deliver::Fail(None)))]);
    let sending = {
        let one = one.clone();
        start(async move { one.send("c", "s2").await })
    };
    while world.messages() < 2 {
        tokio::task::yield_now().await;
    }
    let third = two.send("c", "s3").await;
    let lease = world.now().plus(Duration::from_secs(10));
    assert_eq!(third.unwrap(), Sent::ResendTooSoon { next_send_at: lease });
    world.provider().release();
    let failed = ended(sending).await;
    assert!(matches!(failed, Err(Error::ProviderUnavailable { .. })), "{failed:?}");
    assert!(is_not_matched(&two.verify("c", "v1", &world.code()).await), "the code of the failed send");
    assert!(is_success(&two.verify("c", "v2", &code).await));
    created(two.create("d", create(ACCOUNT)).await);
}
