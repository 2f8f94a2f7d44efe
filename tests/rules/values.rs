//! Values: ids, destinations, transactions, canonical bytes, routes.

use otpd::domain::{
    canonical::Canonical,
    destination::{Channel, Destination, Mailbox, MalformedDestination, PhoneNumber},
    ids::{AccountId, RequestId, Tenant},
    purpose::Purpose,
    route::{Goal, Scope, best},
    time::{to_whole_seconds, whole_minutes},
    transaction::Amount,
};

#[test]
fn ids_are_1_to_100_of_their_alphabet() {
    for good in ["a", "A:b_c-9", &"x".repeat(100)] {
        assert!(RequestId::parse(good).is_ok(), "{good}");
    }
    for bad in ["", " ", "a b", "é", "a.b", "１", "a\n", &"x".repeat(101)] {
        assert!(RequestId::parse(bad).is_err(), "{bad}");
    }
    assert!(AccountId::parse("jane@example.com").is_ok());
    for bad in ["", "a b", "é", "\u{7f}", &"x".repeat(101)] {
        assert!(AccountId::parse(bad).is_err(), "{bad}");
    }
}

/// What is told of a code that has lived for some milliseconds is what it had when it was made; no minute is promised that is not
/// there.
#[test]
fn minutes_are_whole_and_never_too_many() {
    for (milliseconds, minutes) in [
        (300_000, 5),
        (299_990, 5),
        (299_001, 5),
        (299_000, 4),
        (119_999, 2),
        (119_000, 1),
        (90_000, 1),
        (60_000, 1),
        (30_000, 1),
        (0, 1),
    ] {
        let told = whole_minutes(to_whole_seconds(std::time::Duration::from_millis(milliseconds)));
        assert_eq!(told, minutes, "{milliseconds} ms");
    }
}

#[test]
fn mailboxes_are_plain_addresses() {
    for good in ["jane@example.com", "a.b+c@sub.example.co.uk"] {
        assert!(Mailbox::parse(good).is_ok(), "{good}");
    }
    let long = format!("{}@example.com", "x".repeat(100));
    for bad in [
        "",
        "jane",
        "@example.com",
        "jane@",
        "Jane <jane@example.com>",
        "a b@example.com",
        "é@example.com",
        "a@b@c.com",
        "jane@example.com.",
        "jane@[127.0.0.1]",
        "jane@[IPv6:::1]",
        "(me)jane@example.com",
        "jane(me)@example.com",
        "jane@(me)example.com",
        "jane@example.com(me)",
        "<jane@example.com>",
        "mailto:jane@example.com,joe@example.com",
        "jane.@example.com",
        ".jane@example.com",
        "jane..doe@example.com",
        "jane@example..com",
        "jane@-example.com",
        "\"jane@example.com",
        "jane\"@example.com",
        "\"jane doe\"@example.com",
        "\"ja\".\"ne\"@example.com",
        "jane\\@example.com",
        "j\u{200b}ane@example.com",
        "jane@ｅxample.com",
        "jane@bücher.example",
        long.as_str(),
    ] {
        assert_eq!(Mailbox::parse(bad), Err(MalformedDestination::EmailAddress), "{bad}");
    }
}

#[test]
fn masks_show_little() -> Result<(), MalformedDestination> {
    assert_eq!(Destination::Phone(PhoneNumber::parse("+14155550100")?).masked(), "+14*******00");
    assert_eq!(Destination::Email(Mailbox::parse("jane@example.com")?).masked(), "j***@e***.com");
    assert_eq!(Destination::OnFile.masked(), "");
    Ok(())
}

#[test]
fn quotes_that_are_not_needed_are_dropped() -> Result<(), MalformedDestination> {
    for (given, kept) in [
        ("\"jane\"@example.com", "jane@example.com"),
        ("\"j\\ane\"@example.com", "jane@example.com"),
        ("\"jane.doe\"@example.com", "jane.doe@example.com"),
        ("\"jane..doe\"@example.com", "\"jane..doe\"@example.com"),
        ("\"jane\\..doe\"@example.com", "\"jane..doe\"@example.com"),
        ("\"jane@home\"@example.com", "\"jane@home\"@example.com"),
        ("\"\\j\\a\\n\\e\"@example.com", "jane@example.com"),
        ("\"a\\\"b\"@example.com", "\"a\\\"b\"@example.com"),
        ("\"a\\\\b\"@example.com", "\"a\\\\b\"@example.com"),
        ("\"Jane+tag\"@example.com", "Jane+tag@example.com"),
        ("jane@example.com", "jane@example.com"),
        ("jane@xn--bcher-kva.example", "jane@xn--bcher-kva.example"),
    ] {
        assert_eq!(Mailbox::parse(given)?.expose(), kept, "{given}");
    }
    Ok(())
}

#[test]
fn spelling_of_a_mailbox_is_one_destination() -> Result<(), MalformedDestination> {
    let spelt = |text| Mailbox::parse(text).map(|mailbox| Destination::Email(mailbox).canonical());
    for other in ["Jane@Example.com", "JANE@EXAMPLE.COM", "\"Jane\"@example.com", "\"JA\\NE\"@Example.com"] {
        assert_eq!(spelt(other)?, spelt("jane@example.com")?, "{other}");
    }
    assert_eq!(spelt("jane@XN--BCHER-KVA.example")?, spelt("jane@xn--bcher-kva.example")?);
    // Rules of one provider are not those of all.
    for other in ["jane+otp@example.com", "ja.ne@example.com"] {
        assert_ne!(spelt(other)?, spelt("jane@example.com")?, "{other}");
    }
    Ok(())
}

/// Goal: an amount reads as banks write it. Method: currencies of each kind, and amounts that are finer than theirs.
#[test]
fn amounts_have_the_decimals_of_their_currency() {
    for (micros, currency, expected) in [
        (1_500_000, "EUR", "1.50"),
        (2_000_000, "USD", "2.00"),
        (1, "EUR", "0.000001"),
        (1_234_560_000, "GBP", "1234.56"),
        (1_005_000, "INR", "1.005"),
        (1_000_000_000, "JPY", "1000"),
        (1_000_500_000, "JPY", "1000.50"),
        (1_000_120_000, "JPY", "1000.12"),
        (1_000_123_000, "JPY", "1000.123"),
        (50_000, "JPY", "0.05"),
        (5_000_000, "KRW", "5"),
        (5_000_000, "CLP", "5"),
        (250_000_000_000, "VND", "250000"),
        (1_000_000, "ISK", "1"),
        (1_000_000, "UGX", "1"),
        (1_000_000, "XAF", "1"),
        (1_000_000, "XOF", "1"),
        (1_000_000, "XPF", "1"),
        (1_000_000, "PYG", "1"),
        (1_000_000, "RWF", "1"),
        (1_000_000, "KMF", "1"),
        (1_000_000, "GNF", "1"),
        (1_000_000, "DJF", "1"),
        (1_000_000, "BIF", "1"),
        (1_000_000, "VUV", "1"),
        (1_000_000, "UYI", "1"),
        (1_500_000, "KWD", "1.500"),
        (1_500_000, "BHD", "1.500"),
        (1_500_000, "IQD", "1.500"),
        (1_500_000, "JOD", "1.500"),
        (1_500_000, "LYD", "1.500"),
        (1_500_000, "OMR", "1.500"),
        (1_500_000, "TND", "1.500"),
        (1_234_500, "KWD", "1.2345"),
        (1_500_000, "CLF", "1.5000"),
        (1_500_000, "UYW", "1.5000"),
        (1_234_560, "CLF", "1.23456"),
        (1_000_000, "HUF", "1.00"),
        (1_000_000, "TWD", "1.00"),
        (1_000_000, "IDR", "1.00"),
        (1_000_000, "MGA", "1.00"),
        (1_000_000, "XTS", "1.00"),
        (i64::MAX, "EUR", "9223372036854.775807"),
        (i64::MAX, "JPY", "9223372036854.775807"),
    ] {
        let amount = Amount { micros, currency: currency.to_owned() };
        assert_eq!(amount.decimal(), expected, "{micros} {currency}");
    }
}

#[test]
fn boundaries_count() {
    let one = Canonical::new("t").text("ab").text("c").finish();
    let other = Canonical::new("t").text("a").text("bc").finish();
    assert_ne!(one, other);
    assert_ne!(Canonical::new("t").optional(None).finish(), Canonical::new("t").optional(Some(b"")).finish());
}

fn scope(tenant: &str, channel: Option<Channel>, prefix: &str) -> Scope {
    Scope { tenant: Tenant::parse(tenant).ok(), purpose: None, channel, prefix: prefix.to_owned() }
}

#[test]
fn the_longest_prefix_wins_then_the_most_that_is_said() {
    let routes = [
        (scope("", None, ""), "any"),
        (scope("", None, "+91"), "india"),
        (scope("", None, "+9198"), "one operator"),
        (scope("acme", None, "+91"), "india for acme"),
        (scope("acme", Some(Channel::WhatsApp), "+91"), "whatsapp in india for acme"),
        (scope("acme", None, "+91"), "never: the same as one before"),
    ];
    for (tenant, channel, number, expected) in [
        ("other", Channel::Sms, "+14155550100", "any"),
        ("other", Channel::Sms, "+917012345678", "india"),
        ("acme", Channel::Sms, "+917012345678", "india for acme"),
        ("acme", Channel::WhatsApp, "+917012345678", "whatsapp in india for acme"),
        ("acme", Channel::WhatsApp, "+919876543210", "one operator"),
    ] {
        let tenant = Tenant::parse(tenant).expect("tenant");
        let destination = Destination::Phone(PhoneNumber::parse(number).expect("number"));
        let goal =
            Goal { tenant: &tenant, purpose: Purpose::Login, channel, destination: &destination, currency: None };
        assert_eq!(best(&routes, &goal), Some(&expected), "{number}");
    }
}
