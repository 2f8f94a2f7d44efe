//! A store in front of another that fails as networks and servers do. Included with `#[path]`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::Deadline,
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
};

use super::entropy::Random;

/// What goes wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not applied, and fails.
    Before,
    /// It is applied, and its answer lost.
    LostAnswer,
    /// It fails, and is applied once that many later operations have been answered.
    Late(u32),
    /// It is applied twice, as by a client that repeats it; the second answer is told.
    Twice,
    /// Nothing happens until the deadline; then it fails, not applied.
    Hang,
}

/// How often what goes wrong, in thousandths of all operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rates {
    pub(crate) before: u64,
    pub(crate) lost_answer: u64,
    pub(crate) late: u64,
    pub(crate) twice: u64,
}

/// One operation, owned, so that it can be applied later.
#[derive(Clone)]
pub(crate) enum Operation {
    Load(Name),
    Insert(Name, Sealed, Duration),
    Swap(Name, Version, Sealed, Duration),
    Take(Name, TakeId, Vec<Window>, Timestamp),
    GiveBack(Name, TakeId),
}

impl Operation {
    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Load(_) => "load",
            Self::Insert(..) => "insert",
            Self::Swap(..) => "swap",
            Self::Take(..) => "take",
            Self::GiveBack(..) => "give back",
        }
    }
}

enum Answer {
    Loaded(Option<Sealed>),
    Inserted(Inserted),
    Swapped(Swapped),
    Taken(Taken),
    GivenBack,
}

type Hook = Box<dyn FnMut(usize, &Operation) + Send>;

#[derive(Default)]
struct Plan {
    count: usize,
    script: HashMap<usize, Fault>,
    random: Option<(Random, Rates)>,
    yields: Option<(Random, u64)>,
    steps: bool,
    gone: bool,
    late: Vec<(u32, Operation)>,
    log: Vec<&'static str>,
    hook: Option<Hook>,
}

/// The store in front.
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Plan>,
}

impl FaultyStore {
    /// Passes everything on, until told otherwise.
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// Counts operations from 0 again, and fails the one of each index so.
    pub(crate) fn script(&self, faults: &[(usize, Fault)]) {
        let mut plan = self.plan();
        plan.count = 0;
        plan.log.clear();
        plan.script = faults.iter().copied().collect();
    }

    /// Operations since the last script.
    pub(crate) fn count(&self) -> usize {
        self.plan().count
    }

    /// The names of the operations since the last script.
    pub(crate) fn log(&self) -> Vec<&'static str> {
        self.plan().log.clone()
    }

    /// Fails at random from now on.
    pub(crate) fn at_random(&self, seed: u64, rates: Rates) {
        self.plan().random = Some((Random::new(seed), rates));
    }

    /// Lets other tasks run up to so many times before and after each operation, so that races happen.
    pub(crate) fn interleave(&self, seed: u64, most: u64) {
        self.plan().yields = Some((Random::new(seed), most));
    }

    /// Lets other tasks run exactly once before and once after each operation, so that a future can be dropped between.
    pub(crate) fn step(&self) {
        self.plan().steps = true;
    }

    /// Fails everything, until it is back.
    pub(crate) fn set_gone(&self, gone: bool) {
        self.plan().gone = gone;
    }

    /// Calls this before each operation, with its index since the last script.
    pub(crate) fn set_hook(&self, hook: impl FnMut(usize, &Operation) + Send + 'static) {
        self.plan().hook = Some(Box::new(hook));
    }

    /// Works again from now on, and what was late is never applied.
    pub(crate) fn heal(&self) {
        let mut plan = self.plan();
        let yields = plan.yields.take();
        *plan = Plan { yields, ..Plan::default() };
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, operation: &Operation) -> (Option<Fault>, Vec<Operation>) {
        let mut plan = self.plan();
        let index = plan.count;
        plan.count += 1;
        plan.log.push(operation.name());
        if let Some(mut hook) = plan.hook.take() {
            hook(index, operation);
            plan.hook = Some(hook);
        }
        let due = plan.late.extract_if(.., |(left, _)| *left == 0).map(|(_, operation)| operation).collect();
        plan.late.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(1));
        let fault = if plan.gone { Some(Fault::Before) } else { plan.fault(index) };
        (fault, due)
    }

    async fn pause(&self) {
        let times = {
            let mut plan = self.plan();
            let drawn = plan.yields.as_mut().map_or(0, |(random, most)| random.below(*most + 1));
            drawn + u64::from(plan.steps)
        };
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    async fn run(&self, operation: Operation, deadline: Deadline) -> Result<Answer, StoreError> {
        let name = operation.name();
        self.pause().await;
        let (fault, due) = self.next(&operation);
        for late in due {
            // Nobody hears its answer.
            drop(self.apply(&late, deadline).await);
        }
        let answer = match fault {
            None => self.apply(&operation, deadline).await,
            Some(Fault::Before) => Err(StoreError::new(name, "connection refused")),
            Some(Fault::LostAnswer) => {
                self.apply(&operation, deadline).await?;
                Err(StoreError::new(name, "connection reset"))
            }
            Some(Fault::Late(after)) => {
                self.plan().late.push((after, operation));
                Err(StoreError::timed_out(name))
            }
            Some(Fault::Twice) => {
                self.apply(&operation, deadline).await?;
                self.apply(&operation, deadline).await
            }
            Some(Fault::Hang) => {
                tokio::time::sleep_until(deadline.instant()).await;
                Err(StoreError::timed_out(name))
            }
        };
        self.pause().await;
        answer
    }

    async fn apply(&self, operation: &Operation, deadline: Deadline) -> Result<Answer, StoreError> {
        match operation {
            Operation::Load(name) => self.inner.load(*name, deadline).await.map(Answer::Loaded),
            Operation::Insert(name, record, ttl) => {
                self.inner.insert(*name, record, *ttl, deadline).await.map(Answer::Inserted)
            }
            Operation::Swap(name, read, record, ttl) => {
                self.inner.swap(*name, *read, record, *ttl, deadline).await.map(Answer::Swapped)
            }
            Operation::Take(quota, take, windows, now) => {
                self.inner.take(*quota, *take, windows, *now, deadline).await.map(Answer::Taken)
            }
            Operation::GiveBack(quota, take) => {
                self.inner.give_back(*quota, *take, deadline).await.map(|()| Answer::GivenBack)
            }
        }
    }
}

impl Plan {
    fn fault(&mut self, index: usize) -> Option<Fault> {
        if let Some(fault) = self.script.get(&index) {
            return Some(*fault);
        }
        let (random, rates) = self.random.as_mut()?;
        let drawn = random.below(1000);
        let later = u32::try_from(random.below(20)).unwrap_or(0);
        let faults = [
            (rates.before, Fault::Before),
            (rates.lost_answer, Fault::LostAnswer),
            (rates.late, Fault::Late(later)),
            (rates.twice, Fault::Twice),
        ];
        let mut end = 0;
        faults.into_iter().find_map(|(rate, fault)| {
            end += rate;
            (drawn < end).then_some(fault)
        })
    }
}

fn wrong() -> StoreError {
    StoreError::new("test", "the answer of another operation")
}

#[async_trait]
impl Store for FaultyStore {
    async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Sealed>, StoreError> {
        match self.run(Operation::Load(name), deadline).await? {
            Answer::Loaded(loaded) => Ok(loaded),
            _ => Err(wrong()),
        }
    }

    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Inserted, StoreError> {
        match self.run(Operation::Insert(name, record.clone(), ttl), deadline).await? {
            Answer::Inserted(inserted) => Ok(inserted),
            _ => Err(wrong()),
        }
    }

    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Swapped, StoreError> {
        match self.run(Operation::Swap(name, read, record.clone(), ttl), deadline).await? {
            Answer::Swapped(swapped) => Ok(swapped),
            _ => Err(wrong()),
        }
    }

    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Taken, StoreError> {
        match self.run(Operation::Take(quota, take, windows.to_vec(), now), deadline).await? {
            Answer::Taken(taken) => Ok(taken),
            _ => Err(wrong()),
        }
    }

    async fn give_back(&self, quota: Name, take: TakeId, deadline: Deadline) -> Result<(), StoreError> {
        self.run(Operation::GiveBack(quota, take), deadline).await.map(|_| ())
    }

    async fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        if self.plan().gone {
            return Err(StoreError::new("check", "connection refused"));
        }
        self.inner.check(deadline).await
    }
}
