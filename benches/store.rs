//! Swaps per second and their latency, over the embedded store and over a Redis of the benchmark's own.
//!
//! `cargo bench --bench store`; more words on the command line choose stores and numbers, as `embedded 64`.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use otpd::{
    ports::{
        clock::{Deadline, SystemClock},
        store::{Name, Sealed, Store, Swapped},
    },
    stores::{self, StoreConfig},
};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

#[path = "../tests/support/redis.rs"]
mod redis_server;

use redis_server::RedisServer;

const SPAN: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(600);
/// Each lane swaps among so many records of its own.
const NAMES: u64 = 1_000;

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wanted = |word: &str, kind: fn(&str) -> bool| {
        let mut same_kind = chosen.iter().filter(|word| kind(word)).peekable();
        same_kind.peek().is_none() || same_kind.any(|chosen| chosen == word)
    };
    let is_number = |word: &str| word.parse::<u64>().is_ok();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
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
        "{title}, {lanes} in flight: {} swaps/s, p50 {:?}, p99 {:?}, max {:?}; opened in {opening:.1?}",
        latencies.len() / SPAN.as_secs(),
        at(0.5),
        at(0.99),
        at(1.0),
    )
    .expect("standard output");
}

/// Swaps one record after the other, each onwards from what the last round left.
async fn run(store: Arc<dyn Store>, lane: u64) -> Histogram<u64> {
    let soon = || Deadline::after(Duration::from_secs(10));
    for n in 0..NAMES {
        store.insert(name(lane, n), &record(0), TTL, soon()).await.expect("an insert");
    }
    let mut latencies = histogram();
    let end = Deadline::after(SPAN);
    for step in 0.. {
        if end.remaining().is_zero() {
            break;
        }
        let round = step / NAMES;
        let began = Instant::now();
        let read = record(round).version();
        let swapped = store.swap(name(lane, step % NAMES), read, &record(round + 1), TTL, soon()).await;
        match swapped {
            Ok(Swapped::Done) => {}
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

fn name(lane: u64, n: u64) -> Name {
    // Spread like the keyed hashes that names are.
    let spread = (lane * NAMES + n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut name = [0; 16];
    name.iter_mut().zip(spread.to_be_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
    Name(name)
}

/// A record of the usual size.
fn record(round: u64) -> Sealed {
    let mut bytes = vec![1; 350];
    let version = bytes.iter_mut().skip(Sealed::VERSION_OFFSET);
    version.zip(round.to_be_bytes()).for_each(|(to, from)| *to = from);
    Sealed::from_bytes(bytes).expect("a record")
}
