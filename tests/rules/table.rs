//! Runs the scenarios of a table.

use std::{collections::BTreeMap, time::Duration};

use otpd::{
    domain::{
        canonical::Canonical,
        challenge::Challenge,
        code,
        code::CodeOwner,
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::{AccountId, Fingerprint, OptionId, Request, Tag},
        invariants,
        policy::{Limits, OnResend},
        purpose::Purpose,
        rules::{
            Cancel, CheckResult, Command, Comparison, Decision, Expectation, GiveBackSend, NewChallenge, NextProvider,
            OptionSpec, Plan, ReserveSend, SendStep, SettleCheck, SettleSend, Settlement, Verify, VerifyStep, decide,
            open, view,
        },
        subject::Standing,
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    keys::ring::KeyRing,
    secret::Secret,
};
use sha2::{Digest, Sha256};

use super::language::{self, START, Words, at};

/// Runs a table. What came out otherwise than written, line by line.
pub(crate) fn run(text: &str) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut scenario = Scenario::new(&Words::parse("open"));
    let mut steps = 0;
    for (line, number) in text.lines().map(str::trim).zip(1..) {
        if line.starts_with("==") {
            scenario = Scenario::new(&Words::parse("open"));
        } else if line.starts_with("open") {
            scenario = Scenario::new(&Words::parse(line));
        } else if !line.is_empty() && !line.starts_with('#') {
            steps += 1;
            let columns: Vec<_> = line.split('|').map(str::trim).collect();
            let [when, command, expected] = columns[..] else { panic!("line {number}: {line}") };
            let came = scenario.step(when, command);
            if came != expected {
                mistakes
                    .push(format!("  line {number}: {when} | {command}\n    expected {expected}\n    came     {came}"));
            }
        }
    }
    assert!(steps > 0, "a table without steps");
    mistakes
}

/// The request of an id and a content.
pub(crate) fn request(id: &str, content: &str) -> Request {
    let mut tag = [0; 16];
    tag.iter_mut().zip(id.bytes()).for_each(|(to, from)| *to = from);
    let mut print = [0; 16];
    let digest = Sha256::digest(Canonical::new(content).finish());
    print.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Request { id: Tag(tag), content: Fingerprint(print) }
}

/// One challenge, and what the people and providers around it know.
pub(crate) struct Scenario {
    record: Challenge,
    ring: KeyRing,
    /// The codes that were delivered, by the number of their send.
    codes: BTreeMap<u32, String>,
    sends: BTreeMap<u32, Request>,
    asks: BTreeMap<u32, Request>,
}

impl Scenario {
    fn new(words: &Words<'_>) -> Self {
        Self {
            record: challenge(words),
            ring: ring(),
            codes: BTreeMap::new(),
            sends: BTreeMap::new(),
            asks: BTreeMap::new(),
        }
    }

    pub(crate) fn open(line: &str) -> Self {
        Self::new(&Words::parse(line))
    }

    pub(crate) fn record(&self) -> &Challenge {
        &self.record
    }

    /// Puts a record in the place of the present one.
    pub(crate) fn store(&mut self, record: Challenge) {
        invariants::check_change(&self.record, &record).expect("invariants");
        self.record = record;
    }

    /// Whether there has been the send, or the question, that a line speaks of.
    pub(crate) fn can(&self, line: &str) -> bool {
        let words = Words::parse(line);
        match words.verb {
            "accepted" | "rejected" | "failed" | "unknown" => self.sends.contains_key(&position(&words)),
            "says" => self.asks.contains_key(&words.number("attempt").unwrap_or(1)),
            _ => true,
        }
    }

    /// Does what a line says, and tells what it came to.
    pub(crate) fn step(&mut self, when: &str, command: &str) -> String {
        let now = at(when.strip_prefix("at ").expect("a step starts with `at`"));
        let words = Words::parse(command);
        match words.verb {
            "send" => self.send(&words, now),
            "next" => {
                let next = NextProvider { number: position(&words), plan: plan(&words).expect("a provider") };
                let ours = self.decide(&next, now);
                self.deliver(next.number);
                if ours { "ours".to_owned() } else { "not_ours".to_owned() }
            }
            "accepted" => {
                let reference = words.get("ref").unwrap_or_default().to_owned();
                let (code_life, code_length) = (words.span("life"), words.number("length"));
                self.settle(&words, Settlement::Accepted { reference, code_life, code_length }, now)
            }
            "rejected" => self.settle(&words, Settlement::Rejected, now),
            "failed" => self.settle(&words, Settlement::Failed, now),
            "unknown" => self.settle(&words, Settlement::Unknown, now),
            "decline" => {
                let given_back = self.decide(&GiveBackSend { number: position(&words) }, now);
                if given_back { "given_back".to_owned() } else { "gone".to_owned() }
            }
            "verify" => self.verify(&words, now),
            "says" => self.says(&words, now),
            "cancel" => {
                let request = request(words.get("id").expect("id"), words.get("content").unwrap_or("CancelChallenge"));
                language::cancel_step(self.decide(&Cancel { request }, now))
            }
            "view" => language::view(&view(&self.record, now)),
            "kept" => language::kept(&self.record),
            verb => panic!("unknown verb {verb}"),
        }
    }

    fn send(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let option = words.plain[0];
        let content = format!("SendOtp {option} {}", words.get("content").unwrap_or_default());
        let creation = words.get("id") == Some("create") && words.plain.contains(&"first");
        let request = if creation { creation_request() } else { request(words.get("id").expect("id"), &content) };
        let send = ReserveSend {
            request,
            option: OptionId::parse(option).expect("option"),
            locked: words.locked(),
            plan: plan(words),
            lease: words.span("lease").unwrap_or(Duration::from_secs(15)),
        };
        let step = self.decide(&send, now);
        if let SendStep::Deliver(dispatched) = &step {
            self.sends.insert(dispatched.number, request);
            self.deliver(dispatched.number);
        }
        language::send_step(&step)
    }

    /// Keeps the code that a person would now receive.
    fn deliver(&mut self, number: u32) {
        let live = self.record.live_code().filter(|code| code.send_number == number && code.owner == CodeOwner::Otpd);
        if let Some(live) = live {
            let code = self.ring.code(&self.record, live).expect("key").expect("open");
            self.codes.insert(number, code.expose().clone());
        }
    }

    fn settle(&mut self, words: &Words<'_>, settlement: Settlement, now: Timestamp) -> String {
        let number = position(words);
        let request = self.sends[&number];
        language::settle_step(&self.decide(&SettleSend { request, number, settlement }, now))
    }

    fn verify(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let typed = match words.get("code").expect("code") {
            "wrong" => "x".to_owned(),
            number => self.codes.get(&number.parse().expect("a send")).cloned().unwrap_or_else(|| "managed".to_owned()),
        };
        let request = request(
            words.get("id").expect("id"),
            &format!("VerifyOtp {typed} {}", words.get("content").unwrap_or_default()),
        );
        let verify = Verify {
            request,
            expectation: expectation(words),
            comparison: self.compare(&typed, words),
            standing: standing(words),
        };
        let step = self.decide_told(&verify, now);
        if let VerifyStep::Ask(asked) = &step.0 {
            self.asks.insert(asked.attempt, request);
        }
        format!("{}{}", language::verify_step(&step.0), step.1)
    }

    /// As the service compares: with the live code, if there is one.
    fn compare(&self, typed: &str, words: &Words<'_>) -> Comparison {
        match self.record.live_code() {
            None => Comparison::Nothing,
            Some(live) if live.owner == CodeOwner::Otpd => {
                let code = self.ring.code(&self.record, live).expect("key").expect("open");
                Comparison::Ours { matches: code::matches(&code, &Secret::new(typed.to_owned())) }
            }
            Some(_) => Comparison::Managed { lease: words.span("lease").unwrap_or(Duration::from_secs(10)) },
        }
    }

    fn says(&mut self, words: &Words<'_>, now: Timestamp) -> String {
        let attempt = words.number("attempt").unwrap_or(1);
        let result = match words.plain[0] {
            "matched" => CheckResult::Matched {
                eci: words.get("eci").unwrap_or_default().to_owned(),
                verification_id: words.get("vid").unwrap_or_default().to_owned(),
            },
            "not_matched" => CheckResult::NotMatched,
            "gone" => CheckResult::Gone,
            "exceeded" => CheckResult::AttemptsExceeded,
            "used" => CheckResult::AlreadyUsed,
            "nothing" => CheckResult::Unknown,
            other => panic!("no provider says {other}"),
        };
        let request = self.asks[&attempt];
        let (step, told) = self.decide_told(&SettleCheck { request, attempt, result, standing: standing(words) }, now);
        format!("{}{told}", language::check_step(&step))
    }

    fn decide<C: Command>(&mut self, command: &C, now: Timestamp) -> C::Outcome {
        self.decide_told(command, now).0
    }

    /// Decides, keeps the record, and tells of an attempt that was abandoned on the way.
    fn decide_told<C: Command>(&mut self, command: &C, now: Timestamp) -> (C::Outcome, String) {
        let decision = decide(&self.record, command, now);
        let again = decide(&self.record, command, now);
        assert_eq!((&decision.record, decision.abandoned_attempt), (&again.record, again.abandoned_attempt));
        let Decision { record, outcome, abandoned_attempt } = decision;
        if record != self.record {
            invariants::check_change(&self.record, &record).expect("invariants");
        }
        self.record = record;
        (outcome, abandoned_attempt.map_or_else(String::new, |attempt| format!(" abandoned={attempt}")))
    }
}

fn position(words: &Words<'_>) -> u32 {
    words.plain[0].parse().expect("the number of a send")
}

fn ring() -> KeyRing {
    // 32 bytes of 1 and of 2 in base64.
    let keys = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    KeyRing::parse(&Secret::new(keys.to_owned()), false).expect("ring")
}

fn creation_request() -> Request {
    request("create", "CreateChallenge")
}

fn standing(words: &Words<'_>) -> Standing {
    Standing {
        locked: words.locked(),
        budget: words.number("budget").unwrap_or(10),
        through: words.number("through").unwrap_or(0),
    }
}

fn expectation(words: &Words<'_>) -> Expectation {
    Expectation {
        account: words.get("account").map(|account| AccountId::parse(account).expect("account")),
        purpose: words.get("purpose").map(purpose),
        transaction: words.number("pays").map(transaction),
    }
}

fn purpose(name: &str) -> Purpose {
    Purpose::ALL.into_iter().find(|purpose| purpose.name() == name).expect("purpose")
}

fn transaction(units: i64) -> Transaction {
    let amount = Amount { micros: units * 1_000_000, currency: "EUR".to_owned() };
    Transaction { amount, payee: "Books".to_owned(), reference: "r".to_owned() }
}

/// `via=` names the provider: `console` (the default), another of ours, `managed`, `managed-once`, or `none`.
fn plan(words: &Words<'_>) -> Option<Plan> {
    let provider = words.get("via").unwrap_or("console");
    let owner = match provider {
        "none" => return None,
        "managed" | "managed2" => CodeOwner::Provider { check_repeatable: true },
        "managed-once" => CodeOwner::Provider { check_repeatable: false },
        _ => CodeOwner::Otpd,
    };
    let (provider, code_life) = (provider.to_owned(), words.span("life"));
    Some(Plan { provider, owner, code_life, key_id: words.number("key").unwrap_or(1) })
}

fn challenge(words: &Words<'_>) -> Challenge {
    let standard = Limits::default();
    let gaps = |text: &str| text.split(',').filter(|gap| !gap.is_empty()).map(language::span).collect();
    let limits = Limits {
        code_digits: words.number("digits").unwrap_or(standard.code_digits),
        code_life: words.span("code").unwrap_or(standard.code_life),
        challenge_life: words.span("life").unwrap_or(standard.challenge_life),
        max_verification_attempts: words.number("attempts").unwrap_or(standard.max_verification_attempts),
        max_send_attempts: words.number("sends").unwrap_or(standard.max_send_attempts),
        resend_gaps: words.get("gaps").map_or(standard.resend_gaps, gaps),
        on_resend: if words.get("resend") == Some("repeat") { OnResend::Repeat } else { OnResend::Rotate },
        retention: standard.retention,
    };
    let purpose = words.get("purpose").map_or(Purpose::Login, purpose);
    let registers = purpose == Purpose::Registration;
    let destinations = [
        ("opt1", Channel::Sms, Destination::Phone(PhoneNumber::parse("+14155550101").expect("number"))),
        ("opt2", Channel::Email, Destination::Email(Mailbox::parse("jane@example.com").expect("mailbox"))),
    ];
    let options = destinations.into_iter().zip(1_u8..).map(|((id, channel, destination), index)| OptionSpec {
        id: OptionId::parse(id).expect("id"),
        channel,
        destination,
        subject: registers.then_some(Tag([index; 16])),
    });
    let new = NewChallenge {
        creation: creation_request(),
        account: AccountId::parse("jane").expect("account"),
        purpose,
        transaction: words.number("pays").map(transaction),
        limits,
        options: options.collect(),
        nonce: [7; 16],
        locale: "en".to_owned(),
    };
    open(new, START)
}
