//! Runs the scenarios of a table.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use otpd::{
    domain::{
        challenge::Challenge,
        code::{self, CodeOwner},
        ids::{AccountId, IdempotencyKey, Token},
        lockout::{Lockout, Running},
        outcome::{Evidence, Receipt},
        policy::LockPolicy,
        rules::{
            AskResult, Cancel, Command, Comparison, Decision, Expectation, NextProvider, QuotaState, ReserveSend,
            SendStep, SettleAsk, SettleSend, Settlement, State, Verify, VerifyStep, view,
        },
        time::Timestamp,
    },
    keys::ring::KeyRing,
    secret::Secret,
};

use super::{
    fixture::{self, creation_key, decided, key, option_id, plan, purpose, ring, token, transaction},
    language::{self, Words, at},
};

/// Runs a table. What came out otherwise than written, line by line.
pub(crate) fn run(text: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    let came = play(text);
    assert!(!came.is_empty(), "a table without steps");
    for Step { number, when, command, expected, came } in came {
        if came != expected {
            mistakes.push(format!("  line {number}: {when} | {command}\n    expected {expected}\n    came     {came}"));
        }
    }
    mistakes
}

/// The table with its third column as it came out. For a rule that has changed; each changed line is to be read.
pub(crate) fn rewritten(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for Step { number, when, command, came, .. } in play(text) {
        lines[number - 1] = format!("{when:<10} | {command:<32} | {came}");
    }
    lines.join("\n") + "\n"
}

/// A step of a table: as it is written, and what it came to.
struct Step<'a> {
    number: usize,
    when: &'a str,
    command: &'a str,
    expected: &'a str,
    came: String,
}

fn play(text: &str) -> Vec<Step<'_>> {
    let mut scenario = Scenario::open("open");
    let mut steps = Vec::new();
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.starts_with("==") {
            scenario = Scenario::open("open");
        } else if line.starts_with("open") {
            scenario = Scenario::open(line);
        } else if !line.is_empty() && !line.starts_with('#') {
            let columns: Vec<_> = line.split('|').map(str::trim).collect();
            let [when, command, expected] = columns[..] else { panic!("line {number}: {line}") };
            let came = scenario.step(when, command);
            steps.push(Step { number, when, command, expected, came });
        }
    }
    steps
}

/// A reservation, as its worker knows it.
#[derive(Clone, Copy)]
struct Reservation {
    key: IdempotencyKey,
    token: Token,
}

/// One challenge beside its lockout, and what the people, workers and providers around them know.
pub(crate) struct Scenario {
    state: State,
    policy: LockPolicy,
    ring: KeyRing,
    /// The codes that were delivered, by the number of their send.
    codes: BTreeMap<u32, String>,
    sends: BTreeMap<u32, Reservation>,
    /// The providers that are asked to deliver, by the number of their send.
    pinned: BTreeMap<u32, String>,
    asks: BTreeMap<u32, Reservation>,
    /// Each command is another worker's, unless it says `worker=`.
    workers: u32,
}

impl Scenario {
    pub(crate) fn open(line: &str) -> Self {
        let words = Words::parse(line);
        let standard = LockPolicy::default();
        Self {
            state: fixture::state(line, Lockout::default()),
            policy: LockPolicy {
                first_after: words.number("locks").unwrap_or(standard.first_after),
                again_after: words.number("again").unwrap_or(standard.again_after),
                ..standard
            },
            ring: ring(),
            codes: BTreeMap::new(),
            sends: BTreeMap::new(),
            pinned: BTreeMap::new(),
            asks: BTreeMap::new(),
            workers: 1_000,
        }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn challenge(&self) -> &Challenge {
        &self.state.challenge
    }

    /// Whether there has been the send, or the ask, that a line speaks of.
    pub(crate) fn can(&self, line: &str) -> bool {
        let words = Words::parse(line);
        match words.verb {
            "accepted" | "rejected" | "failed" | "unknown" | "withdrawn" | "declined" | "next" => {
                self.sends.contains_key(&position(&words))
            }
            "says" => self.asks.contains_key(&self.ask_of(&words)),
            _ => true,
        }
    }

    /// Does what a line says, and tells what it came to.
    pub(crate) fn step(&mut self, when: &str, command: &str) -> String {
        let now = at(when.strip_prefix("at ").expect("a step starts with `at`"));
        let words = Words::parse(command);
        self.state.account_lock = words.locked();
        let came = self.act(&words, now);
        // Only limits of the provider's are worth telling.
        let limits = &self.challenge().limits;
        came.replace(&format!(" most={}/{}", limits.max_verification_attempts, limits.max_send_attempts), "")
    }

    fn act(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        match words.verb {
            "send" => self.send(words, now),
            "next" => self.next(words, now),
            "accepted" | "rejected" | "failed" | "unknown" | "withdrawn" | "declined" => self.settle(words, now),
            "verify" => self.verify(words, now),
            "says" => self.says(words, now),
            "cancel" => {
                let key = key(words.get("id").expect("id"), words.get("content").unwrap_or("CancelChallenge"));
                language::cancel_step(self.decide(&Cancel { key }, now))
            }
            "elsewhere" => self.elsewhere(words, now),
            "lockout" => language::lockout(&self.state.lockout, now),
            "running" => {
                let running = self.state.lockout.running(&self.state.challenge.account, words.plain[0], now);
                let told = |it: &Running| format!("{} until={}", it.reference, language::time(it.until));
                if running.is_empty() {
                    "nothing".to_owned()
                } else {
                    running.iter().map(told).collect::<Vec<_>>().join(", ")
                }
            }
            "view" => language::view(&view(&self.state.challenge, now)),
            "kept" => language::kept(&self.state.challenge),
            verb => panic!("unknown verb {verb}"),
        }
    }

    fn worker(&mut self, words: &Words<'_>) -> Token {
        self.workers += 1;
        token(words.number("worker").unwrap_or(self.workers))
    }

    fn send(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let option = words.plain[0];
        let content = format!("SendOtp {option} {}", words.get("content").unwrap_or_default());
        let creation = words.get("id") == Some("create") && words.plain.contains(&"first");
        let send = ReserveSend {
            key: if creation { creation_key() } else { key(words.get("id").expect("id"), &content) },
            token: self.worker(words),
            option: option_id(option),
            quotas: match words.get("quotas") {
                Some("unasked") => QuotaState::Unasked,
                Some("refused") => QuotaState::Refused,
                _ => QuotaState::Acquired,
            },
            plan: plan(words),
            lease: words.span("lease").unwrap_or(Duration::from_secs(15)),
            can_call: !words.plain.contains(&"closed"),
            resume_lease: (!words.plain.contains(&"closed")).then_some(Duration::from_secs(15)),
        };
        let step = self.decide(&send, now);
        if let SendStep::Reserved(reserved) | SendStep::Resumed(reserved) = &step {
            self.sends.insert(reserved.number, Reservation { key: send.key, token: send.token });
            self.deliver(reserved.number);
        }
        language::send_step(&step)
    }

    fn next(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let number = position(words);
        let next = NextProvider { token: self.sends[&number].token, plan: plan(words).expect("a provider") };
        let is_own = self.decide(&next, now);
        self.deliver(number);
        if is_own { "pinned".to_owned() } else { "not_reserved".to_owned() }
    }

    /// Keeps the code that a person would now receive.
    fn deliver(&mut self, number: u32) {
        let challenge = &self.state.challenge;
        let Some(live) = challenge.live_code().filter(|code| code.send == number) else { return };
        self.pinned.insert(number, live.provider.clone());
        if live.owner == CodeOwner::Otpd {
            let code = self.ring.code(challenge, live).expect("key").expect("open");
            self.codes.insert(number, code.expose().clone());
        }
    }

    fn settle(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let settlement = match words.verb {
            "accepted" => Settlement::Accepted(Receipt {
                reference: words.get("ref").unwrap_or_default().to_owned(),
                code_life: words.span("life"),
                code_length: words.number("length"),
                max_checks: words.number("checks"),
                max_sends: words.number("sends"),
                running_for: words.span("runs"),
                ..Receipt::default()
            }),
            "rejected" => Settlement::Rejected,
            "failed" => Settlement::Failed,
            "unknown" => Settlement::Unknown,
            "withdrawn" => Settlement::Withdrawn,
            _ => Settlement::Declined(language::decline(words.plain[1])),
        };
        let Reservation { key, token } = self.sends[&position(words)];
        let provider = self.pinned.get(&position(words)).cloned().unwrap_or_default();
        language::settle_step(&self.decide(&SettleSend { key, token, provider, settlement }, now))
    }

    fn verify(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let typed = match words.get("code").expect("code") {
            "wrong" => "x".to_owned(),
            number => self.codes.get(&number.parse().expect("a send")).cloned().unwrap_or_else(|| "managed".to_owned()),
        };
        let content = format!("VerifyOtp {typed} {}", words.get("content").unwrap_or_default());
        let verify = Verify {
            key: key(words.get("id").expect("id"), &content),
            token: self.worker(words),
            expectation: expectation(words),
            comparison: self.compare(&typed, words),
        };
        let attempts = self.challenge().attempts;
        let step = self.decide(&verify, now);
        let attempt = if self.challenge().attempts > attempts { self.challenge().attempts } else { 0 };
        if let VerifyStep::Ask(asked) = &step {
            let number = self.challenge().asking().expect("an ask").number;
            self.asks.insert(number, Reservation { key: verify.key, token: verify.token });
            return format!("ask {number} {}", language::asked(asked));
        }
        let counted = if attempt > 0 { format!("attempt {attempt} ") } else { String::new() };
        format!("{counted}{}", language::verify_step(&step))
    }

    /// As the service compares: with the live code, if there is one.
    fn compare(&self, typed: &str, words: &Words<'_>) -> Comparison {
        let challenge = &self.state.challenge;
        let Some(live) = challenge.live_code() else { return Comparison::NoCode };
        if live.owner != CodeOwner::Otpd {
            let lease = words.span("lease").unwrap_or(fixture::ASK_LEASE);
            return if words.plain.contains(&"unready") { Comparison::CannotJudge } else { Comparison::Ask { lease } };
        }
        let code = self.ring.code(challenge, live).expect("key").expect("open");
        let matches = code::matches(&code, &Secret::new(typed.to_owned()));
        if matches { Comparison::Matches } else { Comparison::Differs }
    }

    fn ask_of(&self, words: &Words<'_>) -> u32 {
        words.number("ask").or(self.asks.keys().max().copied()).unwrap_or_default()
    }

    fn says(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let result = match words.plain[0] {
            "matched" => AskResult::Matched(Evidence {
                eci: words.get("eci").unwrap_or_default().to_owned(),
                verification_id: words.get("vid").unwrap_or_default().to_owned(),
                ..Evidence::default()
            }),
            "not_matched" => AskResult::NotMatched { left: words.number("left") },
            "gone" => AskResult::Gone,
            "exceeded" => AskResult::AttemptsExceeded,
            "used" => AskResult::AlreadyUsed,
            "not_judged" => AskResult::NotJudged,
            "nothing" => AskResult::Unknown,
            other => panic!("no provider says {other}"),
        };
        let Reservation { key, token } = self.asks[&self.ask_of(words)];
        language::ask_step(&self.decide(&SettleAsk { key, token, result }, now))
    }

    /// `elsewhere 3 opt2`: so many wrong codes at other challenges of the account, sent to that option; `elsewhere right opt2`.
    fn elsewhere(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let (count, comparison) = match words.plain[0] {
            "right" => (1, Comparison::Matches),
            number => (number.parse().expect("a number"), Comparison::Differs),
        };
        let option = words.plain.get(1).copied().unwrap_or("opt1");
        let mut told = String::new();
        for _ in 0..count {
            let mut other = fixture::state("open", Lockout::default());
            Arc::make_mut(&mut other.challenge).created_at = now;
            let sent = fixture::with_code(&other, option, now);
            let sent = State { lockout: Arc::clone(&self.state.lockout), ..sent };
            let Decision { state, outcome } = decided(&sent, &fixture::verify("v", 1, comparison), now, &self.policy);
            self.state.lockout = state.lockout;
            told = language::verify_step(&outcome);
        }
        told
    }

    fn decide<C: Command>(&mut self, command: &C, now: Timestamp) -> C::Outcome
    where
        C::Outcome: PartialEq + std::fmt::Debug,
    {
        let Decision { state, outcome } = decided(&self.state, command, now, &self.policy);
        self.state = state;
        outcome
    }
}

fn position(words: &Words<'_>) -> u32 {
    words.plain[0].parse().expect("the number of a send")
}

fn expectation(words: &Words<'_>) -> Expectation {
    Expectation {
        account: words.get("account").map(|account| AccountId::parse(account).expect("account")),
        purpose: words.get("purpose").map(purpose),
        transaction: words.number("pays").map(transaction),
    }
}
