//! What the tests of the rules start from: keys, tokens, challenges and their lockouts.

use std::{sync::Arc, time::Duration};

use otpd::{
    domain::{
        canonical::Canonical,
        challenge::Challenge,
        code::CodeOwner,
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::{AccountId, Contact, Fingerprint, IdempotencyKey, OptionId, Tag, Token},
        invariants,
        lockout::Lockout,
        outcome::Receipt,
        policy::{Limits, LockPolicy, OnResend},
        purpose::Purpose,
        rules::{
            Command, Comparison, Decision, Expectation, NewChallenge, OptionSpec, Plan, QuotaState, ReserveSend,
            SettleSend, Settlement, State, Verify, decide, open,
        },
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    keys::ring::KeyRing,
    secret::Secret,
};
use sha2::{Digest, Sha256};

use super::language::{self, START, Words};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// How long an ask may take.
pub(crate) const ASK_LEASE: Duration = Duration::from_secs(10);

/// The key of an id and a content.
pub(crate) fn key(id: &str, content: &str) -> IdempotencyKey {
    // The tables show answers by their ids: one that fits stands for itself.
    let mut tag = [0; 8];
    let hashed = Sha256::digest(id);
    let bytes = if id.len() <= tag.len() { id.as_bytes() } else { hashed.as_slice() };
    tag.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let mut print = [0; 8];
    let digest = Sha256::digest(Canonical::new(content).finish());
    print.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    IdempotencyKey { id: Tag(tag), fingerprint: Fingerprint(print) }
}

/// The token of a worker.
pub(crate) fn token(number: u32) -> Token {
    let mut token = [0; 8];
    token.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
    Token(token)
}

pub(crate) fn contact(number: usize) -> Contact {
    Contact(u64::try_from(number).unwrap().to_be_bytes())
}

pub(crate) fn creation_key() -> IdempotencyKey {
    key("create", "CreateChallenge")
}

pub(crate) fn ring() -> KeyRing {
    // 32 bytes of 1 and of 2 in base64.
    let keys = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    KeyRing::parse(&Secret::new(keys.to_owned()), false).expect("ring")
}

pub(crate) fn purpose(name: &str) -> Purpose {
    Purpose::ALL.into_iter().find(|purpose| purpose.name() == name).expect("purpose")
}

pub(crate) fn transaction(units: i64) -> Transaction {
    let amount = Amount { micros: units * 1_000_000, currency: "EUR".to_owned() };
    Transaction { amount, payee: "Books".to_owned(), reference: "r".to_owned() }
}

/// `via=` names the provider: `console` (the default), another that delivers our codes, `managed`, `managed-once`, `sandbox`
/// or `none`.
pub(crate) fn plan(words: &Words<'_>) -> Option<Plan> {
    let provider = words.get("via").unwrap_or("console");
    let owner = match provider {
        "none" => return None,
        "managed" | "managed2" | "sandbox" => CodeOwner::Provider { check_repeatable: true },
        "managed-once" => CodeOwner::Provider { check_repeatable: false },
        _ => CodeOwner::Otpd,
    };
    let send_repeatable = provider == "managed2";
    let (code_life, key_id, sandbox) = (words.span("life"), words.number("key").unwrap_or(1), provider == "sandbox");
    Some(Plan { provider: provider.to_owned(), owner, code_life, send_repeatable, key_id, sandbox })
}

/// A fresh challenge: `open attempts=2 gaps=30s,60s purpose=transaction pays=12 ...`.
pub(crate) fn challenge(words: &Words<'_>) -> Challenge {
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
    let destinations = [
        ("opt1", Channel::Sms, Destination::Phone(PhoneNumber::parse("+14155550101").expect("number"))),
        ("opt2", Channel::Email, Destination::Email(Mailbox::parse("jane@example.com").expect("mailbox"))),
    ];
    let options = destinations.into_iter().zip(1..).map(|((id, channel, destination), index)| OptionSpec {
        id: option_id(id),
        channel,
        destination,
        contact: contact(index),
    });
    let new = NewChallenge {
        creation: creation_key(),
        account: AccountId::parse("jane").expect("account"),
        purpose: words.get("purpose").map_or(Purpose::Login, purpose),
        transaction: words.number("pays").map(transaction),
        limits,
        options: options.collect(),
        nonce: [7; 16],
        locale: "en".to_owned(),
    };
    open(new, START)
}

pub(crate) fn option_id(id: &str) -> OptionId {
    OptionId::parse(id).expect("option")
}

/// A fresh challenge beside a lockout.
pub(crate) fn state(line: &str, lockout: Lockout) -> State {
    let challenge = challenge(&Words::parse(line));
    State { challenge: Arc::new(challenge), lockout: Arc::new(lockout), account_lock: None }
}

/// Decides, and holds the decision to what holds of every decision.
pub(crate) fn decided<C: Command>(
    before: &State,
    command: &C,
    now: Timestamp,
    policy: &LockPolicy,
) -> Decision<C::Outcome>
where
    C::Outcome: PartialEq + std::fmt::Debug,
{
    let decision = decide(before, command, now, policy);
    assert_eq!(decision, decide(before, command, now, policy), "a decision depends on nothing else");
    if decision.state.challenge != before.challenge {
        invariants::check_change(&before.challenge, &decision.state.challenge).expect("invariants");
        assert!(decision.state.challenge.latest_at >= now, "what changes is dated");
    }
    if C::may_rest_on_memory(&decision.outcome) && decision.state.challenge == before.challenge {
        assert_eq!(decision.state.lockout, before.lockout, "a recorded answer changes nothing");
    }
    decision
}

/// A send that has been reserved and accepted, as words: `opt1 via=managed`.
pub(crate) fn with_code(before: &State, line: &str, now: Timestamp) -> State {
    let words = Words::parse(line);
    let (key, token) = (key(&format!("sent {line}"), line), token(u32::MAX));
    let reserve = ReserveSend {
        key,
        token,
        option: option_id(words.verb),
        quotas: QuotaState::Acquired,
        plan: plan(&words),
        lease: 15 * SECOND,
        can_call: true,
        resume_lease: Some(std::time::Duration::from_secs(15)),
    };
    let reserved = decided(before, &reserve, now, &LockPolicy::default()).state;
    let settlement = Settlement::Accepted(Receipt {
        reference: "ref".to_owned(),
        code_life: None,
        code_length: None,
        ..Receipt::default()
    });
    decided(&reserved, &SettleSend { key, token, provider: "p".to_owned(), settlement }, now, &LockPolicy::default())
        .state
}

/// A verification without an expectation.
pub(crate) fn verify(id: &str, worker: u32, comparison: Comparison) -> Verify {
    let expectation = Expectation::default();
    Verify { key: key(id, "VerifyOtp"), token: token(worker), expectation, comparison }
}

/// A verification that asks a provider.
pub(crate) fn ask(id: &str, worker: u32) -> Verify {
    verify(id, worker, Comparison::Ask { lease: ASK_LEASE })
}
