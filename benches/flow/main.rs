//! Whole calls over real gRPC: create, send and verify, against otpd in a process of its own, on every store.
//!
//! `cargo bench --bench flow`; words on the command line choose and set, as `redis-socket in-flight=256`:
//!
//! - `embedded`, `redis-socket`, `redis-tcp`: the stores, all by default;
//! - `connections=4`, `in-flight=64`: the caller's, a closed loop;
//! - `rounds=5`, `flows=4000`: each round opens so many challenges, then sends to all, then verifies all.
//!
//! Beside each otpd on Redis runs a bare server: tonic without any of otpd's layers, which answers messages of the same
//! sizes after one script call. The servers take turns round by round, so that what else the machine does hits all alike.
//! Caller, servers and Redis share the machine, and the ratios with it.
#![expect(clippy::expect_used, clippy::panic, reason = "a benchmark that cannot run has nothing better to do")]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

mod bare;
mod caller;
mod child;
mod report;
mod target;

#[path = "../../tests/support/redis.rs"]
mod redis_server;

use caller::{Load, Step};
use redis_server::RedisServer;
use report::Figures;
use target::{Kind, Place, Target};

/// Flows of each target before anything is measured.
const WARM_UP: u64 = 200;

fn main() {
    if bare::is_asked_for() {
        return bare::run();
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let number = |name: &str, default: u64| {
        let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        value.map_or(default, |value| value.parse().expect("a number"))
    };
    let load = Load {
        connections: usize::try_from(number("connections", 4)).expect("a small number").max(1),
        in_flight: usize::try_from(number("in-flight", 64)).expect("a small number").max(1),
    };
    let (rounds, flows) = (number("rounds", 5), number("flows", 4000));
    let places: Vec<Place> =
        Place::ALL.into_iter().filter(|place| words.iter().any(|word| word == place.name())).collect();
    let places = if places.is_empty() { Place::ALL.to_vec() } else { places };

    println!(
        "{} connections, {} in flight; {rounds} rounds of {flows} flows; caller, servers and store share the machine",
        load.connections, load.in_flight
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(load, rounds, flows, &places));
}

async fn run(load: Load, rounds: u64, flows: u64, places: &[Place]) {
    let redis = RedisServer::start();
    let mut targets = Vec::new();
    for (base, place) in (0..).step_by(1_000_000).zip(places) {
        targets.push(Target::start(Kind::Otpd, *place, base, &redis, load).await);
        if *place != Place::Embedded {
            targets.push(Target::start(Kind::Bare, *place, base, &redis, load).await);
        }
    }
    println!();
    for target in &mut targets {
        target.first_flow(&redis).await;
    }
    for target in &mut targets {
        for step in Step::ALL {
            target.run(step, 1..=WARM_UP, load).await;
        }
    }
    let mut figures: Vec<[Figures; 3]> = targets.iter().map(|_| std::array::from_fn(|_| Figures::new())).collect();
    for round in 0..rounds {
        let first = WARM_UP + 1 + round * flows;
        for (target, figures) in targets.iter_mut().zip(&mut figures) {
            for (step, figures) in Step::ALL.into_iter().zip(figures) {
                figures.add(&target.measure(step, first..=first + flows - 1, load, &redis).await);
            }
        }
    }
    for target in &targets {
        target.print_memory_after();
    }
    println!();
    report::print(&targets, &figures);
}
