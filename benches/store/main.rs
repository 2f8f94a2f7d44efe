//! Commits per second and their latency, over the embedded store and over a Redis of the benchmark's own.
//!
//! A commit is what a failed attempt writes: a challenge and its lockout, each of a usual size.
//!
//! `cargo bench --bench store`; more words on the command line choose stores and numbers, as `embedded 64`.
//!
//! `cargo bench --bench store -- flows=1000000` measures something else: whether the embedded store stays as small and as
//! fast as it began. See `flows.rs`. It takes minutes, and about 2 GiB of disk in the temporary folder.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use otpd::{
    ports::{
        clock::{Deadline, SystemClock},
        store::{Change, Committed, Name, Partition, Sealed, Store, Write},
    },
    stores::{self, StoreConfig},
};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

mod flows;
#[path = "../../tests/support/redis.rs"]
mod redis_server;

use redis_server::RedisServer;

/// As the binary's, so that memory is what otpd would hold.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPAN: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(600);
/// Each lane commits to so many partitions of its own.
const PARTITIONS: u64 = 1_000;
/// Usual sizes of a sealed lockout and a sealed challenge, in bytes.
const LOCKOUT_LENGTH: usize = 150;
const CHALLENGE_LENGTH: usize = 350;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |word: &str, kind: fn(&str) -> bool| {
        let mut same_kind = chosen.iter().filter(|word| kind(word)).peekable();
        same_kind.peek().is_none() || same_kind.any(|chosen| chosen == word)
    };
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let Some(plan) = flows::Plan::of(&chosen) {
        return runtime.block_on(flows::measure(plan));
    }
    for lanes in [1_u64, 64] {
        if !wanted(&lanes.to_string(), is_number) {
            continue;
        }
        if wanted("embedded", |word| word.parse::<u64>().is_err()) {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let url = format!("embedded:{}", folder.path().join("data").display());
            runtime.block_on(measure("embedded", &url, lanes));
        }
        if wanted("redis", |word| word.parse::<u64>().is_err()) {
            let server = RedisServer::start();
            runtime.block_on(measure("redis (socket)", &server.url(), lanes));
            server.cli(&["FLUSHALL"]);
            runtime.block_on(measure("redis (tcp)", &server.tcp_url(), lanes));
        }
        if wanted("redis-durable", |word| word.parse::<u64>().is_err()) {
            let server = RedisServer::start_durable();
            runtime.block_on(measure("redis (appendfsync always)", &server.url(), lanes));
        }
    }
}

async fn measure(title: &str, url: &str, lanes: u64) {
    let config = StoreConfig::new(url.parse().expect("a valid address"));
    let opening = Instant::now();
    let store = stores::open(config, Arc::new(SystemClock), &TaskTracker::new()).await.expect("the store opens");
    let opening = opening.elapsed();
    let mut running = JoinSet::new();
    for lane in 0..lanes {
        running.spawn(run(Arc::clone(&store), lane));
    }
    let mut latencies = histogram();
    for lane in running.join_all().await {
        latencies.add(lane).expect("the same bounds");
    }
    store.close(Deadline::after(Duration::from_secs(10))).await;
    let at = |quantile: f64| Duration::from_micros(latencies.value_at_quantile(quantile));
    writeln!(
        std::io::stdout(),
        "{title}, {lanes} in flight: {} commits/s, p50 {:?}, p99 {:?}, max {:?}; opened in {opening:.1?}",
        latencies.len() / SPAN.as_secs(),
        at(0.5),
        at(0.99),
        at(1.0),
    )
    .expect("standard output");
}

/// Commits to one partition after the other, each onwards from what the last round left.
async fn run(store: Arc<dyn Store>, lane: u64) -> Histogram<u64> {
    let soon = || Deadline::after(Duration::from_secs(10));
    for n in 0..PARTITIONS {
        let created = store.commit(partition(lane, n), &changes(None, 0), soon()).await;
        assert_eq!(created.expect("a commit"), Committed::Done);
    }
    let mut latencies = histogram();
    let end = Deadline::after(SPAN);
    for step in 0.. {
        if end.remaining().is_zero() {
            break;
        }
        let round = step / PARTITIONS;
        let changes = changes(Some(round), round + 1);
        let began = Instant::now();
        let committed = store.commit(partition(lane, step % PARTITIONS), &changes, soon()).await;
        match committed {
            Ok(Committed::Done) => {}
            other => panic!("{other:?}"),
        }
        let spent = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        latencies.saturating_record(spent.max(1));
    }
    latencies
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds")
}

fn partition(lane: u64, n: u64) -> Partition {
    // Spread like the keyed hashes that names are.
    let spread = (lane * PARTITIONS + n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = [0; 15];
    bytes.iter_mut().zip(spread.to_be_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
    Partition(bytes)
}

/// The lockout and the challenge of a partition, from one round to another.
fn changes(expected: Option<u64>, round: u64) -> [Change; 2] {
    [(Name::LOCKOUT, LOCKOUT_LENGTH), (Name([7; 16]), CHALLENGE_LENGTH)].map(|(name, length)| Change {
        name,
        expected: expected.map(|round| record(length, round).version()),
        write: Some(Write { record: record(length, round), ttl: TTL }),
    })
}

fn record(length: usize, round: u64) -> Sealed {
    let mut bytes = vec![1; length];
    let version = bytes.iter_mut().skip(Sealed::VERSION_OFFSET);
    version.zip(round.to_be_bytes()).for_each(|(to, from)| *to = from);
    Sealed::from_bytes(bytes).expect("a record")
}
