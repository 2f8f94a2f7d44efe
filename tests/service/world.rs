//! One store, one clock, some providers, and as many replicas as a test wants.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use otpd::{
    domain::{
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::{AccountId, OptionId, RequestId, Tenant},
        outcome::{AccountView, ChallengeView, Created, Sent, Verified},
        policy::{TenantPolicy, Tenants},
        purpose::Purpose,
        transaction::{Amount, Transaction},
    },
    keys::ring::KeyRing,
    messages::Messages,
    ports::{
        clock::{Clock, Deadline},
        provider::{ClientContext, Parameters, Provider},
        store::Store,
    },
    secret::Secret,
    service::{
        Otp, Ports,
        error::Error,
        request::{Caller, CreateChallenge, LockAccount, Reach, SendOtp, UnlockAccount, VerifyOtp},
        route::Routes,
    },
};
use tokio::task::JoinSet;

use crate::{clock::TestClock, entropy::SeededEntropy, fake::FakeProvider, faults::FaultyStore, memory::MemoryStore};

/// Two keys, the second of which is not yet in the ring that replicas get unless told otherwise.
pub(crate) const KEY_1: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub(crate) const KEY_2: &str = "2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
pub(crate) const TENANT: &str = "acme";
pub(crate) const ACCOUNT: &str = "jane";
pub(crate) const NUMBER: &str = "+14155550100";
/// Everything around the replicas.
pub(crate) struct World {
    pub(crate) clock: TestClock,
    pub(crate) memory: Arc<MemoryStore>,
    pub(crate) faults: Arc<FaultyStore>,
    pub(crate) providers: Vec<Arc<FakeProvider>>,
    pub(crate) policy: TenantPolicy,
    /// The built-in texts, unless a test has others.
    pub(crate) messages: Arc<Messages>,
    /// Each replica has randomness of its own.
    replicas: AtomicU64,
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
        let faults = Arc::new(FaultyStore::new(memory.clone()));
        Self {
            clock,
            memory,
            faults,
            providers,
            policy: TenantPolicy::default(),
            messages: Arc::default(),
            replicas: AtomicU64::new(1),
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

    /// A replica with an empty cache.
    pub(crate) fn replica(&self) -> Replica {
        self.replica_of(KEY_1, self.clock.clone())
    }

    /// A replica with its own ring of keys and clock.
    pub(crate) fn replica_of(&self, ring: &str, clock: TestClock) -> Replica {
        self.replica_over(self.faults.clone(), ring, clock)
    }

    /// A replica over another store.
    pub(crate) fn replica_over(&self, store: Arc<dyn Store>, ring: &str, clock: TestClock) -> Replica {
        let seed = self.replicas.fetch_add(1, Ordering::Relaxed) << 32;
        let providers = self.providers.iter().map(|provider| provider.clone() as Arc<dyn Provider>);
        let ports = Ports {
            store,
            keys: Arc::new(KeyRing::parse(&Secret::new(ring.to_owned()), true).expect("ring")),
            clock: Arc::new(clock),
            entropy: Arc::new(SeededEntropy::new(seed)),
            routes: Routes::new(providers.collect()),
            messages: Messages::clone(&self.messages),
        };
        Replica(Arc::new(Otp::new(ports, Tenants::any(self.policy.clone()))))
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
    pub(crate) fn now(&self) -> otpd::domain::time::Timestamp {
        self.clock.now()
    }
}

/// One replica, called by one tenant.
#[derive(Clone)]
pub(crate) struct Replica(pub(crate) Arc<Otp>);

impl Replica {
    pub(crate) async fn create(&self, id: &str, request: CreateChallenge) -> Result<Created, Error> {
        self.0.create_challenge(caller(id), request).await
    }

    /// A challenge of the account with one phone number.
    pub(crate) async fn open(&self, id: &str) {
        let created = self.create(id, create(ACCOUNT)).await.expect("created");
        assert!(matches!(created, Created::Success { .. }), "{created:?}");
    }

    pub(crate) async fn send(&self, challenge: &str, id: &str) -> Result<Sent, Error> {
        self.send_to(challenge, id, "o1").await
    }

    pub(crate) async fn send_to(&self, challenge: &str, id: &str, option: &str) -> Result<Sent, Error> {
        self.0.send_otp(caller(id), send(challenge, option)).await
    }

    pub(crate) async fn verify(&self, challenge: &str, id: &str, otp: &str) -> Result<Verified, Error> {
        self.0.verify_otp(caller(id), verify(challenge, otp)).await
    }

    pub(crate) async fn cancel(&self, challenge: &str, id: &str) -> Result<(), Error> {
        self.0.cancel_challenge(caller(id), request_id(challenge)).await
    }

    pub(crate) async fn view(&self, challenge: &str) -> ChallengeView {
        self.0.get_challenge(caller("get"), request_id(challenge)).await.expect("a challenge")
    }

    pub(crate) async fn account(&self, account: &str) -> AccountView {
        self.0.get_account(caller("get"), account_id(account)).await.expect("an account")
    }

    /// Consecutive failures of the account.
    pub(crate) async fn failures(&self) -> u64 {
        self.account(ACCOUNT).await.failures
    }

    pub(crate) async fn lock(&self, until: Option<otpd::domain::time::Timestamp>) -> AccountView {
        let request = LockAccount { account: account_id(ACCOUNT), reason: "test".to_owned(), until };
        self.0.lock_account(caller("lock"), request).await.expect("locked")
    }

    pub(crate) async fn unlock(&self) -> AccountView {
        let request = UnlockAccount { account: account_id(ACCOUNT), reason: "test".to_owned() };
        self.0.unlock_account(caller("unlock"), request).await.expect("unlocked")
    }
}

/// A caller of the usual tenant with patience.
pub(crate) fn caller(id: &str) -> Caller {
    caller_of(TENANT, id)
}

pub(crate) fn caller_of(tenant: &str, id: &str) -> Caller {
    Caller {
        tenant: Tenant::parse(tenant).expect("tenant"),
        request_id: request_id(id),
        deadline: Deadline::after(Duration::from_secs(10)),
    }
}

pub(crate) fn request_id(id: &str) -> RequestId {
    RequestId::parse(id).expect("request id")
}

pub(crate) fn account_id(id: &str) -> AccountId {
    AccountId::parse(id).expect("account id")
}

pub(crate) fn phone(number: &str) -> Destination {
    Destination::Phone(PhoneNumber::parse(number).expect("number"))
}

pub(crate) fn mailbox(address: &str) -> Destination {
    Destination::Email(Mailbox::parse(address).expect("mailbox"))
}

/// An option to reach a person.
pub(crate) fn reach(id: &str, destination: Destination) -> Reach {
    let channel = if matches!(destination, Destination::Email(_)) { Channel::Email } else { Channel::Sms };
    Reach { id: Some(OptionId::parse(id).expect("option id")), channel, destination }
}

/// A login with one phone number, its option being `o1`.
pub(crate) fn create(account: &str) -> CreateChallenge {
    CreateChallenge {
        account: account_id(account),
        purpose: Purpose::Login,
        transaction: None,
        destinations: vec![reach("o1", phone(NUMBER))],
        locale: "en".to_owned(),
        client: ClientContext::default(),
        parameters: Parameters::new(),
        send_otp: false,
    }
}

/// A registration with one phone number.
pub(crate) fn register(account: &str, number: &str) -> CreateChallenge {
    CreateChallenge {
        purpose: Purpose::Registration,
        destinations: vec![reach("o1", phone(number))],
        ..create(account)
    }
}

pub(crate) fn transaction(micros: i64) -> Transaction {
    let amount = Amount { micros, currency: "EUR".to_owned() };
    Transaction { amount, payee: "Books & Co".to_owned(), reference: "order 7".to_owned() }
}

pub(crate) fn send(challenge: &str, option: &str) -> SendOtp {
    SendOtp {
        challenge: request_id(challenge),
        option: OptionId::parse(option).expect("option id"),
        parameters: Parameters::new(),
    }
}

pub(crate) fn verify(challenge: &str, otp: &str) -> VerifyOtp {
    VerifyOtp {
        challenge: request_id(challenge),
        otp: Secret::new(otp.to_owned()),
        parameters: Parameters::new(),
        account: None,
        purpose: None,
        transaction: None,
    }
}

/// Another code of the same length.
pub(crate) fn wrong(code: &str) -> String {
    let first = if code.starts_with('1') { '2' } else { '1' };
    std::iter::once(first).chain(code.chars().skip(1)).collect()
}

/// The send was accepted.
#[track_caller]
pub(crate) fn accepted(sent: Result<Sent, Error>) -> otpd::domain::outcome::Dispatch {
    match sent {
        Ok(Sent::Success(dispatch)) if dispatch.confirmed => dispatch,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(crate) fn is_success(verified: &Result<Verified, Error>) -> bool {
    matches!(verified, Ok(Verified::Success(_)))
}

pub(crate) fn is_not_matched(verified: &Result<Verified, Error>) -> bool {
    matches!(verified, Ok(Verified::NotMatched { .. }))
}

/// How many of them are so.
pub(crate) fn count<T>(all: &[T], is: impl Fn(&T) -> bool) -> usize {
    all.iter().filter(|one| is(one)).count()
}

/// Runs all at once and waits for all.
pub(crate) async fn at_once<F>(all: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut tasks = JoinSet::new();
    for one in all {
        tasks.spawn(one);
    }
    tasks.join_all().await
}

/// Polls a future so many times, then drops it, as the death of the process does. `None`: it had not ended by then.
pub(crate) async fn killed_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Polls a future until something has happened, then drops it.
pub(crate) async fn killed_when<F: Future>(happened: impl Fn() -> bool, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending if happened() => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    })
    .await
}
