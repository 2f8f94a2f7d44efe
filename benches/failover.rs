//! What a failover loses and what confirmation by a replica costs, over a cluster and under sentinels of the benchmark's own.
//!
//! 64 lanes commit, each to a partition of its own, while the master is killed: once with replicas in line, and once with
//! replicas that have had nothing for the last 100 ms, as over a slow network. Lost is what was told to be committed and is not
//! there afterwards.
//!
//! `cargo bench --bench failover`; a number on the command line says how many masters to kill in each row (20 unless told),
//! words choose rows: `cluster`, `sentinel`, `valkey-cluster`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark has nothing better to do"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use otpd::{
    ports::{
        clock::{Deadline, SystemClock},
        store::{Change, Committed, Name, Partition, Sealed, Store, Write},
    },
    stores::{self, Confirmation, StoreConfig},
};
use tokio::task::{JoinSet, block_in_place};
use tokio_util::task::TaskTracker;

#[path = "../tests/support/cluster.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod redis_cluster;
#[path = "../tests/support/sentinel.rs"]
#[expect(dead_code, reason = "the tests use the rest of it")]
mod redis_sentinel;
#[path = "../tests/support/redis.rs"]
mod redis_server;

use redis_cluster::Cluster;
use redis_sentinel::SentinelSet;
use redis_server::{Program, RedisServer};

const LANES: u64 = 64;
const TTL: Duration = Duration::from_secs(600);
const SPAN: Duration = Duration::from_secs(4);
/// How far replicas are behind when the master is killed.
const LAGS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(100)];
/// Usual sizes of a sealed lockout and a sealed challenge, in bytes.
const LOCKOUT_LENGTH: usize = 150;
const CHALLENGE_LENGTH: usize = 350;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let kills = words.iter().find_map(|word| word.parse::<u32>().ok()).unwrap_or(20);
    let rows: Vec<&String> = words.iter().filter(|word| word.parse::<u32>().is_err()).collect();
    let wanted = |row: &str| rows.is_empty() || rows.iter().any(|chosen| *chosen == row);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for replicas in [0, 1] {
            if wanted("cluster") {
                over_cluster(Program::Redis, replicas, kills).await;
            }
            if wanted("valkey-cluster") && Program::valkey().is_some() {
                over_cluster(Program::Valkey, replicas, kills).await;
            }
            if wanted("sentinel") {
                over_sentinels(replicas, kills).await;
            }
        }
    });
}

/// Three masters with a replica each. A killed master comes back as a replica as soon as its own is promoted.
async fn over_cluster(program: Program, replicas: u32, kills: u32) {
    let title = format!("{program:?} cluster, {replicas} confirmed");
    let cluster = block_in_place(|| Cluster::start(program));
    let store = open(&cluster.url(), replicas).await;
    measure_latency(&title, &store).await;
    for lag in LAGS {
        let mut losses = Losses::default();
        for kill in 0..kills {
            let slot = u16::try_from(kill % 3 * 5_462).expect("a slot");
            let master = cluster.master_of(slot).expect("a master");
            let kill = || {
                fall_behind(cluster.node(master), lag);
                let killed = Instant::now();
                cluster.kill(master);
                cluster.wait_failover(slot, master);
                let promoted = Instant::now();
                cluster.restart(master);
                cluster.wait_whole();
                (killed, promoted)
            };
            losses.add(&store, kill).await;
        }
        losses.tell(&title, lag);
    }
}

/// A master with two replicas. A killed master would be a replica again only after ten seconds, so each kill has servers of its
/// own.
async fn over_sentinels(replicas: u32, kills: u32) {
    let title = format!("Redis under sentinels, {replicas} confirmed");
    for (row, lag) in LAGS.into_iter().enumerate() {
        let mut losses = Losses::default();
        for kill in 0..kills {
            let set = block_in_place(|| SentinelSet::start(Program::Redis, 2));
            let store = open(&set.url(), replicas).await;
            if row == 0 && kill == 0 {
                measure_latency(&title, &store).await;
            }
            let kill = || {
                fall_behind(set.server(set.master().expect("a master")), lag);
                let killed = Instant::now();
                let master = set.kill_master();
                set.wait_failover(master);
                (killed, Instant::now())
            };
            losses.add(&store, kill).await;
        }
        losses.tell(&title, lag);
    }
}

/// Lets the replicas of a master have nothing for so long.
fn fall_behind(master: &RedisServer, lag: Duration) {
    if !lag.is_zero() {
        master.cut_replication();
        std::thread::sleep(lag);
    }
}

async fn open(url: &str, replicas: u32) -> Arc<dyn Store> {
    let mut config = StoreConfig::new(url.parse().expect("a valid address"));
    config.operation_timeout = Duration::from_secs(1);
    config.connect_timeout = Duration::from_secs(1);
    config.confirmation = Confirmation { replicas, timeout: Duration::from_millis(500), ..Confirmation::default() };
    let store = stores::open(config, Arc::new(SystemClock), &TaskTracker::new()).await.expect("the store opens");
    let deadline = Deadline::after(Duration::from_secs(10));
    while let Err(error) =
        store.commit(Lane::new(u64::MAX).partition, &changes(None, 1), Deadline::after(Duration::from_secs(1))).await
    {
        assert!(!deadline.remaining().is_zero(), "{error}");
    }
    store
}

/// What all kills of a row came to.
#[derive(Default)]
struct Losses {
    kills: u64,
    acknowledged: u64,
    lost: u64,
    /// Kills that lost anything.
    lossy: u64,
    /// From the kill to the promotion, and from there until the last lane is served again.
    promotion: Vec<Duration>,
    service: Vec<Duration>,
}

impl Losses {
    /// Keeps all lanes busy around a kill, which tells when the master was killed and when another one was promoted.
    async fn add(&mut self, store: &Arc<dyn Store>, kill: impl FnOnce() -> (Instant, Instant)) {
        let stop = Arc::new(AtomicBool::new(false));
        let first = self.kills * LANES;
        let mut lanes = JoinSet::new();
        for lane in first..first + LANES {
            lanes.spawn(Lane::new(lane).run(Arc::clone(store), Arc::clone(&stop)));
        }
        let mut probes = JoinSet::new();
        probes.spawn(probe(Arc::clone(store)));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let (killed, promoted) = block_in_place(kill);
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.store(true, Ordering::SeqCst);
        let lanes = lanes.join_all().await;
        let lost: u64 = lanes.iter().map(|lane| lane.lost).sum();
        self.kills += 1;
        self.acknowledged += lanes.iter().map(|lane| lane.acknowledged).sum::<u64>();
        self.lost += lost;
        self.lossy += u64::from(lost > 0);
        self.promotion.push(promoted - killed);
        let served = lanes.iter().filter_map(|lane| lane.longest_gap_end).max().expect("a gap");
        self.service.push(served.saturating_duration_since(promoted));
    }

    fn tell(mut self, title: &str, lag: Duration) {
        self.promotion.sort_unstable();
        self.service.sort_unstable();
        let middle = |spans: &[Duration]| spans.get(spans.len() / 2).copied().unwrap_or_default();
        let most = |spans: &[Duration]| spans.last().copied().unwrap_or_default();
        say(&format!(
            "{title}, replicas {lag:?} behind: {} kills lost {} of {} acknowledged commits, in {} of the kills; promoted after {:.1?} (most {:.1?}), \
             all lanes served {:.1?} later (most {:.1?})",
            self.kills,
            self.lost,
            self.acknowledged,
            self.lossy,
            middle(&self.promotion),
            most(&self.promotion),
            middle(&self.service),
            most(&self.service),
        ));
    }
}

/// The health check, every second.
async fn probe(store: Arc<dyn Store>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(store.check(Deadline::after(Duration::from_secs(1))).await);
    }
}

/// Commits to one partition, one after the other.
struct Lane {
    partition: Partition,
    /// The last that was told to be committed.
    told: Option<u64>,
    acknowledged: u64,
    lost: u64,
    longest_gap: Duration,
    longest_gap_end: Option<Instant>,
}

impl Lane {
    fn new(lane: u64) -> Self {
        // Spread like the keyed hashes that names are.
        let spread = lane.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut bytes = [0; 15];
        bytes.iter_mut().zip(spread.to_be_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
        Self {
            partition: Partition(bytes),
            told: None,
            acknowledged: 0,
            lost: 0,
            longest_gap: Duration::ZERO,
            longest_gap_end: None,
        }
    }

    async fn run(mut self, store: Arc<dyn Store>, stop: Arc<AtomicBool>) -> Self {
        let (mut present, mut next, mut last) = (None, 1, Instant::now());
        while !stop.load(Ordering::SeqCst) {
            let changes = changes(present, next);
            match store.commit(self.partition, &changes, Deadline::after(Duration::from_secs(2))).await {
                Ok(Committed::Done) => {
                    self.acknowledged += 1;
                    (self.told, present) = (Some(next), Some(next));
                    next += 1;
                    let now = Instant::now();
                    if now - last > self.longest_gap {
                        (self.longest_gap, self.longest_gap_end) = (now - last, Some(now));
                    }
                    last = now;
                }
                Ok(Committed::Conflict(records)) => {
                    present = records.first().and_then(Option::as_ref).map(number);
                    // Less than was told is a loss; more is a commit whose answer was lost.
                    self.lost += self.told.unwrap_or_default().saturating_sub(present.unwrap_or_default());
                    self.told = present;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        self
    }
}

/// The lockout and the challenge of a partition, from one number to another.
fn changes(expected: Option<u64>, next: u64) -> [Change; 2] {
    [(Name::LOCKOUT, LOCKOUT_LENGTH), (Name([7; 16]), CHALLENGE_LENGTH)].map(|(name, length)| Change {
        name,
        expected: expected.map(|number| record(length, number).version()),
        write: Some(Write { record: record(length, next), ttl: TTL }),
    })
}

fn record(length: usize, number: u64) -> Sealed {
    let mut bytes = vec![1; length];
    let version = bytes.iter_mut().skip(Sealed::VERSION_OFFSET);
    version.zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    Sealed::from_bytes(bytes).expect("a record")
}

fn number(record: &Sealed) -> u64 {
    let version = &record.as_bytes()[Sealed::VERSION_OFFSET..Sealed::VERSION_OFFSET + 8];
    u64::from_be_bytes(version.try_into().expect("eight bytes"))
}

/// Commits per second and their latency, alone and with all lanes.
async fn measure_latency(title: &str, store: &Arc<dyn Store>) {
    for lanes in [1, LANES] {
        let mut running = JoinSet::new();
        for lane in 0..lanes {
            let (store, partition) = (Arc::clone(store), Lane::new(1_000_000 + lanes * 1_000 + lane).partition);
            running.spawn(async move {
                let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
                let end = Deadline::after(SPAN);
                let mut present = None;
                for next in 1.. {
                    if end.remaining().is_zero() {
                        break;
                    }
                    let began = Instant::now();
                    let committed =
                        store.commit(partition, &changes(present, next), Deadline::after(Duration::from_secs(2))).await;
                    match committed {
                        Ok(Committed::Done) => present = Some(next),
                        other => panic!("{other:?}"),
                    }
                    latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1));
                }
                latencies
            });
        }
        let mut latencies = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3).expect("valid bounds");
        for lane in running.join_all().await {
            latencies.add(lane).expect("the same bounds");
        }
        let at = |quantile: f64| Duration::from_micros(latencies.value_at_quantile(quantile));
        let rate = latencies.len() / SPAN.as_secs();
        say(&format!("{title}, {lanes} in flight: {rate} commits/s, p50 {:?}, p99 {:?}", at(0.5), at(0.99)));
    }
}

fn say(line: &str) {
    writeln!(std::io::stdout(), "{line}").expect("standard output");
}
