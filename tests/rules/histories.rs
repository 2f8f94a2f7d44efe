//! Random histories of one challenge beside its lockout, compared with the model step by step.
//!
//! A failure prints the shortest history found, in the language of the tables, and the seed: set `PROPTEST_RNG_SEED` to it
//! to see the same again, `PROPTEST_CASES` to look longer.

use std::{
    collections::BTreeMap,
    fmt::Write,
    hash::{BuildHasher, RandomState},
};

use otpd::domain::{
    challenge::{Challenge, Reply},
    rules::State,
    time::Timestamp,
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestError, TestRunner},
};

use super::{
    language,
    model::{Bug, How, Limits, Model, Step},
    table::Scenario,
};

/// A step some quarters of a second after, or before, the last one.
type Timed = (i64, Step);

fn steps() -> impl Strategy<Value = Vec<Timed>> {
    let pause = prop_oneof![
        6 => 0..8_i64,
        3 => 8..80_i64,
        1 => 80..400_i64,
        1 => -40..0_i64,
    ];
    let id = 0..8_u8;
    let number = 1..20_u32;
    let how = prop_oneof![
        3 => Just(How::Accepted),
        1 => Just(How::Rejected),
        3 => Just(How::Failed),
        1 => Just(How::Unknown),
        1 => Just(How::Withdrawn),
    ];
    let step = prop_oneof![
        6 => (id.clone(), 0..2_usize, prop::bool::weighted(0.1)).prop_map(|(id, option, locked)| Step::Send { id, option, locked }),
        1 => Just(Step::First),
        1 => id.clone().prop_map(|id| Step::Send { id, option: 2, locked: false }),
        6 => (number.clone(), how).prop_map(|(number, how)| Step::Settle { number, how }),
        1 => (0..2_usize, prop::bool::weighted(0.2)).prop_map(|(option, right)| Step::Elsewhere { option, right }),
        5 => (id.clone(), prop::option::weighted(0.4, number), prop::bool::weighted(0.1))
            .prop_map(|(id, code, locked)| Step::Verify { id, code, locked }),
        1 => id.prop_map(|id| Step::Cancel { id }),
    ];
    prop_oneof![9 => vec((pause, step), 1..70), 1 => outage()]
}

/// A provider that fails again and again, and callers who often wait as long as they are told.
fn outage() -> impl Strategy<Value = Vec<Timed>> {
    let send =
        (0..4_i64, 0..4_u8).prop_map(|(pause, haste)| (pause, haste, Step::Send { id: 0, option: 0, locked: false }));
    let how = prop_oneof![20 => Just(How::Failed), 1 => Just(How::Rejected)];
    let settle = (0..4_i64, how).prop_map(|(pause, how)| (pause, Step::Settle { number: 0, how }));
    vec((send, settle), 8..20).prop_map(|pairs| {
        let waits = [0, 0, 0, 0, 0, 0, 8, 16, 32, 64, 128].into_iter().chain(std::iter::repeat(128));
        let pairs = pairs.into_iter().zip(waits).flat_map(|(((pause, haste, send), settle), wait)| {
            [(if haste > 0 { pause + wait } else { pause }, send), settle]
        });
        pairs.collect()
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let gaps = prop_oneof![Just(vec![]), Just(vec![0]), vec(1..60_u64, 1..4)];
    (1..6_u32, 1..5_u32, gaps, 40..400_u64, 400..1200_u64, any::<bool>(), 1..9_u32).prop_map(
        |(attempts, sends, gaps, code_life, life, repeat, locks)| Limits {
            attempts,
            sends,
            gaps,
            code_life,
            life,
            repeat,
            locks,
        },
    )
}

fn time(quarters: u64) -> String {
    format!("{}.{:02}s", quarters / 4, quarters % 4 * 25)
}

fn opening(limits: &Limits) -> String {
    let gaps: Vec<_> = limits.gaps.iter().map(|gap| time(*gap)).collect();
    format!(
        "open attempts={} sends={} gaps={} code={} life={} resend={} locks={} again={} digits=10",
        limits.attempts,
        limits.sends,
        gaps.join(","),
        time(limits.code_life),
        time(limits.life),
        if limits.repeat { "repeat" } else { "rotate" },
        limits.locks,
        limits.locks,
    )
}

fn locked(locked: bool) -> &'static str {
    if locked { " locked" } else { "" }
}

fn command(step: &Step) -> String {
    match step {
        Step::Send { id, option, locked: lock } => format!("send opt{} id=r{id}{}", option + 1, locked(*lock)),
        Step::First => "send opt1 id=create first".to_owned(),
        Step::Settle { number, how } => format!("{} {number}", format!("{how:?}").to_lowercase()),
        Step::Verify { id, code, locked: lock } => {
            let code = code.map_or_else(|| "wrong".to_owned(), |number| number.to_string());
            format!("verify id=r{id} code={code}{}", locked(*lock))
        }
        Step::Cancel { id } => format!("cancel id=r{id}"),
        Step::Elsewhere { option, right } => {
            format!("elsewhere {} opt{}", if *right { "right" } else { "1" }, option + 1)
        }
    }
}

/// Numbers of sends that there have been; `None` where a step needs one and there is none.
fn fit(step: &Step, sends: u32) -> Option<Step> {
    let number = |number: u32| (sends > 0).then(|| sends - number % sends.min(3));
    Some(match step {
        Step::Settle { number: any, how } => Step::Settle { number: number(*any)?, how: *how },
        Step::Verify { id, code, locked } => Step::Verify { id: *id, code: code.and_then(number), locked: *locked },
        other => other.clone(),
    })
}

/// Plays a history in both, and says where they part.
fn play(limits: &Limits, steps: &[Timed], bug: Option<Bug>) -> Result<(), String> {
    let mut script = opening(limits);
    let mut rules = Scenario::open(&script);
    let mut model = Model::new(limits.clone(), bug);
    let mut clock = 0_u64;
    let mut totals = Totals::default();
    for (pause, step) in steps {
        clock = clock.saturating_add_signed(*pause);
        let Some(step) = fit(step, model.sends_so_far()) else { continue };
        let (when, command) = (format!("at {}", time(clock)), command(&step));
        let before = rules.state().clone();
        let (came, expected) = (rules.step(&when, &command), model.step(clock, &step));
        write!(script, "\n{when} | {command} | {expected}").unwrap();
        let part = |what: String| Err(format!("{script}\n{what}"));
        if came != expected {
            return part(format!("came {came}"));
        }
        if let Err(broken) = totals.add(limits, &before.challenge, rules.challenge(), &came) {
            return part(broken);
        }
        let (shown, expected) = (rules.step(&when, "view"), model.view(clock));
        if shown != expected {
            return part(format!("shows   {shown}\nmodel   {expected}"));
        }
        let after = rules.state().clone();
        let again = rules.step(&when, &command);
        let unchanged = rules.state().challenge == after.challenge && rules.state().lockout == after.lockout;
        if is_told_again(&came) && (!unchanged || again != came) {
            return part(format!("what changes nothing changes something when repeated: {again}"));
        }
        if !is_told_again(&came) {
            let expected = model.step(clock, &step);
            write!(script, "\n{when} | {command} | {expected}").unwrap();
            if again != expected {
                return Err(format!("{script}\ncame {again}"));
            }
        }
    }
    Ok(())
}

/// A refusal or a repetition: neither changes the record.
fn is_told_again(came: &str) -> bool {
    ![
        "reserved",
        "attempt",
        "otp_not_matched",
        "success",
        "unconfirmed",
        "failed",
        "refunded",
        "done",
        "destination_rejected",
    ]
    .iter()
    .any(|change| came.starts_with(change))
}

/// What holds over a whole history, however it goes.
#[derive(Default)]
struct Totals {
    compared: u32,
    succeeded: u32,
}

impl Totals {
    fn add(&mut self, limits: &Limits, before: &Challenge, after: &Challenge, came: &str) -> Result<(), String> {
        self.compared += u32::from(came.starts_with("attempt"));
        self.succeeded += u32::from(came.starts_with("attempt") && came.contains("success"));
        let matched = after.answers.iter().filter(|answer| matches!(answer.reply, Reply::Matched { .. })).count();
        let kept = before.answers.iter().all(|answer| after.answers.contains(answer));
        let mut ids: Vec<_> = after.answers.iter().map(|answer| answer.key.id.0).collect();
        ids.extend(after.sending.iter().map(|sending| sending.key.id.0));
        ids.sort_unstable();
        let rules = [
            ("at most one success", self.succeeded <= 1 && matched <= 1),
            ("at most so many codes compared", self.compared <= limits.attempts),
            ("at most so many sends", after.options.iter().all(|option| option.sends <= limits.sends)),
            ("an answer stays as it is", kept),
            ("an id has one answer", ids.windows(2).all(|pair| pair[0] != pair[1])),
            ("a refunded send leaves no id", came != "refunded" || after.answers == before.answers),
        ];
        rules.iter().find(|(_, holds)| !holds).map_or(Ok(()), |(name, _)| Err((*name).to_owned()))
    }
}

/// Settings with a known seed.
pub(crate) fn config(cases: u32) -> (Config, u64) {
    let standard = Config::default();
    let seed = match standard.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one("otpd"),
    };
    let cases = if standard.cases == 256 { cases } else { standard.cases };
    (Config { cases, rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..standard }, seed)
}

/// Looks for a history in which rules and model part.
fn search(cases: u32, bug: Option<Bug>) -> Result<(), String> {
    let (config, seed) = config(cases);
    let shrink = if bug.is_some() { 0 } else { config.max_shrink_iters };
    let mut runner = TestRunner::new(Config { max_shrink_iters: shrink, ..config });
    let found =
        runner.run(&(limits(), steps()), |(limits, steps)| play(&limits, &steps, bug).map_err(TestCaseError::fail));
    match found {
        Ok(()) => Ok(()),
        Err(TestError::Fail(_, (limits, steps))) => {
            let shortest = play(&limits, &steps, bug).err().unwrap_or_default();
            Err(format!("PROPTEST_RNG_SEED={seed}\n{shortest}"))
        }
        Err(TestError::Abort(reason)) => Err(format!("PROPTEST_RNG_SEED={seed}\naborted: {reason}")),
    }
}

#[test]
fn every_history_goes_as_the_model_says() {
    if let Err(found) = search(1_000, None) {
        panic!("{found}");
    }
}

/// The canary: each deliberate mistake in the model is noticed.
#[test]
fn a_wrong_model_is_noticed() {
    for bug in Bug::ALL {
        assert!(search(20_000, Some(bug)).is_err(), "{bug:?} went unnoticed");
    }
}

/// A step of a challenge whose codes may be a provider's own, as a line of a table.
fn managed_line(kind: u8, one: u32, two: u8) -> String {
    let via = ["managed", "managed-once", "console", "managed2"][usize::from(two) % 4];
    let (option, number) = (1 + one % 2, 1 + one);
    match kind {
        0..=2 => format!("send opt{option} id=s{} via={via}", one % 4),
        3 => format!("next {number} via={via}"),
        4..=6 => format!("accepted {number} ref=r length=4"),
        7 => format!("{} {number}", ["failed", "rejected", "unknown", "withdrawn"][usize::from(two) % 4]),
        8 => format!("elsewhere {} opt{option}", if two == 0 { "right" } else { "1" }),
        9..=12 => format!("verify id=v{} code={} lease=5s", two % 5, if two < 8 { "wrong" } else { "1" }),
        13..=17 => {
            let says = ["matched", "not_matched", "not_matched", "gone", "nothing", "not_judged", "used", "exceeded"];
            format!("says {} ask={number}", says[usize::from(two) % says.len()])
        }
        18 => format!("says not_judged ask={number}"),
        _ => "cancel id=c1".to_owned(),
    }
}

fn replies(challenge: &Challenge, which: impl Fn(&Reply) -> bool) -> usize {
    challenge.answers.iter().filter(|answer| which(&answer.reply)).count()
}

/// What holds of each step, whatever the provider and the workers do.
fn broken_rule(before: &State, after: &State, now: Timestamp, line: &str) -> Option<&'static str> {
    let (was, is) = (&*before.challenge, &*after.challenge);
    let is_final = |reply: &Reply| !matches!(reply, Reply::Unknown(_) | Reply::Sent { confirmed: false, .. });
    let kept = was.answers.iter().filter(|answer| is_final(&answer.reply)).all(|answer| is.answers.contains(answer));
    let failed = |reply: &Reply| matches!(reply, Reply::NotMatched { .. });
    let matched = |reply: &Reply| matches!(reply, Reply::Matched { .. });
    let new_failures = replies(is, failed) - replies(was, failed);
    let success = replies(is, matched) > replies(was, matched);
    let proven = is.answers.iter().find_map(|answer| match answer.reply {
        Reply::Matched { option, .. } => Some(is.contact(option)),
        _ => None,
    });
    let under_lock = success && proven.is_some_and(|contact| before.lockout.locked(contact, now).is_some());
    let (counted, count) = (before.lockout.failures(), after.lockout.failures());
    let elsewhere = line.starts_with("elsewhere");
    let told_is_counted =
        elsewhere || success || usize::try_from(count) == usize::try_from(counted).map(|n| n + new_failures);
    let rules = [
        ("at most one success", replies(is, matched) <= 1),
        ("a final answer stays as it is", kept),
        ("no success under a lock", !under_lock),
        ("what is told is counted, and nothing else", told_is_counted),
        ("a success resets the total", !success || count == 0),
    ];
    rules.iter().find(|(_, holds)| !holds).map(|(name, _)| *name)
}

fn play_managed(lines: &[(i64, u8, u32, u8)]) -> Result<(), String> {
    let mut script = "open attempts=4 sends=3 gaps=2s code=60s life=120s locks=4 again=3".to_owned();
    let mut rules = Scenario::open(&script);
    let mut clock = 0_u64;
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let (mut compared, mut succeeded) = (0, 0);
    for (pause, kind, one, two) in lines {
        clock = clock.saturating_add_signed(*pause);
        let (when, mut line) = (format!("at {}", time(clock)), managed_line(*kind, *one, *two));
        if !rules.can(&line) {
            continue;
        }
        if let Some((_, ask)) = line.split_once("ask=") {
            // A worker may settle what its provider said again, but nothing else.
            line = said.entry(ask.to_owned()).or_insert(line).clone();
        }
        let before = rules.state().clone();
        let came = rules.step(&when, &line);
        let after = rules.state().clone();
        write!(script, "\n{when} | {line} | {came}").unwrap();
        if let Some(broken) = broken_rule(&before, &after, language::at(&time(clock)), &line) {
            return Err(format!("{script}\n{broken}"));
        }
        let asked = came.starts_with("ask") && !came.contains("repeated");
        compared += u32::from(asked || came.starts_with("attempt"));
        compared -= after.challenge.refunded_attempts - before.challenge.refunded_attempts;
        let is_new = after.challenge.phase != before.challenge.phase && !line.starts_with("elsewhere");
        succeeded += u32::from(is_new && came.contains("success account"));
        if let Some(answer) = came.strip_prefix("again ")
            && !answer.starts_with("unconfirmed")
            && let Some(first) = told.insert(line.clone(), answer.to_owned())
            && first != answer
        {
            return Err(format!("{script}\nwas told {first}"));
        }
        let challenge = &after.challenge;
        let rules = [
            ("at most one success", succeeded <= 1),
            ("at most so many attempts", challenge.attempts <= 4 && challenge.attempts == compared),
            ("at most ten refunds", challenge.refunded_attempts <= 10 && challenge.refunded_sends <= 10),
            ("at most ten asks about unconfirmed sends", challenge.open().is_none_or(|open| open.resumes <= 10)),
            ("an ended challenge asks nobody", !came.starts_with("ask") || challenge.live_code().is_some()),
        ];
        if let Some((name, _)) = rules.iter().find(|(_, holds)| !holds) {
            return Err(format!("{script}\n{name}"));
        }
    }
    Ok(())
}

#[test]
fn providers_own_codes_keep_the_same_bounds() {
    let (config, seed) = config(3_000);
    let mut runner = TestRunner::new(config);
    let pause = prop_oneof![8 => 0..8_i64, 1 => 8..80_i64, 1 => -20..0_i64];
    let lines = vec((pause, 0..20_u8, 0..4_u32, 0..16_u8), 1..60);
    let played = runner.run(&lines, |lines| play_managed(&lines).map_err(TestCaseError::fail));
    if let Err(found) = played {
        panic!("PROPTEST_RNG_SEED={seed}\n{found}");
    }
}
