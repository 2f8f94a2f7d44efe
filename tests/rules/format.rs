//! The bytes of records, pinned: replicas of two versions read each other's records, and records live up to 10 years.
//!
//! A test here fails where a field was added, removed or moved, or an enum's variant moved. Records that are stored already
//! would then be misread. To change a format: leave the old type in place under another name, read it where the first byte
//! of a sealed record (`keys::seal`, the format) is the old one, and write the new one only in the release after the one
//! that can read it. A variant added at the end of an enum changes no byte here, but is unreadable to the release before.

use std::fmt::Write;

use std::sync::Arc;

use otpd::{
    domain::{
        challenge::{
            Answer, Asking, Attempt, Challenge, ChallengeOption, ContactAddress, Decline, Ended, Event, EventKind,
            LiveCode, MAX_EVENTS, MAX_OPTIONS, MAX_RESUMES, Open, Phase, Reply, SendUse, Sending,
        },
        code::CodeOwner,
        destination::{Channel, Destination, Mailbox},
        ids::{AccountId, Contact, Fingerprint, IdempotencyKey, OptionId, Tag, Token},
        invariants,
        lockout::{Lockout, Operation},
        policy::{Limits, OnResend},
        purpose::Purpose,
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    ports::store::Sealed,
};

use super::{fixture::key, language::START, table::Scenario};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap()
}

/// Open, with a code, a send on its way and two answers.
fn open() -> Challenge {
    let mut scenario = Scenario::open("open purpose=transaction pays=12");
    scenario.step("at 0s", "send opt1 id=s1");
    scenario.step("at 1s", "accepted 1");
    scenario.step("at 2s", "verify id=v1 code=wrong");
    scenario.step("at 30s", "send opt2 id=s2 via=managed");
    scenario.challenge().clone()
}

/// Verified by a provider.
fn ended() -> Challenge {
    let mut scenario = Scenario::open("open purpose=registration");
    scenario.step("at 0s", "send opt2 id=s1 via=managed");
    scenario.step("at 1s", "accepted 1 ref=r1 length=4");
    scenario.step("at 2s", "verify id=v1 code=1");
    scenario.step("at 3s", "says matched eci=05 vid=p1");
    scenario.challenge().clone()
}

/// With a lock of failures, one of an operator, and a failure that is pending.
fn lockout() -> Lockout {
    let mut scenario = Scenario::open("open locks=3");
    scenario.step("at 0s", "elsewhere 2 opt2");
    scenario.step("at 0s", "elsewhere right opt1");
    scenario.step("at 0s", "elsewhere 1 opt2");
    scenario.step("at 1s", "send opt1 id=s1 via=managed");
    scenario.step("at 2s", "accepted 1 ref=r1");
    scenario.step("at 3s", "verify id=v1 code=1");
    let mut lockout = Arc::unwrap_or_clone(Arc::clone(&scenario.state().lockout));
    lockout.operate(key("op", "LockAccount"), Operation::Lock(Some(START)));
    lockout
}

#[test]
fn an_open_challenge() {
    let bytes = encoded(&open());
    assert_eq!(hex(&bytes), OPEN);
    assert_eq!(postcard::from_bytes::<Challenge>(&bytes).unwrap(), open());
}

#[test]
fn an_ended_challenge() {
    let bytes = encoded(&ended());
    assert_eq!(hex(&bytes), ENDED);
    assert_eq!(postcard::from_bytes::<Challenge>(&bytes).unwrap(), ended());
}

#[test]
fn a_lockout() {
    let bytes = encoded(&lockout());
    assert_eq!(hex(&bytes), LOCKOUT);
    assert_eq!(postcard::from_bytes::<Lockout>(&bytes).unwrap(), lockout());
}

/// The order of variants is part of the format.
#[test]
fn variants_keep_their_numbers() {
    let first = |bytes: Vec<u8>| bytes[0];
    let at = Timestamp::default();
    let replies = [
        Reply::Sent {
            max_verification_attempts: 0,
            max_send_attempts: 0,
            expires_at: at,
            remaining_sends: 0,
            next_send_at: at,
            confirmed: true,
            code_length: 0,
        },
        Reply::DestinationRejected,
        Reply::SendFailed,
        Reply::Declined(Decline::Risk),
        Reply::NotMatched { remaining: 0 },
        Reply::Matched { option: 0, at, eci: String::new(), verification_id: String::new() },
        Reply::CodeExpired,
        Reply::AttemptsExceeded,
        Reply::AlreadyUsed,
        Reply::Unknown(attempt(0)),
    ];
    assert_eq!(replies.map(|reply| first(encoded(&reply))), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let declines = [Decline::OptionExpired, Decline::SendLimitExceeded, Decline::AccountLocked, Decline::Risk];
    assert_eq!(declines.map(|decline| first(encoded(&decline))), [0, 1, 2, 3]);
    let kinds = [
        EventKind::Created,
        EventKind::SendReserved,
        EventKind::SendAccepted,
        EventKind::SendRejected,
        EventKind::SendFailed,
        EventKind::SendUnconfirmed,
        EventKind::SendDeclined,
        EventKind::NotMatched,
        EventKind::Verified,
        EventKind::CheckAsked,
        EventKind::CheckUnconfirmed,
        EventKind::Cancelled,
        EventKind::CodeExpired,
    ];
    assert_eq!(kinds.map(|kind| first(encoded(&kind))), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    let ends = [Ended::Verified, Ended::Cancelled, Ended::Exhausted { code_expires_at: at }, Ended::Expired];
    assert_eq!(ends.map(|end| first(encoded(&end))), [0, 1, 2, 3]);
    assert_eq!(Channel::ALL.map(|channel| first(encoded(&channel))), [0, 1, 2, 3]);
    assert_eq!(Purpose::ALL.map(|purpose| first(encoded(&purpose))), [0, 1, 2]);
    assert_eq!([OnResend::Rotate, OnResend::Repeat].map(|mode| first(encoded(&mode))), [0, 1]);
}

fn some_key(index: usize) -> IdempotencyKey {
    IdempotencyKey { id: Tag(u64::try_from(index).unwrap().to_le_bytes()), fingerprint: Fingerprint([0xff; 8]) }
}

fn attempt(index: usize) -> Attempt {
    let (generation, option) = (u32::MAX, 9);
    Attempt { key: some_key(index), generation, option, repeatable: true, sandbox: true, judged: true }
}

const MOST: Timestamp = Timestamp::MAX;

fn longest(length: usize) -> String {
    "x".repeat(length)
}

/// A text of characters of four bytes each.
fn widest(length: usize) -> String {
    "\u{1f600}".repeat(length)
}

fn largest_code() -> LiveCode {
    LiveCode {
        option: 9,
        generation: u32::MAX,
        send: u32::MAX,
        digits: 10,
        key_id: u32::MAX,
        expires_at: START,
        on_resend: OnResend::Repeat,
        provider: longest(100),
        owner: CodeOwner::Provider { check_repeatable: true },
        reference: widest(200),
        sandbox: true,
        attempts_before: u32::MAX,
        max_checks: Some(u32::MAX),
        max_sends: Some(u32::MAX),
    }
}

fn largest_sending() -> Sending {
    Sending {
        key: some_key(202),
        token: Token([0xff; 8]),
        number: u32::MAX,
        option: 9,
        lease_until: MOST,
        code_expires_at: MOST,
        code_digits: 255,
        previous: Some(largest_code()),
        previous_next_send_at: MOST,
        repeatable: true,
        resumed: true,
    }
}

fn largest_open() -> Open {
    Open {
        nonce: [0xff; 16],
        locale: longest(100),
        code: Some(largest_code()),
        asking: Some(Asking {
            attempt: attempt(201),
            token: Token([0xff; 8]),
            number: u32::MAX,
            lease_until: MOST,
            repeated: true,
        }),
        unconfirmed: Some(Box::new(largest_sending())),
        resumes: MAX_RESUMES,
        resumes_from: MOST,
        asks_from: MOST,
        sends_from: MOST,
        uses: vec![SendUse { token: Token([0xff; 8]), option: 9 }; 100],
    }
}

fn largest_option(index: usize) -> ChallengeOption {
    let mailbox = Mailbox::parse(&format!("{}@{}.example", longest(60), "y".repeat(31))).unwrap();
    assert_eq!(mailbox.expose().len(), Mailbox::MAX_LENGTH);
    ChallengeOption {
        id: OptionId::parse(&format!("{index}{}", longest(99))).unwrap(),
        channel: Channel::Email,
        target: ContactAddress::Known(Destination::Email(mailbox)),
        contact: Contact([0xff; 8]),
        sends: 10,
    }
}

fn largest_answers() -> Vec<Answer> {
    let sent = Reply::Sent {
        max_verification_attempts: u32::MAX,
        max_send_attempts: u32::MAX,
        expires_at: MOST,
        remaining_sends: u32::MAX,
        next_send_at: MOST,
        confirmed: true,
        code_length: 255,
    };
    let sends = (0..100).map(|index| Answer { key: some_key(index), reply: sent.clone() });
    let attempts = (100..120).map(|index| Answer { key: some_key(index), reply: Reply::Unknown(attempt(index)) });
    sends.chain(attempts).collect()
}

/// The largest record that the rules can make: everything at its limit.
fn largest() -> Challenge {
    let event = Event { after_ms: u64::MAX, kind: EventKind::CheckAsked, option: Some(9), provider: longest(100) };
    let amount = Amount { micros: i64::MIN, currency: "EUR".to_owned() };
    Challenge {
        created_at: START,
        latest_at: MOST,
        creation: some_key(200),
        account: AccountId::parse(&longest(100)).unwrap(),
        purpose: Purpose::Transaction,
        transaction: Some(Transaction { amount, payee: widest(100), reference: widest(100) }),
        limits: Limits {
            code_digits: 10,
            max_verification_attempts: 20,
            max_send_attempts: 10,
            resend_gaps: vec![Limits::default().retention; 10],
            ..Limits::default()
        },
        options: (0..MAX_OPTIONS).map(largest_option).collect(),
        phase: Phase::Open(Box::new(largest_open())),
        sending: Some(largest_sending()),
        last_send: u32::MAX,
        last_ask: u32::MAX,
        refunded_sends: 10,
        refunded_attempts: 10,
        next_send_at: MOST,
        attempts: 20,
        answers: largest_answers(),
        timeline: vec![event; MAX_EVENTS],
    }
}

#[test]
fn the_largest_challenge_fits_a_sealed_record() {
    let largest = largest();
    assert_eq!(invariants::check(&largest), Ok(()));
    let length = encoded(&largest).len();
    let sealing = Sealed::VERSION_OFFSET + Sealed::VERSION_LENGTH + 16;
    assert!(length + sealing < Sealed::MAX_LENGTH / 2, "{length} bytes, and room for the provider's evidence");
}

const OPEN: &str = "\
    80d095ffbc31b0ba97ffbc316372656174650000cb77c62ea00f716e046a616e65020180ecb80b0345555205426f6f6b73017206ac02\
    00d804000503031e003c0078000080a3050002046f7074310000000c2b3134313535353530313031000000000000000101046f707432\
    030001106a616e65406578616d706c652e636f6d000000000000000201000707070707070707070707070707070702656e0101020200\
    0190e2a9ffbc3100076d616e616765640101000001000000000000000002000003e90000000000000003eb00000000010173320000000000\
    001a829462bda9b2da000003eb000000000201c8af98ffbc3190e2a9ffbc3100010001010601e0f7a7ffbc310007636f6e736f6c6500\
    0000000000b0ba97ffbc31000002000000908f9bffbc310102733100000000000063b866b23bfe7315000503e0f7a7ffbc3102b0ba97\
    ffbc31010676310000000000000a15fb599e9ad5e5040405000000000001010007636f6e736f6c65e80702010007636f6e736f6c65d0\
    0f07010000b0ea01010101076d616e61676564";
const ENDED: &str = "\
    80d095ffbc31b8e795ffbc316372656174650000cb77c62ea00f716e046a616e65010006ac0200d804000503031e003c0078000080a3\
    050002046f70743100010c2b31342a2a2a2a2a2a2a3031000000000000000100046f70743203010d6a2a2a2a40652a2a2a2e636f6d00\
    000000000000020101000001010000b0ba97ffbc31010273310000000000001a829462bda9b2da000503e0f7a7ffbc3102b0ba97ffbc\
    31010476310000000000000245662c86dd488e0501b8e795ffbc31023035027031050000000000010101076d616e61676564e8070201\
    01076d616e61676564d00f090101076d616e61676564b81708010100";
const LOCKOUT: &str = "\
    0100010000000000000002030101c0be8380bd310000010180d095ffbc3101000003ea000000000000000000000001c8b596ffbc3100\
    016f7000000000000057584ed864cad100";
