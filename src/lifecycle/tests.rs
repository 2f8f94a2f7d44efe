//! Tests of `lifecycle`.

use std::{
    future::pending,
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;
use crate::readiness::tests::{Board, Moody};

const TIMEOUTS: DrainTimeouts =
    DrainTimeouts { drain_delay: Duration::from_secs(5), drain_timeout: Duration::from_secs(30) };

struct Bench {
    readiness: Readiness,
    stop_grpc: CancellationToken,
    work: TaskTracker,
    tasks: TaskTracker,
    store: Moody,
    audit_closed: AtomicBool,
}

impl Bench {
    async fn new() -> Self {
        let readiness = Readiness::new(Board::default()).await;
        let (work, tasks) = (TaskTracker::new(), TaskTracker::new());
        Self {
            readiness,
            stop_grpc: CancellationToken::new(),
            work,
            tasks,
            store: Moody::default(),
            audit_closed: AtomicBool::new(false),
        }
    }

    /// Drains, and says how long it took.
    async fn drain(&self, grpc: Option<JoinHandle<()>>) -> Duration {
        let Self { readiness, stop_grpc, work, store, .. } = self;
        let day = Duration::from_secs(86_400);
        let start = Deadline::after(day);
        let close_audit = Box::new(|deadline| Box::pin(self.close_audit(deadline)) as Closing<'_>);
        Draining { readiness, stop_grpc, grpc, work, store, close_audit }.run(TIMEOUTS).await;
        Duration::from_secs(day.saturating_sub(start.remaining()).as_secs())
    }

    /// Takes as long as the store.
    async fn close_audit(&self, deadline: Deadline) {
        if self.store.mood() == Moody::HANGS {
            sleep(deadline.remaining()).await;
        }
        self.audit_closed.store(true, Ordering::Relaxed);
    }

    fn polite_server(&self) -> JoinHandle<()> {
        let stop = self.stop_grpc.clone();
        self.tasks.spawn(async move { stop.cancelled().await })
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_server_drains_within_the_delay() {
    let bench = Bench::new().await;
    let took = bench.drain(Some(bench.polite_server())).await;
    assert_eq!(took, TIMEOUTS.drain_delay);
    assert!(bench.stop_grpc.is_cancelled());
    assert_eq!(bench.store.mood(), Moody::CLOSED);
}

#[tokio::test(start_paused = true)]
async fn serving_goes_on_while_health_has_turned() {
    let bench = Bench::new().await;
    let states = bench.readiness.subscribe();
    let (stop, server) = (bench.stop_grpc.clone(), bench.polite_server());
    let watching = async move {
        sleep(Duration::from_secs(4)).await;
        (states.borrow().words().join(" "), stop.is_cancelled())
    };
    let (_, seen) = tokio::join!(bench.drain(Some(server)), watching);
    assert_eq!(seen, ("starting draining".to_owned(), false));
}

#[tokio::test(start_paused = true)]
async fn work_left_behind_is_waited_for() {
    let bench = Bench::new().await;
    bench.work.spawn(sleep(Duration::from_secs(20)));
    assert_eq!(bench.drain(Some(bench.polite_server())).await, Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn calls_work_and_store_that_never_end_are_cut_off() {
    let bench = Bench::new().await;
    bench.work.spawn(pending::<()>());
    bench.store.is(Moody::HANGS);
    let took = bench.drain(Some(bench.tasks.spawn(pending()))).await;
    assert_eq!(took, TIMEOUTS.drain_delay + TIMEOUTS.drain_timeout + CLOSE_TIMEOUT, "store and audit close at once");
    assert!(bench.audit_closed.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ended_by_itself_is_not_waited_for() {
    let bench = Bench::new().await;
    assert_eq!(bench.drain(None).await, Duration::ZERO);
    assert_eq!(bench.store.mood(), Moody::CLOSED);
}
