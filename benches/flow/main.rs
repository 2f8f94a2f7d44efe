//! Whole calls over real gRPC: create, send and verify, against otpd in a process of its own, on every store.
//!
//! `cargo bench --bench flow`; words on the command line choose and set, as `redis-socket in-flight=256`:
//!
//! - `embedded`, `redis-socket`, `redis-tcp`: the stores, all by default;
//! - `connections=4`, `in-flight=64`: the caller's, a closed loop;
//! - `rounds=5`, `flows=4000`: each round opens so many challenges, then sends to all, then verifies all;
//! - `open=1000,1000000`: measures once with each number of challenges that are open already; opening the last takes minutes;
//! - `other=PATH`: another build of otpd runs beside this one.
//!
//! Beside each otpd on Redis runs a bare server: tonic without any of otpd's layers, which answers messages of the same
//! sizes after one script call, and writes the same line to its log. The servers take turns round by round, in turned
//! order every other time, so that what else the machine does hits all alike. Caller, servers and Redis share the machine,
//! and the ratios with it.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::print_stdout, reason = "the measurements are the output")]

mod bare;
mod caller;
mod child;
mod records;
mod report;
mod target;
mod trips;

#[path = "../../tests/support/redis.rs"]
mod redis_server;

use caller::{Load, Step};
use redis_server::RedisServer;
use report::Totals;
use target::{Kind, Place, Target};

/// Flows of each target before anything is measured.
const WARM_UP: u64 = 200;
/// Flows of one target never meet those of another, nor those that only open challenges.
const FLOWS_OF_A_TARGET: u64 = 1_000_000;

/// What the command line asks for.
struct Plan {
    load: Load,
    rounds: u64,
    flows: u64,
    places: Vec<Place>,
    /// Challenges that are open before each measurement.
    open: Vec<u64>,
    other: Option<std::path::PathBuf>,
}

fn main() {
    if bare::is_asked_for() {
        return bare::run();
    }
    let plan = plan(&std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect::<Vec<_>>());
    println!(
        "{} connections, {} in flight; {} rounds of {} flows; caller, servers and store share the machine",
        plan.load.connections, plan.load.in_flight, plan.rounds, plan.flows
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(&plan));
}

fn plan(words: &[String]) -> Plan {
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let number = |name: &str, default: u64| value(name).map_or(default, |value| value.parse().expect("a number"));
    let small = |name: &str, default| usize::try_from(number(name, default)).expect("a small number").max(1);
    let chosen = Place::ALL.into_iter().filter(|place| words.iter().any(|word| word == place.name()));
    let chosen: Vec<Place> = chosen.collect();
    let open = value("open").unwrap_or("0").split(',').map(|number| number.parse().expect("numbers"));
    Plan {
        load: Load { connections: small("connections", 4), in_flight: small("in-flight", 64) },
        rounds: number("rounds", 5),
        flows: number("flows", 4000),
        places: if chosen.is_empty() { Place::ALL.to_vec() } else { chosen },
        open: open.collect(),
        other: value("other").map(Into::into),
    }
}

async fn run(plan: &Plan) {
    let redis = RedisServer::start();
    if plan.places.iter().any(|place| *place != Place::Embedded) {
        trips::print(&redis).await;
    }
    let mut targets = start(plan, &redis).await;
    println!();
    for target in &mut targets {
        target.first_flow(&redis).await;
    }
    for target in &mut targets {
        for step in Step::ALL {
            target.run(step, 1..=WARM_UP, plan.load).await;
        }
    }
    let (mut next, mut opened) = (WARM_UP + 1, 0);
    for open in &plan.open {
        if *open > opened {
            for target in targets.iter_mut().filter(|target| target.kind == Kind::Otpd) {
                target.open(opened, *open, plan.load).await;
            }
            opened = *open;
        }
        println!("\nwith {opened} challenges open; {:.1} MiB of data in Redis", records::dataset(&redis));
        let totals = measure(plan, &mut targets, &redis, next).await;
        next += plan.rounds * plan.flows;
        report::print(&targets, &totals);
    }
    println!();
    for target in &targets {
        target.print_memory_after();
    }
}

async fn start(plan: &Plan, redis: &RedisServer) -> Vec<Target> {
    let mut targets = Vec::new();
    let mut bases = (0..).step_by(usize::try_from(FLOWS_OF_A_TARGET).expect("a small number"));
    for place in &plan.places {
        let store = if *place == Place::RedisTcp { redis.tcp_url() } else { redis.url() };
        let yardstick = (*place != Place::Embedded).then_some(Kind::Bare);
        for kind in [Kind::Otpd].into_iter().chain(plan.other.clone().map(Kind::Other)).chain(yardstick) {
            let base = bases.next().expect("there are enough");
            targets.push(Target::start(kind, *place, base, &store, plan.load).await);
        }
    }
    targets
}

/// All rounds over all targets.
async fn measure(plan: &Plan, targets: &mut [Target], redis: &RedisServer, first: u64) -> Vec<[Totals; 3]> {
    let mut totals: Vec<[Totals; 3]> = targets.iter().map(|_| std::array::from_fn(|_| Totals::new())).collect();
    for round in 0..plan.rounds {
        let first = first + round * plan.flows;
        let mut turns: Vec<_> = targets.iter_mut().zip(&mut totals).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (target, totals) in turns {
            for (step, totals) in Step::ALL.into_iter().zip(totals) {
                totals.add(&target.measure(step, first..=first + plan.flows - 1, plan.load, redis).await);
            }
        }
    }
    totals
}
