//! Random callers and operators, replicas that restart, clocks that jump, a store and providers that fail: all of it from one
//! seed, checked by [`crate::checker`]. `OTPD_SIM_SEED` runs one seed of choice, or
//! several, as `10..20`.

mod callers;
mod end;

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use otpd::{
    domain::{
        code::CodeOwner,
        destination::{Channel, Destination},
        outcome::ChallengeState,
        purpose::Purpose,
        quota::Window,
        time::Timestamp,
    },
    ports::{provider::Capabilities, store::Store},
};

use crate::{
    broken::{BrokenStore, Commits},
    checker::{About, Call, History, Limits, Operation},
    entropy::Random,
    fake::{Deliver, FakeProvider, Judge},
    faults::{FaultyStore, Rates},
    tasks::at_once,
    world::{KEY_1, Replica, World},
};

const CALLERS: u64 = 6;
const STEPS: u64 = 80;
const SEEDS: u64 = 20;
/// The run is shorter than the first lock, so that a lock by failures lasts to its end.
const LONGEST_RUN: Duration = Duration::from_secs(29 * 60);
const ATTEMPTS: usize = 5;
const SENDS: usize = 3;
const DESTINATION_SENDS: u32 = 12;
const FAILURES: usize = 10;
const HOUR: Duration = Duration::from_secs(3600);

/// What goes wrong beside providers, races, restarts and leases that end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Faults {
    /// Nothing.
    None,
    /// The store loses, delays and repeats operations, and processes die.
    StoreAndDeaths,
    /// The store commits whatever was read.
    Canary,
}

/// A challenge that callers know of.
#[derive(Clone, Debug)]
struct Known {
    about: About,
    purpose: Purpose,
    destination: Destination,
}

/// What one simulation shares.
struct Simulation {
    world: World,
    faults: Faults,
    replicas: Mutex<Vec<Replica>>,
    store: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
    operations: Mutex<Vec<Operation>>,
    /// Errors that no fault explains.
    broken: Mutex<Vec<String>>,
    challenges: Mutex<Vec<Known>>,
    order: AtomicU64,
    started_at: Timestamp,
}

impl Simulation {
    fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed);
        let (ours, email) = (CodeOwner::Otpd, CodeOwner::Provider { check_repeatable: random.per_mille(500) });
        let providers = vec![
            provider("sms", Channel::Sms, ours),
            provider("other-sms", Channel::Sms, ours),
            provider("managed", Channel::Email, email),
        ];
        for provider in &providers {
            provider.deliveries((0..300).map(|_| delivery(&mut random)));
            provider.checks((0..300).map(|_| judge(&mut random)));
        }
        let world = World::with(providers).policy(|policy| {
            policy.limits.resend_gaps = vec![Duration::from_secs(5)];
            policy.quotas.destination_sends = vec![Window { max: DESTINATION_SENDS, per: HOUR }];
            policy.quotas.account_creations = vec![Window { max: 40, per: HOUR }];
        });
        let store: Arc<dyn Store> = if faults == Faults::Canary {
            let broken = BrokenStore { inner: world.memory.clone(), commits: Commits::Always };
            let broken = Arc::new(FaultyStore::new(Arc::new(broken)));
            broken.interleave(seed, 3);
            broken
        } else {
            world.faults.interleave(seed, 3);
            world.faults.clone()
        };
        if faults == Faults::StoreAndDeaths {
            world.faults.at_random(seed, Rates { before: 15, lost_answer: 15, late: 10, twice: 15 });
        }
        let started_at = world.now();
        let simulation = Self {
            world,
            faults,
            replicas: Mutex::default(),
            store,
            calls: Mutex::default(),
            operations: Mutex::default(),
            broken: Mutex::default(),
            challenges: Mutex::default(),
            order: AtomicU64::new(1),
            started_at,
        };
        for number in 0..2 + random.below(2) {
            let replica = simulation.start(number);
            simulation.replicas.lock().unwrap().push(replica);
        }
        simulation
    }

    fn start(&self, number: u64) -> Replica {
        let clock = self.world.clock.ahead(Duration::from_millis(number * 300));
        self.world.replica_over(self.store.clone(), KEY_1, clock)
    }
}

fn provider(name: &str, channel: Channel, code_owner: CodeOwner) -> Arc<FakeProvider> {
    let timeout = Duration::from_secs(2);
    let capabilities = Capabilities {
        code_owner,
        channels: vec![channel],
        contact_on_file: false,
        purposes: Purpose::ALL.to_vec(),
        currencies: None,
        prefix: None,
        send_repeatable: false,
        timeout,
        code_life: None,
    };
    FakeProvider::with(name, capabilities)
}

fn delivery(random: &mut Random) -> Deliver {
    match random.below(20) {
        0 => Deliver::Reject,
        1..4 => Deliver::Fail(None),
        4 => Deliver::Unknown,
        5 => Deliver::Hang,
        6..10 => Deliver::After(Duration::from_millis(random.below(1500)), Box::new(Deliver::Accept)),
        _ => Deliver::Accept,
    }
}

fn judge(random: &mut Random) -> Judge {
    match random.below(20) {
        0 => Judge::Unknown,
        1 => Judge::Hang,
        2 => Judge::CompareUnheard,
        3 => Judge::Fail,
        4..10 => Judge::After(Duration::from_millis(random.below(1500)), Box::new(Judge::Compare)),
        _ => Judge::Compare,
    }
}

async fn simulate(seed: u64, faults: Faults) -> (Vec<String>, History) {
    let simulation = Arc::new(Simulation::new(seed, faults));
    at_once((0..CALLERS).map(|number| simulation.clone().caller(seed * 100 + number))).await;
    let history = simulation.history().await;
    let limits = Limits {
        attempts: ATTEMPTS,
        sends: SENDS,
        destination_sends: usize::try_from(DESTINATION_SENDS).unwrap(),
        failures: FAILURES,
        exact: faults == Faults::None,
    };
    let mut violations = history.violations(&limits);
    violations.extend(simulation.broken.lock().unwrap().drain(..));
    (violations, history)
}

#[expect(clippy::disallowed_methods, reason = "a seed is no setting of otpd")]
fn seeds() -> Vec<u64> {
    let Ok(seeds) = std::env::var("OTPD_SIM_SEED") else { return (0..SEEDS).collect() };
    let number = |text: &str| text.parse::<u64>().expect("OTPD_SIM_SEED is a number, or two as in 10..20");
    seeds.split_once("..").map_or_else(|| vec![number(&seeds)], |(from, to)| (number(from)..number(to)).collect())
}

async fn the_contract_holds(faults: Faults) {
    let (mut successes, mut failures, mut mails, mut questions, mut locks) = (0, 0, 0, 0, 0);
    let seeds = seeds();
    for seed in &seeds {
        println!("OTPD_SIM_SEED={seed}, faults: {faults:?}");
        let (violations, history) = simulate(*seed, faults).await;
        assert!(violations.is_empty(), "OTPD_SIM_SEED={seed}, faults: {faults:?}: {violations:#?}");
        successes += history.challenges.iter().filter(|last| last.state == ChallengeState::Verified).count();
        failures += history.failures.values().sum::<u32>();
        mails += history.mails.len();
        questions += history.questions.len();
        locks += history.operations.len();
    }
    println!("{successes} verified, {failures} failures, {mails} messages, {questions} checks, {locks} operations");
    let something = [successes, mails, questions, locks].iter().all(|count| *count > 0) && failures > 0;
    assert!(seeds.len() == 1 || something, "the callers did something");
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds_whatever_fails() {
    the_contract_holds(Faults::StoreAndDeaths).await;
}

#[tokio::test(start_paused = true)]
async fn the_contract_holds_and_quotas_are_exact_while_the_store_works() {
    the_contract_holds(Faults::None).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    let (one, other) = (simulate(1, Faults::StoreAndDeaths).await.1, simulate(1, Faults::StoreAndDeaths).await.1);
    assert_eq!(format!("{:?}", one.calls), format!("{:?}", other.calls));
}

/// The canary: with a store that commits whatever was read, the checker must find something.
#[tokio::test(start_paused = true)]
async fn a_store_that_commits_without_its_condition_is_found_out() {
    let mut found = Vec::new();
    for seed in 0..10 {
        found.extend(simulate(seed, Faults::Canary).await.0);
    }
    for kind in ["succeeded under", "was compared", "failed"] {
        assert!(found.iter().any(|violation| violation.contains(kind)), "nothing of {kind}: {found:#?}");
    }
}
