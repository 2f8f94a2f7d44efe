//! Requests that are wrong, meant or not: one clear status each, nothing is counted, and the server lives on.

use std::collections::BTreeMap;

use otpd::grpc::proto::{
    Amount, CancelChallengeRequest, ClientContext, CreateChallengeRequest, Destination, GetChallengeRequest,
    LockAccountRequest, ProtocolVersion, Purpose, RequestHeader, SendOtpRequest, Transaction, UnlockAccountRequest,
    VerifyOtpRequest,
};
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, at, email, header, login, now, payment, send, sms, verify},
    site::Site,
    words::{failed, verified},
};

/// Sends bytes as they are.
#[derive(Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        use prost::bytes::Buf;
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

async fn raw(caller: &Caller, path: &'static str, body: Vec<u8>) -> Status {
    let mut client = Grpc::new(caller.channel.clone());
    client.ready().await.unwrap();
    let answer = client.unary(Request::new(body), PathAndQuery::from_static(path), Bytes).await;
    answer.expect_err(path)
}

/// The reason, and the fields at fault.
fn faults(status: &Status) -> (String, Vec<String>) {
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    assert!(violations.iter().all(|violation| !violation.description.is_empty()));
    (failed(status), violations.into_iter().map(|violation| violation.field).collect())
}

const MISSING: &str = "InvalidArgument MISSING_REQUIRED_FIELD";
const INVALID: &str = "InvalidArgument INVALID_FIELD_VALUE";
const VERSION: &str = "InvalidArgument INVALID_API_VERSION";

#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong_creations() -> Vec<(&'static str, &'static [&'static str], CreateChallengeRequest)> {
    let right = || login("bad", "person", "+14155550100");
    let with_header = |change: fn(&mut RequestHeader)| {
        let mut request = right();
        change(request.request_header.as_mut().unwrap());
        request
    };
    let to = |destinations: Vec<Destination>| CreateChallengeRequest { destinations, ..right() };
    let pays = |transaction: Option<Transaction>| CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction,
        ..right()
    };
    let wrong_number = &["destinations[0].phone_number"][..];
    let mut table: Vec<(&str, &[&str], CreateChallengeRequest)> = vec![
        (MISSING, &["request_header"], CreateChallengeRequest { request_header: None, ..right() }),
        (MISSING, &["request_header", "account_id", "purpose", "destinations"], CreateChallengeRequest::default()),
        (
            MISSING,
            &[
                "request_header.protocol_version",
                "request_header.request_id",
                "request_header.request_timestamp",
                "request_header.payment_integrator_account_id",
            ],
            CreateChallengeRequest { request_header: Some(RequestHeader::default()), ..right() },
        ),
        (
            VERSION,
            &["request_header.protocol_version.major"],
            with_header(|header| header.protocol_version = Some(ProtocolVersion { major: 2, minor: 0, revision: 0 })),
        ),
        (
            INVALID,
            &["request_header.protocol_version.minor", "request_header.protocol_version.revision"],
            with_header(|header| header.protocol_version = Some(ProtocolVersion { major: 1, minor: -1, revision: -2 })),
        ),
        (INVALID, &["request_header.request_id"], with_header(|header| header.request_id = "x".repeat(101))),
        (INVALID, &["request_header.request_id"], with_header(|header| header.request_id = "идентификатор".into())),
        (INVALID, &["request_header.request_id"], with_header(|header| header.request_id = "a b".into())),
        (
            INVALID,
            &["request_header.payment_integrator_account_id"],
            with_header(|header| header.payment_integrator_account_id = "x".repeat(101)),
        ),
        (
            INVALID,
            &["request_header.request_timestamp.epoch_millis"],
            with_header(|header| header.request_timestamp = at(-1)),
        ),
        (
            INVALID,
            &["request_header.request_timestamp.epoch_millis"],
            with_header(|header| header.request_timestamp = at(i64::MAX)),
        ),
        (
            INVALID,
            &["request_header.request_timestamp.epoch_millis"],
            with_header(|header| header.request_timestamp = at(i64::MIN)),
        ),
        (INVALID, &["account_id"], CreateChallengeRequest { account_id: "x".repeat(101), ..right() }),
        (INVALID, &["purpose"], CreateChallengeRequest { purpose: 99, ..right() }),
        (INVALID, &["purpose"], CreateChallengeRequest { purpose: -1, ..right() }),
        (MISSING, &["destinations"], to(Vec::new())),
        (INVALID, &["destinations"], to((0..11).map(|n| sms(&format!("+1415555010{n}"), "")).collect())),
        (INVALID, &["destinations[1]"], to(vec![sms("+14155550100", ""), sms("+14155550100", "")])),
        (
            INVALID,
            &["destinations[1].challenge_option_id"],
            to(vec![sms("+14155550100", "one"), sms("+14155550101", "one")]),
        ),
        (
            MISSING,
            &["destinations[0].channel", "destinations[0].destination", "destinations[1].destination"],
            to(vec![Destination::default(), Destination { channel: 1, ..Default::default() }]),
        ),
        (INVALID, &["destinations[0].channel"], to(vec![Destination { channel: 7, ..sms("+14155550100", "") }])),
        (INVALID, &["destinations[0].phone_number"], to(vec![Destination { channel: 4, ..sms("+14155550100", "") }])),
        (
            INVALID,
            &["destinations[0].email_address"],
            to(vec![Destination { channel: 1, ..email("a@example.com", "") }]),
        ),
        (INVALID, &["destinations[0].email_address"], to(vec![email("no mailbox", "")])),
        (INVALID, &["destinations[0].email_address"], to(vec![email("Someone <a@example.com>", "")])),
        (INVALID, &["destinations[0].email_address"], to(vec![email("a@example.com\r\nBcc: b@example.com", "")])),
        (INVALID, &["destinations[0].email_address"], to(vec![email(&format!("{}@example.com", "a".repeat(100)), "")])),
        (MISSING, &["transaction"], pays(None)),
        (MISSING, &["transaction.amount", "transaction.payee"], pays(Some(Transaction::default()))),
        (INVALID, &["transaction.amount.amount_micros"], pays(payment(0, "Shop"))),
        (INVALID, &["transaction.amount.amount_micros"], pays(payment(-5, "Shop"))),
        (INVALID, &["transaction.payee"], pays(payment(1, "Shop\nYour code for Bank:"))),
        (INVALID, &["transaction.payee"], pays(payment(1, &"é".repeat(101)))),
        (INVALID, &["transaction.payee"], pays(payment(1, " "))),
        (INVALID, &["transaction.payee"], pays(payment(1, "\u{202e}\u{200b}\u{2028}"))),
        (
            INVALID,
            &["transaction.amount.currency_code"],
            pays(Some(Transaction {
                amount: Some(Amount { amount_micros: 1, currency_code: "eur".into() }),
                ..payment(1, "Shop").unwrap()
            })),
        ),
        (INVALID, &["transaction"], CreateChallengeRequest { transaction: payment(1, "Shop"), ..right() }),
        (INVALID, &["locale"], CreateChallengeRequest { locale: "no locale!".into(), ..right() }),
        (
            INVALID,
            &["client_context.ip_address", "client_context.user_agent", "client_context.lat_long"],
            CreateChallengeRequest {
                client_context: Some(ClientContext {
                    ip_address: "300.1.1.1".into(),
                    user_agent: "x".repeat(513),
                    device_id: String::new(),
                    lat_long: "91,181".into(),
                }),
                ..right()
            },
        ),
        (
            INVALID,
            &["provider_parameters"],
            CreateChallengeRequest { provider_parameters: BTreeMap::from([("a".into(), "b".into())]), ..right() },
        ),
    ];
    let numbers = [
        "14155550100",
        "+1415555010a",
        "+1 415 555 0100",
        "+１４１５５５５０１００",
        "+",
        "+141555501001234567",
        "tel:+14155550100",
        "0014155550100",
        "+999123456789",
        // A trunk prefix after the country code.
        "+4407700900123",
    ];
    table.extend(numbers.map(|number| (INVALID, wrong_number, to(vec![sms(number, "")]))));
    table
}

fn wrong_verifications() -> Vec<(&'static str, &'static [&'static str], VerifyOtpRequest)> {
    let right = || verify("bad", "c", "123456");
    let typed = |otp: &str| VerifyOtpRequest { otp: otp.into(), ..right() };
    vec![
        (MISSING, &["request_header", "authenticate_request_id", "otp"], VerifyOtpRequest::default()),
        (MISSING, &["otp"], typed("")),
        (INVALID, &["otp"], typed("12.456")),
        (INVALID, &["otp"], typed("123456\0")),
        (INVALID, &["otp"], typed("12345678901234567")),
        (INVALID, &["otp"], typed(&"1".repeat(60_000))),
        // Larger than a message may be.
        (INVALID, &[], typed(&"1".repeat(100_000))),
        (INVALID, &["purpose"], VerifyOtpRequest { purpose: 4, ..right() }),
        (INVALID, &["account_id"], VerifyOtpRequest { account_id: "a b".into(), ..right() }),
        (INVALID, &["transaction.amount.amount_micros"], VerifyOtpRequest { transaction: payment(0, "x"), ..right() }),
        (INVALID, &["authenticate_request_id"], VerifyOtpRequest { authenticate_request_id: "é".into(), ..right() }),
        (
            INVALID,
            &["provider_parameters"],
            VerifyOtpRequest {
                provider_parameters: (0..33).map(|n| (n.to_string(), String::new())).collect(),
                ..right()
            },
        ),
    ]
}

#[tokio::test]
async fn one_clear_status_each_and_nothing_counts() {
    let site = Site::embedded();
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550142";
    caller.sent("c", "person", number).await;

    for (reason, fields, request) in wrong_creations() {
        let status = caller.create(request.clone()).await.expect_err(&format!("{fields:?}"));
        assert_eq!(faults(&status), (reason.to_owned(), fields.iter().map(ToString::to_string).collect()));
    }
    for (reason, fields, request) in wrong_verifications() {
        let status = caller.verify(request).await.expect_err(&format!("{fields:?}"));
        assert_eq!(faults(&status), (reason.to_owned(), fields.iter().map(ToString::to_string).collect()));
    }
    let status = caller.send(SendOtpRequest::default()).await.unwrap_err();
    let fields = ["request_header", "enrollment_request_id", "challenge_option_id"];
    assert_eq!(faults(&status), (MISSING.to_owned(), fields.map(str::to_owned).to_vec()));
    let status = caller.otp.clone().cancel_challenge(CancelChallengeRequest::default()).await.unwrap_err();
    assert_eq!(faults(&status).1, ["request_header", "authenticate_request_id"]);
    let status = caller.otp.clone().get_challenge(GetChallengeRequest::default()).await.unwrap_err();
    assert_eq!(faults(&status).1, ["request_header", "authenticate_request_id"]);
    let wrong_lock = LockAccountRequest {
        request_header: header("lock"),
        reason: "a\nb".into(),
        unlock_timestamp: at(now() - 1),
        ..Default::default()
    };
    let status = caller.admin.clone().lock_account(wrong_lock).await.unwrap_err();
    assert_eq!(
        faults(&status),
        (MISSING.to_owned(), ["account_id", "reason", "unlock_timestamp"].map(str::to_owned).to_vec())
    );
    let status = caller.admin.clone().unlock_account(UnlockAccountRequest::default()).await.unwrap_err();
    assert_eq!(faults(&status).1, ["request_header", "account_id", "reason"]);

    let seen = caller.challenge("c").await.unwrap();
    assert_eq!((seen.verification_attempts, seen.options[0].sends), (0, 1));
    let account = caller.account("person").await.unwrap();
    assert_eq!((account.failures(), account.locked()), (0, false));
    assert_eq!(site.messages().len(), 1);
    assert_eq!(failed(&caller.challenge("bad").await.unwrap_err()), "NotFound INVALID_IDENTIFIER");
    assert_eq!(verified(&caller.verify(verify("bad", "c", &site.code(number))).await), "success");
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"));
}

#[tokio::test]
async fn what_is_no_message_or_no_method() {
    const VERIFY: &str = "/otp.v1.OtpService/VerifyOtp";
    let site = Site::embedded();
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    let mut not_utf8 = verify("v", "c", "123456").encode_to_vec();
    let otp = not_utf8.len() - 6;
    not_utf8[otp] = 0xFF;
    let cut_short = &verify("v", "c", "123456").encode_to_vec()[..9];
    // 100 deep, and no end to it.
    let nested = [0x0A, 0x7F].repeat(100);
    for body in [vec![0xFF; 64], not_utf8, cut_short.to_vec(), nested, vec![0x0B; 30_000], vec![0; 5 << 20]] {
        let status = raw(&caller, VERIFY, body).await;
        assert_eq!(failed(&status), INVALID, "{status:?}");
        assert!(!status.message().contains("proto"), "{status:?}");
    }
    // Nothing at all is a message without fields.
    assert_eq!(failed(&raw(&caller, VERIFY, Vec::new()).await), MISSING);
    // Fields that a later version may have are not at fault.
    let mut later = verify("v", "c", "123456").encode_to_vec();
    later.extend([0xFA, 0x3F, 3, 1, 2, 3]);
    assert_eq!(failed(&raw(&caller, VERIFY, later).await), "NotFound INVALID_IDENTIFIER");
    for path in ["/otp.v1.OtpService/NoSuchMethod", "/otp.v2.OtpService/VerifyOtp", "/x", "/otp.v1.OtpService/"] {
        let status = raw(&caller, path, Vec::new()).await;
        assert_eq!(failed(&status), "Unimplemented UNIMPLEMENTED", "{path}");
        assert_eq!(status.code(), Code::Unimplemented);
    }
    caller.sent("c", "person", "+14155550143").await;
    assert_eq!(failed(&caller.send(send("s", "unknown")).await.unwrap_err()), "NotFound INVALID_IDENTIFIER");
    assert!(server.is_alive());
    assert!(!server.log().contains("panicked"));
}

/// Clients take 8 KiB of headers by default: the longest list of faults must fit, or the caller sees none of them.
#[tokio::test]
async fn all_that_can_be_wrong_fits_into_a_status() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let mut request = login(&"é".repeat(101), &"é".repeat(101), "+14155550100");
    let header = request.request_header.as_mut().unwrap();
    header.protocol_version = Some(ProtocolVersion { major: -1, minor: -1, revision: -1 });
    header.request_timestamp = at(-1);
    header.payment_integrator_account_id = "é".repeat(101);
    request.purpose = -1;
    let amount = Some(Amount { amount_micros: -1, currency_code: "é".repeat(101) });
    request.transaction = Some(Transaction { amount, payee: "é".repeat(101), reference: "é".repeat(101) });
    let nowhere = Destination { channel: 99, challenge_option_id: "é".repeat(101), ..sms("é", "") };
    request.destinations = vec![nowhere; 10];
    request.locale = "é".repeat(101);
    request.client_context = Some(ClientContext {
        ip_address: "é".into(),
        user_agent: "é".repeat(513),
        device_id: "é".repeat(101),
        lat_long: "é".into(),
    });
    request.provider_parameters = (0..33).map(|n| (format!("{n}{}", "é".repeat(101)), "é".repeat(1_001))).collect();
    request.provider_parameters.insert(String::new(), String::new());
    // Below the largest message, or that would be all that is wrong.
    while request.encoded_len() > 60_000 {
        request.provider_parameters.pop_last();
    }
    let status = caller.create(request).await.unwrap_err();
    let (reason, fields) = faults(&status);
    assert_eq!(reason, VERSION);
    assert!(fields.len() > 40, "{fields:?}");
    let encoded = status.details().len() * 4 / 3 + status.message().len();
    assert!(encoded < 8_000, "{encoded} bytes");
}

/// Google asks for a minute.
#[tokio::test]
async fn a_clock_that_is_off_is_refused_where_configured() {
    let site = Site::embedded().with("OTPD__REQUESTS__MAX_TIMESTAMP_SKEW", "60s");
    let server = site.start();
    let caller = Caller::of(&server).await;
    for (shift, refused) in [(0, false), (-50_000, false), (50_000, false), (-70_000, true), (70_000, true)] {
        let mut request = login(&format!("c{}", shift + 100_000), "person", "+14155550144");
        request.request_header.as_mut().unwrap().request_timestamp = at(now() + shift);
        match caller.create(request).await {
            Ok(_) => assert!(!refused, "{shift}"),
            Err(status) => {
                assert!(refused, "{shift}");
                let fields = vec!["request_header.request_timestamp".to_owned()];
                assert_eq!(faults(&status), ("InvalidArgument REQUEST_TIMESTAMP_OUT_OF_RANGE".to_owned(), fields));
            }
        }
    }
}
