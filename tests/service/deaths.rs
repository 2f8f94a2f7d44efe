//! A process that dies in the middle of a use case: its future is dropped after every number of polls, and another
//! replica goes on from what is stored.

use std::time::Duration;

use otpd::{
    domain::outcome::{Sent, Verified},
    service::error::Error,
};

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    faults::When,
    requests::{accepted, is_not_matched, is_success, wrong},
    tasks::{ended, killed_after, killed_when, start},
    world::World,
};

/// Longer than any lease here: a time-out of 5 s and a margin of 5 s.
const PAST_LEASE: Duration = Duration::from_secs(11);
/// More polls than any use case here needs.
const MOST_POLLS: usize = 200;

#[tokio::test(start_paused = true)]
async fn a_send_whose_process_dies_is_unconfirmed_after_its_lease() {
    let mut unconfirmed = 0;
    for polls in 0..MOST_POLLS {
        let world = World::new().policy(|policy| policy.limits.resend_gaps.clear());
        world.provider().always_deliver(Deliver::After(Duration::from_millis(1), Box::new(Deliver::Accept)));
        world.replica().open("c").await;
        world.faults.step();
        let dying = world.replica();
        let first = Box::pin(killed_after(polls, dying.send("c", "s"))).await;
        drop(dying);
        let next = world.replica();
        if let Err(error) = next.send("c", "s").await {
            assert!(matches!(error, Error::RequestInProgress { .. }), "{polls} polls: {error:?}");
            // Another request has to wait for the end of the lease.
            let other = next.send("c", "other").await;
            assert!(matches!(other, Ok(Sent::ResendTooSoon { .. })), "{polls} polls: {other:?}");
            world.clock.advance(PAST_LEASE);
        }
        let last = next.send("c", "s").await;
        let Ok(Sent::Success(dispatch)) = &last else { panic!("{polls} polls: {last:?}") };
        unconfirmed += usize::from(!dispatch.confirmed);
        assert!(world.messages() <= 1, "{polls} polls");
        assert!(!dispatch.confirmed || world.messages() == 1, "{polls} polls");
        assert_eq!(next.view("c").await.options[0].1, 1, "{polls} polls");
        // The creation, the send, and what the dead process acquired and did not reserve for.
        assert!((2..=3).contains(&world.uses()), "{polls} polls: {}", world.uses());
        if world.messages() == 1 {
            // The code that may be on its way works.
            assert!(is_success(&next.verify("c", "v", &world.code()).await), "{polls} polls");
        }
        if first.is_some() {
            assert!(unconfirmed > 0, "the send died between its reservation and its end");
            return;
        }
    }
    panic!("the send never ended");
}

#[tokio::test(start_paused = true)]
async fn a_guess_whose_process_dies_counts_once() {
    for right in [false, true] {
        for same_id in [false, true] {
            let mut ended = false;
            for polls in 0..MOST_POLLS {
                ended |= Box::pin(die_in_a_guess(polls, right, same_id)).await;
                if ended {
                    break;
                }
            }
            assert!(ended);
        }
    }
}

async fn die_in_a_guess(polls: usize, right: bool, same_id: bool) -> bool {
    let case = format!("{polls} polls, right: {right}, same id: {same_id}");
    let world = World::new();
    let code = world.sent(&world.replica(), "c").await;
    let otp = if right { code.clone() } else { wrong(&code) };
    world.faults.step();
    let dying = world.replica();
    let first = killed_after(polls, dying.verify("c", "v", &otp)).await;
    let next = world.replica();
    let last = next.verify("c", if same_id { "v" } else { "w" }, &otp).await;
    let view = next.view("c").await;
    if right {
        let fine = is_success(&last) || (!same_id && matches!(last, Ok(Verified::AlreadyUsed)));
        assert!(fine, "{case}: {last:?}");
        assert_eq!(view.attempts, 1, "{case}");
        assert_eq!(next.failures().await, 0, "{case}");
    } else {
        assert!(is_not_matched(&last), "{case}: {last:?}");
        assert_eq!(next.failures().await, view.attempts, "{case}");
        assert!(view.attempts == 1 || (!same_id && view.attempts == 2), "{case}");
    }
    first.is_some()
}

/// A process that was held up after its reservation asks no provider once the lease, as another clock may see it, has ended.
#[tokio::test(start_paused = true)]
async fn a_worker_that_was_held_up_asks_no_provider_after_its_lease() {
    for managed in [false, true] {
        let provider = if managed { FakeProvider::managed("managed", true) } else { FakeProvider::ours("sms") };
        let world = World::with(vec![provider]);
        let ((slow, line), next) = (world.line(), world.replica());
        if managed {
            world.sent(&slow, "c").await;
        } else {
            slow.open("c").await;
        }
        let messages = world.messages();
        let pause = line.pause_next("commit", When::After);
        let held_up = start(async move {
            if managed { slow.verify("c", "v", "000000").await.map(drop) } else { slow.send("c", "s").await.map(drop) }
        });
        pause.reached().await;
        // A second and a half before the end of the lease, by its own clock.
        world.clock.advance(Duration::from_millis(8500));
        pause.resume();
        let answer = ended(held_up).await;
        assert!(matches!(answer, Err(Error::ProviderUnavailable { .. })), "{answer:?}");
        assert_eq!((world.messages(), world.provider().questions().len()), (messages, 0));
        let view = next.view("c").await;
        assert_eq!((view.attempts, view.options[0].1), (0, u32::from(managed)), "refunded");
        // Nothing counts against the ten refunds of a send: no provider has failed.
        if !managed {
            assert_eq!(view.next_send_at, Some(view.created_at));
            accepted(next.send("c", "s").await);
        }
    }
}

/// A provider's check: asked again under the same id, or a new attempt under another. What was never answered is no failure.
#[tokio::test(start_paused = true)]
async fn a_check_whose_process_dies_is_no_failure() {
    for same_id in [false, true] {
        for stale in [false, true] {
            let mut ended = false;
            for polls in 0..MOST_POLLS {
                ended |= Box::pin(die_in_a_check(polls, same_id, stale)).await;
                if ended {
                    break;
                }
            }
            assert!(ended);
        }
    }
}

async fn die_in_a_check(polls: usize, same_id: bool, stale: bool) -> bool {
    let case = format!("{polls} polls, same id: {same_id}, stale: {stale}");
    let world = World::with(vec![FakeProvider::managed("managed", true)]);
    let next = world.replica();
    let code = world.sent(&next, "c").await;
    if stale {
        // The replica that goes on remembers the lockout from an earlier challenge.
        world.replica().open("earlier").await;
        accepted(next.send("earlier", "earlier-send").await);
        assert!(is_not_matched(&next.verify("earlier", "e", "000000").await));
    }
    let before = u32::from(stale);
    world.faults.step();
    world.provider().checks([Judge::After(Duration::from_millis(1), Box::new(Judge::Compare))]);
    let dying = world.replica();
    let first = killed_after(polls, dying.verify("c", "v", &wrong(&code))).await;
    world.clock.advance(PAST_LEASE);
    if same_id {
        let last = next.verify("c", "v", &wrong(&code)).await;
        assert!(is_not_matched(&last), "{case}: {last:?}");
        assert_eq!(next.view("c").await.attempts, 1, "{case}");
        assert_eq!(next.failures().await, before + 1, "{case}");
    } else {
        let last = next.verify("c", "w", &code).await;
        assert!(is_success(&last), "{case}: {last:?}");
        let attempts = next.view("c").await.attempts;
        assert!((1..=2).contains(&attempts), "{case}");
        assert_eq!(next.failures().await, 0, "{case}");
    }
    first.is_some()
}

/// The same, but the challenge is cancelled, so that no success covers a failure up.
#[tokio::test(start_paused = true)]
async fn an_abandoned_check_is_no_failure() {
    for stale in [false, true] {
        let world = World::with(vec![FakeProvider::managed("managed", true)]);
        let next = world.replica();
        let code = world.sent(&next, "c").await;
        if stale {
            world.replica().open("earlier").await;
            accepted(next.send("earlier", "earlier-send").await);
            assert!(is_not_matched(&next.verify("earlier", "e", "000000").await));
        }
        let before = u32::from(stale);
        let (dying, asked) = (world.replica(), usize::from(stale));
        for (number, challenge) in ["c", "d"].into_iter().enumerate() {
            if challenge == "d" {
                world.sent(&next, "d").await;
            }
            world.provider().checks([Judge::Hang]);
            let happened = || world.provider().questions().len() == asked + number + 1;
            assert!(killed_when(happened, dying.verify(challenge, "v", &code)).await.is_none());
            assert_eq!(next.failures().await, before, "pending, and not counted");
            world.clock.advance(PAST_LEASE);
            if challenge == "c" {
                next.cancel("c", "x").await.unwrap();
                assert_eq!(next.failures().await, before, "stale: {stale}");
            }
        }
        // Another guess counts by itself.
        assert!(is_not_matched(&next.verify("d", "w", "000000").await));
        assert_eq!(next.failures().await, before + 1, "stale: {stale}");
    }
}
