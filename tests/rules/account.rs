//! One account and its lockout, for the tests of both: failures and successes come from challenges, each of its own, as they do
//! outside of tests.

use std::{sync::Arc, time::Duration};

use otpd::domain::{
    challenge::Challenge,
    lockout::{Lockout, Operated, Operation},
    outcome::{Evidence, Locked, Verified},
    policy::LockPolicy,
    rules::{AskResult, AskStep, Command, Comparison, SettleAsk, State, VerifyStep},
    time::Timestamp,
};

use super::{
    fixture::{DAY, contact, decided, key, state, token, verify, with_code},
    language::START,
};

/// How long a lock lasts that does not end.
pub(crate) const FOR_GOOD: Duration = Duration::MAX;

/// One account and its lockout. Contacts go by number.
pub(crate) struct Account {
    pub(crate) lockout: Arc<Lockout>,
    pub(crate) policy: LockPolicy,
    pub(crate) now: Timestamp,
}

/// An attempt that a provider is judging.
#[derive(Debug)]
pub(crate) struct Pending {
    challenge: Arc<Challenge>,
    settle: SettleAsk,
}

impl Account {
    pub(crate) fn new() -> Self {
        Self { lockout: Arc::default(), policy: LockPolicy::default(), now: START }
    }

    pub(crate) fn locking_at(first_after: u32) -> Self {
        Self { policy: LockPolicy { first_after, ..LockPolicy::default() }, ..Self::new() }
    }

    /// A challenge of its own, whose code has been sent.
    pub(crate) fn challenge(&self, number: usize, via: &str) -> State {
        let mut state = state("open attempts=20", Lockout::default());
        let challenge = Arc::make_mut(&mut state.challenge);
        (challenge.created_at, challenge.latest_at) = (self.now, self.now);
        challenge.options[0].contact = contact(number);
        let mut state = with_code(&state, &format!("opt1 via={via}"), self.now);
        state.lockout = Arc::clone(&self.lockout);
        state
    }

    pub(crate) fn decide<C: Command>(&mut self, state: &State, command: &C) -> C::Outcome
    where
        C::Outcome: PartialEq + std::fmt::Debug,
    {
        let decision = decided(state, command, self.now, &self.policy);
        self.lockout = decision.state.lockout;
        decision.outcome
    }

    pub(crate) fn guess(&mut self, number: usize, comparison: Comparison) -> VerifyStep {
        let challenge = self.challenge(number, "console");
        self.decide(&challenge, &verify("v", 1, comparison))
    }

    /// A wrong code for a contact. What is left, where it was compared.
    pub(crate) fn fail(&mut self, number: usize) -> Result<u32, VerifyStep> {
        match self.guess(number, Comparison::Differs) {
            VerifyStep::Answer(Verified::NotMatched { remaining }) => Ok(remaining),
            other => Err(other),
        }
    }

    /// So many failures, each past any lock that ends.
    pub(crate) fn fail_times(&mut self, number: usize, count: usize) {
        for _ in 0..count {
            self.now = self.now.plus(2 * DAY);
            assert!(self.fail(number).is_ok(), "each is compared");
        }
    }

    pub(crate) fn succeed(&mut self, number: usize) -> bool {
        let told = self.guess(number, Comparison::Matches);
        matches!(told, VerifyStep::Answer(Verified::Success(_)))
    }

    /// Reserves an attempt that a provider judges.
    pub(crate) fn ask(&mut self, number: usize, worker: u32) -> Result<Pending, VerifyStep> {
        let challenge = self.challenge(number, "managed");
        let (key, token) = (key("v", "VerifyOtp"), token(worker));
        let decision = decided(&challenge, &super::fixture::ask("v", worker), self.now, &self.policy);
        let VerifyStep::Ask(_) = &decision.outcome else { return Err(decision.outcome) };
        self.lockout = decision.state.lockout;
        let settle = SettleAsk { key, token, result: AskResult::NotMatched { left: None } };
        Ok(Pending { challenge: decision.state.challenge, settle })
    }

    pub(crate) fn settle(&mut self, pending: &Pending, result: AskResult) -> AskStep {
        let challenge = Arc::clone(&pending.challenge);
        let state = State { challenge, lockout: Arc::clone(&self.lockout), account_lock: None };
        self.decide(&state, &SettleAsk { result, ..pending.settle.clone() })
    }

    pub(crate) fn operate(&mut self, id: &str, operation: Operation) -> Operated {
        Arc::make_mut(&mut self.lockout).operate(key(id, &format!("{operation:?}")), operation)
    }

    /// How long the account's lock still lasts; `None`: it is not locked.
    pub(crate) fn locked_for(&self) -> Option<Duration> {
        self.span(self.lockout.account_locked(self.now))
    }

    pub(crate) fn contact_locked_for(&self, number: usize) -> Option<Duration> {
        self.span(self.lockout.locked(contact(number), self.now))
    }

    fn span(&self, lock: Option<Locked>) -> Option<Duration> {
        lock.map(|lock| lock.until.map_or(FOR_GOOD, |until| until.since(self.now)))
    }
}

pub(crate) fn locked(until: Option<Timestamp>) -> Result<u32, VerifyStep> {
    Err(VerifyStep::Answer(Verified::AccountLocked(Locked { until })))
}

pub(crate) fn matched() -> AskResult {
    AskResult::Matched(Evidence::default())
}
