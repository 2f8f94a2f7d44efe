//! A store in front of another that fails as networks and servers do. Included with `#[path]`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        clock::Deadline,
        store::{
            Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store,
            StoreError, StoreFault,
        },
    },
};
use tokio::{sync::Semaphore, time::timeout_at};

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
    Locate(Name, Vec<Name>),
    Claim(Name, Partition, Duration),
    Read(Partition, Vec<Name>),
    Commit(Partition, Vec<Change>),
    Acquire(Name, Token, Vec<Window>, Timestamp),
    Refund(Vec<(Name, Token)>),
    Usage(Name, Vec<Window>, Timestamp),
    Clear(Name),
}

impl Operation {
    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Locate(..) => "locate",
            Self::Claim(..) => "claim",
            Self::Read(..) => "read",
            Self::Commit(..) => "commit",
            Self::Acquire(..) => "acquire",
            Self::Refund(..) => "refund",
            Self::Usage(..) => "usage",
            Self::Clear(..) => "clear",
        }
    }
}

enum Answer {
    Located(Option<Located>),
    Claimed(Claimed),
    Read(Vec<Option<Sealed>>),
    Committed(Committed),
    Acquired(Acquired),
    Used(Vec<u32>),
    Nothing,
}

/// When a call is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before it is applied.
    Before,
    /// Once it is applied, and before it is answered.
    After,
}

/// A pause of one call. The call goes on once this is dropped, and ends by its deadline in any case.
pub(crate) struct Pause {
    reached: Arc<Semaphore>,
    resumed: Arc<Semaphore>,
}

impl Pause {
    /// Waits until a call has come to the pause.
    pub(crate) async fn reached(&self) {
        drop(self.reached.acquire().await);
    }

    /// Lets the call go on.
    pub(crate) fn resume(self) {
        drop(self);
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.resumed.close();
    }
}

struct Stop {
    operation: &'static str,
    when: When,
    reached: Arc<Semaphore>,
    resumed: Arc<Semaphore>,
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
    stops: Vec<Stop>,
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

    /// Pauses the next call of an operation.
    pub(crate) fn pause_next(&self, operation: &'static str, when: When) -> Pause {
        let (reached, resumed) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let pause = Pause { reached: Arc::clone(&reached), resumed: Arc::clone(&resumed) };
        self.plan().stops.push(Stop { operation, when, reached, resumed });
        pause
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

    async fn let_others_run(&self) {
        let times = {
            let mut plan = self.plan();
            let drawn = plan.yields.as_mut().map_or(0, |(random, most)| random.below(*most + 1));
            drawn + u64::from(plan.steps)
        };
        for _ in 0..times {
            tokio::task::yield_now().await;
        }
    }

    /// Pauses where a pause was asked for.
    async fn stop(&self, operation: &'static str, when: When, deadline: Deadline) -> Result<(), StoreError> {
        let stop = {
            let mut plan = self.plan();
            let asked = plan.stops.iter().position(|stop| (stop.operation, stop.when) == (operation, when));
            asked.map(|index| plan.stops.remove(index))
        };
        let Some(stop) = stop else { return Ok(()) };
        stop.reached.add_permits(1);
        // The semaphore has no permits: waiting for one ends when it is closed.
        let resumed = timeout_at(deadline.instant(), stop.resumed.acquire()).await;
        resumed.map(drop).map_err(|_| StoreError::timed_out(operation))
    }

    async fn run(&self, operation: Operation, deadline: Deadline) -> Result<Answer, StoreError> {
        let name = operation.name();
        self.let_others_run().await;
        let (fault, due) = self.next(&operation);
        for late in due {
            drop(self.apply(&late, deadline).await);
        }
        self.stop(name, When::Before, deadline).await?;
        let answer = match fault {
            None => self.apply(&operation, deadline).await,
            Some(Fault::Before) => Err(StoreError::new(name, "connection refused").by(StoreFault::NotConnected)),
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
        self.stop(name, When::After, deadline).await?;
        self.let_others_run().await;
        answer
    }

    async fn apply(&self, operation: &Operation, deadline: Deadline) -> Result<Answer, StoreError> {
        match operation {
            Operation::Locate(index, names) => self.inner.locate(*index, names, deadline).await.map(Answer::Located),
            Operation::Claim(index, partition, life) => {
                self.inner.claim(*index, *partition, *life, deadline).await.map(Answer::Claimed)
            }
            Operation::Read(partition, names) => self.inner.read(*partition, names, deadline).await.map(Answer::Read),
            Operation::Commit(partition, changes) => {
                self.inner.commit(*partition, changes, deadline).await.map(Answer::Committed)
            }
            Operation::Acquire(quota, usage, windows, now) => {
                self.inner.acquire(*quota, *usage, windows, *now, deadline).await.map(Answer::Acquired)
            }
            Operation::Refund(uses) => self.inner.refund(uses, deadline).await.map(|()| Answer::Nothing),
            Operation::Usage(quota, windows, now) => {
                self.inner.usage(*quota, windows, *now, deadline).await.map(Answer::Used)
            }
            Operation::Clear(quota) => self.inner.clear(*quota, deadline).await.map(|()| Answer::Nothing),
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
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        match self.run(Operation::Locate(index, names.to_vec()), deadline).await? {
            Answer::Located(located) => Ok(located),
            _ => Err(wrong()),
        }
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        match self.run(Operation::Claim(index, partition, life), deadline).await? {
            Answer::Claimed(claimed) => Ok(claimed),
            _ => Err(wrong()),
        }
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        match self.run(Operation::Read(partition, names.to_vec()), deadline).await? {
            Answer::Read(records) => Ok(records),
            _ => Err(wrong()),
        }
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        match self.run(Operation::Commit(partition, changes.to_vec()), deadline).await? {
            Answer::Committed(committed) => Ok(committed),
            _ => Err(wrong()),
        }
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        match self.run(Operation::Acquire(quota, usage, windows.to_vec(), now), deadline).await? {
            Answer::Acquired(acquired) => Ok(acquired),
            _ => Err(wrong()),
        }
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        self.run(Operation::Refund(uses.to_vec()), deadline).await.map(drop)
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        match self.run(Operation::Usage(quota, windows.to_vec(), now), deadline).await? {
            Answer::Used(counts) => Ok(counts),
            _ => Err(wrong()),
        }
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        self.run(Operation::Clear(quota), deadline).await.map(drop)
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        self.inner.scan(from, deadline).await
    }

    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        if self.plan().gone {
            return Err(StoreError::new("check", "connection refused"));
        }
        self.inner.check(deadline).await
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
