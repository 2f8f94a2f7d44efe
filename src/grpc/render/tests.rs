//! What each outcome looks like on the wire.

use super::*;
use crate::domain::{
    challenge::EventKind,
    ids::{AccountId, OptionId},
    outcome::{ChallengeState, ChallengeView, EventView, Evidence, LockoutView, QuotaUsage},
    quota::Window,
    transaction::Amount,
};
use crate::secret::Secret;

const NOW: Timestamp = Timestamp::from_millis(1_481_899_950_236);
const LATER: Timestamp = Timestamp::from_millis(1_481_899_960_236);

#[expect(clippy::unnecessary_wraps, reason = "all timestamps of messages are optional")]
fn epoch(epoch_millis: i64) -> Option<proto::EpochTimestamp> {
    Some(proto::EpochTimestamp { epoch_millis })
}

fn dispatch() -> Dispatch {
    Dispatch {
        max_verification_attempts: 5,
        max_send_attempts: 3,
        expires_at: LATER,
        remaining_sends: 2,
        next_send_at: LATER,
        confirmed: true,
        provider_values: [("paramA".to_owned(), Secret::new("a".to_owned()))].into(),
        code_length: 6,
    }
}

fn option() -> OptionView {
    OptionView { id: OptionId::parse("o-1").unwrap(), channel: Channel::WhatsApp, masked: "+14*******00".to_owned() }
}

#[test]
fn every_verification_has_its_member_and_only_success_its_proof() {
    let proof = Proof {
        account: AccountId::parse("jane").unwrap(),
        purpose: Purpose::Transaction,
        transaction: Some(Transaction {
            amount: Amount { micros: 1_500_000, currency: "EUR".to_owned() },
            payee: "Bakery".to_owned(),
            reference: String::new(),
        }),
        option: Some(option()),
        at: LATER,
        evidence: Evidence { eci: "07".to_owned(), verification_id: "v-1".to_owned(), ..Evidence::default() },
    };
    let success = verified(NOW, Verified::Success(Box::new(proof))).message;
    assert_eq!(success.eci, "07");
    assert_eq!(success.payment_integrator_verify_otp_id, "v-1");
    let what = success.verified.unwrap();
    assert_eq!((what.account_id.as_str(), what.purpose()), ("jane", proto::Purpose::Transaction));
    assert_eq!(what.challenge_option_id, "o-1");
    assert_eq!((what.channel(), what.masked_destination.as_str()), (proto::Channel::Whatsapp, "+14*******00"));
    assert_eq!(what.verified_timestamp, epoch(1_481_899_960_236));
    assert_eq!(what.transaction.unwrap().amount.unwrap().amount_micros, 1_500_000);
    assert_eq!(success.response_header.unwrap().response_timestamp, epoch(1_481_899_950_236));

    let locked = proto::AccountLocked { unlock_timestamp: epoch(1_481_899_960_236) };
    for (outcome, member, name) in [
        (
            Verified::NotMatched { remaining: 0 },
            VerifyResult::OtpNotMatched(proto::OtpNotMatched { remaining_verification_attempts: Some(0) }),
            "otp_not_matched",
        ),
        (Verified::AlreadyUsed, VerifyResult::OtpAlreadyUsed(proto::OtpAlreadyUsed {}), "otp_already_used"),
        (Verified::Expired, VerifyResult::OtpExpired(proto::OtpExpired {}), "otp_expired"),
        (
            Verified::AttemptsExceeded,
            VerifyResult::VerificationAttemptsExceeded(proto::VerificationAttemptsExceeded {}),
            "verification_attempts_exceeded",
        ),
        (Verified::AccountLocked(Locked { until: Some(LATER) }), VerifyResult::AccountLocked(locked), "account_locked"),
    ] {
        let rendered = verified(NOW, outcome);
        assert_eq!(rendered.outcome, name);
        assert_eq!(rendered.message.result.unwrap().verify_otp_result_code, Some(member));
        assert!(rendered.message.verified.is_none() && rendered.message.eci.is_empty());
    }
}

#[test]
fn every_send_has_its_member() {
    let success = proto::SendOtpSuccess {
        max_verification_attempts: 5,
        max_send_attempts: 3,
        expiration_timestamp: epoch(1_481_899_960_236),
        remaining_send_attempts: Some(2),
        next_send_timestamp: epoch(1_481_899_960_236),
        delivery_state: proto::DeliveryState::Accepted.into(),
        otp_length: 6,
        provider_values: [("paramA".to_owned(), "a".to_owned())].into(),
    };
    let unconfirmed =
        proto::SendOtpSuccess { delivery_state: proto::DeliveryState::Unconfirmed.into(), ..success.clone() };
    let too_soon = proto::ResendTooSoon { next_send_timestamp: epoch(1_481_899_960_236) };
    for (outcome, member, name) in [
        (Sent::Success(dispatch()), SendResult::Success(success), "success"),
        (
            Sent::Success(Dispatch { confirmed: false, ..dispatch() }),
            SendResult::Success(unconfirmed),
            "success_unconfirmed",
        ),
        (
            Sent::ChallengeOptionExpired,
            SendResult::ChallengeOptionExpired(proto::ChallengeOptionExpired {}),
            "challenge_option_expired",
        ),
        (Sent::SendLimitExceeded, SendResult::SendLimitExceeded(proto::SendLimitExceeded {}), "send_limit_exceeded"),
        (
            Sent::AccountLocked(Locked { until: None }),
            SendResult::AccountLocked(proto::AccountLocked { unlock_timestamp: None }),
            "account_locked",
        ),
        (Sent::RiskDeclined, SendResult::RiskDeclined(proto::RiskDeclined {}), "risk_declined"),
        (Sent::ResendTooSoon { next_send_at: LATER }, SendResult::ResendTooSoon(too_soon), "resend_too_soon"),
        (
            Sent::DestinationRejected,
            SendResult::DestinationRejected(proto::DestinationRejected {}),
            "destination_rejected",
        ),
    ] {
        let opened = Created::Success { options: Vec::new(), expires_at: LATER, send: Some(outcome.clone()) };
        let of_creation = if name.starts_with("success") { name.to_owned() } else { format!("success_{name}") };
        assert_eq!(created(NOW, opened).outcome, of_creation);
        let rendered = sent(NOW, outcome);
        assert_eq!(rendered.outcome, name);
        assert_eq!(rendered.message.result.unwrap().result, Some(member));
        assert_eq!(rendered.message.response_header.unwrap().response_timestamp, epoch(1_481_899_950_236));
    }
}

#[test]
fn every_creation_has_its_member() {
    let send = Some(Sent::RiskDeclined);
    let rendered = created(NOW, Created::Success { options: vec![option()], expires_at: LATER, send });
    assert_eq!(rendered.outcome, "success_risk_declined");
    let Some(CreateResult::Success(success)) = rendered.message.result.unwrap().result else { panic!("no success") };
    assert_eq!(success.challenge_options[0].challenge_option_id, "o-1");
    assert_eq!(success.challenge_options[0].channel(), proto::Channel::Whatsapp);
    assert_eq!(success.challenge_options[0].masked_destination, "+14*******00");
    assert_eq!(success.expiration_timestamp, epoch(1_481_899_960_236));
    let declined = SendResult::RiskDeclined(proto::RiskDeclined {});
    assert_eq!(success.send_result.unwrap().result, Some(declined));

    let locked = created(NOW, Created::AccountLocked(Locked { until: None }));
    let member = CreateResult::AccountLocked(proto::AccountLocked { unlock_timestamp: None });
    assert_eq!((locked.message.result.unwrap().result, locked.outcome), (Some(member), "account_locked"));
    let declined = created(NOW, Created::RiskDeclined);
    let member = CreateResult::RiskDeclined(proto::RiskDeclined {});
    assert_eq!((declined.message.result.unwrap().result, declined.outcome), (Some(member), "risk_declined"));
}

#[test]
fn a_challenge_shows_its_counters_options_and_events() {
    let view = ChallengeView {
        state: ChallengeState::AttemptsExceeded,
        account: AccountId::parse("jane").unwrap(),
        purpose: Purpose::Login,
        created_at: NOW,
        expires_at: LATER,
        code_expires_at: None,
        next_send_at: Some(LATER),
        max_verification_attempts: 5,
        attempts: 5,
        max_send_attempts: 3,
        options: vec![(option(), 2)],
        timeline: vec![EventView { at: NOW, kind: EventKind::Created, option: None, provider: String::new() }],
    };
    let rendered = challenge(NOW, view);
    assert_eq!(rendered.outcome, "attempts_exceeded");
    let message = rendered.message;
    assert_eq!(message.state(), proto::ChallengeState::AttemptsExceeded);
    assert_eq!((message.verification_attempts, message.options[0].sends), (5, 2));
    assert_eq!((message.otp_expiration_timestamp, message.next_send_timestamp), (None, epoch(1_481_899_960_236)));
    assert_eq!(message.timeline[0].kind(), proto::EventKind::Created);
}

#[test]
fn a_lockout_shows_its_failures_its_lock_and_its_quotas() {
    let clean = account(NOW, LockoutView { failures: 0, locked: None, locked_contacts: 0, quotas: Vec::new() });
    assert_eq!(clean.outcome, "not_locked");
    let clean = clean.message;
    assert_eq!((clean.failures, clean.locked, clean.unlock_timestamp), (Some(0), Some(false), None));

    let window = Window { max: 5, per: std::time::Duration::from_secs(3600) };
    let used = QuotaUsage { quota: "destination_sends", uses: 0, window };
    let locked = Some(Locked { until: None });
    let for_good = locked_account(NOW, LockoutView { failures: 3, locked, locked_contacts: 2, quotas: vec![used] });
    assert_eq!(for_good.outcome, "locked");
    assert_eq!((for_good.message.locked, for_good.message.unlock_timestamp), (Some(true), None));
    assert_eq!(for_good.message.locked_contacts, 2);
    let shown = proto::QuotaUsage {
        quota: "destination_sends".to_owned(),
        uses: Some(0),
        limit: 5,
        window: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
    };
    assert_eq!(for_good.message.quotas, [shown]);

    let locked = Some(Locked { until: Some(LATER) });
    let for_a_while =
        unlocked_account(NOW, LockoutView { failures: 3, locked, locked_contacts: 0, quotas: Vec::new() });
    assert_eq!(for_a_while.message.unlock_timestamp, epoch(1_481_899_960_236));
}
