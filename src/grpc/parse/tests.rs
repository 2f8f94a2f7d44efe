//! Each bad field to its path and reason, one change to a good request per line.

use FieldReason::{InvalidApiVersion, InvalidFieldValue, MissingRequiredField, RequestTimestampOutOfRange};
use proto::destination::Destination::{ContactOnFile, EmailAddress, PhoneNumber};

use super::*;

const NOW: u64 = 1_481_899_950_000;

fn context() -> Context {
    let deadline = Deadline::after(Duration::from_secs(10));
    let (rights, record) = (Arc::default(), Arc::default());
    Context { now: Timestamp::from_millis(NOW), max_skew: Some(Duration::from_secs(60)), deadline, rights, record }
}

fn epoch(epoch_millis: i64) -> proto::EpochTimestamp {
    proto::EpochTimestamp { epoch_millis }
}

fn header() -> proto::RequestHeader {
    proto::RequestHeader {
        protocol_version: Some(proto::ProtocolVersion { major: 1, minor: 0, revision: 0 }),
        request_id: "BKD0GF23KSD8S23".to_owned(),
        request_timestamp: Some(epoch(1_481_899_949_606)),
        payment_integrator_account_id: "SpeedyPaymentsIndia_INR".to_owned(),
    }
}

fn transaction() -> proto::Transaction {
    let amount = proto::Amount { amount_micros: 1_500_000, currency_code: "EUR".to_owned() };
    proto::Transaction { amount: Some(amount), payee: "Bäckerei".to_owned(), reference: "R-1".to_owned() }
}

fn phone() -> proto::Destination {
    proto::Destination {
        channel: proto::Channel::Sms.into(),
        destination: Some(PhoneNumber("+14155550100".to_owned())),
        challenge_option_id: String::new(),
    }
}

fn mailbox() -> proto::Destination {
    proto::Destination {
        channel: proto::Channel::Email.into(),
        destination: Some(EmailAddress("jane@example.com".to_owned())),
        challenge_option_id: "mail".to_owned(),
    }
}

fn create() -> proto::CreateChallengeRequest {
    proto::CreateChallengeRequest {
        request_header: Some(header()),
        account_id: "jane@example.com".to_owned(),
        purpose: proto::Purpose::Transaction.into(),
        transaction: Some(transaction()),
        destinations: vec![phone(), mailbox()],
        locale: "pt-BR".to_owned(),
        client_context: Some(proto::ClientContext {
            ip_address: "2001:db8::1".to_owned(),
            user_agent: "é".repeat(512),
            device_id: "d-1".to_owned(),
            lat_long: "12.97,77.59".to_owned(),
        }),
        provider_parameters: [("pan".to_owned(), "4111".to_owned())].into(),
        send_otp: true,
    }
}

fn verify() -> proto::VerifyOtpRequest {
    proto::VerifyOtpRequest {
        request_header: Some(header()),
        authenticate_request_id: "G112YZH4XPDV88J".to_owned(),
        otp: "123456".to_owned(),
        ..Default::default()
    }
}

fn found<T>(parsed: Parsed<T>) -> Vec<(String, FieldReason)> {
    let faults = parsed.err().unwrap_or_default();
    faults.into_iter().map(|fault| (fault.field, fault.reason)).collect()
}

fn expect<T>(parsed: Parsed<T>, expected: &[(&str, FieldReason)]) {
    let found = found(parsed);
    let found: Vec<_> = found.iter().map(|(field, reason)| (field.as_str(), *reason)).collect();
    assert_eq!(found, expected);
}

/// A good request with one change, the path of the field that is then at fault, and why.
type Row<T> = (fn(&mut T), &'static str, FieldReason);

#[test]
fn good_requests_pass() {
    let (caller, challenge) = create_challenge(&context(), create()).unwrap();
    assert_eq!(caller.tenant.as_str(), "SpeedyPaymentsIndia_INR");
    assert_eq!(caller.request_id.as_str(), "BKD0GF23KSD8S23");
    assert_eq!(challenge.purpose, Purpose::Transaction);
    assert_eq!(challenge.destinations.len(), 2);
    assert!(challenge.transaction.is_some() && challenge.send_otp);
    let (_, verify) = verify_otp(&context(), verify()).unwrap();
    assert_eq!(verify.otp.expose(), "123456");
    assert!(verify.account.is_none() && verify.purpose.is_none() && verify.transaction.is_none());
}

#[test]
fn every_field_of_the_header_is_checked() {
    let rows: &[Row<proto::RequestHeader>] = &[
        (|h| h.protocol_version = None, "protocol_version", MissingRequiredField),
        (|h| h.protocol_version = Some(proto::ProtocolVersion::default()), "protocol_version.major", InvalidApiVersion),
        (|h| h.protocol_version.as_mut().unwrap().major = 2, "protocol_version.major", InvalidApiVersion),
        (|h| h.protocol_version.as_mut().unwrap().minor = -1, "protocol_version.minor", InvalidFieldValue),
        (|h| h.protocol_version.as_mut().unwrap().revision = -1, "protocol_version.revision", InvalidFieldValue),
        (|h| h.request_id.clear(), "request_id", MissingRequiredField),
        (|h| h.request_id = "a b".to_owned(), "request_id", InvalidFieldValue),
        (|h| h.request_id = "x".repeat(101), "request_id", InvalidFieldValue),
        (|h| h.request_timestamp = None, "request_timestamp", MissingRequiredField),
        (|h| h.request_timestamp = Some(epoch(-1)), "request_timestamp.epoch_millis", InvalidFieldValue),
        (
            |h| h.request_timestamp = Some(epoch(253_402_300_800_000)),
            "request_timestamp.epoch_millis",
            InvalidFieldValue,
        ),
        (|h| h.request_timestamp = Some(epoch(1_481_900_010_001)), "request_timestamp", RequestTimestampOutOfRange),
        (|h| h.request_timestamp = Some(epoch(1_481_899_889_999)), "request_timestamp", RequestTimestampOutOfRange),
        (|h| h.payment_integrator_account_id.clear(), "payment_integrator_account_id", MissingRequiredField),
        (|h| h.payment_integrator_account_id = "ä".to_owned(), "payment_integrator_account_id", InvalidFieldValue),
    ];
    for (change, field, reason) in rows {
        let mut request = proto::CancelChallengeRequest {
            request_header: Some(header()),
            authenticate_request_id: "G112YZH4XPDV88J".to_owned(),
        };
        change(request.request_header.as_mut().unwrap());
        expect(cancel_challenge(&context(), request), &[(&format!("request_header.{field}"), *reason)]);
    }
    let none = proto::GetChallengeRequest { authenticate_request_id: "a".to_owned(), ..Default::default() };
    expect(get_challenge(&context(), none), &[("request_header", MissingRequiredField)]);
}

#[test]
fn without_a_skew_any_time_of_day_passes() {
    let context = Context { max_skew: None, ..context() };
    for millis in [0, 1, 253_402_300_799_999] {
        let mut request = verify();
        request.request_header.as_mut().unwrap().request_timestamp = Some(epoch(millis));
        assert!(verify_otp(&context, request).is_ok(), "{millis}");
    }
}

#[test]
fn every_field_of_a_creation_is_checked() {
    let rows: &[Row<proto::CreateChallengeRequest>] = &[
        (|r| r.account_id.clear(), "account_id", MissingRequiredField),
        (|r| r.account_id = "a b".to_owned(), "account_id", InvalidFieldValue),
        (|r| r.purpose = 0, "purpose", MissingRequiredField),
        (|r| r.purpose = 99, "purpose", InvalidFieldValue),
        (|r| r.transaction = None, "transaction", MissingRequiredField),
        (|r| r.purpose = proto::Purpose::Login.into(), "transaction", InvalidFieldValue),
        (|r| r.transaction.as_mut().unwrap().amount = None, "transaction.amount", MissingRequiredField),
        (|r| r.transaction.as_mut().unwrap().payee.clear(), "transaction.payee", MissingRequiredField),
        (|r| r.transaction.as_mut().unwrap().payee = "a\nb".to_owned(), "transaction.payee", InvalidFieldValue),
        (|r| r.transaction.as_mut().unwrap().payee = "é".repeat(101), "transaction.payee", InvalidFieldValue),
        (|r| r.transaction.as_mut().unwrap().reference = "é".repeat(101), "transaction.reference", InvalidFieldValue),
        (|r| r.destinations.clear(), "destinations", MissingRequiredField),
        (|r| r.destinations = vec![phone(); 11], "destinations", InvalidFieldValue),
        (|r| r.destinations[0].channel = 0, "destinations[0].channel", MissingRequiredField),
        (|r| r.destinations[1].channel = 9, "destinations[1].channel", InvalidFieldValue),
        (|r| r.destinations[1].destination = None, "destinations[1].destination", MissingRequiredField),
        (|r| r.destinations[1] = phone(), "destinations[1]", InvalidFieldValue),
        (
            |r| r.destinations[0].challenge_option_id = "mail".to_owned(),
            "destinations[1].challenge_option_id",
            InvalidFieldValue,
        ),
        (
            |r| r.destinations[0].challenge_option_id = "a b".to_owned(),
            "destinations[0].challenge_option_id",
            InvalidFieldValue,
        ),
        (|r| r.locale = "pt_BR".to_owned(), "locale", InvalidFieldValue),
        (|r| r.locale = "en-x-12345678-12345678-12345678-1234".to_owned(), "locale", InvalidFieldValue),
        (
            |r| r.client_context.as_mut().unwrap().ip_address = "1.2.3".to_owned(),
            "client_context.ip_address",
            InvalidFieldValue,
        ),
        (
            |r| r.client_context.as_mut().unwrap().user_agent = "é".repeat(513),
            "client_context.user_agent",
            InvalidFieldValue,
        ),
        (
            |r| r.client_context.as_mut().unwrap().device_id = "é".repeat(101),
            "client_context.device_id",
            InvalidFieldValue,
        ),
        (
            |r| r.client_context.as_mut().unwrap().lat_long = "91,0".to_owned(),
            "client_context.lat_long",
            InvalidFieldValue,
        ),
        (|r| r.send_otp = false, "provider_parameters", InvalidFieldValue),
        (|r| r.provider_parameters = [(String::new(), String::new())].into(), "provider_parameters", InvalidFieldValue),
        (
            |r| r.provider_parameters = [("é".repeat(101), String::new())].into(),
            "provider_parameters",
            InvalidFieldValue,
        ),
        (
            |r| r.provider_parameters = [("a".to_owned(), "é".repeat(1001))].into(),
            "provider_parameters",
            InvalidFieldValue,
        ),
        (
            |r| r.provider_parameters = (0..33).map(|n| (n.to_string(), String::new())).collect(),
            "provider_parameters",
            InvalidFieldValue,
        ),
    ];
    for (change, field, reason) in rows {
        let mut request = create();
        change(&mut request);
        expect(create_challenge(&context(), request), &[(field, *reason)]);
    }
}

#[test]
fn amounts_are_positive_and_currencies_three_capitals() {
    for (micros, currency, field, reason) in [
        (0, "EUR", "transaction.amount.amount_micros", InvalidFieldValue),
        (-1, "EUR", "transaction.amount.amount_micros", InvalidFieldValue),
        (1, "", "transaction.amount.currency_code", MissingRequiredField),
        (1, "eur", "transaction.amount.currency_code", InvalidFieldValue),
        (1, "EURO", "transaction.amount.currency_code", InvalidFieldValue),
        (1, "ÄU", "transaction.amount.currency_code", InvalidFieldValue),
    ] {
        let mut request = create();
        let amount = proto::Amount { amount_micros: micros, currency_code: currency.to_owned() };
        request.transaction.as_mut().unwrap().amount = Some(amount);
        expect(create_challenge(&context(), request), &[(field, reason)]);
    }
}

#[test]
fn destinations_fit_their_channels() {
    use proto::Channel::{Email, Sms, Voice, Whatsapp};
    let number = || PhoneNumber("+14155550100".to_owned());
    let address = || EmailAddress("jane@example.com".to_owned());
    let on_file = || ContactOnFile(proto::ContactOnFile {});
    for (channel, destination, fault) in [
        (Sms, number(), None),
        (Voice, number(), None),
        (Whatsapp, number(), None),
        (Email, address(), None),
        (Sms, on_file(), None),
        (Email, on_file(), None),
        (Email, number(), Some(("destinations[0].phone_number", InvalidFieldValue))),
        (Sms, address(), Some(("destinations[0].email_address", InvalidFieldValue))),
        (Sms, PhoneNumber(String::new()), Some(("destinations[0].phone_number", MissingRequiredField))),
        (Sms, PhoneNumber("4155550100".to_owned()), Some(("destinations[0].phone_number", InvalidFieldValue))),
        (Email, EmailAddress("jane".to_owned()), Some(("destinations[0].email_address", InvalidFieldValue))),
    ] {
        let mut request = create();
        let destination = proto::Destination { channel: channel.into(), destination: Some(destination), ..phone() };
        request.destinations = vec![destination];
        expect(create_challenge(&context(), request), fault.as_slice());
    }
}

#[test]
fn spelling_does_not_make_a_destination_another() {
    let mut request = create();
    let shouted = proto::Destination {
        destination: Some(EmailAddress("JANE@example.com".to_owned())),
        challenge_option_id: "other".to_owned(),
        ..mailbox()
    };
    let on_file = proto::Destination { destination: Some(ContactOnFile(proto::ContactOnFile {})), ..phone() };
    request.destinations = vec![mailbox(), shouted, on_file.clone(), on_file];
    let faults = [("destinations[1]", InvalidFieldValue), ("destinations[3]", InvalidFieldValue)];
    expect(create_challenge(&context(), request), &faults);
}

#[test]
fn every_field_of_a_verification_is_checked() {
    let rows: &[Row<proto::VerifyOtpRequest>] = &[
        (|r| r.authenticate_request_id.clear(), "authenticate_request_id", MissingRequiredField),
        (|r| r.authenticate_request_id = "?".to_owned(), "authenticate_request_id", InvalidFieldValue),
        (|r| r.otp.clear(), "otp", MissingRequiredField),
        (|r| r.otp = "1".repeat(17), "otp", InvalidFieldValue),
        (|r| r.otp = "12.34".to_owned(), "otp", InvalidFieldValue),
        (|r| r.otp = "1234\0".to_owned(), "otp", InvalidFieldValue),
        (|r| r.account_id = "a b".to_owned(), "account_id", InvalidFieldValue),
        (|r| r.purpose = 99, "purpose", InvalidFieldValue),
        (
            |r| r.transaction = Some(proto::Transaction { amount: None, ..transaction() }),
            "transaction.amount",
            MissingRequiredField,
        ),
        (|r| r.provider_parameters = [(String::new(), String::new())].into(), "provider_parameters", InvalidFieldValue),
    ];
    for (change, field, reason) in rows {
        let mut request = verify();
        change(&mut request);
        expect(verify_otp(&context(), request), &[(field, *reason)]);
    }
}

#[test]
fn sends_and_operators_calls_are_checked() {
    let header = || Some(header());
    let send = proto::SendOtpRequest { request_header: header(), ..Default::default() };
    let faults = [("enrollment_request_id", MissingRequiredField), ("challenge_option_id", MissingRequiredField)];
    expect(send_otp(&context(), send), &faults);
    let send = proto::SendOtpRequest {
        request_header: header(),
        enrollment_request_id: "c".to_owned(),
        challenge_option_id: "o".to_owned(),
        client_context: Some(proto::ClientContext { ip_address: "1.2.3".to_owned(), ..Default::default() }),
        ..Default::default()
    };
    expect(send_otp(&context(), send.clone()), &[("client_context.ip_address", InvalidFieldValue)]);
    let context_given = proto::ClientContext { ip_address: "203.0.113.7".to_owned(), ..Default::default() };
    let send = proto::SendOtpRequest { client_context: Some(context_given), ..send };
    assert_eq!(send_otp(&context(), send).unwrap().1.client.ip_address, "203.0.113.7");
    let get = proto::GetAccountRequest { request_header: header(), ..Default::default() };
    expect(get_account(&context(), get), &[("account_id", MissingRequiredField)]);
    let unlock = proto::UnlockAccountRequest {
        request_header: header(),
        account_id: "a".to_owned(),
        reason: "é".repeat(201),
        ..Default::default()
    };
    expect(unlock_account(&context(), unlock), &[("reason", InvalidFieldValue)]);
    for (reason, unlock, fault) in [
        ("fraud", None, None),
        ("fraud", Some(1_481_899_950_001), None),
        ("", None, Some(("reason", MissingRequiredField))),
        ("a\nb", None, Some(("reason", InvalidFieldValue))),
        ("fraud", Some(1_481_899_950_000), None),
        ("fraud", Some(-1), Some(("unlock_timestamp.epoch_millis", InvalidFieldValue))),
    ] {
        let lock = proto::LockAccountRequest {
            request_header: header(),
            account_id: "a".to_owned(),
            reason: reason.to_owned(),
            unlock_timestamp: unlock.map(epoch),
            ..Default::default()
        };
        expect(lock_account(&context(), lock), fault.as_slice());
    }
}

/// Goal: all faults at once, and a status that clients still accept. Method: everything wrong in ten destinations.
#[test]
fn everything_wrong_at_once_is_listed_and_stays_small() {
    let bad = proto::Destination {
        channel: 99,
        destination: Some(PhoneNumber("secret".to_owned())),
        challenge_option_id: "secret secret".to_owned(),
    };
    let mut request = create();
    request.request_header = Some(proto::RequestHeader {
        protocol_version: Some(proto::ProtocolVersion { major: 2, minor: -1, revision: -1 }),
        request_id: "secret secret".to_owned(),
        request_timestamp: None,
        payment_integrator_account_id: String::new(),
    });
    request.account_id = "secret secret".to_owned();
    request.purpose = 99;
    let amount = proto::Amount { amount_micros: 0, currency_code: "secret".to_owned() };
    request.transaction =
        Some(proto::Transaction { amount: Some(amount), payee: "secret\n".to_owned(), reference: "x".repeat(101) });
    request.destinations = vec![bad; 10];
    request.locale = "secret_secret".to_owned();
    request.client_context = Some(proto::ClientContext {
        ip_address: "secret".to_owned(),
        user_agent: "x".repeat(513),
        device_id: "x".repeat(101),
        lat_long: "secret".to_owned(),
    });
    request.provider_parameters =
        (0..33).map(|n| (format!("secret{n}{}", "x".repeat(100)), "x".repeat(1001))).collect();
    request.send_otp = false;
    let faults = create_challenge(&context(), request).unwrap_err();
    assert_eq!(faults.clone().into_iter().count(), 6 + 2 + 4 + 30 + 5 + 4);
    assert_eq!(faults.gravest(), InvalidApiVersion);
    let response: http::Response<()> = crate::grpc::status::of_violations(faults).into_http();
    let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size < 8192, "{size}");
    assert!(!format!("{response:?}").contains("secret"));
}
