//! The bytes of records, pinned: replicas of two versions read each other's records, and records live up to 10 years.
//!
//! A test here fails where a field was added, removed or moved, or an enum's variant moved. Records that are stored already
//! would then be misread. To change a format: leave the old type in place under another name, read it where the first byte
//! of a sealed record (`keys::seal`, the format) is the old one, and write the new one only in the release after the one
//! that can read it. A variant added at the end of an enum changes no byte here, but is unreadable to the release before.

use std::fmt::Write;

use otpd::{
    domain::{
        challenge::{
            Answer, Challenge, ChallengeOption, Decline, Ended, Event, EventKind, LiveCode, MAX_EVENTS, MAX_OPTIONS,
            Open, PendingCheck, PendingSend, Phase, Reply, Target,
        },
        code::CodeOwner,
        destination::{Channel, Destination, Mailbox},
        ids::{AccountId, Fingerprint, OptionId, Request, Tag},
        invariants,
        policy::{Limits, LockPolicy, OnResend},
        purpose::Purpose,
        subject::{Attempt, Command, Subject, decide},
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    ports::store::Sealed,
};

use super::{language::START, table::Scenario};

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
    scenario.record().clone()
}

/// Verified by a provider.
fn ended() -> Challenge {
    let mut scenario = Scenario::open("open purpose=registration");
    scenario.step("at 0s", "send opt2 id=s1 via=managed");
    scenario.step("at 1s", "accepted 1 ref=r1 length=4");
    scenario.step("at 2s", "verify id=v1 code=1");
    scenario.step("at 3s", "says matched eci=05 vid=p1 through=3");
    scenario.record().clone()
}

fn subject() -> Subject {
    let mut subject = Subject::default();
    let policy = LockPolicy { first_after: 2, ..LockPolicy::default() };
    let attempt = |number| Attempt { challenge: Tag([9; 16]), number };
    let commands = [
        Command::Fail(attempt(1)),
        Command::Fail(attempt(2)),
        Command::GiveBack(attempt(1)),
        Command::Lock { until: Some(START) },
    ];
    for command in commands {
        subject = decide(&subject, &command, START, &policy).0;
    }
    subject
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
fn a_subject() {
    let bytes = encoded(&subject());
    assert_eq!(hex(&bytes), SUBJECT);
    assert_eq!(postcard::from_bytes::<Subject>(&bytes).unwrap(), subject());
}

/// The order of variants is part of the format.
#[test]
fn variants_keep_their_numbers() {
    let first = |bytes: Vec<u8>| bytes[0];
    let at = Timestamp::default();
    let replies = [
        Reply::Sent { expires_at: at, remaining_sends: 0, next_send_at: at, confirmed: true, code_length: 0 },
        Reply::DestinationRejected,
        Reply::NotMatched { remaining: 0 },
        Reply::Matched { forgives_through: 0, subject: None, eci: String::new(), verification_id: String::new() },
        Reply::CodeExpired,
        Reply::AttemptsExceeded,
        Reply::AlreadyUsed,
        Reply::CheckUnanswered { attempt: 0, send_number: 0 },
        Reply::SendFailed { number: 0 },
        Reply::Declined(Decline::Risk),
    ];
    assert_eq!(replies.map(|reply| first(encoded(&reply))), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
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
    let ends = [
        Ended::Verified { attempt: 1 },
        Ended::Cancelled,
        Ended::AttemptsExceeded { code_expires_at: at },
        Ended::Expired,
    ];
    assert_eq!(ends.map(|end| first(encoded(&end))), [0, 1, 2, 3]);
    assert_eq!(Channel::ALL.map(|channel| first(encoded(&channel))), [0, 1, 2, 3]);
    assert_eq!(Purpose::ALL.map(|purpose| first(encoded(&purpose))), [0, 1, 2]);
    assert_eq!([OnResend::Rotate, OnResend::Repeat].map(|mode| first(encoded(&mode))), [0, 1]);
}

/// The largest record that the rules can make: everything at its limit.
fn largest() -> Challenge {
    let most = Timestamp::MAX;
    let id = |index: usize| Request {
        id: Tag(u128::try_from(index).unwrap().to_le_bytes()),
        content: Fingerprint([0xff; 16]),
    };
    let long = "x".repeat(100);
    // A text of 100 characters of four bytes each.
    let wide = "\u{1f600}".repeat(100);
    let mailbox = Mailbox::parse(&format!("{}@{}.example", "x".repeat(60), "y".repeat(31))).unwrap();
    assert_eq!(mailbox.expose().len(), Mailbox::MAX_LENGTH);
    let option = |index: usize| ChallengeOption {
        id: OptionId::parse(&format!("{index}{}", "x".repeat(99))).unwrap(),
        channel: Channel::Email,
        target: Target::Known(Destination::Email(mailbox.clone())),
        subject: Some(Tag([0xff; 16])),
        sends: 10,
    };
    let code = LiveCode {
        option: 9,
        generation: u32::MAX,
        send_number: u32::MAX,
        digits: 10,
        key_id: u32::MAX,
        expires_at: START,
        on_resend: OnResend::Repeat,
        provider: long.clone(),
        owner: CodeOwner::Provider { check_repeatable: true },
        reference: wide.repeat(2),
    };
    let sent = (0..100).map(|index| Answer {
        request: id(index),
        reply: Reply::Sent {
            expires_at: most,
            remaining_sends: u32::MAX,
            next_send_at: most,
            confirmed: true,
            code_length: 255,
        },
    });
    let attempts = (100..120).map(|index| Answer {
        request: id(index),
        reply: Reply::CheckUnanswered { attempt: u32::MAX, send_number: u32::MAX },
    });
    let event = Event { after_ms: u64::MAX, kind: EventKind::CheckAsked, option: Some(9), provider: long.clone() };
    let amount = Amount { micros: i64::MIN, currency: "EUR".to_owned() };
    Challenge {
        created_at: START,
        latest_at: most,
        creation: id(200),
        account: AccountId::parse(&long).unwrap(),
        purpose: Purpose::Transaction,
        transaction: Some(Transaction { amount, payee: wide.clone(), reference: wide }),
        limits: Limits {
            code_digits: 10,
            max_verification_attempts: 20,
            max_send_attempts: 10,
            resend_gaps: vec![Limits::default().retention; 10],
            ..Limits::default()
        },
        options: (0..MAX_OPTIONS).map(option).collect(),
        phase: Phase::Open(Open {
            nonce: [0xff; 16],
            locale: long,
            code: Some(code.clone()),
            pending_check: Some(PendingCheck {
                request: id(201),
                attempt: u32::MAX,
                send_number: u32::MAX,
                lease_until: most,
                repeated: true,
            }),
        }),
        pending_send: Some(PendingSend {
            request: id(202),
            number: u32::MAX,
            option: 9,
            lease_until: most,
            code_expires_at: most,
            code_digits: 255,
            previous: Some(code),
            previous_next_send_at: most,
        }),
        send_number: u32::MAX,
        sends_spent: 100,
        given_back: 10,
        next_send_at: most,
        attempts: 20,
        answers: sent.chain(attempts).collect(),
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
    80d095ffbc31b0ba97ffbc3163726561746500000000000000000000cb77c62ea00f716e5696fe51a9d27220046a616e6502\
    0180ecb80b0345555205426f6f6b73017206ac0200d804000503031e003c0078000080a3050002046f7074310000000c2b31\
    343135353535303130310001046f707432030001106a616e65406578616d706c652e636f6d00010007070707070707070707\
    07070707070702656e01010202000190e2a9ffbc3100076d616e616765640101000001733200000000000000000000000000\
    001a829462bda9b2dae8e9c14cb2f6ecab0201c8af98ffbc3190e2a9ffbc3100010001010601e0f7a7ffbc310007636f6e73\
    6f6c650000b0ba97ffbc31020200908f9bffbc3101027331000000000000000000000000000063b866b23bfe7315abf5de0b\
    59ea2df600e0f7a7ffbc3102b0ba97ffbc310106763100000000000000000000000000000a15fb599e9ad5e57f57762f87e0\
    9c88020405000000000001010007636f6e736f6c65e80702010007636f6e736f6c65d00f07010000b0ea01010101076d616e\
    61676564";
const ENDED: &str = "\
    80d095ffbc31b8e795ffbc3163726561746500000000000000000000cb77c62ea00f716e5696fe51a9d27220046a616e6501\
    0006ac0200d804000503031e003c0078000080a3050002046f70743100010c2b31342a2a2a2a2a2a2a303101010101010101\
    0101010101010101010100046f70743203010d6a2a2a2a40652a2a2a2e636f6d010202020202020202020202020202020201\
    01000100010100b0ba97ffbc310102733100000000000000000000000000001a829462bda9b2dae8e9c14cb2f6ecab00e0f7\
    a7ffbc3102b0ba97ffbc310104763100000000000000000000000000000245662c86dd488ec4d59b436e47183b0303010202\
    0202020202020202020202020202023035027031050000000000010101076d616e61676564e807020101076d616e61676564\
    d00f090101076d616e61676564b81708010100";
const SUBJECT: &str = "\
    80d095ffbc310200010000010180d095ffbc3102090909090909090909090909090909090101010909090909090909090909\
    0909090909020200";
