//! Codes: what they are made from, how they are reduced to digits, and how they are compared.

use std::time::Duration;

use otpd::{
    domain::{
        challenge::{Challenge, LiveCode},
        code::{CodeOwner, encode, matches, reduce},
        destination::{Channel, Destination},
        ids::{AccountId, Contact, Fingerprint, IdempotencyKey, OptionId, Tag},
        policy::{Limits, OnResend},
        purpose::Purpose,
        rules::{NewChallenge, OptionSpec, open},
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    secret::Secret,
};
use sha2::{Digest, Sha256};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn challenge(nonce: u8, transaction: Option<Transaction>) -> Challenge {
    let options = ["opt1", "opt2"].map(|id| OptionSpec {
        id: OptionId::parse(id).expect("id"),
        channel: Channel::Sms,
        destination: Destination::OnFile,
        contact: Contact([0; 8]),
    });
    let new = NewChallenge {
        creation: IdempotencyKey { id: Tag([0; 8]), fingerprint: Fingerprint([0; 8]) },
        account: AccountId::parse("jane").expect("account"),
        purpose: Purpose::Transaction,
        transaction,
        limits: Limits::default(),
        options: options.into(),
        nonce: [nonce; 16],
        locale: String::new(),
    };
    open(new, NOW)
}

fn live(option: u8, generation: u32) -> LiveCode {
    LiveCode {
        option,
        generation,
        send: generation,
        digits: 6,
        key_id: 1,
        expires_at: NOW.plus(Duration::from_secs(300)),
        on_resend: OnResend::Rotate,
        provider: "console".to_owned(),
        owner: CodeOwner::Otpd,
        reference: String::new(),
        sandbox: false,
        attempts_before: 0,
        max_checks: None,
        max_sends: None,
    }
}

fn pays() -> Transaction {
    let amount = Amount { micros: 12_500_000, currency: "EUR".to_owned() };
    Transaction { amount, payee: "Books".to_owned(), reference: "7".to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Replicas of two versions must make the same code: what the PRF is applied to is pinned, field by field.
#[test]
fn the_material_is_pinned() {
    let expected = [
        "000000000000000c",
        "6f74706420636f6465207631", // "otpd code v1"
        "0000000000000010",
        "07070707070707070707070707070707",
        "0000000000000004",
        "6f707431", // "opt1"
        "0000000000000008",
        "0000000000000003",
        "0000000000000008",
        "0000000000000000", // no transaction
    ];
    let material = challenge(7, None).code_material(&live(0, 3)).expect("open");
    assert_eq!(hex(&material), expected.concat());

    let encoded = encode(&pays());
    let expected = [
        "0000000000000013",
        "6f747064207472616e73616374696f6e207631", // "otpd transaction v1"
        "0000000000000008",
        "0000000000bebc20",
        "0000000000000003",
        "455552",
        "0000000000000005",
        "426f6f6b73",
        "0000000000000001",
        "37",
    ];
    assert_eq!(hex(&encoded), expected.concat());
}

/// Known answers: the first 8 bytes, big endian, modulo a power of ten.
#[test]
fn the_reduction_is_pinned() {
    let prf = |first: u64| {
        let mut prf = [0xaa; 32];
        prf[..8].copy_from_slice(&first.to_be_bytes());
        prf
    };
    for (first, digits, expected) in [
        (0, 6, "000000"),
        (1_234_567, 6, "234567"),
        (1_000_000, 6, "000000"),
        (0x0102_0304_0506_0708, 6, "382856"),
        (0x0102_0304_0506_0708, 10, "9790382856"),
        (u64::MAX, 10, "3709551615"),
        (u64::MAX, 4, "1615"),
    ] {
        assert_eq!(reduce(&prf(first), digits).expose(), expected, "{first} in {digits} digits");
    }
}

/// Any other nonce, option, generation or transaction is other material, and so another code.
#[test]
fn every_field_is_bound() {
    let changed = |change: fn(&mut Transaction)| {
        let mut transaction = pays();
        change(&mut transaction);
        challenge(7, Some(transaction)).code_material(&live(0, 1))
    };
    let materials = [
        challenge(7, Some(pays())).code_material(&live(0, 1)),
        challenge(7, None).code_material(&live(0, 1)),
        challenge(8, Some(pays())).code_material(&live(0, 1)),
        challenge(7, Some(pays())).code_material(&live(1, 1)),
        challenge(7, Some(pays())).code_material(&live(0, 2)),
        changed(|transaction| transaction.amount.micros += 1),
        changed(|transaction| transaction.amount.micros = -transaction.amount.micros),
        changed(|transaction| transaction.amount.currency = "USD".to_owned()),
        changed(|transaction| transaction.payee = "Book".to_owned()),
        changed(|transaction| transaction.reference = "8".to_owned()),
        changed(|transaction| {
            transaction.payee = "Books7".to_owned();
            transaction.reference = String::new();
        }),
    ];
    let codes: Vec<_> = materials
        .into_iter()
        .map(|material| reduce(&Sha256::digest(material.expect("open")).into(), 10).expose().clone())
        .collect();
    for (index, code) in codes.iter().enumerate() {
        assert!(!codes[..index].contains(code), "{index}");
    }
    let mut other_send = live(0, 1);
    other_send.send = 9;
    let same = challenge(7, None).code_material(&other_send);
    assert_eq!(same, challenge(7, None).code_material(&live(0, 1)), "a repeated code is the same code");
}

fn code(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

#[test]
fn only_the_same_text_matches() {
    assert!(matches(&code("012345"), &code("012345")));
    for other in ["", "01234", "0123456", "12345", "012346", "0123450000000000", "abcdef"] {
        assert!(!matches(&code("012345"), &code(other)), "{other}");
    }
}

#[test]
fn codes_keep_their_leading_zeros() {
    let mut prf = [0; 32];
    assert_eq!(reduce(&prf, 6).expose(), "000000");
    prf[7] = 42;
    assert_eq!(reduce(&prf, 6).expose(), "000042");
    assert_eq!(reduce(&prf, 10).expose(), "0000000042");
    assert_eq!(reduce(&[0xff; 32], 6).expose(), "551615", "2^64 - 1 modulo 10^6");
}

/// Every digit at every place is about equally likely. With 60,000 codes a place has 6,000 of each digit, give or take
/// 73; six times that never happens by chance, and a bias like byte-modulo-10 (0 to 5 likelier by 4 %) is seen.
#[test]
fn digits_are_uniform() {
    let mut counts = [[0_i64; 10]; 6];
    for seed in 0_u32..60_000 {
        let prf: [u8; 32] = Sha256::digest(seed.to_be_bytes()).into();
        for (place, digit) in reduce(&prf, 6).expose().bytes().enumerate() {
            counts[place][usize::from(digit - b'0')] += 1;
        }
    }
    for (place, digits) in counts.iter().enumerate() {
        for (digit, count) in digits.iter().enumerate() {
            assert!((count - 6_000).abs() < 6 * 73, "place {place}, digit {digit}: {count}");
        }
    }
}
