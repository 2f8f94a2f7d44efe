//! One store, one clock, some providers, and as many replicas as a test wants.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::{
    domain::{
        outcome::{ChallengeView, Created, LockoutView, Sent, Verified},
        policy::{TenantPolicy, Tenants},
        route::Scope,
        time::Timestamp,
    },
    keys::ring::KeyRing,
    messages::Messages,
    ports::{clock::Clock, decisions::DecisionObserver, provider::Provider, store::Store},
    secret::Secret,
    service::{
        Otp, Ports,
        error::Error,
        gate::Gate,
        request::{CreateChallenge, LockAccount, LockoutOwner, UnlockAccount},
        route::Routes,
    },
};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::{
    clock::TestClock,
    entropy::SeededEntropy,
    fake::FakeProvider,
    faults::FaultyStore,
    memory::MemoryStore,
    observed::ObservedStore,
    requests::{ACCOUNT, accepted, caller, create, created, of_account, request_id, send, verify, wrong},
};

/// Two keys, the second of which is not yet in the ring that replicas get unless told otherwise.
pub(crate) const KEY_1: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub(crate) const KEY_2: &str = "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
/// What is waited for has happened long before, or never will.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Everything around the replicas.
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) memory: Arc<MemoryStore>,
    /// In front of the memory, so that what reaches it can be waited for.
    pub(crate) observed: Arc<ObservedStore>,
    /// In front of that; what replicas use.
    pub(crate) faults: Arc<FaultyStore>,
    pub(crate) providers: Vec<Arc<FakeProvider>>,
    pub(crate) policy: TenantPolicy,
    /// The built-in texts, unless a test has others.
    pub(crate) messages: Arc<Messages>,
    /// Who is told of decisions.
    pub(crate) observers: Vec<Arc<dyn DecisionObserver>>,
    /// What replicas leave behind.
    pub(crate) tasks: TaskTracker,
    /// Each replica has randomness of its own.
    replicas: AtomicU64,
    operations: Arc<AtomicU64>,
}

impl World {
    /// One provider that delivers our codes, and the default policy.
    pub(crate) fn new() -> Self {
        Self::with(vec![FakeProvider::ours("sms")])
    }

    /// These providers, in order of preference.
    pub(crate) fn with(providers: Vec<Arc<FakeProvider>>) -> Self {
        let clock = TestClock::new();
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        Self::over(providers, clock, memory)
    }

    /// Over a store that reads an index entry and the records apart, as a cluster does.
    pub(crate) fn reading_apart() -> Self {
        let clock = TestClock::new();
        let memory = Arc::new(MemoryStore::reading_apart(Arc::new(clock.clone())));
        Self::over(vec![FakeProvider::ours("sms")], clock, memory)
    }

    fn over(providers: Vec<Arc<FakeProvider>>, clock: TestClock, memory: Arc<MemoryStore>) -> Self {
        let observed = ObservedStore::new(memory.clone());
        let faults = Arc::new(FaultyStore::new(observed.clone()));
        Self {
            clock,
            memory,
            observed,
            faults,
            providers,
            policy: TenantPolicy::default(),
            messages: Arc::default(),
            observers: Vec::new(),
            tasks: TaskTracker::new(),
            replicas: AtomicU64::new(1),
            operations: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The default policy with changes.
    pub(crate) fn policy(mut self, change: impl FnOnce(&mut TenantPolicy)) -> Self {
        change(&mut self.policy);
        self
    }

    /// Races happen from now on.
    pub(crate) fn interleaved(self, seed: u64) -> Self {
        self.faults.interleave(seed, 3);
        self
    }

    /// A replica that remembers nothing yet.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_of(KEY_1, self.clock.clone())
    }

    /// A replica with its own ring of keys and clock.
    pub(crate) fn replica_of(&self, ring: &str, clock: TestClock) -> Replica {
        self.replica_over(self.faults.clone(), ring, clock)
    }

    /// A replica with a line of its own to the store, for faults and pauses of its own.
    pub(crate) fn line(&self) -> (Replica, Arc<FaultyStore>) {
        let line = Arc::new(FaultyStore::new(self.faults.clone()));
        (self.replica_over(line.clone(), KEY_1, self.clock.clone()), line)
    }

    /// A replica over another store.
    pub(crate) fn replica_over(&self, store: Arc<dyn Store>, ring: &str, clock: TestClock) -> Replica {
        self.replica_under(&self.policy, store, ring, clock)
    }

    /// A replica under another policy, and over another store.
    pub(crate) fn replica_under(
        &self,
        policy: &TenantPolicy,
        store: Arc<dyn Store>,
        ring: &str,
        clock: TestClock,
    ) -> Replica {
        let seed = self.replicas.fetch_add(1, Ordering::Relaxed) << 32;
        let providers = self.providers.iter().map(|provider| provider.clone() as Arc<dyn Provider>);
        let providers: Vec<_> = providers.collect();
        let gate = Arc::new(Gate::new(Arc::new(clock)));
        gate.open(gate.read());
        let ports = Ports {
            store,
            keys: Arc::new(KeyRing::parse(&Secret::new(ring.to_owned()), true).expect("ring")),
            gate,
            entropy: Arc::new(SeededEntropy::new(seed)),
            routes: Routes::new(providers.clone(), vec![(Scope::default(), providers)]),
            messages: Messages::clone(&self.messages),
            observers: self.observers.clone(),
            tasks: self.tasks.clone(),
        };
        let otp = Arc::new(Otp::new(ports, Tenants { others: Some(policy.clone()), ..Tenants::default() }));
        Replica { otp, operations: Arc::clone(&self.operations) }
    }

    /// So many replicas that remember nothing yet.
    pub(crate) fn replicas(&self, number: usize) -> Vec<Replica> {
        (0..number).map(|_| self.replica()).collect()
    }

    /// How many uses of quotas are kept.
    pub(crate) fn uses(&self) -> usize {
        self.memory.uses()
    }

    /// Waits until so many uses of quotas are kept: refunds after a success come after the answer.
    pub(crate) async fn uses_become(&self, uses: usize) {
        let waited = timeout(LONGEST_WAIT, self.observed.until(|| self.uses() == uses)).await;
        assert!(waited.is_ok(), "{} uses, not {uses}", self.uses());
    }

    /// The first provider.
    pub(crate) fn provider(&self) -> &Arc<FakeProvider> {
        &self.providers[0]
    }

    /// Messages, over all providers.
    pub(crate) fn messages(&self) -> usize {
        self.providers.iter().map(|provider| provider.calls()).sum()
    }

    /// The code of the last message of the first provider.
    pub(crate) fn code(&self) -> String {
        self.provider().last_code()
    }

    /// A code that is not that one.
    pub(crate) fn wrong_code(&self) -> String {
        wrong(&self.code())
    }

    /// A challenge on the account with one phone number, and its first code.
    pub(crate) async fn sent(&self, replica: &Replica, challenge: &str) -> String {
        replica.create(challenge, create(ACCOUNT)).await.expect("created");
        accepted(replica.send(challenge, &format!("{challenge}-send")).await);
        self.code()
    }

    /// What the time of day is.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// One replica, called by one tenant.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) otp: Arc<Otp>,
    /// Numbers the requests of operators.
    operations: Arc<AtomicU64>,
}

impl Replica {
    pub(crate) async fn create(&self, id: &str, request: CreateChallenge) -> Result<Created, Error> {
        self.otp.create_challenge(caller(id), request).await
    }

    /// A challenge of the account with one phone number.
    pub(crate) async fn open(&self, id: &str) {
        created(self.create(id, create(ACCOUNT)).await);
    }

    pub(crate) async fn send(&self, challenge: &str, id: &str) -> Result<Sent, Error> {
        self.send_to(challenge, id, "o1").await
    }

    pub(crate) async fn send_to(&self, challenge: &str, id: &str, option: &str) -> Result<Sent, Error> {
        self.otp.send_otp(caller(id), send(challenge, option)).await
    }

    pub(crate) async fn verify(&self, challenge: &str, id: &str, otp: &str) -> Result<Verified, Error> {
        self.otp.verify_otp(caller(id), verify(challenge, otp)).await
    }

    pub(crate) async fn cancel(&self, challenge: &str, id: &str) -> Result<(), Error> {
        self.otp.cancel_challenge(caller(id), request_id(challenge)).await
    }

    pub(crate) async fn view(&self, challenge: &str) -> ChallengeView {
        self.otp.get_challenge(caller("get"), request_id(challenge)).await.expect("a challenge")
    }

    /// What operators see of an account.
    pub(crate) async fn account(&self, account: &str) -> LockoutView {
        self.lockout(of_account(account)).await
    }

    /// What operators see of an account or a contact.
    pub(crate) async fn lockout(&self, owner: LockoutOwner) -> LockoutView {
        self.otp.get_account(caller("get"), owner).await.expect("a lockout")
    }

    /// Consecutive failures of the account.
    pub(crate) async fn failures(&self) -> u32 {
        self.account(ACCOUNT).await.failures
    }

    /// Locks the account, as a request of its own.
    pub(crate) async fn lock(&self, until: Option<Timestamp>) -> LockoutView {
        self.lock_as(&self.operation(), of_account(ACCOUNT), until).await.expect("locked")
    }

    pub(crate) async fn lock_as(
        &self,
        id: &str,
        owner: LockoutOwner,
        until: Option<Timestamp>,
    ) -> Result<LockoutView, Error> {
        let request = LockAccount { owner, reason: "test".to_owned(), until };
        self.otp.lock_account(caller(id), request).await
    }

    /// Unlocks the account, as a request of its own.
    pub(crate) async fn unlock(&self) -> LockoutView {
        self.unlock_as(&self.operation(), of_account(ACCOUNT)).await.expect("unlocked")
    }

    pub(crate) async fn unlock_as(&self, id: &str, owner: LockoutOwner) -> Result<LockoutView, Error> {
        let request = UnlockAccount { owner, reason: "test".to_owned() };
        self.otp.unlock_account(caller(id), request).await
    }

    fn operation(&self) -> String {
        format!("operation-{}", self.operations.fetch_add(1, Ordering::Relaxed))
    }
}
