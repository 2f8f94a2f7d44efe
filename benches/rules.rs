//! What a verification costs without its store: deciding, making and comparing the code, sealing and opening the record.
//!
//! `cargo bench --bench rules`

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use otpd::{
    domain::{
        challenge::Challenge,
        code,
        code::CodeOwner,
        destination::{Channel, Destination, PhoneNumber},
        ids::{AccountId, Fingerprint, OptionId, Request, Tag},
        policy::Limits,
        purpose::Purpose,
        rules::{
            Comparison, Expectation, NewChallenge, OptionSpec, Plan, ReserveSend, SettleSend, Settlement, Verify,
            decide, open,
        },
        subject::Standing,
        time::Timestamp,
    },
    keys::ring::KeyRing,
    ports::{entropy::SystemEntropy, store::Name},
    secret::Secret,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const NAME: Name = Name([1; 16]);

fn request(id: u8) -> Request {
    Request { id: Tag([id; 16]), content: Fingerprint([id; 16]) }
}

/// A challenge with one option and one code sent.
#[expect(clippy::expect_used, reason = "a benchmark that cannot start says why")]
fn sent() -> Challenge {
    let option = OptionId::parse("opt1").expect("id");
    let spec = OptionSpec {
        id: option.clone(),
        channel: Channel::Sms,
        destination: Destination::Phone(PhoneNumber::parse("+14155550101").expect("number")),
        subject: None,
    };
    let new = NewChallenge {
        creation: request(1),
        account: AccountId::parse("account-0001").expect("id"),
        purpose: Purpose::Login,
        transaction: None,
        limits: Limits::default(),
        options: vec![spec],
        nonce: [7; 16],
        locale: "en".to_owned(),
    };
    let plan = Plan { provider: "console".to_owned(), owner: CodeOwner::Otpd, code_life: None, key_id: 1 };
    let lease = Duration::from_secs(15);
    let reserve = ReserveSend { request: request(2), option, locked: None, plan: Some(plan), lease };
    let reserved = decide(&open(new, NOW), &reserve, NOW).record;
    let settlement = Settlement::Accepted { reference: String::new(), code_life: None, code_length: None };
    decide(&reserved, &SettleSend { request: request(2), number: 1, settlement }, NOW).record
}

#[expect(clippy::expect_used, reason = "a benchmark that cannot start says why")]
fn rules(criterion: &mut Criterion) {
    let challenge = sent();
    let live = challenge.live_code().expect("a code").clone();
    // 32 bytes of 1.
    let ring = Secret::new("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned());
    let ring = KeyRing::parse(&ring, false).expect("ring");
    let typed = Secret::new("123456".to_owned());

    for (name, matches) in [("decide a wrong code", false), ("decide a right code", true)] {
        let verify = Verify {
            request: request(3),
            expectation: Expectation::default(),
            comparison: Comparison::Ours { matches },
            standing: Standing::CLEAN,
        };
        criterion.bench_function(name, |bench| bench.iter(|| decide(black_box(&challenge), black_box(&verify), NOW)));
    }
    criterion.bench_function("make and compare a code", |bench| {
        bench.iter(|| {
            let code = ring.code(black_box(&challenge), &live).ok().flatten();
            code.is_some_and(|code| code::matches(&code, black_box(&typed)))
        });
    });

    let plain = postcard::to_allocvec(&challenge).expect("encodes");
    let sealed = ring.seal_record(NAME, &plain, &SystemEntropy).expect("sealed");
    criterion.bench_function("encode and seal a challenge", |bench| {
        bench.iter(|| {
            let plain = postcard::to_allocvec(black_box(&challenge)).unwrap_or_default();
            ring.seal_record(NAME, &plain, &SystemEntropy)
        });
    });
    criterion.bench_function("open and decode a challenge", |bench| {
        bench.iter(|| {
            let plain = ring.open_record(NAME, black_box(&sealed)).unwrap_or_default();
            postcard::from_bytes::<Challenge>(&plain)
        });
    });
}

criterion_group!(benches, rules);
criterion_main!(benches);
