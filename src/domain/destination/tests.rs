//! Which texts are destinations, which of them are the same, and how little masks show.

use super::*;

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
