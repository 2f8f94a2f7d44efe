//! Each call by itself and in the order that callers use them.

use otpd::grpc::proto::{
    ChallengeState, Channel, CreateChallengeRequest, EventKind as Kind, Purpose, SendOtpResponse, SendOtpSuccess,
    VerifyOtpRequest, create_challenge_result::Result as CreateResult, send_otp_result::Result as SendResult,
    verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
};

use crate::{
    caller::{Caller, SMS, Told, email, header_of, login, now, payment, send, send_to, sms, verify, wrong},
    site::{Site, until},
    words::{created, ended, failed, sent, verified},
};

fn send_success(told: Told<SendOtpResponse>) -> SendOtpSuccess {
    let Some(SendResult::Success(success)) = told.unwrap().result.unwrap().result else { panic!("not sent") };
    success
}

#[tokio::test]
async fn a_challenge_from_creation_to_success() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550100";
    let mut request = login("c", "person", number);
    request.destinations.push(email("someone@example.com", ""));
    let opened = caller.create(request).await.unwrap();
    let Some(CreateResult::Success(success)) = opened.result.unwrap().result else { panic!("not opened") };
    let [phone, mailbox] = &success.challenge_options[..] else { panic!("two options") };
    assert_eq!(phone.challenge_option_id, SMS);
    assert!(!mailbox.challenge_option_id.is_empty());
    assert!(!mailbox.masked_destination.contains("someone"), "{}", mailbox.masked_destination);
    assert!((success.expiration_timestamp.unwrap().epoch_millis - now() - 600_000).abs() < 5_000);
    assert!(success.send_result.is_none());

    assert_eq!(
        verified(&caller.verify(verify("early", "c", "000000")).await),
        "FailedPrecondition PRECONDITION_VIOLATION"
    );
    assert_eq!(caller.challenge("c").await.unwrap().state(), ChallengeState::Created);

    let first = send_success(caller.send(send("s1", "c")).await);
    assert_eq!((first.max_verification_attempts, first.max_send_attempts, first.otp_length), (5, 3, 6));
    assert_eq!(first.remaining_send_attempts, Some(2));
    assert!((first.expiration_timestamp.unwrap().epoch_millis - now() - 300_000).abs() < 5_000);
    let next = first.next_send_timestamp.unwrap().epoch_millis;
    assert!((next - now() - 30_000).abs() < 5_000);

    // Too soon, on the other option too, and nothing is used up by it.
    let refused = caller.send(send_to("s2", "c", &mailbox.challenge_option_id)).await.unwrap();
    let Some(SendResult::ResendTooSoon(too_soon)) = refused.result.unwrap().result else { panic!("not too soon") };
    assert_eq!(too_soon.next_send_timestamp.unwrap().epoch_millis, next);
    assert_eq!(sent(&caller.send(send_to("s3", "c", "no-such-option")).await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(site.messages().len(), 1);

    let code = site.code(number);
    assert!(site.messages()[0].text.contains(&code));
    let answer = caller.verify(verify("v1", "c", &wrong(&code, 0))).await.unwrap();
    let Some(VerifyResult::OtpNotMatched(not)) = answer.result.unwrap().verify_otp_result_code else { panic!() };
    assert_eq!(not.remaining_verification_attempts, Some(4));
    assert_eq!(caller.account("person").await.unwrap().failures(), 1);

    let seen = caller.challenge("c").await.unwrap();
    assert_eq!(
        (seen.state(), seen.verification_attempts, seen.max_verification_attempts),
        (ChallengeState::Sent, 1, 5)
    );
    assert_eq!(seen.options.iter().map(|option| option.sends).collect::<Vec<_>>(), [1, 0]);
    assert_eq!((seen.account_id.as_str(), seen.purpose()), ("person", Purpose::Login));
    assert_eq!(seen.next_send_timestamp.unwrap().epoch_millis, next);
    assert_eq!(seen.otp_expiration_timestamp, first.expiration_timestamp);

    let mut proven_at = None;
    for _ in 0..2 {
        let answer = caller.verify(verify("v2", "c", &code)).await;
        assert_eq!(verified(&answer), "success");
        let told = answer.unwrap().verified.unwrap();
        assert_eq!(
            (told.account_id.as_str(), told.purpose(), told.transaction.as_ref()),
            ("person", Purpose::Login, None)
        );
        // Which of the contacts was proven, and when; a repetition tells the same.
        assert_eq!((told.challenge_option_id.as_str(), told.channel()), (SMS, Channel::Sms));
        assert_eq!(told.masked_destination, phone.masked_destination);
        let proven = told.verified_timestamp.unwrap().epoch_millis;
        assert!((now() - proven).abs() < 5_000);
        assert_eq!(*proven_at.get_or_insert(proven), proven);
    }
    assert_eq!(verified(&caller.verify(verify("v3", "c", &code)).await), "otp_already_used");
    assert_eq!(verified(&caller.verify(verify("v2", "c", "999999")).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(sent(&caller.send(send("v2", "c")).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(sent(&caller.send(send("s4", "c")).await), "challenge_option_expired");
    assert_eq!(sent(&caller.send(send("s1", "c")).await), "success");
    assert_eq!(ended(&caller.cancel("x", "c").await), "FailedPrecondition PRECONDITION_VIOLATION");
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);

    let seen = caller.challenge("c").await.unwrap();
    assert_eq!((seen.state(), seen.verification_attempts), (ChallengeState::Verified, 2));
    let kinds: Vec<Kind> = seen.timeline.iter().map(otpd::grpc::proto::ChallengeEvent::kind).collect();
    assert_eq!(kinds, [Kind::Created, Kind::SendReserved, Kind::SendAccepted, Kind::NotMatched, Kind::Verified]);
    assert!(seen.timeline.iter().all(|event| event.timestamp.is_some()));
    assert_eq!(seen.next_send_timestamp, None);
    assert_eq!(site.messages().len(), 1);
}

/// Of several contacts the one is told that the matching code went to.
#[tokio::test]
async fn a_success_tells_which_contact_it_proves() {
    let site = Site::embedded().with("OTPD__POLICY__RESEND_GAPS", "[]");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let (number, mailbox) = ("+14155550121", "person@example.com");
    for (challenge, last) in [("phone", SMS), ("mailbox", "mail")] {
        let mut request = login(challenge, challenge, number);
        request.destinations.push(email(mailbox, "mail"));
        assert_eq!(created(&caller.create(request).await), "success");
        for option in [SMS, "mail", SMS, "mail"].iter().skip(usize::from(last == SMS)).take(2) {
            assert_eq!(sent(&caller.send(send_to(&format!("s-{option}"), challenge, option)).await), "success");
        }
        let code = site.messages().pop().unwrap().code;
        let proven = caller.verify(verify("v", challenge, &code)).await.unwrap().verified.unwrap();
        let (channel, masked) =
            if last == SMS { (Channel::Sms, "+14*******21") } else { (Channel::Email, "p***@e***.com") };
        assert_eq!((proven.challenge_option_id.as_str(), proven.channel()), (last, channel));
        assert_eq!(proven.masked_destination, masked);
    }
}

/// People type codes with the digits of their keyboard, and with the blanks and dashes of the message.
#[tokio::test]
async fn a_code_is_taken_as_it_is_meant() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    for (n, zero) in ['0', '\u{660}', '\u{6f0}', '\u{966}', '\u{ff10}'].into_iter().enumerate() {
        let (challenge, number) = (format!("c{n}"), format!("+1415555013{n}"));
        caller.sent(&challenge, &challenge, &number).await;
        let code = site.code(&number);
        let digit = |c: char| char::from_u32(u32::from(zero) + c.to_digit(10).unwrap()).unwrap();
        let (first, last) = code.split_at(3);
        let written = |part: &str| part.chars().map(digit).collect::<String>();
        let typed = format!("\u{200e} {}\u{2013}{}\n", written(first), written(last));
        assert_eq!(verified(&caller.verify(verify("v", &challenge, &typed)).await), "success", "{zero}");
        // Written otherwise it is the same content.
        assert_eq!(verified(&caller.verify(verify("v", &challenge, &code)).await), "success", "{zero}");
    }
}

#[tokio::test]
async fn creation_with_a_send_and_its_repetition() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550101";
    let request = CreateChallengeRequest { send_otp: true, ..login("c", "person", number) };
    let first = caller.create(request.clone()).await;
    assert_eq!(created(&first), "success with success");
    let again = caller.create(request.clone()).await;
    assert_eq!(again.unwrap().result, first.unwrap().result);
    assert_eq!(site.codes(number).len(), 1);

    let other = CreateChallengeRequest { locale: "de".into(), ..request.clone() };
    assert_eq!(created(&caller.create(other).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    // Not the same content either: without the send.
    assert_eq!(created(&caller.create(login("c", "person", number)).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(sent(&caller.send(send("c", "c")).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(verified(&caller.verify(verify("c", "c", "123456")).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(sent(&caller.send(send("s", "c")).await), "resend_too_soon");

    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(site.codes(number).len(), 1);
}

#[tokio::test]
async fn a_cancelled_challenge_takes_no_code() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550102";
    caller.sent("c", "person", number).await;
    for id in ["x1", "x1", "x2"] {
        assert_eq!(ended(&caller.cancel(id, "c").await), "done");
    }
    assert_eq!(ended(&caller.cancel("c", "c").await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "otp_expired");
    assert_eq!(sent(&caller.send(send("s", "c")).await), "challenge_option_expired");
    assert_eq!(caller.challenge("c").await.unwrap().state(), ChallengeState::Cancelled);
    assert_eq!(ended(&caller.cancel("x", "unknown").await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(ended(&caller.challenge("unknown").await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);
}

#[tokio::test]
async fn a_challenge_is_unknown_to_other_tenants() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550103";
    caller.sent("c", "person", number).await;
    let mut theirs = verify("v", "c", &site.code(number));
    theirs.request_header = header_of("another", "v");
    let mut unknown = theirs.clone();
    unknown.authenticate_request_id = "unknown".into();
    let (theirs, unknown) = (caller.verify(theirs).await.unwrap_err(), caller.verify(unknown).await.unwrap_err());
    assert_eq!(failed(&theirs), "NotFound INVALID_IDENTIFIER");
    assert_eq!((theirs.message(), theirs.details()), (unknown.message(), unknown.details()));
    // The same id is another challenge there, with a code of its own.
    let mut request = CreateChallengeRequest { send_otp: true, ..login("c", "person", "+14155550104") };
    request.request_header = header_of("another", "c");
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
}

#[tokio::test]
async fn a_transaction_is_bound_to_its_code() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550105";
    let request = CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction: payment(12_500_000, "Alice's Shop"),
        send_otp: true,
        ..login("c", "person", number)
    };
    assert_eq!(created(&caller.create(request).await), "success with success");
    let message = site.messages().pop().unwrap();
    assert!(message.text.contains("12.5") && message.text.contains("Alice's Shop"), "{}", message.text);

    let right = verify("v", "c", &message.code);
    let differing = [
        VerifyOtpRequest { transaction: payment(12_500_001, "Alice's Shop"), ..right.clone() },
        VerifyOtpRequest { transaction: payment(12_500_000, "Mallory"), ..right.clone() },
        VerifyOtpRequest { account_id: "another".into(), ..right.clone() },
        VerifyOtpRequest { purpose: Purpose::Login.into(), ..right.clone() },
    ];
    for request in differing {
        assert_eq!(verified(&caller.verify(request).await), "NotFound INVALID_IDENTIFIER");
    }
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 0);
    assert_eq!(caller.account("person").await.unwrap().failures(), 0);

    let full = VerifyOtpRequest {
        account_id: "person".into(),
        purpose: Purpose::Transaction.into(),
        transaction: payment(12_500_000, "Alice's Shop"),
        ..right
    };
    let answer = caller.verify(full).await;
    assert_eq!(verified(&answer), "success");
    assert_eq!(answer.unwrap().verified.unwrap().transaction, payment(12_500_000, "Alice's Shop"));
}

/// 3 sends an option by default; a resend makes the old code void, and buys no guesses.
#[tokio::test]
async fn sends_are_limited_and_codes_rotate() {
    let site = Site::embedded().with("OTPD__POLICY__RESEND_GAPS", "[]");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550110";
    let mut request = login("c", "person", number);
    request.destinations.push(sms("+14155550111", "other"));
    assert_eq!(created(&caller.create(request).await), "success");
    for left in [2, 1, 0] {
        let success = send_success(caller.send(send(&format!("s{left}"), "c")).await);
        assert_eq!(success.remaining_send_attempts, Some(left));
    }
    assert_eq!(sent(&caller.send(send("s", "c")).await), "send_limit_exceeded");
    assert_eq!(sent(&caller.send(send("s0", "c")).await), "success");
    let codes = site.codes(number);
    assert_eq!(codes.len(), 3);
    assert_eq!(sent(&caller.send(send_to("o", "c", "other")).await), "success");
    let mut void: Vec<&String> = codes.iter().collect();
    let live = site.code("+14155550111");
    void.retain(|code| **code != live);
    void.dedup();
    for (n, code) in void.iter().enumerate() {
        assert_eq!(verified(&caller.verify(verify(&format!("v{n}"), "c", code)).await), "otp_not_matched");
    }
    let seen = caller.challenge("c").await.unwrap();
    assert_eq!(seen.verification_attempts, i64::try_from(void.len()).unwrap());
    assert_eq!(seen.options.iter().map(|option| option.sends).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(verified(&caller.verify(verify("v", "c", &live)).await), "success");
}

/// 5 an hour to one number, over all accounts; what is declined is refunded.
#[tokio::test]
async fn a_number_takes_so_many_messages_an_hour() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550112";
    for n in 0..5 {
        caller.sent(&format!("c{n}"), &format!("person-{n}"), number).await;
    }
    let request = CreateChallengeRequest { send_otp: true, ..login("c5", "person-5", number) };
    assert_eq!(created(&caller.create(request).await), "success with risk_declined");
    // The challenge is there, and its send is not among the successes that operators count.
    until("the line", async || server.log().contains(r#""otp.outcome":"success_risk_declined""#)).await;
    assert_eq!(sent(&caller.send(send("s", "c5")).await), "risk_declined");
    let seen = caller.challenge("c5").await.unwrap();
    assert_eq!((seen.state(), seen.options[0].sends), (ChallengeState::Created, 0));
    assert_eq!(site.codes(number).len(), 5);
    // Another tenant's messages are counted apart.
    let mut request = CreateChallengeRequest { send_otp: true, ..login("c", "person", number) };
    request.request_header = header_of("another", "c");
    assert_eq!(created(&caller.create(request).await), "success with success");
}

/// The same code with the same expiry; another option gets a new one.
#[tokio::test]
async fn codes_can_be_repeated() {
    let site = Site::embedded().with("OTPD__POLICY__RESEND_GAPS", "[]").with("OTPD__POLICY__ON_RESEND", "repeat");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let (number, other) = ("+14155550113", "+14155550114");
    let mut request = login("c", "person", number);
    request.destinations.push(sms(other, "other"));
    assert_eq!(created(&caller.create(request).await), "success");
    let first = send_success(caller.send(send("s1", "c")).await);
    let second = send_success(caller.send(send("s2", "c")).await);
    assert_eq!(first.expiration_timestamp, second.expiration_timestamp);
    let codes = site.codes(number);
    assert_eq!((codes.len(), &codes[0]), (2, &codes[1]));
    assert_eq!(sent(&caller.send(send_to("s3", "c", "other")).await), "success");
    assert_ne!(site.code(other), codes[0], "one time in a million");
    assert_eq!(verified(&caller.verify(verify("v1", "c", &codes[0])).await), "otp_not_matched");
    assert_eq!(verified(&caller.verify(verify("v2", "c", &site.code(other))).await), "success");
}

#[tokio::test]
async fn tenants_can_be_listed_and_differ() {
    let site = Site::embedded().with("OTPD__TENANTS__acme__POLICY__CODE_DIGITS", "8");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550116";
    let request = CreateChallengeRequest { send_otp: true, ..login("c", "person", number) };
    assert_eq!(created(&caller.create(request.clone()).await), "PermissionDenied FORBIDDEN");
    assert_eq!(verified(&caller.verify(verify("v", "c", "123456")).await), "PermissionDenied FORBIDDEN");
    assert_eq!(ended(&caller.account("person").await), "PermissionDenied FORBIDDEN");
    let request = CreateChallengeRequest { request_header: header_of("acme", "c"), ..request };
    assert_eq!(created(&caller.create(request).await), "success with success");
    assert_eq!(site.code(number).len(), 8);
    let request = VerifyOtpRequest { request_header: header_of("acme", "v"), ..verify("v", "c", &site.code(number)) };
    assert_eq!(verified(&caller.verify(request).await), "success");
}
