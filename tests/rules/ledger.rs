//! Random histories of one subject, compared with a ledger that keeps every failure; and challenges raced in parallel.

use std::{collections::BTreeMap, time::Duration};

use otpd::domain::{
    ids::Tag,
    outcome::Verified,
    policy::LockPolicy,
    rules::{self, Comparison, Expectation, Verify, VerifyStep},
    subject::{self, Attempt, Command, Standing, Subject},
    time::Timestamp,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{TestError, TestRunner},
};

use super::{
    histories::config,
    language::START,
    table::{Scenario, request},
};

/// What is done to the subject. Challenges and failures are picked from a few.
#[derive(Clone, Debug)]
enum Act {
    Fail(u8, u32),
    Pass(u8, u32),
    Succeed(u8, u32, u64),
    GiveBack(u8, u32),
    Lock(Option<u64>),
    Unlock,
    Wait(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Counts,
    GivenBack,
    Forgiven,
}

/// A deliberate mistake, for the canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    SuccessForgivesAll,
    ChargedAgain,
    LockEndsLate,
    LockOutlivesItsFailures,
    SuccessLiftsOperatorsLock,
}

/// The end of a lock that has none.
const NEVER: u64 = u64::MAX;

/// Every failure there ever was.
struct Ledger {
    failures: Vec<((u8, u32), Fate)>,
    /// The count that locked, and until when.
    lock: Option<(usize, u64)>,
    operator: Option<u64>,
    policy: LockPolicy,
    bug: Option<Bug>,
}

impl Ledger {
    fn count(&self) -> usize {
        self.failures.iter().filter(|(_, fate)| *fate == Fate::Counts).count()
    }

    fn locked(&self, now: u64) -> bool {
        let late = self.bug == Some(Bug::LockEndsLate);
        let holds = |until: u64| now < until || (late && now == until);
        self.lock.is_some_and(|(_, until)| holds(until)) || self.operator.is_some_and(holds)
    }

    /// For how many seconds that count locks.
    fn locks_at(&self, count: usize) -> Option<u64> {
        let policy = &self.policy;
        if count >= usize::try_from(policy.for_good_after).unwrap() {
            return Some(NEVER);
        }
        let mut rung = usize::try_from(policy.first_after).unwrap();
        for index in 0.. {
            if rung >= count {
                let span = policy.spans[index.min(policy.spans.len() - 1)].as_secs();
                return (rung == count).then_some(span);
            }
            rung += usize::try_from(policy.again_after).unwrap();
        }
        None
    }

    fn act(&mut self, now: u64, act: &Act) -> bool {
        let counted = |fate: &Fate| *fate == Fate::Counts;
        match act {
            Act::Fail(challenge, number) => {
                let of = (*challenge, *number);
                // Forgiven before it was recorded, it counts again: the guess comes after the success.
                let charged = self.failures.iter().any(|(whose, fate)| *whose == of && *fate == Fate::Counts);
                if charged && self.bug != Some(Bug::ChargedAgain) {
                    return true;
                }
                if self.locked(now) {
                    return false;
                }
                self.failures.push((of, Fate::Counts));
                let count = self.count();
                if let Some(span) = self.locks_at(count) {
                    self.lock = Some((count, now.saturating_add(span)));
                }
                return true;
            }
            Act::Pass(..) => return !self.locked(now),
            Act::Succeed(challenge, number, through) => {
                let all = self.bug == Some(Bug::SuccessForgivesAll);
                for (index, (whose, fate)) in (1..).zip(&mut self.failures) {
                    if *whose == (*challenge, *number) {
                        *fate = Fate::GivenBack;
                    } else if counted(fate) && (index <= *through || all) {
                        *fate = Fate::Forgiven;
                    }
                }
                if self.bug == Some(Bug::SuccessLiftsOperatorsLock) {
                    self.operator = None;
                }
            }
            Act::GiveBack(challenge, number) => {
                let of = (*challenge, *number);
                // Also where it was forgiven: asked about again, it counts again.
                self.failures
                    .iter_mut()
                    .filter(|(whose, _)| *whose == of)
                    .for_each(|(_, fate)| *fate = Fate::GivenBack);
            }
            Act::Lock(span) => self.operator = Some(span.map_or(NEVER, |span| now + span)),
            Act::Unlock => {
                self.failures.iter_mut().filter(|(_, fate)| counted(fate)).for_each(|(_, fate)| *fate = Fate::Forgiven);
                self.operator = None;
            }
            Act::Wait(_) => {}
        }
        let count = self.count();
        let outlives = self.bug == Some(Bug::LockOutlivesItsFailures);
        self.lock.take_if(|(locked_at, _)| count < *locked_at && !outlives);
        !self.locked(now)
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let challenge = 0..5_u8;
    let number = 1..5_u32;
    let act = prop_oneof![
        10 => (challenge.clone(), number.clone()).prop_map(|(challenge, number)| Act::Fail(challenge, number)),
        2 => (challenge.clone(), number.clone()).prop_map(|(challenge, number)| Act::Pass(challenge, number)),
        1 => (challenge.clone(), number.clone(), 0..12_u64)
            .prop_map(|(challenge, number, through)| Act::Succeed(challenge, number, through)),
        4 => (challenge, number).prop_map(|(challenge, number)| Act::GiveBack(challenge, number)),
        1 => prop::option::of(1..60_u64).prop_map(Act::Lock),
        1 => Just(Act::Unlock),
        6 => (1..30_u64).prop_map(Act::Wait),
    ];
    // Fewer failures than charges are remembered.
    vec(act, 1..60)
}

fn policies() -> impl Strategy<Value = LockPolicy> {
    let spans = vec(1..20_u64, 1..4);
    (1..4_u32, 1..4_u32, spans, 0..8_u32).prop_map(|(first_after, again_after, spans, more)| LockPolicy {
        first_after,
        again_after,
        spans: spans.into_iter().map(Duration::from_secs).collect(),
        for_good_after: first_after + more,
    })
}

fn command(act: &Act, now: Timestamp) -> Option<Command> {
    let attempt = |challenge: u8, number: u32| Attempt { challenge: Tag([challenge; 16]), number };
    Some(match act {
        Act::Fail(challenge, number) => Command::Fail(attempt(*challenge, *number)),
        Act::Pass(challenge, number) => Command::Pass(attempt(*challenge, *number)),
        Act::Succeed(challenge, number, through) => {
            Command::Succeed { attempt: attempt(*challenge, *number), through: *through }
        }
        Act::GiveBack(challenge, number) => Command::GiveBack(attempt(*challenge, *number)),
        Act::Lock(span) => Command::Lock { until: span.map(|span| now.plus(Duration::from_secs(span))) },
        Act::Unlock => Command::Unlock,
        Act::Wait(_) => return None,
    })
}

fn play(policy: &LockPolicy, acts: &[Act], bug: Option<Bug>) -> Result<(), String> {
    let mut ledger = Ledger { failures: Vec::new(), lock: None, operator: None, policy: policy.clone(), bug };
    let mut subject = Subject::default();
    let mut seconds = 0;
    for (index, act) in acts.iter().enumerate() {
        if let Act::Wait(span) = act {
            seconds += span;
        }
        let now = START.plus(Duration::from_secs(seconds));
        let allowed = ledger.act(seconds, act);
        if let Some(command) = command(act, now) {
            let (next, standing) = subject::decide(&subject, &command, now, policy);
            subject = next;
            let answers = matches!(command, Command::Fail(_) | Command::Pass(_));
            if answers && standing.locked.is_none() != allowed {
                return Err(format!("step {index} {act:?}: allowed is {allowed} in the ledger"));
            }
        }
        let (view, standing) = (subject.view(now), subject.standing(now, policy));
        let count = ledger.count();
        if view.failures != u64::try_from(count).unwrap() || view.locked.is_some() != ledger.locked(seconds) {
            return Err(format!("step {index} {act:?}: {view:?}, in the ledger {count} and {:?}", ledger.lock));
        }
        let budget = (1..100).find(|more| ledger.locks_at(count + more).is_some()).unwrap_or_default();
        let budget = if view.locked.is_some() { 0 } else { budget };
        if usize::try_from(standing.budget) != Ok(budget) {
            return Err(format!("step {index} {act:?}: budget {}, in the ledger {budget}", standing.budget));
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
    if let Err(found) = search(5_000, None) {
        panic!("{found}");
    }
}

/// The canary: each deliberate mistake in the ledger is noticed.
#[test]
fn a_wrong_ledger_is_noticed() {
    use Bug::{ChargedAgain, LockEndsLate, LockOutlivesItsFailures, SuccessForgivesAll, SuccessLiftsOperatorsLock};
    for bug in [ChargedAgain, LockEndsLate, LockOutlivesItsFailures, SuccessForgivesAll, SuccessLiftsOperatorsLock] {
        assert!(search(20_000, Some(bug)).is_err(), "{bug:?} went unnoticed");
    }
}

/// One guess at one challenge, somewhere between its load and its answer.
struct Guess {
    challenge: usize,
    right: bool,
    /// What was loaded: the version.
    loaded: Option<usize>,
    charged: Option<Standing>,
    told: Option<Verified>,
}

/// Several challenges of one account, and guesses at all of them in any order of their steps: load, charge, swap.
struct Race {
    challenges: Vec<Scenario>,
    /// How often each was written.
    versions: BTreeMap<usize, usize>,
    subject: Subject,
    guesses: Vec<Guess>,
    /// The mistake of the canary: the subject is not charged before the swap.
    uncharged: bool,
}

impl Race {
    fn new(guesses: &[(usize, bool)], uncharged: bool) -> Self {
        let challenges = (0..4).map(|_| {
            let mut challenge = Scenario::open("open attempts=5");
            challenge.step("at 0s", "send opt1 id=s1");
            challenge.step("at 0s", "accepted 1");
            challenge
        });
        let guesses = guesses.iter().map(|(challenge, right)| Guess {
            challenge: *challenge,
            right: *right,
            loaded: None,
            charged: None,
            told: None,
        });
        Self {
            challenges: challenges.collect(),
            versions: BTreeMap::new(),
            subject: Subject::default(),
            guesses: guesses.collect(),
            uncharged,
        }
    }

    /// One step of one guess.
    fn advance(&mut self, index: usize) {
        let guess = &mut self.guesses[index];
        if guess.told.is_some() {
            return;
        }
        let version = self.versions.entry(guess.challenge).or_default();
        let challenge = &mut self.challenges[guess.challenge];
        if guess.loaded != Some(*version) {
            (guess.loaded, guess.charged) = (Some(*version), None);
            return;
        }
        let verify = Verify {
            request: request(&format!("v{index}"), "VerifyOtp"),
            expectation: Expectation::default(),
            comparison: Comparison::Ours { matches: guess.right },
            standing: guess.charged.unwrap_or(Standing::CLEAN),
        };
        let decision = rules::decide(challenge.record(), &verify, START);
        let number = match decision.outcome {
            VerifyStep::Attempt { number, .. } => number,
            VerifyStep::Refused(refusal) => {
                guess.told = Some(refusal);
                return;
            }
            other => panic!("{other:?}"),
        };
        let whose = Tag([u8::try_from(guess.challenge).unwrap(); 16]);
        let attempt = Attempt { challenge: whose, number };
        let policy = LockPolicy::default();
        let Some(standing) = guess.charged else {
            let command = if guess.right { Command::Pass(attempt) } else { Command::Fail(attempt) };
            let (next, standing) = subject::decide(&self.subject, &command, START, &policy);
            if self.uncharged {
                guess.charged = Some(Standing::CLEAN);
                return;
            }
            self.subject = next;
            match standing.locked {
                Some(locked) => guess.told = Some(Verified::AccountLocked(locked)),
                None => guess.charged = Some(standing),
            }
            return;
        };
        let VerifyStep::Attempt { verdict, .. } = decision.outcome else { return };
        challenge.store(decision.record);
        *version += 1;
        if let Verified::Success(_) = verdict {
            let command = Command::Succeed { attempt, through: standing.through };
            self.subject = subject::decide(&self.subject, &command, START, &policy).0;
        }
        guess.told = Some(verdict);
    }

    fn told(&self, what: impl Fn(&Verified) -> bool) -> usize {
        self.guesses.iter().filter_map(|guess| guess.told.as_ref()).filter(|told| what(told)).count()
    }
}

fn race(guesses: &[(usize, bool)], order: &[usize], uncharged: bool) -> Result<(), String> {
    let mut race = Race::new(guesses, uncharged);
    for index in order {
        race.advance(index % guesses.len());
    }
    while let Some(unfinished) = race.guesses.iter().position(|guess| guess.told.is_none()) {
        race.advance(unfinished);
    }
    let wrong = race.told(|told| matches!(told, Verified::NotMatched { .. }));
    let right = race.told(|told| matches!(told, Verified::Success(_)));
    let counted = race.subject.view(START).failures;
    let rules = [
        ("ten failures lock, over all challenges", wrong <= 10 * (right + 1)),
        ("at most one success a challenge", right <= 4),
        ("what was told counts", right > 0 || counted == u64::try_from(wrong).unwrap()),
    ];
    let broken = rules.iter().find(|(_, holds)| !holds);
    broken.map_or(Ok(()), |(name, _)| Err(format!("{name}: {wrong} wrong, {right} right, {counted} counted")))
}

fn search_races(uncharged: bool) -> Result<(), String> {
    let (config, seed) = config(2_000);
    let guesses = vec((0..4_usize, prop::bool::weighted(0.05)), 2..30);
    let order = vec(0..1_000_usize, 0..120);
    let found = TestRunner::new(config)
        .run(&(guesses, order), |(guesses, order)| race(&guesses, &order, uncharged).map_err(TestCaseError::fail));
    found.map_err(|found| format!("PROPTEST_RNG_SEED={seed}\n{found}"))
}

#[test]
fn parallel_challenges_buy_no_guesses() {
    if let Err(found) = search_races(false) {
        panic!("{found}");
    }
}

#[test]
fn guesses_that_are_not_charged_are_noticed() {
    assert!(search_races(true).is_err());
}
