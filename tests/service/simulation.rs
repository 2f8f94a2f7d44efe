//! Random callers, replicas that restart, clocks that jump, a store and providers that fail: all of it from one seed, checked
//! by [`crate::checker`]. `OTPD_SIM_SEED` runs one seed of choice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{
        code::CodeOwner,
        destination::Channel,
        outcome::{ChallengeState, Created},
        quota::Window,
        time::Timestamp,
    },
    ports::{
        clock::Deadline,
        provider::Capabilities,
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
    service::{error::Error, request::CreateChallenge},
};

use crate::{
    checker::{Call, History, Limits, Told, is_compared},
    entropy::Random,
    fake::{Deliver, FakeProvider, Judge},
    faults::{FaultyStore, Rates},
    memory::MemoryStore,
    world::{KEY_1, Replica, World, at_once, create, killed_after, mailbox, phone, reach, wrong},
};

const CALLERS: u64 = 6;
const STEPS: u64 = 80;
const SEEDS: u64 = 25;
/// The run is shorter than the first lock, so that a locked account stays locked.
const LONGEST_RUN: Duration = Duration::from_secs(29 * 60);
const LIMITS: Limits = Limits { attempts: 5, sends: 3, destination_sends: 12, failures: 10 };

/// What one simulation shares.
struct Simulation {
    world: World,
    replicas: Mutex<Vec<Replica>>,
    store: Arc<dyn Store>,
    calls: Mutex<Vec<Call>>,
    /// Errors that no fault explains.
    broken: Mutex<Vec<String>>,
    /// Name and account.
    challenges: Mutex<Vec<(String, String)>>,
    order: AtomicU64,
    started_at: Timestamp,
}

impl Simulation {
    fn new(seed: u64, break_swaps: bool) -> Self {
        let mut random = Random::new(seed);
        let providers = vec![provider("sms", Channel::Sms, CodeOwner::Otpd), managed(random.per_mille(500))];
        for provider in &providers {
            provider.deliveries((0..300).map(|_| delivery(&mut random)));
            provider.checks((0..300).map(|_| judge(&mut random)));
        }
        let world = World::with(providers).policy(|policy| {
            policy.limits.resend_gaps = vec![Duration::from_secs(5)];
            policy.quotas.destination_sends = vec![Window { max: 12, per: Duration::from_secs(3600) }];
            policy.quotas.account_creations.clear();
        });
        let store: Arc<dyn Store> = if break_swaps {
            let faults = Arc::new(FaultyStore::new(Arc::new(AlwaysSwaps(world.memory.clone()))));
            faults.interleave(seed, 3);
            faults
        } else {
            world.faults.interleave(seed, 3);
            world.faults.at_random(seed, Rates { before: 15, lost_answer: 15, late: 10, twice: 15 });
            world.faults.clone()
        };
        let started_at = world.now();
        let simulation = Self {
            world,
            replicas: Mutex::default(),
            store,
            calls: Mutex::default(),
            broken: Mutex::default(),
            challenges: Mutex::default(),
            order: AtomicU64::new(1),
            started_at,
        };
        for number in 0..=random.below(3) {
            let replica = simulation.start(number);
            simulation.replicas.lock().unwrap().push(replica);
        }
        simulation
    }

    fn start(&self, number: u64) -> Replica {
        let clock = self.world.clock.ahead(Duration::from_millis(number * 300));
        self.world.replica_over(self.store.clone(), KEY_1, clock)
    }

    fn any_replica(&self, random: &mut Random) -> Replica {
        random.pick(&self.replicas.lock().unwrap()).clone()
    }

    async fn caller(self: Arc<Self>, seed: u64) {
        let mut random = Random::new(seed);
        let mut repeats: Vec<(String, String, String, Option<String>)> = Vec::new();
        for step in 0..STEPS {
            let id = format!("r{seed}-{step}");
            let known = self.challenges.lock().unwrap().clone();
            match random.below(100) {
                0..=11 => Box::pin(self.create(&id, &mut random)).await,
                12..=15 => {
                    let span = Duration::from_secs(1 + random.below(20));
                    if self.world.now().since(self.started_at) + span < LONGEST_RUN {
                        self.world.clock.advance(span);
                    }
                }
                16..=19 => {
                    let mut replicas = self.replicas.lock().unwrap();
                    let index = random.below(u64::try_from(replicas.len()).unwrap());
                    replicas[usize::try_from(index).unwrap()] = self.start(index);
                }
                _ if known.is_empty() => {}
                20..=34 if !repeats.is_empty() => {
                    let (account, challenge, id, typed) = random.pick(&repeats).clone();
                    Box::pin(self.ask(&account, &challenge, &id, typed, &mut random)).await;
                }
                kind => {
                    // Mostly the latest ones, so that there is something to race for.
                    let latest = known.iter().rev().take(6).cloned().collect::<Vec<_>>();
                    let (challenge, account) = random.pick(&latest).clone();
                    if kind < 38 {
                        drop(self.any_replica(&mut random).cancel(&challenge, &id).await);
                        continue;
                    }
                    let typed = if kind < 55 { None } else { Some(self.typed(&challenge, &mut random)) };
                    repeats.push((account.clone(), challenge.clone(), id.clone(), typed.clone()));
                    Box::pin(self.ask(&account, &challenge, &id, typed, &mut random)).await;
                }
            }
            if random.per_mille(100) {
                tokio::time::sleep(Duration::from_millis(random.below(3000))).await;
            }
        }
    }

    /// The right code now and then.
    fn typed(&self, challenge: &str, random: &mut Random) -> String {
        let mails = self.world.providers.iter().flat_map(|provider| provider.outbox());
        let codes: Vec<_> = mails.filter(|mail| mail.challenge == challenge).map(|mail| mail.code).collect();
        let code = codes.last().cloned().unwrap_or_else(|| "123456".to_owned());
        if random.per_mille(200) { code } else { wrong(&code) }
    }

    async fn create(&self, id: &str, random: &mut Random) {
        let account = format!("account-{}", random.below(4));
        let destination = if random.per_mille(500) {
            phone(&format!("+1415555010{}", random.below(3)))
        } else {
            mailbox(&format!("m{}@example.com", random.below(3)))
        };
        let request = CreateChallenge { destinations: vec![reach("o1", destination)], ..create(&account) };
        let replica = self.any_replica(random);
        let told = Box::pin(self.call(&account, id, id, None, random, replica.create(id, request))).await;
        if let Some(Created::Success { .. }) = told {
            self.challenges.lock().unwrap().push((id.to_owned(), account));
        }
    }

    /// A verification of what was typed, or else a send.
    async fn ask(&self, account: &str, challenge: &str, id: &str, typed: Option<String>, random: &mut Random) {
        let replica = self.any_replica(random);
        if let Some(otp) = typed {
            let asking = replica.verify(challenge, id, &otp);
            Box::pin(self.call(account, challenge, id, Some(otp.clone()), random, asking)).await;
        } else {
            let sending = replica.send(challenge, id);
            Box::pin(self.call(account, challenge, id, None, random, sending)).await;
        }
    }

    /// Makes a call, whose process may die in the middle, and writes it down.
    async fn call<T: Clone + Into<Told>>(
        &self,
        account: &str,
        challenge: &str,
        id: &str,
        typed: Option<String>,
        random: &mut Random,
        calling: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let (started, started_at) = (self.order.fetch_add(1, Ordering::SeqCst), self.world.now());
        let polls = if random.per_mille(60) { random.below(40) } else { u64::MAX };
        let answer = Box::pin(killed_after(usize::try_from(polls).unwrap(), calling)).await;
        let broken = match &answer {
            Some(Err(error @ (Error::Internal(_) | Error::InvalidIdentifier | Error::IdempotencyViolation))) => {
                Some(format!("{challenge}, {id}: {error:?}"))
            }
            _ => None,
        };
        self.broken.lock().unwrap().extend(broken);
        let answer = answer.and_then(Result::ok);
        let told = answer.clone().map_or(Told::Nothing, Into::into);
        let ended = self.order.fetch_add(1, Ordering::SeqCst);
        let (account, challenge, id) = (account.to_owned(), challenge.to_owned(), id.to_owned());
        self.calls.lock().unwrap().push(Call { account, challenge, id, typed, started, ended, started_at, told });
        answer
    }

    /// Everything works again. All that was told is told again, and operators look.
    async fn history(&self) -> History {
        self.world.faults.heal();
        let calls = self.calls.lock().unwrap().clone();
        let replica = self.start(0);
        let mut repeated = BTreeMap::new();
        for call in calls.iter().filter(|call| call.told != Told::Nothing && call.challenge != call.id) {
            repeated.insert((call.challenge.clone(), call.id.clone()), call.clone());
        }
        // Only what is on record: another call would be another attempt.
        let on_record = |call: &Call| matches!(&call.told, Told::Verified(verified) if is_compared(verified));
        for call in repeated.into_values().filter(on_record) {
            let otp = call.typed.clone().unwrap_or_default();
            let told = replica.verify(&call.challenge, &call.id, &otp).await;
            let told = told.map_or(Told::Nothing, Told::Verified);
            let order = || self.order.fetch_add(1, Ordering::SeqCst);
            self.calls.lock().unwrap().push(Call { started: order(), ended: order(), told, ..call });
        }
        let mut history = History { calls: self.calls.lock().unwrap().clone(), ..History::default() };
        let challenges = self.challenges.lock().unwrap().clone();
        for (challenge, account) in challenges {
            let view = replica.view(&challenge).await;
            history.challenges.insert(challenge, (account.clone(), view.state));
            history.failures.insert(account.clone(), replica.account(&account).await.failures);
        }
        for provider in &self.world.providers {
            history.mails.extend(provider.outbox());
            history.questions.extend(provider.questions());
        }
        history
    }
}

impl From<Created> for Told {
    fn from(created: Created) -> Self {
        match created {
            Created::Success { expires_at, .. } => Self::Created { expires_at },
            _ => Self::Nothing,
        }
    }
}

impl From<otpd::domain::outcome::Sent> for Told {
    fn from(sent: otpd::domain::outcome::Sent) -> Self {
        Self::Sent(sent)
    }
}

impl From<otpd::domain::outcome::Verified> for Told {
    fn from(verified: otpd::domain::outcome::Verified) -> Self {
        Self::Verified(verified)
    }
}

fn provider(name: &str, channel: Channel, code_owner: CodeOwner) -> Arc<FakeProvider> {
    let timeout = Duration::from_secs(2);
    let capabilities =
        Capabilities { code_owner, channels: vec![channel], contact_on_file: false, timeout, code_life: None };
    FakeProvider::with(name, capabilities)
}

fn managed(check_repeatable: bool) -> Arc<FakeProvider> {
    provider("managed", Channel::Email, CodeOwner::Provider { check_repeatable })
}

fn delivery(random: &mut Random) -> Deliver {
    match random.below(20) {
        0 => Deliver::Reject,
        1 | 2 => Deliver::Fail(None),
        3 => Deliver::Unknown,
        4 => Deliver::Hang,
        5..9 => Deliver::After(Duration::from_millis(random.below(1500)), Box::new(Deliver::Accept)),
        _ => Deliver::Accept,
    }
}

fn judge(random: &mut Random) -> Judge {
    match random.below(20) {
        0 => Judge::Unknown,
        1 => Judge::Hang,
        2 => Judge::CompareUnheard,
        3..9 => Judge::After(Duration::from_millis(random.below(1500)), Box::new(Judge::Compare)),
        _ => Judge::Compare,
    }
}

async fn simulate(seed: u64, break_swaps: bool) -> (Vec<String>, History) {
    let simulation = Arc::new(Simulation::new(seed, break_swaps));
    at_once((0..CALLERS).map(|number| simulation.clone().caller(seed * 100 + number))).await;
    let history = simulation.history().await;
    let mut violations = history.violations(&LIMITS);
    violations.extend(simulation.broken.lock().unwrap().drain(..));
    (violations, history)
}

#[expect(clippy::disallowed_methods, reason = "a seed is no setting of otpd")]
fn seeds() -> Vec<u64> {
    match std::env::var("OTPD_SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("OTPD_SIM_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_the_contract_holds() {
    let (mut successes, mut failures, mut mails, mut questions) = (0, 0, 0, 0);
    let seeds = seeds();
    for seed in &seeds {
        println!("OTPD_SIM_SEED={seed}");
        let (violations, history) = simulate(*seed, false).await;
        assert!(violations.is_empty(), "OTPD_SIM_SEED={seed}: {violations:#?}");
        successes += history.challenges.values().filter(|(_, state)| *state == ChallengeState::Verified).count();
        failures += history.failures.values().sum::<u64>();
        mails += history.mails.len();
        questions += history.questions.len();
    }
    println!("{successes} verified, {failures} failures, {mails} messages, {questions} checks");
    assert!(seeds.len() == 1 || successes > 0 && failures > 0 && mails > 0, "the callers did something");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_is_the_same_run() {
    let (one, other) = (simulate(1, false).await.1, simulate(1, false).await.1);
    assert_eq!(format!("{:?}", one.calls), format!("{:?}", other.calls));
}

/// The canary: with a store that swaps whatever was read, the checker must find something.
#[tokio::test(start_paused = true)]
async fn a_store_without_a_swap_condition_is_found_out() {
    let mut found = Vec::new();
    for seed in 0..10 {
        found.extend(simulate(seed, true).await.0);
    }
    for kind in ["succeeded under", "was compared", "failed"] {
        assert!(found.iter().any(|violation| violation.contains(kind)), "nothing of {kind}: {found:#?}");
    }
}

/// Breaks the condition of a swap.
struct AlwaysSwaps(Arc<MemoryStore>);

#[async_trait]
impl Store for AlwaysSwaps {
    async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Sealed>, StoreError> {
        self.0.load(name, deadline).await
    }

    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Inserted, StoreError> {
        self.0.insert(name, record, ttl, deadline).await
    }

    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Swapped, StoreError> {
        let present = self.0.load(name, deadline).await?.map_or(read, |present| present.version());
        self.0.swap(name, present, record, ttl, deadline).await
    }

    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Taken, StoreError> {
        self.0.take(quota, take, windows, now, deadline).await
    }

    async fn give_back(&self, quota: Name, take: TakeId, deadline: Deadline) -> Result<(), StoreError> {
        self.0.give_back(quota, take, deadline).await
    }

    async fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.0.check(deadline).await
    }
}
