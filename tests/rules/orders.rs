//! Every order of a few workers' steps, breadth first: replicas that decide and commit, ask a provider and settle; commits whose
//! answer is lost; leases that end at any moment; an operator who locks. Deciding and committing is one step, since a commit
//! over records that are not stored any more changes nothing and starts over. A worker that dies is one whose next step never
//! comes, so that each world on the way is judged, not the last ones alone.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use otpd::domain::{
    challenge::{Challenge, Reply},
    ids::Tag,
    lockout::{Lockout, Operation},
    outcome::{Evidence, Verified},
    policy::LockPolicy,
    rules::{AskResult, AskStep, Comparison, SettleAsk, State, Verify, VerifyStep},
    time::Timestamp,
};

use super::{
    fixture::{ASK_LEASE, decided, key, state, token, verify, with_code},
    language::START,
};

/// More worlds than any scenario has. A change of the rules that makes many more is to be looked at.
const MOST_WORLDS: usize = 100_000;

/// What a worker is to do.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// Verify a code under a request id, at one of the challenges.
    Guess { challenge: usize, id: &'static str, right: bool },
    /// An operator locks the account.
    Lock,
}

/// What there is, and how much may go wrong.
struct Scenario {
    /// `console`, or a provider that checks: `managed`, `managed-once`.
    via: &'static str,
    challenges: usize,
    max_attempts: u32,
    locks_at: u32,
    tasks: Vec<Task>,
    /// Commits that are applied and whose answer is lost.
    lost_answers: u8,
    /// How often a lease's length may pass.
    leases: u8,
}

/// How far a worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Begun,
    Asking,
    Answered(Said),
    Told(Told),
}

/// What a provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Said {
    Matched,
    NotMatched,
    Gone,
    NotJudged,
    Unknown,
}

/// What a worker tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Success,
    NotMatched,
    Locked,
    Refunded,
    Unknown,
    Refused,
    Done,
}

/// All that is, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    leases: u8,
    lost_answers: u8,
    challenges: Vec<usize>,
    lockout: usize,
    workers: Vec<Phase>,
    /// The attempts that a provider has judged, by the first task of the same request.
    judged: Vec<bool>,
    /// Of each challenge the one that its provider accepted.
    accepted: Vec<Option<usize>>,
    /// Failures ever counted, and those since the last success.
    counted: u32,
    since_success: u32,
}

/// Records by number: each is kept once.
struct Records<T> {
    all: Vec<Arc<T>>,
    numbers: HashMap<Vec<u8>, usize>,
}

impl<T: serde::Serialize> Records<T> {
    fn new() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }

    fn number(&mut self, record: &Arc<T>) -> usize {
        let bytes = postcard::to_allocvec(record.as_ref()).unwrap();
        *self.numbers.entry(bytes).or_insert_with(|| {
            self.all.push(Arc::clone(record));
            self.all.len() - 1
        })
    }
}

/// A decision: the numbers of the records after it, and what the worker goes on to.
#[derive(Clone, Copy)]
struct Decided {
    challenge: usize,
    lockout: usize,
    next: Phase,
}

/// A worker, its phase, the numbers of its records, and the leases that have passed.
type Situation = (usize, Phase, usize, usize, u8);
/// A step: of which worker, and what it does.
type Step = (usize, &'static str);

struct Explorer {
    scenario: Scenario,
    policy: LockPolicy,
    challenges: Records<Challenge>,
    lockouts: Records<Lockout>,
    decisions: HashMap<Situation, Decided>,
}

impl Explorer {
    fn new(scenario: Scenario) -> Self {
        let policy = LockPolicy { first_after: scenario.locks_at, ..LockPolicy::default() };
        Self { scenario, policy, challenges: Records::new(), lockouts: Records::new(), decisions: HashMap::new() }
    }

    fn begin(&mut self) -> World {
        let open = state(&format!("open attempts={}", self.scenario.max_attempts), Lockout::default());
        let sent = with_code(&open, &format!("opt1 via={}", self.scenario.via), START);
        let (challenge, lockout) = (self.challenges.number(&sent.challenge), self.lockouts.number(&sent.lockout));
        World {
            leases: self.scenario.leases,
            lost_answers: self.scenario.lost_answers,
            challenges: vec![challenge; self.scenario.challenges],
            lockout,
            workers: vec![Phase::Begun; self.scenario.tasks.len()],
            judged: vec![false; self.scenario.tasks.len()],
            accepted: vec![None; self.scenario.challenges],
            counted: 0,
            since_success: 0,
        }
    }

    /// Goes through all worlds. How many there are, or the shortest way to one that breaks a rule.
    fn explore(&mut self) -> Result<usize, String> {
        let first = self.begin();
        self.explore_from(first)
    }

    fn explore_from(&mut self, first: World) -> Result<usize, String> {
        let mut known = HashSet::from([first.clone()]);
        // Each world with the step that led to it, and the number of the world before.
        let mut worlds = vec![(first, (0, "begins"), 0)];
        let mut index = 0;
        while index < worlds.len() {
            let world = worlds[index].0.clone();
            for (step, next) in self.steps(&world) {
                let broken = self.judge(&world, &next).err();
                let is_new = known.insert(next.clone());
                if is_new || broken.is_some() {
                    worlds.push((next, step, index));
                }
                if let Some(broken) = broken {
                    return Err(format!("{broken}{}", way(&worlds)));
                }
            }
            assert!(worlds.len() <= MOST_WORLDS, "more worlds than expected");
            index += 1;
        }
        Ok(worlds.len())
    }

    fn steps(&mut self, world: &World) -> Vec<(Step, World)> {
        let mut steps = Vec::new();
        if world.leases > 0 {
            steps.push(((0, "sees a lease pass"), World { leases: world.leases - 1, ..world.clone() }));
        }
        for worker in 0..world.workers.len() {
            match (self.scenario.tasks[worker], world.workers[worker]) {
                (_, Phase::Told(_)) => {}
                (Task::Lock, _) => steps.push(((worker, "locks"), self.lock(world, worker))),
                (Task::Guess { challenge, right, .. }, Phase::Asking) => {
                    steps.extend(self.hears(world, worker, challenge, right));
                }
                (Task::Guess { challenge, .. }, _) => steps.extend(self.commit(world, worker, challenge)),
            }
        }
        steps
    }

    fn lock(&mut self, world: &World, worker: usize) -> World {
        let mut lockout = Lockout::clone(&self.lockouts.all[world.lockout]);
        lockout.operate(key("lock", "LockAccount"), Operation::Lock(None));
        let mut next = world.clone();
        next.lockout = self.lockouts.number(&Arc::new(lockout));
        next.workers[worker] = Phase::Told(Told::Done);
        next
    }

    /// The first task of the same request: the attempt.
    fn attempt(&self, worker: usize) -> usize {
        let request = |task: &Task| match task {
            Task::Guess { challenge, id, .. } => Some((*challenge, *id)),
            Task::Lock => None,
        };
        let own = request(&self.scenario.tasks[worker]);
        self.scenario.tasks.iter().position(|task| request(task) == own).unwrap()
    }

    /// What the provider may say: the truth; nothing, although it judged; that it judged nothing. A code that it accepted is gone
    /// for any other attempt, and where its check may not be repeated for the same one as well.
    fn hears(&self, world: &World, worker: usize, challenge: usize, right: bool) -> Vec<(Step, World)> {
        let attempt = self.attempt(worker);
        let truth = match world.accepted[challenge] {
            Some(accepted) if accepted != attempt || self.scenario.via == "managed-once" => Said::Gone,
            _ if right => Said::Matched,
            _ => Said::NotMatched,
        };
        let judges = truth != Said::Gone;
        let answers = [(truth, judges), (Said::Unknown, judges), (Said::NotJudged, false)];
        let heard = answers.map(|(said, judges)| {
            let mut next = world.clone();
            next.workers[worker] = Phase::Answered(said);
            if judges {
                next.judged[attempt] = true;
                next.accepted[challenge] = next.accepted[challenge].or(right.then_some(attempt));
            }
            ((worker, said.name()), next)
        });
        heard.into()
    }

    /// Decides over what is stored, and commits.
    fn commit(&mut self, world: &World, worker: usize, of: usize) -> Vec<(Step, World)> {
        let (challenge, lockout) = (world.challenges[of], world.lockout);
        let phase = world.workers[worker];
        let decided = self.decide((worker, phase, challenge, lockout, self.scenario.leases - world.leases));
        let mut next = world.clone();
        next.workers[worker] = decided.next;
        if (decided.challenge, decided.lockout) == (challenge, lockout) {
            return vec![((worker, "decides without a change"), next)];
        }
        let before = self.lockouts.all[lockout].failures();
        let counted = self.lockouts.all[decided.lockout].failures().saturating_sub(before);
        (next.challenges[of], next.lockout) = (decided.challenge, decided.lockout);
        next.counted += counted;
        let is_success = self.successes(decided.challenge) > self.successes(challenge);
        next.since_success = if is_success { 0 } else { next.since_success + counted };
        let mut steps = vec![((worker, "commits"), next.clone())];
        if world.lost_answers > 0 {
            next.lost_answers -= 1;
            next.workers[worker] = phase;
            steps.push(((worker, "commits, and the answer is lost"), next));
        }
        steps
    }

    fn decide(&mut self, situation: Situation) -> Decided {
        if let Some(known) = self.decisions.get(&situation) {
            return *known;
        }
        let (worker, phase, challenge, lockout, leases) = situation;
        let Task::Guess { id, right, .. } = self.scenario.tasks[worker] else { panic!("an operator decides nothing") };
        let (now, of) = (time(leases), u32::try_from(worker).unwrap());
        let before = State {
            challenge: Arc::clone(&self.challenges.all[challenge]),
            lockout: Arc::clone(&self.lockouts.all[lockout]),
            account_lock: None,
        };
        let (after, next) = match phase {
            Phase::Answered(said) => self.settle(&before, id, of, said, now),
            _ => self.verify(&before, &verify(id, of, self.comparison(right)), now),
        };
        let decided = Decided {
            challenge: self.challenges.number(&after.challenge),
            lockout: self.lockouts.number(&after.lockout),
            next,
        };
        self.decisions.insert(situation, decided);
        decided
    }

    fn comparison(&self, right: bool) -> Comparison {
        match (self.scenario.via, right) {
            ("console", true) => Comparison::Matches,
            ("console", false) => Comparison::Differs,
            _ => Comparison::Ask { lease: ASK_LEASE },
        }
    }

    fn verify(&self, before: &State, verify: &Verify, now: Timestamp) -> (State, Phase) {
        let decision = decided(before, verify, now, &self.policy);
        let next = match decision.outcome {
            VerifyStep::Answer(answer) | VerifyStep::Recorded(answer) => Phase::Told(told(&answer)),
            VerifyStep::Ask(_) => Phase::Asking,
            VerifyStep::InProgress { .. } => Phase::Told(Told::Refused),
            other => panic!("{other:?}"),
        };
        (decision.state, next)
    }

    fn settle(&self, before: &State, id: &str, worker: u32, said: Said, now: Timestamp) -> (State, Phase) {
        let result = match said {
            Said::Matched => AskResult::Matched(Evidence::default()),
            Said::NotMatched => AskResult::NotMatched { left: None },
            Said::Gone => AskResult::Gone,
            Said::NotJudged => AskResult::NotJudged,
            Said::Unknown => AskResult::Unknown,
        };
        let settle = SettleAsk { key: key(id, "VerifyOtp"), token: token(worker), result };
        let decision = decided(before, &settle, now, &self.policy);
        let next = match decision.outcome {
            AskStep::Answer(answer) => told(&answer),
            AskStep::Unknown => Told::Unknown,
            AskStep::Refunded => Told::Refunded,
        };
        (decision.state, Phase::Told(next))
    }

    fn successes(&self, challenge: usize) -> usize {
        let answers = &self.challenges.all[challenge].answers;
        answers.iter().filter(|answer| matches!(answer.reply, Reply::Matched { .. })).count()
    }

    fn proven(&self, challenge: usize) -> Option<Tag> {
        let answers = &self.challenges.all[challenge].answers;
        answers.iter().find(|answer| matches!(answer.reply, Reply::Matched { .. })).map(|answer| answer.key.id)
    }

    /// What must hold of each step to a next world.
    fn judge(&self, before: &World, after: &World) -> Result<(), String> {
        for (challenge, (was, is)) in before.challenges.iter().zip(&after.challenges).enumerate() {
            self.judge_challenge(challenge, (*was, *is), before, after)?;
        }
        let within_leases = self.scenario.leases == after.leases;
        let told = self.tasks_told(after);
        let is_proven = |(challenge, id): &(usize, &str)| {
            self.proven(after.challenges[*challenge]) == Some(key(id, "VerifyOtp").id)
        };
        let wrong = told.iter().any(|(task, told)| {
            matches!(task, Task::Guess { challenge, id, right } if *told == Told::Success && !(*right && is_proven(&(*challenge, id))))
        });
        let failures: HashSet<_> = told
            .iter()
            .filter_map(|(task, told)| match task {
                Task::Guess { challenge, id, .. } if *told == Told::NotMatched => Some((*challenge, *id)),
                _ => None,
            })
            .collect();
        holding(&[
            ("a success is told of the request that proved it", !wrong),
            ("what is told is counted", failures.len() <= usize::try_from(after.counted).unwrap()),
            ("parallel challenges buy no guesses", !within_leases || after.since_success <= self.scenario.locks_at),
        ])
    }

    fn tasks_told(&self, world: &World) -> Vec<(Task, Told)> {
        let phases = self.scenario.tasks.iter().zip(&world.workers);
        phases
            .filter_map(|(task, phase)| if let Phase::Told(told) = phase { Some((*task, *told)) } else { None })
            .collect()
    }

    fn judge_challenge(
        &self,
        challenge: usize,
        (was, is): (usize, usize),
        before: &World,
        after: &World,
    ) -> Result<(), String> {
        let (old, new) = (&self.challenges.all[was], &self.challenges.all[is]);
        let now = time(self.scenario.leases - after.leases);
        let has_succeeded = self.successes(is) > self.successes(was);
        let is_locked = self.lockouts.all[before.lockout].locked(new.contact(0), now).is_some();
        let judged = |id: Tag| {
            let is_it = |task: &Task| matches!(task, Task::Guess { challenge: of, id: own, .. } if *of == challenge && key(own, "").id == id);
            self.scenario.tasks.iter().zip(&after.judged).any(|(task, judged)| *judged && is_it(task))
        };
        let refunded = new.refunded_attempts > old.refunded_attempts;
        let refunded_judged = refunded && old.asking().is_some_and(|asking| judged(asking.attempt.key.id));
        let of_it = |task: &Task| matches!(task, Task::Guess { challenge: of, .. } if *of == challenge);
        let compared =
            self.scenario.tasks.iter().zip(&after.judged).filter(|(task, judged)| **judged && of_it(task)).count();
        let most = usize::try_from(self.scenario.max_attempts).unwrap();
        holding(&[
            ("at most one success", self.successes(is) <= 1),
            ("no success under a lock", !has_succeeded || !is_locked),
            ("an attempt that was judged is not refunded", !refunded_judged),
            ("at most so many codes are judged", compared <= most && new.attempts <= self.scenario.max_attempts),
        ])
    }
}

fn holding(rules: &[(&str, bool)]) -> Result<(), String> {
    rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(broken, _)| Err((*broken).to_owned()))
}

/// The steps that led to the last world, and that world.
fn way(worlds: &[(World, Step, usize)]) -> String {
    let mut lines = Vec::new();
    let mut index = worlds.len() - 1;
    while index > 0 {
        let (_, (worker, what), before) = &worlds[index];
        lines.push(format!("\n  worker {worker} {what}"));
        index = *before;
    }
    lines.reverse();
    format!("{}\n{:?}", lines.concat(), worlds.last())
}

/// The time when so many leases have passed.
fn time(leases: u8) -> Timestamp {
    START.plus(u32::from(leases) * ASK_LEASE + Duration::from_secs(1))
}

impl Said {
    fn name(self) -> &'static str {
        match self {
            Self::Matched => "hears that it matched",
            Self::NotMatched => "hears that it did not match",
            Self::Gone => "hears that it is gone",
            Self::NotJudged => "hears that nothing was judged",
            Self::Unknown => "hears nothing",
        }
    }
}

fn told(answer: &Verified) -> Told {
    match answer {
        Verified::Success(_) => Told::Success,
        Verified::NotMatched { .. } => Told::NotMatched,
        Verified::AccountLocked(_) => Told::Locked,
        Verified::AlreadyUsed | Verified::Expired | Verified::AttemptsExceeded => Told::Refused,
    }
}

fn guess(challenge: usize, id: &'static str, right: bool) -> Task {
    Task::Guess { challenge, id, right }
}

fn holds(scenario: Scenario) {
    match Explorer::new(scenario).explore() {
        Ok(worlds) => assert!(worlds > 100, "only {worlds} worlds"),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn codes_of_ours_over_two_challenges() {
    let tasks = vec![
        guess(0, "a", false),
        guess(1, "b", false),
        guess(0, "c", true),
        guess(1, "d", false),
        guess(0, "a", false),
    ];
    let (via, lost_answers) = ("console", 1);
    holds(Scenario { via, challenges: 2, max_attempts: 3, locks_at: 2, tasks, lost_answers, leases: 0 });
}

#[test]
fn codes_of_ours_and_an_operator() {
    let tasks = vec![guess(0, "a", true), guess(0, "a", true), guess(0, "b", false), guess(0, "c", true), Task::Lock];
    let (via, lost_answers) = ("console", 2);
    holds(Scenario { via, challenges: 1, max_attempts: 2, locks_at: 2, tasks, lost_answers, leases: 0 });
}

#[test]
fn one_request_at_two_replicas_and_another_beside_it() {
    for via in ["managed", "managed-once"] {
        let tasks = vec![guess(0, "a", true), guess(0, "a", true), guess(0, "b", false)];
        holds(Scenario { via, challenges: 1, max_attempts: 1, locks_at: 2, tasks, lost_answers: 1, leases: 2 });
    }
}

#[test]
fn a_wrong_code_asked_about_again_and_again() {
    let tasks = vec![guess(0, "a", false), guess(0, "a", false), guess(0, "b", true)];
    let (via, lost_answers) = ("managed", 1);
    holds(Scenario { via, challenges: 1, max_attempts: 2, locks_at: 1, tasks, lost_answers, leases: 2 });
}

#[test]
fn providers_over_two_challenges_and_an_operator() {
    let tasks = vec![guess(0, "a", false), guess(1, "b", false), guess(1, "c", true), Task::Lock];
    let (via, lost_answers) = ("managed", 0);
    holds(Scenario { via, challenges: 2, max_attempts: 2, locks_at: 1, tasks, lost_answers, leases: 1 });
}

#[test]
fn pending_failures_deny_over_two_challenges() {
    let tasks = vec![guess(0, "a", false), guess(1, "b", false), guess(0, "c", false), guess(1, "d", true)];
    let (via, lost_answers) = ("managed", 1);
    holds(Scenario { via, challenges: 2, max_attempts: 2, locks_at: 2, tasks, lost_answers, leases: 0 });
}

#[test]
fn two_requests_with_the_right_code() {
    for via in ["managed", "managed-once"] {
        let tasks = vec![guess(0, "a", true), guess(0, "b", true), guess(0, "a", true)];
        holds(Scenario { via, challenges: 1, max_attempts: 2, locks_at: 2, tasks, lost_answers: 0, leases: 2 });
    }
}

/// The canaries: rules that allow one more than what is judged.
#[test]
fn one_guess_too_many_is_noticed() {
    let scenario = || Scenario {
        via: "managed",
        challenges: 1,
        max_attempts: 3,
        locks_at: 1,
        tasks: vec![guess(0, "a", false), guess(0, "b", false), guess(0, "c", false)],
        lost_answers: 0,
        leases: 0,
    };
    let mut laxer = Explorer::new(scenario());
    laxer.policy.first_after = 2;
    let found = laxer.explore().unwrap_err();
    assert!(found.starts_with("parallel challenges buy no guesses\n  worker 0 commits\n"), "{found}");
    let mut longer = Explorer::new(Scenario { locks_at: 9, ..scenario() });
    let world = longer.begin();
    longer.scenario.max_attempts = 2;
    let found = longer.explore_from(world).unwrap_err();
    assert!(found.starts_with("at most so many codes are judged"), "{found}");
}
