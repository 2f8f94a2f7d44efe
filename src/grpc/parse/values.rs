//! Single values, as they occur in more than one request.

use std::collections::BTreeMap;

use super::Violations;
use crate::{
    domain::{
        ids::MalformedId,
        purpose::Purpose,
        time::Timestamp,
        transaction::{Amount, Transaction},
    },
    grpc::proto,
    ports::provider::Parameters,
    secret::Secret,
};

/// The longest text where nothing else is said.
const MAX_TEXT: usize = 100;
const MAX_REASON: usize = 200;
const MAX_OTP: usize = 16;
const MAX_PARAMETERS: usize = 32;
const MAX_PARAMETER_KEY: usize = 100;
const MAX_PARAMETER_VALUE: usize = 1000;

/// Whether a text has at most so many characters, which are Unicode scalar values.
pub(super) fn fits(text: &str, max: usize) -> bool {
    // A character has up to 4 bytes, so most texts need no counting.
    text.len() <= max || text.chars().count() <= max
}

/// A required id.
pub(super) fn id<T>(
    faults: &mut Violations,
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, MalformedId>,
) -> Option<T> {
    if text.is_empty() {
        faults.missing(field);
        return None;
    }
    optional_id(faults, field, text, parse)
}

/// An id that may be absent.
pub(super) fn optional_id<T>(
    faults: &mut Violations,
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, MalformedId>,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    parse(text).map_err(|malformed| faults.invalid(field, malformed.to_string())).ok()
}

/// A point in time.
pub(super) fn timestamp(faults: &mut Violations, field: &str, at: proto::EpochTimestamp) -> Option<Timestamp> {
    let millis = u64::try_from(at.epoch_millis).ok().filter(|millis| *millis <= Timestamp::MAX.as_millis());
    if millis.is_none() {
        faults.invalid(format!("{field}.epoch_millis"), "must be from 0 to 253402300799999");
    }
    millis.map(Timestamp::from_millis)
}

/// A required purpose.
pub(super) fn purpose(faults: &mut Violations, purpose: i32) -> Option<Purpose> {
    if purpose == i32::from(proto::Purpose::Unspecified) {
        faults.missing("purpose");
        return None;
    }
    optional_purpose(faults, purpose)
}

/// A purpose that may be absent.
pub(super) fn optional_purpose(faults: &mut Violations, purpose: i32) -> Option<Purpose> {
    match proto::Purpose::try_from(purpose) {
        Ok(proto::Purpose::Unspecified) => None,
        Ok(proto::Purpose::Login) => Some(Purpose::Login),
        Ok(proto::Purpose::Registration) => Some(Purpose::Registration),
        Ok(proto::Purpose::Transaction) => Some(Purpose::Transaction),
        Err(_) => {
            faults.invalid("purpose", "must be a known purpose");
            None
        }
    }
}

/// What the person typed.
pub(super) fn otp(faults: &mut Violations, otp: String) -> Secret<String> {
    let otp = Secret::new(otp);
    let typed = otp.expose();
    if typed.is_empty() {
        faults.missing("otp");
    } else if typed.len() > MAX_OTP || !typed.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        faults.invalid("otp", "must be 1 to 16 of [0-9A-Za-z]");
    }
    otp
}

/// An operator's reason. It goes into a log, whose lines it must not forge.
pub(super) fn reason(faults: &mut Violations, reason: String) -> String {
    if reason.is_empty() {
        faults.missing("reason");
    } else if !fits(&reason, MAX_REASON) || reason.chars().any(char::is_control) {
        faults.invalid("reason", "must be 1 to 200 characters without control characters");
    }
    reason
}

/// What the person agrees to.
pub(super) fn transaction(faults: &mut Violations, transaction: proto::Transaction) -> Option<Transaction> {
    let amount = transaction.amount.map(|amount| self::amount(faults, amount));
    if amount.is_none() {
        faults.missing("transaction.amount");
    }
    let payee = transaction.payee;
    if payee.is_empty() {
        faults.missing("transaction.payee");
    } else if !fits(&payee, MAX_TEXT) || payee.chars().any(char::is_control) {
        // The person reads it in a message, where a line break could make it say something else.
        faults.invalid("transaction.payee", "must be 1 to 100 characters without control characters");
    }
    let reference = transaction.reference;
    if !fits(&reference, MAX_TEXT) {
        faults.invalid("transaction.reference", "must be at most 100 characters");
    }
    Some(Transaction { amount: amount?, payee, reference })
}

fn amount(faults: &mut Violations, amount: proto::Amount) -> Amount {
    if amount.amount_micros < 1 {
        faults.invalid("transaction.amount.amount_micros", "must be at least 1");
    }
    let currency = amount.currency_code;
    if currency.is_empty() {
        faults.missing("transaction.amount.currency_code");
    } else if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        faults.invalid("transaction.amount.currency_code", "must be three capital letters (ISO 4217)");
    }
    Amount { micros: amount.amount_micros, currency }
}

/// Parameters for a provider. Keys are not named in descriptions either: callers put into them what they like.
pub(super) fn parameters(faults: &mut Violations, parameters: BTreeMap<String, String>) -> Parameters {
    const FIELD: &str = "provider_parameters";
    let parameters: Parameters = parameters.into_iter().map(|(key, value)| (key, Secret::new(value))).collect();
    if parameters.len() > MAX_PARAMETERS {
        faults.invalid(FIELD, "must have at most 32 entries");
    }
    if parameters.keys().any(|key| key.is_empty() || !fits(key, MAX_PARAMETER_KEY)) {
        faults.invalid(FIELD, "keys must be 1 to 100 characters");
    }
    if parameters.values().any(|value| !fits(value.expose(), MAX_PARAMETER_VALUE)) {
        faults.invalid(FIELD, "values must be at most 1000 characters");
    }
    parameters
}
