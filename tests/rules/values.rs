//! Values: ids, destinations, transactions, canonical bytes, routes.

use otpd::domain::{
    canonical::Canonical,
    destination::{Channel, Destination, Mailbox, MalformedDestination, PhoneNumber},
    ids::{AccountId, RequestId, Tenant},
    purpose::Purpose,
    route::{Goal, Scope, best},
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

#[test]
fn phone_numbers_are_e164() {
    for good in [
        "+14155550100",
        "+919876543210",
        "+15555550123",
        "+4930123456",
        "+442079460000",
        "+390236618300",
        "+2290197123456",
        "+22997123456",
        "+541123456789",
        "+5491123456789",
        "+24106031234",
        "+525512345678",
    ] {
        assert!(PhoneNumber::parse(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "+",
        "14155550100",
        "0014155550100",
        "+1 415 555 0100",
        "+1-415-555-0100",
        "+0123456789",
        "+999123456789",
        "+1415555",
        "+1234567890123456",
        "+1415555010O",
        "＋14155550100",
        "+１４１５５５５０１００",
        "+14155550100;ext=1",
        "+4407700900123",
        "+610491570006",
        "+330639980001",
        "+114155550100",
        "+5215512345678",
    ] {
        assert_eq!(PhoneNumber::parse(bad), Err(MalformedDestination::PhoneNumber), "{bad}");
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
fn old_and_new_numbers_of_a_phone_are_one_destination() -> Result<(), MalformedDestination> {
    let canonical = |text| PhoneNumber::parse(text).map(|number| Destination::Phone(number).canonical());
    for number in ["+22940123456", "+2290140123456"] {
        assert_eq!(canonical(number)?.as_deref(), Some("+2290140123456"));
    }
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
        ("jane@example.com", "jane@example.com"),
    ] {
        assert_eq!(Mailbox::parse(given)?.expose(), kept, "{given}");
    }
    Ok(())
}

#[test]
fn spelling_of_a_mailbox_is_one_destination() -> Result<(), MalformedDestination> {
    let spelt = |text| Mailbox::parse(text).map(|mailbox| Destination::Email(mailbox).canonical());
    assert_eq!(spelt("Jane@Example.com")?, spelt("jane@example.COM")?);
    Ok(())
}

#[test]
fn amounts_show_at_least_two_decimals() {
    let shown = |micros| Amount { micros, currency: "EUR".to_owned() }.decimal();
    assert_eq!(shown(1_500_000), "1.50");
    assert_eq!(shown(2_000_000), "2.00");
    assert_eq!(shown(1), "0.000001");
    assert_eq!(shown(1_234_560_000), "1234.56");
    assert_eq!(shown(1_005_000), "1.005");
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
        let goal = Goal { tenant: &tenant, purpose: Purpose::Login, channel, destination: &destination };
        assert_eq!(best(&routes, &goal), Some(&expected), "{number}");
    }
}
