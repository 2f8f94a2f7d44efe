//! Refunds after a success: done after the answer, bounded, and drained when a replica stops.

use std::time::Duration;

use otpd::ports::clock::Stopwatch;
use tokio::time::timeout;

use crate::{
    faults::{Fault, When},
    requests::is_success,
    world::World,
};

/// Longer than anything that is bounded here.
const LONG: Duration = Duration::from_secs(60);

/// The answer does not wait for the refund, and a replica that stops does.
#[tokio::test(start_paused = true)]
async fn a_replica_that_stops_refunds_what_is_queued() {
    let world = World::new();
    let (replica, line) = world.line();
    let code = world.sent(&replica, "c").await;
    let pause = line.pause_next("refund", When::Before);
    assert!(is_success(&replica.verify("c", "v", &code).await));
    assert_eq!(world.uses(), 2, "after the answer");
    pause.reached().await;
    drop(replica);
    world.tasks.close();
    assert!(timeout(Duration::from_millis(100), world.tasks.wait()).await.is_err(), "it waits for the refund");
    pause.resume();
    timeout(LONG, world.tasks.wait()).await.expect("it ends");
    assert_eq!(world.uses(), 0);
}

/// A store that never answers holds a stop up for a bounded time; the uses then count until their windows have passed.
#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_does_not_hang_a_stop() {
    for fault in [Fault::Hang, Fault::Before, Fault::LostAnswer] {
        let world = World::new();
        let (replica, line) = world.line();
        let code = world.sent(&replica, "c").await;
        line.script(&[(1, fault)]);
        assert!(is_success(&replica.verify("c", "v", &code).await));
        drop(replica);
        world.tasks.close();
        let started = Stopwatch::start();
        timeout(LONG, world.tasks.wait()).await.expect("it ends");
        assert!(started.elapsed() < Duration::from_secs(6), "{fault:?}: {:?}", started.elapsed());
        assert_eq!(line.log(), ["commit", "refund"], "{fault:?}: not made up");
        assert_eq!(world.uses(), if fault == Fault::LostAnswer { 0 } else { 2 }, "{fault:?}");
    }
}

/// A replica that has nothing to refund stops at once.
#[tokio::test(start_paused = true)]
async fn an_idle_replica_stops_at_once() {
    let world = World::new();
    drop(world.replicas(3));
    world.tasks.close();
    timeout(Duration::from_millis(1), world.tasks.wait()).await.expect("it ends");
}
