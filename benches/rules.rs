//! What a verification costs without its store: deciding, making and comparing the code, sealing and opening the record.
//!
//! `cargo bench --bench rules`

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use otpd::{
    domain::{
        challenge::Challenge,
        code::{self, CodeOwner},
        destination::{Channel, Destination, PhoneNumber},
        ids::{AccountId, Contact, Fingerprint, IdempotencyKey, OptionId, Tag, Token},
        outcome::Receipt,
        policy::{Limits, LockPolicy},
        purpose::Purpose,
        rules::{
            Comparison, Expectation, NewChallenge, OptionSpec, Plan, QuotaState, ReserveSend, SettleSend, Settlement,
            State, Verify, decide, open,
        },
        time::Timestamp,
    },
    keys::ring::KeyRing,
    ports::{
        entropy::SystemEntropy,
        store::{Name, Partition},
    },
    secret::Secret,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const NAME: Name = Name([1; 16]);
const PARTITION: Partition = Partition([2; 15]);
const TOKEN: Token = Token([3; 8]);

fn key(id: u8) -> IdempotencyKey {
    IdempotencyKey { id: Tag([id; 8]), fingerprint: Fingerprint([id; 8]) }
}

/// A challenge with one option and one code sent, beside an untouched lockout.
#[expect(clippy::expect_used, reason = "a benchmark that cannot start says why")]
fn sent() -> State {
    let option = OptionId::parse("opt1").expect("id");
    let spec = OptionSpec {
        id: option.clone(),
        channel: Channel::Sms,
        destination: Destination::Phone(PhoneNumber::parse("+14155550101").expect("number")),
        contact: Contact([1; 8]),
    };
    let new = NewChallenge {
        creation: key(1),
        account: AccountId::parse("account-0001").expect("id"),
        purpose: Purpose::Login,
        transaction: None,
        limits: Limits::default(),
        options: vec![spec],
        nonce: [7; 16],
        locale: "en".to_owned(),
    };
    let provider = "console".to_owned();
    let plan =
        Plan { provider, owner: CodeOwner::Otpd, code_life: None, send_repeatable: false, key_id: 1, sandbox: false };
    let (quotas, lease) = (QuotaState::Acquired, Duration::from_secs(15));
    let reserve = ReserveSend {
        key: key(2),
        token: TOKEN,
        option,
        quotas,
        plan: Some(plan),
        lease,
        can_call: true,
        resume_lease: Some(Duration::from_secs(15)),
    };
    let opened = State { challenge: Arc::new(open(new, NOW)), lockout: Arc::default(), account_lock: None };
    let reserved = decide(&opened, &reserve, NOW, &LockPolicy::default()).state;
    let settlement = Settlement::Accepted(Receipt {
        reference: String::new(),
        code_life: None,
        code_length: None,
        ..Receipt::default()
    });
    decide(
        &reserved,
        &SettleSend { key: key(2), token: TOKEN, provider: String::new(), settlement },
        NOW,
        &LockPolicy::default(),
    )
    .state
}

#[expect(clippy::expect_used, reason = "a benchmark that cannot start says why")]
fn rules(criterion: &mut Criterion) {
    let state = sent();
    let challenge = Challenge::clone(&state.challenge);
    let live = challenge.live_code().expect("a code").clone();
    // 32 bytes of 1.
    let ring = Secret::new("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned());
    let ring = KeyRing::parse(&ring, false).expect("ring");
    let (typed, policy) = (Secret::new("123456".to_owned()), LockPolicy::default());

    for (name, comparison) in
        [("decide a wrong code", Comparison::Differs), ("decide a right code", Comparison::Matches)]
    {
        let verify = Verify { key: key(3), token: TOKEN, expectation: Expectation::default(), comparison };
        criterion.bench_function(name, |bench| {
            bench.iter(|| decide(black_box(&state), black_box(&verify), NOW, &policy));
        });
    }
    criterion.bench_function("make and compare a code", |bench| {
        bench.iter(|| {
            let code = ring.code(black_box(&challenge), &live).ok().flatten();
            code.is_some_and(|code| code::matches(&code, black_box(&typed)))
        });
    });

    let plain = postcard::to_allocvec(&challenge).expect("encodes");
    let sealed = ring.seal_record(PARTITION, NAME, plain, &SystemEntropy).expect("sealed");
    criterion.bench_function("encode and seal a challenge", |bench| {
        bench.iter(|| {
            let plain = postcard::to_allocvec(black_box(&challenge)).unwrap_or_default();
            ring.seal_record(PARTITION, NAME, plain, &SystemEntropy)
        });
    });
    criterion.bench_function("open and decode a challenge", |bench| {
        bench.iter(|| {
            let plain = ring.open_record(PARTITION, NAME, black_box(&sealed)).unwrap_or_default();
            postcard::from_bytes::<Challenge>(&plain)
        });
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);
