//! Random histories of one lockout, compared with a ledger that keeps every failure: guesses, asks of providers and operators,
//! over several contacts. The ledger is from the design, not from the code.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use otpd::domain::{
    challenge::Challenge,
    lockout::{Lockout, Operation},
    outcome::{Evidence, Verified},
    policy::LockPolicy,
    rules::{AskResult, AskStep, Comparison, SettleAsk, State, VerifyStep},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestError, TestRunner},
};

use super::{
    fixture::{ASK_LEASE, ask, contact, decided, key, state, token, verify, with_code},
    histories::config,
    language::START,
};

/// What is done. Contacts and asks are picked from a few.
#[derive(Clone, Debug)]
enum Act {
    Guess { contact: usize, right: bool },
    Ask { contact: usize, slot: u32 },
    Settle { slot: u32, how: How },
    Lock { id: u8, seconds: Option<u64> },
    Unlock { id: u8 },
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Matched,
    NotMatched,
    NotJudged,
    Unknown,
}

/// A deliberate mistake, for the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    SuccessResetsAllContacts,
    PendingDeniesNothing,
    PendingOutlivesItsLease,
    NotJudgedTakesAFailure,
    LockEndsLate,
    LateLockShortens,
    OperatorRepeats,
    ContactsAreNotCounted,
}

const BUGS: [Bug; 8] = [
    Bug::SuccessResetsAllContacts,
    Bug::PendingDeniesNothing,
    Bug::PendingOutlivesItsLease,
    Bug::NotJudgedTakesAFailure,
    Bug::LockEndsLate,
    Bug::LateLockShortens,
    Bug::OperatorRepeats,
    Bug::ContactsAreNotCounted,
];

/// The end of a lock that has none.
const NEVER: u64 = u64::MAX;

/// Failures in a row, and the end of the lock that they have set.
#[derive(Clone, Copy, Default)]
struct Row {
    failures: u64,
    until: u64,
}

struct Ledger {
    total: Row,
    contacts: BTreeMap<usize, Row>,
    /// By slot: the contact, and the end of the lease.
    pending: BTreeMap<u32, (usize, u64)>,
    operator: u64,
    operations: Vec<u8>,
    policy: LockPolicy,
    bug: Option<Bug>,
}

impl Ledger {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn row(&self, contact: usize) -> Row {
        self.contacts.get(&contact).copied().unwrap_or_default()
    }

    fn until(&self, contact: usize) -> u64 {
        self.total.until.max(self.row(contact).until).max(self.operator)
    }

    fn locked(&self, contact: usize, now: u64) -> bool {
        let until = self.until(contact);
        now < until || (self.has(Bug::LockEndsLate) && now == until && until > 0)
    }

    /// For how many seconds that many failures lock.
    fn locks_at(&self, failures: u64) -> Option<u64> {
        let policy = &self.policy;
        if failures >= policy.for_good_after.into() {
            return Some(NEVER);
        }
        let mut rung = u64::from(policy.first_after);
        for index in 0.. {
            if rung >= failures {
                let span = policy.spans[index.min(policy.spans.len() - 1)].as_secs();
                return (rung == failures).then_some(span);
            }
            rung += u64::from(policy.again_after);
        }
        None
    }

    fn budget(&self, row: Row) -> u64 {
        (1..100).find(|more| self.locks_at(row.failures + more).is_some()).unwrap()
    }

    fn denied(&self, contact: usize) -> bool {
        let of_contact = self.pending.values().filter(|(of, _)| *of == contact).count();
        let full = |count: usize, row: Row| u64::try_from(count).unwrap() >= self.budget(row);
        let denied = full(self.pending.len(), self.total) || full(of_contact, self.row(contact));
        denied && !self.has(Bug::PendingDeniesNothing)
    }

    fn counted(&self, row: Row, now: u64) -> Row {
        let failures = row.failures + 1;
        let until = self.locks_at(failures).map_or(0, |span| now.saturating_add(span));
        let shortens = self.has(Bug::LateLockShortens) && until > 0;
        Row { failures, until: if shortens { until } else { row.until.max(until) } }
    }

    fn count(&mut self, contact: usize, now: u64) -> String {
        self.total = self.counted(self.total, now);
        if !self.has(Bug::ContactsAreNotCounted) {
            let row = self.counted(self.row(contact), now);
            self.contacts.insert(contact, row);
        }
        let left = self.budget(self.total).min(self.budget(self.row(contact)));
        format!("left {}", if self.locked(contact, now) { 0 } else { left })
    }

    fn reset(&mut self, contact: usize) {
        self.total = Row::default();
        self.contacts.remove(&contact);
        if self.has(Bug::SuccessResetsAllContacts) {
            self.contacts.clear();
        }
        self.pending.retain(|_, (of, _)| *of != contact);
    }

    fn drop_overdue(&mut self, now: u64, except: Option<u32>) {
        if !self.has(Bug::PendingOutlivesItsLease) {
            self.pending.retain(|slot, (_, lease)| now < *lease || Some(*slot) == except);
        }
    }

    fn operates(&mut self, id: u8) -> bool {
        let is_new = !self.operations.contains(&id) || self.has(Bug::OperatorRepeats);
        self.operations.push(id);
        is_new
    }

    /// What the act comes to.
    fn act(&mut self, now: u64, act: &Act, of_slot: Option<usize>) -> String {
        match act {
            Act::Guess { contact, right } => {
                self.drop_overdue(now, None);
                if self.locked(*contact, now) {
                    "locked".to_owned()
                } else if self.denied(*contact) {
                    "denied".to_owned()
                } else if *right {
                    self.reset(*contact);
                    "success".to_owned()
                } else {
                    self.count(*contact, now)
                }
            }
            Act::Ask { contact, slot } => {
                self.drop_overdue(now, None);
                if self.locked(*contact, now) {
                    "locked".to_owned()
                } else if self.denied(*contact) {
                    "denied".to_owned()
                } else {
                    self.pending.insert(*slot, (*contact, now + ASK_LEASE.as_secs()));
                    "asked".to_owned()
                }
            }
            Act::Settle { slot, how } => self.settle(now, *slot, *how, of_slot.unwrap()),
            Act::Lock { id, seconds } => {
                if self.operates(*id) {
                    self.operator = self.operator.max(seconds.map_or(NEVER, |seconds| now + seconds));
                }
                String::new()
            }
            Act::Unlock { id } => {
                if self.operates(*id) {
                    (self.total, self.operator) = (Row::default(), 0);
                    self.contacts.clear();
                    self.pending.clear();
                }
                String::new()
            }
            Act::Wait(_) => String::new(),
        }
    }

    fn settle(&mut self, now: u64, slot: u32, how: How, contact: usize) -> String {
        self.drop_overdue(now, Some(slot));
        self.pending.remove(&slot);
        match how {
            How::Matched if self.locked(contact, now) => "locked".to_owned(),
            How::Matched => {
                self.reset(contact);
                "success".to_owned()
            }
            How::NotMatched => self.count(contact, now),
            How::NotJudged => {
                if self.has(Bug::NotJudgedTakesAFailure) {
                    self.total.failures = self.total.failures.saturating_sub(1);
                }
                "refunded".to_owned()
            }
            How::Unknown => "unknown".to_owned(),
        }
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (contact, slot, id) = (0..3_usize, 0..6_u32, 0..20_u8);
    let how = prop_oneof![
        2 => Just(How::Matched),
        4 => Just(How::NotMatched),
        2 => Just(How::NotJudged),
        1 => Just(How::Unknown)
    ];
    let act = prop_oneof![
        8 => (contact.clone(), prop::bool::weighted(0.1)).prop_map(|(contact, right)| Act::Guess { contact, right }),
        5 => (contact, slot.clone()).prop_map(|(contact, slot)| Act::Ask { contact, slot }),
        5 => (slot, how).prop_map(|(slot, how)| Act::Settle { slot, how }),
        1 => (id.clone(), prop::option::weighted(0.8, 1..60_u64)).prop_map(|(id, seconds)| Act::Lock { id, seconds }),
        1 => id.prop_map(|id| Act::Unlock { id }),
        6 => (1..20_u64).prop_map(Act::Wait),
    ];
    vec(act, 1..60)
}

fn policies() -> impl Strategy<Value = LockPolicy> {
    let spans = vec(1..30_u64, 1..4);
    (1..5_u32, 1..4_u32, spans, 0..9_u32).prop_map(|(first_after, again_after, spans, more)| LockPolicy {
        first_after,
        again_after,
        spans: spans.into_iter().map(Duration::from_secs).collect(),
        for_good_after: first_after + more,
    })
}

/// The rules, with an ask in each slot.
struct Rules {
    lockout: Arc<Lockout>,
    policy: LockPolicy,
    seconds: u64,
    slots: BTreeMap<u32, (Arc<Challenge>, SettleAsk, usize)>,
    workers: u32,
}

impl Rules {
    fn challenge(&self, number: usize, via: &str) -> State {
        let mut state = state("open attempts=20", Lockout::default());
        let challenge = Arc::make_mut(&mut state.challenge);
        let now = START.plus(Duration::from_secs(self.seconds));
        (challenge.created_at, challenge.latest_at) = (now, now);
        challenge.options[0].contact = contact(number);
        State { lockout: Arc::clone(&self.lockout), ..with_code(&state, &format!("opt1 via={via}"), now) }
    }

    fn act(&mut self, act: &Act) -> String {
        let now = START.plus(Duration::from_secs(self.seconds));
        match act {
            Act::Guess { contact, right } => {
                let comparison = if *right { Comparison::Matches } else { Comparison::Differs };
                let state = self.challenge(*contact, "console");
                let decision = decided(&state, &verify("v", 1, comparison), now, &self.policy);
                self.lockout = decision.state.lockout;
                verify_step(&decision.outcome)
            }
            Act::Ask { contact, slot } => {
                self.workers += 1;
                let state = self.challenge(*contact, "managed");
                let decision = decided(&state, &ask("v", self.workers), now, &self.policy);
                if let VerifyStep::Ask(_) = decision.outcome {
                    let (key, token, result) = (key("v", "VerifyOtp"), token(self.workers), AskResult::Unknown);
                    let settle = SettleAsk { key, token, result };
                    self.slots.insert(*slot, (decision.state.challenge, settle, *contact));
                }
                self.lockout = decision.state.lockout;
                verify_step(&decision.outcome)
            }
            Act::Settle { slot, how } => {
                let (challenge, settle, _) = self.slots.remove(slot).unwrap();
                let state = State { challenge, lockout: Arc::clone(&self.lockout), account_lock: None };
                let result = match how {
                    How::Matched => AskResult::Matched(Evidence::default()),
                    How::NotMatched => AskResult::NotMatched { left: None },
                    How::NotJudged => AskResult::NotJudged,
                    How::Unknown => AskResult::Unknown,
                };
                let decision = decided(&state, &SettleAsk { result, ..settle }, now, &self.policy);
                self.lockout = decision.state.lockout;
                match decision.outcome {
                    AskStep::Answer(answer) => verified(&answer),
                    AskStep::Unknown => "unknown".to_owned(),
                    AskStep::Refunded => "refunded".to_owned(),
                }
            }
            Act::Lock { id, seconds } => {
                let until = seconds.map(|seconds| now.plus(Duration::from_secs(seconds)));
                self.operate(*id, Operation::Lock(until))
            }
            Act::Unlock { id } => self.operate(*id, Operation::Unlock),
            Act::Wait(_) => String::new(),
        }
    }

    /// One id stands for one request here, whatever it asks.
    fn operate(&mut self, id: u8, operation: Operation) -> String {
        Arc::make_mut(&mut self.lockout).operate(key(&format!("op{id}"), "operation"), operation);
        String::new()
    }
}

fn verify_step(step: &VerifyStep) -> String {
    match step {
        VerifyStep::Answer(answer) => verified(answer),
        VerifyStep::InProgress { .. } => "denied".to_owned(),
        VerifyStep::Ask(_) => "asked".to_owned(),
        other => panic!("{other:?}"),
    }
}

fn verified(answer: &Verified) -> String {
    match answer {
        Verified::Success(_) => "success".to_owned(),
        Verified::NotMatched { remaining } => format!("left {remaining}"),
        Verified::AccountLocked(_) => "locked".to_owned(),
        other => panic!("{other:?}"),
    }
}

fn play(policy: &LockPolicy, acts: &[Act], bug: Option<Bug>) -> Result<(), String> {
    let mut ledger = Ledger {
        total: Row::default(),
        contacts: BTreeMap::new(),
        pending: BTreeMap::new(),
        operator: 0,
        operations: Vec::new(),
        policy: policy.clone(),
        bug,
    };
    let (lockout, slots) = (Arc::default(), BTreeMap::new());
    let mut rules = Rules { lockout, policy: policy.clone(), seconds: 0, slots, workers: 0 };
    for (index, act) in acts.iter().enumerate() {
        let of_slot = match act {
            Act::Ask { slot, .. } | Act::Settle { slot, .. } => rules.slots.get(slot).map(|(_, _, contact)| *contact),
            Act::Wait(seconds) => {
                rules.seconds += seconds;
                None
            }
            _ => None,
        };
        // A slot holds one ask at a time.
        if of_slot.is_some() == matches!(act, Act::Ask { .. }) && matches!(act, Act::Ask { .. } | Act::Settle { .. }) {
            continue;
        }
        let (came, expected) = (rules.act(act), ledger.act(rules.seconds, act, of_slot));
        if came != expected {
            return Err(format!("step {index} {act:?}: came {came}, in the ledger {expected}"));
        }
        let now = START.plus(Duration::from_secs(rules.seconds));
        let failures = u64::from(rules.lockout.failures());
        if failures != ledger.total.failures {
            return Err(format!("step {index} {act:?}: {failures} failures, in the ledger {}", ledger.total.failures));
        }
        for number in 0..3 {
            let locked = rules.lockout.locked(contact(number), now).map(|lock| lock.until);
            let until = ledger.until(number);
            let expected =
                (rules.seconds < until).then(|| (until != NEVER).then(|| START.plus(Duration::from_secs(until))));
            if locked != expected {
                return Err(format!("step {index} {act:?}: lock of {number} {locked:?}, in the ledger {expected:?}"));
            }
        }
    }
    Ok(())
}

fn search(cases: u32, bug: Option<Bug>) -> Result<(), String> {
    let (config, seed) = config(cases);
    let found = TestRunner::new(config)
        .run(&(policies(), acts()), |(policy, acts)| play(&policy, &acts, bug).map_err(TestCaseError::fail));
    match found {
        Err(TestError::Fail(why, found)) => Err(format!("PROPTEST_RNG_SEED={seed}\n{found:?}\n{why}")),
        Err(TestError::Abort(why)) => Err(format!("PROPTEST_RNG_SEED={seed}\naborted: {why}")),
        Ok(()) => Ok(()),
    }
}

#[test]
fn every_history_goes_as_the_ledger_says() {
    if let Err(found) = search(2_000, None) {
        panic!("{found}");
    }
}

/// The canary: each deliberate mistake in the ledger is noticed.
#[test]
fn a_wrong_ledger_is_noticed() {
    for bug in BUGS {
        assert!(search(20_000, Some(bug)).is_err(), "{bug:?} went unnoticed");
    }
}
