//! Lockouts: the failures and locks of accounts and contacts, as callers meet them and as operators see and change them.

use otpd::grpc::proto::{
    Channel, ContactOnFile, CreateChallengeRequest, Destination, Purpose, QuotaUsage, UnlockAccountRequest,
    destination::Destination as To, verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
};

use crate::{
    caller::{Caller, SMS, at, email, lock, login, now, send, send_to, sms, unlock, verify, wrong},
    redis_server::RedisServer,
    site::{Site, until},
    words::{created, ended, sent, verified},
};

const HOUR: i64 = 3_600_000;

/// A fresh account id for each try buys no guesses.
#[tokio::test]
async fn failures_of_registrations_follow_the_destination() {
    let site = Site::embedded().with("OTPD__POLICY__LOCK__FIRST_AFTER", "3");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550106";
    let register = |id: &str, account: &str| CreateChallengeRequest {
        purpose: Purpose::Registration.into(),
        send_otp: true,
        ..login(id, account, number)
    };
    for n in 0..3 {
        let (challenge, account) = (format!("c{n}"), format!("fresh-{n}"));
        assert_eq!(created(&caller.create(register(&challenge, &account)).await), "success with success");
        let code = wrong(&site.code(number), 0);
        assert_eq!(verified(&caller.verify(verify("v", &challenge, &code)).await), "otp_not_matched");
        assert_eq!(caller.account(&account).await.unwrap().failures(), 0);
    }
    assert_eq!(verified(&caller.verify(verify("w", "c2", &site.code(number))).await), "account_locked");
    assert_eq!(created(&caller.create(register("c3", "fresh-3")).await), "account_locked");
    // The accounts do not pay for it elsewhere.
    caller.sent("c5", "fresh-0", "+14155550108").await;
    // Operators see and lift the lock by the number.
    let seen = caller.number(number).await.unwrap();
    assert_eq!((seen.failures(), seen.locked()), (3, true));
    let request = UnlockAccountRequest { phone_number: number.into(), ..unlock("u", "") };
    let unlocked = caller.unlock(request).await.unwrap();
    assert_eq!((unlocked.failures(), unlocked.locked()), (0, false));
    assert_eq!(created(&caller.create(register("c6", "fresh-6")).await), "success with success");
    assert_eq!(verified(&caller.verify(verify("v", "c6", &site.code(number))).await), "success");
}

/// A registration proves one contact, whose lockout its failures belong to: two would be two proofs.
#[tokio::test]
async fn a_registration_has_one_contact() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let voice = |number: &str| Destination { channel: Channel::Voice.into(), ..sms(number, "voice") };
    let on_file = Destination { destination: Some(To::ContactOnFile(ContactOnFile {})), ..sms("", "file") };
    let (number, other, mailbox) = ("+14155550107", "+14155550117", "person@example.com");
    for (n, (destinations, told)) in [
        (vec![sms(number, SMS), voice(number)], "success"),
        (vec![email("Person@Example.com", "mail")], "success"),
        (vec![sms(number, SMS), voice(other)], "InvalidArgument INVALID_FIELD_VALUE"),
        (vec![sms(number, SMS), email(mailbox, "mail")], "InvalidArgument INVALID_FIELD_VALUE"),
        (vec![email(mailbox, "one"), email("other@example.com", "other")], "InvalidArgument INVALID_FIELD_VALUE"),
        (vec![sms(number, SMS), on_file], "InvalidArgument INVALID_FIELD_VALUE"),
    ]
    .into_iter()
    .enumerate()
    {
        let request = CreateChallengeRequest {
            purpose: Purpose::Registration.into(),
            destinations,
            ..login(&format!("c{n}"), "person", number)
        };
        assert_eq!(created(&caller.create(request).await), told, "{n}");
    }
}

/// An operator's lock of an account stops its registrations, too, at each of their steps.
#[tokio::test]
async fn a_lock_of_an_account_stops_its_registrations() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550118";
    let register = |id: &str| CreateChallengeRequest {
        purpose: Purpose::Registration.into(),
        send_otp: true,
        ..login(id, "person", number)
    };
    assert_eq!(created(&caller.create(register("before")).await), "success with success");
    assert!(caller.lock(lock("l", "person", None)).await.unwrap().locked());
    assert_eq!(created(&caller.create(register("c")).await), "account_locked");
    assert_eq!(ended(&caller.challenge("c").await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(sent(&caller.send(send("s", "before")).await), "account_locked");
    let right = verify("v", "before", &site.code(number));
    assert_eq!(verified(&caller.verify(right.clone()).await), "account_locked");
    assert_eq!(site.codes(number).len(), 1);
    assert!(!caller.number(number).await.unwrap().locked());
    assert!(!caller.unlock(unlock("u", "person")).await.unwrap().locked());
    assert_eq!(verified(&caller.verify(right).await), "success");
}

#[tokio::test]
async fn operators_look_lock_and_unlock() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550109";
    let fresh = caller.account("person").await.unwrap();
    assert_eq!((fresh.failures(), fresh.locked(), fresh.unlock_timestamp), (0, false, None));
    caller.sent("c", "person", number).await;
    let code = site.code(number);
    assert_eq!(verified(&caller.verify(verify("v1", "c", &wrong(&code, 1))).await), "otp_not_matched");

    let end = at(now() + HOUR);
    for (id, until) in [("l1", end), ("l2", None)] {
        for _ in 0..2 {
            let locked = caller.lock(lock(id, "person", until)).await.unwrap();
            assert_eq!((locked.failures(), locked.locked(), locked.unlock_timestamp), (1, true, until));
        }
        let seen = caller.account("person").await.unwrap();
        assert_eq!((seen.failures(), seen.locked(), seen.unlock_timestamp), (1, true, until));
        let answer = caller.verify(verify("v2", "c", &code)).await;
        assert_eq!(verified(&answer), "account_locked");
        let Some(VerifyResult::AccountLocked(locked)) = answer.unwrap().result.unwrap().verify_otp_result_code else {
            panic!("not locked")
        };
        assert_eq!(locked.unlock_timestamp, until);
        assert_eq!(sent(&caller.send(send("s", "c")).await), "account_locked");
        assert_eq!(created(&caller.create(login("d", "person", number)).await), "account_locked");
        // A recorded answer comes before the lock.
        assert_eq!(verified(&caller.verify(verify("v1", "c", &wrong(&code, 1))).await), "otp_not_matched");
    }
    // A lock never shortens a longer one.
    let shorter = caller.lock(lock("l3", "person", end)).await.unwrap();
    assert_eq!((shorter.locked(), shorter.unlock_timestamp), (true, None));
    assert_eq!(ended(&caller.lock(lock("l3", "person", None)).await), "AlreadyExists IDEMPOTENCY_VIOLATION");
    for _ in 0..2 {
        let unlocked = caller.unlock(unlock("u", "person")).await.unwrap();
        assert_eq!((unlocked.failures(), unlocked.locked(), unlocked.unlock_timestamp), (0, false, None));
    }
    // A late repetition undoes nothing, neither the unlock nor a lock after it.
    assert!(!caller.lock(lock("l2", "person", None)).await.unwrap().locked());
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 1);
    assert_eq!(verified(&caller.verify(verify("v2", "c", &code)).await), "success");
    assert_eq!(created(&caller.create(login("d", "person", number)).await), "success");
    assert!(caller.lock(lock("l4", "person", None)).await.unwrap().locked());
    assert!(caller.unlock(unlock("u", "person")).await.unwrap().locked());
    let past = lock("l5", "person", at(now() - 1));
    assert_eq!(ended(&caller.lock(past).await), "InvalidArgument INVALID_FIELD_VALUE");
    let two = UnlockAccountRequest { phone_number: number.into(), ..unlock("u2", "person") };
    assert_eq!(ended(&caller.unlock(two).await), "InvalidArgument INVALID_FIELD_VALUE");
}

/// A lock ends by itself; a code that waited is still good, and a success resets the failures.
#[tokio::test]
async fn a_lock_ends() {
    let site = Site::embedded()
        .with("OTPD__POLICY__LOCK__FIRST_AFTER", "2")
        .with("OTPD__POLICY__LOCK__AGAIN_AFTER", "1")
        .with("OTPD__POLICY__LOCK__SPANS", r#"["1s", "2h"]"#);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550115";
    caller.sent("c", "person", number).await;
    let code = site.code(number);
    for (id, left) in [("w1", 1), ("w2", 0)] {
        let answer = caller.verify(verify(id, "c", &wrong(&code, 0))).await.unwrap();
        let Some(VerifyResult::OtpNotMatched(not)) = answer.result.unwrap().verify_otp_result_code else { panic!() };
        // What the account has left is less than what the challenge has. The failure that locks is told as one.
        assert_eq!(not.remaining_verification_attempts, Some(left));
    }
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "account_locked");
    until("the end of the lock", async || !caller.account("person").await.unwrap().locked()).await;
    assert_eq!(caller.account("person").await.unwrap().failures(), 2);
    assert_eq!(verified(&caller.verify(verify("w3", "c", &wrong(&code, 0))).await), "otp_not_matched");
    let seen = caller.account("person").await.unwrap();
    let locked_for = seen.unlock_timestamp.unwrap().epoch_millis - now();
    assert!(seen.locked() && (7_100_000..=7_200_000).contains(&locked_for), "{locked_for}");
    assert!(!caller.unlock(unlock("u", "person")).await.unwrap().locked());
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
}

/// Operators see how much of its quotas an account and a number have used, and clear them.
#[tokio::test]
async fn operators_see_and_clear_quotas() {
    let site = Site::embedded()
        .with("OTPD__POLICY__QUOTAS__ACCOUNT_CREATIONS", r#"["2 per 1h", "5 per 1d"]"#)
        .with("OTPD__POLICY__QUOTAS__DESTINATION_SENDS", r#"["1 per 1h"]"#);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155550119";
    let sending = |id: &str| CreateChallengeRequest { send_otp: true, ..login(id, "person", number) };
    assert_eq!(created(&caller.create(sending("c1")).await), "success with success");
    assert_eq!(created(&caller.create(sending("c2")).await), "success with risk_declined");
    assert_eq!(created(&caller.create(sending("c3")).await), "risk_declined");
    let usage = |quotas: &[QuotaUsage]| -> Vec<(String, i64, i64, i64)> {
        let rows = quotas.iter().map(|it| (it.quota.clone(), it.uses(), it.limit, it.window.unwrap().seconds));
        rows.collect()
    };
    let creations = |uses| {
        vec![("account_creations".to_owned(), uses, 2, 3_600), ("account_creations".to_owned(), uses, 5, 86_400)]
    };
    let sends = |uses| vec![("destination_sends".to_owned(), uses, 1, 3_600)];
    assert_eq!(usage(&caller.account("person").await.unwrap().quotas), creations(2));
    assert_eq!(usage(&caller.number(number).await.unwrap().quotas), sends(1));
    assert_eq!(usage(&caller.account("another").await.unwrap().quotas), creations(0));

    assert_eq!(usage(&caller.unlock(unlock("u1", "person")).await.unwrap().quotas), creations(0));
    assert_eq!(created(&caller.create(sending("c3")).await), "success with risk_declined");
    let request = UnlockAccountRequest { phone_number: number.into(), ..unlock("u2", "") };
    assert_eq!(usage(&caller.unlock(request).await.unwrap().quotas), sends(0));
    assert_eq!(created(&caller.create(sending("c4")).await), "success with success");
    // A late repetition clears nothing that came after it.
    assert_eq!(usage(&caller.unlock(unlock("u1", "person")).await.unwrap().quotas), creations(2));
}

/// What is verified is no abuse: its sends and its creation count no longer, soon after the answer.
#[tokio::test]
async fn a_success_refunds_its_quotas() {
    let redis = RedisServer::start();
    for site in [Site::embedded(), Site::on(&redis)] {
        let site = site
            .with("OTPD__POLICY__QUOTAS__ACCOUNT_CREATIONS", r#"["1 per 1h"]"#)
            .with("OTPD__POLICY__QUOTAS__ACCOUNT_SENDS", r#"["1 per 1h"]"#)
            .with("OTPD__POLICY__QUOTAS__DESTINATION_SENDS", r#"["1 per 1h"]"#);
        let server = site.start();
        let caller = Caller::of(&server).await;
        let number = "+14155550120";
        for n in 0..3 {
            let challenge = format!("c{n}");
            caller.sent(&challenge, "person", number).await;
            assert_eq!(created(&caller.create(login("other", "person", number)).await), "risk_declined");
            assert_eq!(verified(&caller.verify(verify("v", &challenge, &site.code(number))).await), "success");
            let used = |quotas: Vec<QuotaUsage>| quotas.iter().map(QuotaUsage::uses).sum::<i64>();
            let refunded = async || {
                let (account, number) = (caller.account("person").await, caller.number(number).await);
                used(account.unwrap().quotas) + used(number.unwrap().quotas) == 0
            };
            until("the refunds", refunded).await;
        }
    }
}

/// Failures at one contact lock it, whatever succeeds at another: owning one contact buys no guesses at another.
#[tokio::test]
async fn a_contact_is_locked_by_its_own_failures() {
    let site = Site::embedded().with("OTPD__POLICY__LOCK__FIRST_AFTER", "3").with("OTPD__POLICY__RESEND_GAPS", "[]");
    let server = site.start();
    let caller = Caller::of(&server).await;
    let (number, mailbox) = ("+14155550122", "person@example.com");
    for n in 0..3 {
        let challenge = format!("c{n}");
        let mut request = login(&challenge, "person", number);
        request.destinations.push(email(mailbox, "mail"));
        assert_eq!(created(&caller.create(request).await), "success");
        assert_eq!(sent(&caller.send(send("phone", &challenge)).await), "success");
        let guess = verify("guess", &challenge, &wrong(&site.code(number), 0));
        assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
        assert_eq!(sent(&caller.send(send_to("mail", &challenge, "mail")).await), "success");
        let right = verify("right", &challenge, &site.code(mailbox));
        assert_eq!(verified(&caller.verify(right).await), "success", "{n}");
    }
    // The phone is locked; the account and its mailbox are not. Operators see that a contact is, and lift it.
    let seen = caller.account("person").await.unwrap();
    assert_eq!((seen.failures(), seen.locked(), seen.locked_contacts), (0, false, 1));
    let mut request = login("d", "person", number);
    request.destinations.push(email(mailbox, "mail"));
    assert_eq!(created(&caller.create(request).await), "success");
    assert_eq!(sent(&caller.send(send("phone", "d")).await), "account_locked");
    assert_eq!(sent(&caller.send(send_to("mail", "d", "mail")).await), "success");
    assert_eq!(caller.unlock(unlock("u", "person")).await.unwrap().locked_contacts, 0);
    assert_eq!(sent(&caller.send(send("phone-2", "d")).await), "success");
}
