//! Whole flows at the store port, one after the other for as long as it takes: what memory and processor time they cost at
//! the beginning and at the end.
//!
//! A flow is what the service asks of the store for CreateChallenge, SendOtp and VerifyOtp with the default policy, for an
//! account and a destination of its own: a claim, a read, two uses of quotas, four commits, and the refund of both uses.
//!
//! Words on the command line: `flows=N`; `lanes=64` flows at a time; `rounds=10` comparisons after them; `unverified` leaves out VerifyOtp and the refunds, so
//! that all uses stay; `tenant` adds the two quotas of the tenant, each with room for 10,000 uses a day.

use std::{
    fmt, fs,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use otpd::{
    domain::{ids::Token, quota::Window},
    ports::{
        clock::{Clock, Deadline, SystemClock},
        store::{Acquired, Change, Claimed, Committed, Name, Partition, Sealed, Store, Write},
    },
    stores::{self, StoreConfig},
};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use super::CHALLENGE_LENGTH;

/// The flows that all others are compared with.
const FIRST: u64 = 4_000;
/// The flows of a round after all: enough that they bring their share of merging tables.
const LATER: u64 = 20_000;
const CALLS_OF_A_FLOW: u32 = 3;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
const CREATIONS: [Window; 1] = [Window { max: 30, per: HOUR }];
const SENDS: [Window; 2] = [Window { max: 5, per: HOUR }, Window { max: 10, per: DAY }];
const TENANT: [Window; 1] = [Window { max: Window::MAX_USES, per: DAY }];

/// What the command line asks for.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    flows: u64,
    lanes: u64,
    rounds: u64,
    verified: bool,
    tenant: bool,
}

impl Plan {
    pub(crate) fn of(words: &[String]) -> Option<Self> {
        let number = |name: &str| {
            let text = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            Some(text.parse().expect("a number"))
        };
        let has = |wanted: &str| words.iter().any(|word| word == wanted);
        Some(Self {
            flows: number("flows")?,
            lanes: number("lanes").unwrap_or(64),
            rounds: number("rounds").unwrap_or(10),
            verified: !has("unverified"),
            tenant: has("tenant"),
        })
    }
}

/// Runs the flows in parts and tells what each part cost; then goes on beside new stores, to compare under equal conditions.
pub(crate) async fn measure(plan: Plan) {
    let mut aged = Opened::new().await;
    say(&format!("before: {:.1} MiB resident", resident()));
    let part = (plan.flows / 10).max(1);
    let ends = [FIRST].into_iter().chain((1..=10).map(|n| n * part).filter(|end| *end > FIRST));
    let mut first = None;
    for end in ends {
        let (from, cost) = (aged.done, aged.run(plan, end).await);
        let ratio = cost.cpu.as_secs_f64() / first.get_or_insert(cost.cpu).as_secs_f64();
        say(&format!("flows {from} to {end}: {cost} ({ratio:.2} times the first)"));
    }
    let disk = on_disk(aged.folder.path());
    say(&format!("after {} flows: {:.1} MiB resident, {disk:.0} MiB on disk", aged.done, resident()));

    let (mut of_new, mut of_aged) = (Duration::ZERO, Duration::ZERO);
    for round in 1..=plan.rounds {
        let mut new = Opened::new().await;
        let cost = new.run(plan, FIRST).await.cpu;
        new.close().await;
        let to = aged.done + LATER;
        let later = aged.run(plan, to).await.cpu;
        (of_new, of_aged) = (of_new + cost, of_aged + later);
        let ratio = of_aged.as_secs_f64() / of_new.as_secs_f64();
        say(&format!(
            "round {round}: first {FIRST} {cost:.1?}, next {LATER} {later:.1?}; so far {ratio:.2} times the first"
        ));
    }
    aged.close().await;
}

/// A store in a folder of its own.
struct Opened {
    folder: tempfile::TempDir,
    store: Arc<dyn Store>,
    done: u64,
}

/// What some flows cost: processor time a call, and how many were done in a second.
struct Cost {
    cpu: Duration,
    flows_per_second: f64,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, flows_per_second } = self;
        write!(f, "{cpu:.1?} of processor time a call, {flows_per_second:.0} flows/s, {:.1} MiB resident", resident())
    }
}

impl Opened {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("embedded:{}", folder.path().join("data").display());
        let config = StoreConfig::new(url.parse().expect("a valid address"));
        let store = stores::open(config, Arc::new(SystemClock), &TaskTracker::new()).await.expect("the store opens");
        Self { folder, store, done: 0 }
    }

    /// Goes on to the flow of this number, and until what that leaves to do in the background is done.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    async fn run(&mut self, plan: Plan, end: u64) -> Cost {
        let (before, began) = (cpu(), Instant::now());
        run(&self.store, plan, self.done, end).await;
        let took = began.elapsed();
        idle().await;
        let flows = u32::try_from(end - self.done).expect("a small number");
        self.done = end;
        let cpu = cpu().saturating_sub(before) / flows / CALLS_OF_A_FLOW;
        Cost { cpu, flows_per_second: f64::from(flows) / took.as_secs_f64() }
    }

    async fn close(self) {
        self.store.close(Deadline::after(Duration::from_secs(60))).await;
    }
}

/// Waits until this process has done next to nothing for a while.
async fn idle() {
    loop {
        let before = cpu();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if cpu().saturating_sub(before) <= Duration::from_millis(10) {
            return;
        }
    }
}

async fn run(store: &Arc<dyn Store>, plan: Plan, from: u64, to: u64) {
    let next = Arc::new(AtomicU64::new(from));
    let mut lanes = JoinSet::new();
    for _ in 0..plan.lanes {
        let (store, next) = (Arc::clone(store), Arc::clone(&next));
        lanes.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= to {
                    return;
                }
                Flow { store: &*store, plan, n }.run().await;
            }
        });
    }
    lanes.join_all().await;
}

/// What one flow asks of the store.
struct Flow<'a> {
    store: &'a dyn Store,
    plan: Plan,
    n: u64,
}

impl Flow<'_> {
    async fn run(&self) {
        let (creation, send) = (Token(self.n.to_be_bytes()), Token((!self.n).to_be_bytes()));
        let partition = Partition(spread(self.n, 1));
        let names = [Name::LOCKOUT, self.name(2)];
        let claiming = self.store.claim(self.name(3), partition, DAY + HOUR, soon());
        let reading = self.store.read(partition, &names, soon());
        let (claimed, read, ()) = tokio::join!(claiming, reading, self.acquire(4, &CREATIONS, creation));
        assert!(matches!(claimed, Ok(Claimed::Ours(_))));
        assert_eq!(read.expect("a read"), [None, None]);
        self.commit(partition, None, HOUR).await;

        self.acquire(5, &SENDS, send).await;
        self.commit(partition, Some(0), DAY).await;
        self.commit(partition, Some(1), DAY).await;
        if self.plan.verified {
            self.commit(partition, Some(2), DAY).await;
            let mut uses = vec![(self.name(4), creation), (self.name(5), send)];
            if self.plan.tenant {
                uses.extend([(tenant(4), creation), (tenant(5), send)]);
            }
            self.store.refund(&uses, soon()).await.expect("a refund");
        }
    }

    /// A quota of this flow alone, and one that all flows share.
    async fn acquire(&self, kind: u64, windows: &[Window], token: Token) {
        let now = SystemClock.now();
        let own = self.store.acquire(self.name(kind), token, windows, now, soon());
        let shared = async {
            if self.plan.tenant {
                self.store.acquire(tenant(kind), token, &TENANT, now, soon()).await.expect("an answer");
            }
        };
        let (own, ()) = tokio::join!(own, shared);
        assert_eq!(own.expect("an answer"), Acquired::Now);
    }

    /// The challenge from one version to the next, beside a lockout that is not there.
    async fn commit(&self, partition: Partition, from: Option<u64>, ttl: Duration) {
        let record = challenge(from.map_or(0, |from| from + 1));
        let changes = [
            Change { name: Name::LOCKOUT, expected: None, write: None },
            Change {
                name: self.name(2),
                expected: from.map(|from| challenge(from).version()),
                write: Some(Write { record, ttl }),
            },
        ];
        let committed = self.store.commit(partition, &changes, soon()).await;
        assert_eq!(committed.expect("an answer"), Committed::Done);
    }

    fn name(&self, kind: u64) -> Name {
        Name(spread(self.n, kind))
    }
}

fn tenant(kind: u64) -> Name {
    Name(spread(u64::MAX, kind))
}

fn challenge(version: u64) -> Sealed {
    super::record(CHALLENGE_LENGTH, version)
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Spread like the keyed hashes that names are (the finisher of SplitMix64).
fn spread<const N: usize>(n: u64, kind: u64) -> [u8; N] {
    let mix = |n: u64| {
        let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        n ^ (n >> 31)
    };
    let first = mix(n.wrapping_mul(8).wrapping_add(kind));
    let mut bytes = [0; N];
    let source = [first, mix(first)].into_iter().flat_map(u64::to_be_bytes);
    bytes.iter_mut().zip(source).for_each(|(to, from)| *to = from);
    bytes
}

/// Processor time of this process.
fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("the process");
    // Behind the name, which may hold anything: user and system time are the 12th and 13th field, in 1/100 s.
    let (_, fields) = stat.rsplit_once(") ").expect("fields");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Memory of this process, in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kib = line.trim().split(' ').next().expect("a word").parse::<f64>().expect("a number");
    kib / 1024.0
}

/// What is in a folder, in MiB.
fn on_disk(folder: &std::path::Path) -> f64 {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => on_disk(&entry.path()),
        Ok(metadata) => u32::try_from(metadata.len() / 1024).map_or(0.0, f64::from) / 1024.0,
        Err(_) => 0.0,
    };
    entries.map(size).sum()
}

fn say(text: &str) {
    writeln!(std::io::stdout(), "{text}").expect("standard output");
}
