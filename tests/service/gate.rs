//! The gate: while a replica does not know that its clock is right, it serves nothing and dates nothing.

use std::{sync::Arc, time::Duration};

use otpd::{
    domain::time::Timestamp,
    ports::clock::Clock,
    service::{
        error::Error,
        gate::{Gate, GateClosed},
    },
};

use crate::{
    clock::TestClock,
    faults::Operation,
    requests::{ACCOUNT, caller, create, is_not_matched, of_account, request_id, wrong},
    world::{KEY_1, Replica, World},
};

const HOUR: Duration = Duration::from_secs(3_600);

/// What each call of both services comes to.
async fn every_call(replica: &Replica, guess: &str) -> Vec<Result<(), Error>> {
    let otp = &replica.otp;
    vec![
        replica.create("new", create(ACCOUNT)).await.map(drop),
        replica.send("c", "again").await.map(drop),
        replica.verify("c", "v", guess).await.map(drop),
        replica.cancel("c", "x").await,
        otp.get_challenge(caller("get"), request_id("c")).await.map(drop),
        otp.get_account(caller("get"), of_account(ACCOUNT)).await.map(drop),
        replica.lock_as("lock", of_account(ACCOUNT), None).await.map(drop),
        replica.unlock_as("unlock", of_account(ACCOUNT)).await.map(drop),
        otp.now().map(drop),
    ]
}

#[tokio::test]
async fn a_closed_gate_refuses_every_call_before_any_work() {
    let world = World::new();
    let guess = wrong(&world.sent(&world.replica(), "c").await);
    // Of this clock alone, which tells a time that is an hour later than it is.
    let clock = world.clock.ahead(Duration::ZERO);
    let leaps = [(HOUR, true), (Duration::from_millis(1_001), true), (Duration::from_secs(1), false)];
    for (leap, refused) in leaps {
        let replica = world.replica_of(KEY_1, clock.clone());
        let before = world.memory.dump();
        clock.leap(leap);
        world.faults.script(&[]);
        let told = if refused { every_call(&replica, &guess).await } else { vec![replica.otp.now().map(drop)] };
        for (index, call) in told.into_iter().enumerate() {
            assert_eq!(
                matches!(call, Err(Error::Gate(GateClosed::Clock))),
                refused,
                "{index} after {leap:?}: {call:?}"
            );
        }
        assert_eq!((world.faults.count(), world.memory.dump() == before), (0, true), "{leap:?}");
        // Where it was right before, nobody has to examine it again.
        clock.leap(Duration::ZERO);
        assert!(replica.otp.now().is_ok());
    }
    let replica = world.replica_of(KEY_1, clock);
    assert!(every_call(&replica, &guess).await.into_iter().all(|call| call.is_ok()), "the same calls are served");
}

#[tokio::test]
async fn a_gate_is_closed_until_the_store_has_been_examined() {
    let clock = TestClock::new();
    let gate = Gate::new(Arc::new(clock.clone()));
    assert_eq!(gate.now(), Err(GateClosed::Unexamined));
    gate.open(gate.read());
    assert_eq!(gate.now(), Ok(clock.now()));
    // Time that passes is no leap.
    clock.advance(HOUR * 1_000);
    assert_eq!(gate.now(), Ok(clock.now()));
}

/// The clock leaps an hour ahead at every operation of a call that was admitted before: what is written is dated as if it had not
/// leapt, or not at all.
#[tokio::test]
async fn a_leap_in_the_middle_of_a_call_dates_nothing() {
    for (name, operations) in [("verify", 4), ("create", 8), ("send", 8), ("operate", 4)] {
        let mut refused = 0;
        for index in 0..operations {
            let case = format!("{name}, operation {index}");
            // The first failure locks for half an hour, by the time of the failure.
            let world = World::new().policy(|policy| policy.lock.first_after = 1);
            let right = world.replica();
            let code = world.sent(&right, "c").await;
            right.open("d").await;
            let clock = world.clock.ahead(Duration::ZERO);
            let replica = world.replica_of(KEY_1, clock.clone());
            let (latest, leaping) = (world.now().plus(Duration::from_secs(1)), clock.clone());
            world.faults.script(&[]);
            world.faults.set_hook(move |count, operation| {
                if count == index {
                    leaping.leap(HOUR);
                }
                if let Operation::Acquire(.., now) = operation {
                    assert!(*now <= latest, "a use of a quota is dated {now:?}");
                }
            });
            let told = match name {
                "verify" => replica.verify("c", "v", &wrong(&code)).await.map(drop),
                "create" => {
                    let request = otpd::service::request::CreateChallenge { send_otp: true, ..create("other") };
                    replica.create("new", request).await.map(drop)
                }
                "send" => replica.send("d", "s").await.map(drop),
                _ => replica.lock_as("lock", of_account(ACCOUNT), None).await.map(drop),
            };
            world.faults.heal();
            assert!(matches!(told, Ok(()) | Err(Error::Gate(GateClosed::Clock))), "{case}: {told:?}");
            refused += u32::from(told.is_err());
            nothing_is_late(&world, &right, latest, &case).await;
        }
        assert!(refused > 0, "{name}: no leap was noticed");
    }
}

/// As the others see it.
async fn nothing_is_late(world: &World, right: &Replica, latest: Timestamp, case: &str) {
    for challenge in ["c", "d", "new"] {
        let Ok(view) = right.otp.get_challenge(caller("get"), request_id(challenge)).await else { continue };
        assert!(view.created_at <= latest && view.timeline.iter().all(|event| event.at <= latest), "{case}: {view:?}");
    }
    let lock_ends = latest.plus(Duration::from_secs(1_800));
    let locked = right.account(ACCOUNT).await.locked.and_then(|locked| locked.until);
    assert!(locked.is_none_or(|until| until <= lock_ends), "{case}: {locked:?}");
    // What was begun is taken up where the clock is right.
    if right.account(ACCOUNT).await.locked.is_none() {
        let answer = right.verify("c", "next", &wrong(&world.code())).await;
        assert!(is_not_matched(&answer), "{case}: {answer:?}");
    }
}
