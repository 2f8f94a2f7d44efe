//! Requests as callers and operators make them, and what their answers are.

use std::{sync::Arc, time::Duration};

use otpd::{
    domain::{
        caller::CallerRights,
        destination::{Channel, Destination, Mailbox, PhoneNumber},
        ids::{AccountId, OptionId, RequestId, Tenant},
        outcome::{Created, Dispatch, Sent, Verified},
        purpose::Purpose,
        transaction::{Amount, Transaction},
    },
    ports::{
        clock::Deadline,
        provider::{ClientContext, Parameters},
    },
    secret::Secret,
    service::{
        error::Error,
        request::{Caller, CreateChallenge, LockoutOwner, Reach, SendOtp, VerifyOtp},
    },
};

pub(crate) const TENANT: &str = "acme";
pub(crate) const ACCOUNT: &str = "jane";
pub(crate) const NUMBER: &str = "+14155550100";

pub(crate) fn of_account(account: &str) -> LockoutOwner {
    LockoutOwner::Account(account_id(account))
}

pub(crate) fn of_contact(number: &str) -> LockoutOwner {
    LockoutOwner::Contact(phone(number))
}

/// A caller of the usual tenant with patience.
pub(crate) fn caller(id: &str) -> Caller {
    caller_of(TENANT, id)
}

pub(crate) fn caller_of(tenant: &str, id: &str) -> Caller {
    Caller {
        tenant: Tenant::parse(tenant).expect("tenant"),
        request_id: request_id(id),
        deadline: Deadline::after(Duration::from_secs(10)),
        rights: Arc::new(CallerRights::of_everybody()),
        record: Arc::default(),
    }
}

pub(crate) fn request_id(id: &str) -> RequestId {
    RequestId::parse(id).expect("request id")
}

pub(crate) fn account_id(id: &str) -> AccountId {
    AccountId::parse(id).expect("account id")
}

pub(crate) fn phone(number: &str) -> Destination {
    Destination::Phone(PhoneNumber::parse(number).expect("number"))
}

pub(crate) fn mailbox(address: &str) -> Destination {
    Destination::Email(Mailbox::parse(address).expect("mailbox"))
}

/// An option to reach a person.
pub(crate) fn reach(id: &str, destination: Destination) -> Reach {
    let channel = if matches!(destination, Destination::Email(_)) { Channel::Email } else { Channel::Sms };
    Reach { id: Some(OptionId::parse(id).expect("option id")), channel, destination }
}

/// A login with one phone number, its option being `o1`.
pub(crate) fn create(account: &str) -> CreateChallenge {
    CreateChallenge {
        account: account_id(account),
        purpose: Purpose::Login,
        transaction: None,
        destinations: vec![reach("o1", phone(NUMBER))],
        locale: "en".to_owned(),
        client: ClientContext::default(),
        parameters: Parameters::new(),
        send_otp: false,
    }
}

/// A registration with one phone number.
pub(crate) fn register(account: &str, number: &str) -> CreateChallenge {
    CreateChallenge {
        purpose: Purpose::Registration,
        destinations: vec![reach("o1", phone(number))],
        ..create(account)
    }
}

pub(crate) fn transaction(micros: i64) -> Transaction {
    let amount = Amount { micros, currency: "EUR".to_owned() };
    Transaction { amount, payee: "Books & Co".to_owned(), reference: "order 7".to_owned() }
}

pub(crate) fn send(challenge: &str, option: &str) -> SendOtp {
    SendOtp {
        challenge: request_id(challenge),
        option: OptionId::parse(option).expect("option id"),
        parameters: Parameters::new(),
        client: ClientContext::default(),
    }
}

pub(crate) fn verify(challenge: &str, otp: &str) -> VerifyOtp {
    VerifyOtp {
        challenge: request_id(challenge),
        otp: Secret::new(otp.to_owned()),
        parameters: Parameters::new(),
        account: None,
        purpose: None,
        transaction: None,
    }
}

/// Another code of the same length.
pub(crate) fn wrong(code: &str) -> String {
    let first = if code.starts_with('1') { '2' } else { '1' };
    std::iter::once(first).chain(code.chars().skip(1)).collect()
}

/// The challenge is open.
#[track_caller]
pub(crate) fn created(created: Result<Created, Error>) {
    match created {
        Ok(Created::Success { .. }) => {}
        other => panic!("not created: {other:?}"),
    }
}

/// The send was accepted.
#[track_caller]
pub(crate) fn accepted(sent: Result<Sent, Error>) -> Dispatch {
    match sent {
        Ok(Sent::Success(dispatch)) if dispatch.confirmed => dispatch,
        other => panic!("not accepted: {other:?}"),
    }
}

pub(crate) fn is_success(verified: &Result<Verified, Error>) -> bool {
    matches!(verified, Ok(Verified::Success(_)))
}

pub(crate) fn is_not_matched(verified: &Result<Verified, Error>) -> bool {
    matches!(verified, Ok(Verified::NotMatched { .. }))
}

/// How many of them are so.
pub(crate) fn count<T>(all: &[T], is: impl Fn(&T) -> bool) -> usize {
    all.iter().filter(|one| is(one)).count()
}
