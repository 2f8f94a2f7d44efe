//! A store that hangs: every request ends, and soon after its caller's deadline.

use std::time::Duration;

use otpd::{ports::clock::Stopwatch, service::error::Error};

use crate::{
    fake::FakeProvider,
    faults::Fault,
    requests::{ACCOUNT, NUMBER, create, created, of_account, register},
    world::{Replica, World},
};

/// The deadline of every caller here, the longest commit, and a second.
const LONGEST: Duration = Duration::from_secs(10 + 5 + 1);

/// One request of each kind; `fresh` names a new challenge.
async fn call(replica: &Replica, kind: usize, code: &str) -> Result<(), Error> {
    match kind {
        0 => replica.create("fresh", create(ACCOUNT)).await.map(drop),
        1 => replica.create("fresh", register(ACCOUNT, NUMBER)).await.map(drop),
        2 => replica.send("c", "s").await.map(drop),
        3 => replica.verify("c", "v", code).await.map(drop),
        4 => replica.cancel("c", "x").await,
        5 => replica.otp.get_account(crate::requests::caller("g"), of_account(ACCOUNT)).await.map(drop),
        6 => replica.lock_as("l", of_account(ACCOUNT), None).await.map(drop),
        _ => replica.unlock_as("u", of_account(ACCOUNT)).await.map(drop),
    }
}

#[tokio::test(start_paused = true)]
async fn every_request_ends_although_the_store_hangs() {
    for managed in [false, true] {
        for kind in 0..8 {
            let mut index = 0;
            loop {
                let provider = if managed { FakeProvider::managed("m", true) } else { FakeProvider::ours("sms") };
                let world = World::with(vec![provider]).policy(|policy| policy.limits.resend_gaps.clear());
                let code = world.sent(&world.replica(), "c").await;
                let (replica, line) = world.line();
                line.script(&[(index, Fault::Hang)]);
                let started = Stopwatch::start();
                let answer = call(&replica, kind, &code).await;
                let took = started.elapsed();
                let case = format!("managed: {managed}, kind {kind}, operation {index}: {answer:?} after {took:?}");
                assert!(took <= LONGEST, "{case}");
                if line.count() <= index {
                    answer.expect(&case);
                    break;
                }
                // What only follows the answer, or cleans up, may hang unnoticed.
                assert!(answer.is_ok() || matches!(answer, Err(Error::Store(_))), "{case}");
                index += 1;
            }
            assert!(index > 0);
        }
    }
}

/// Somebody else's request is not held up by one that hangs.
#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_holds_up_no_other() {
    let world = World::new();
    let (replica, line) = world.line();
    replica.open("c").await;
    replica.open("d").await;
    // The quotas of the first send.
    line.script(&[(0, Fault::Hang)]);
    let hanging = crate::tasks::start({
        let replica = replica.clone();
        async move { replica.send("c", "s").await }
    });
    while line.count() == 0 {
        tokio::task::yield_now().await;
    }
    let started = Stopwatch::start();
    crate::requests::accepted(replica.send("d", "s").await);
    created(replica.create("e", create("joe")).await);
    assert_eq!(started.elapsed(), Duration::ZERO);
    let other = replica.send("c", "other").await;
    assert!(matches!(other, Err(Error::RequestInProgress { .. })), "the one before it has the permit: {other:?}");
    assert!(matches!(crate::tasks::ended(hanging).await, Err(Error::Store(_))));
    crate::requests::accepted(replica.send("c", "s").await);
}
