//! Single values, as they occur in more than one request.

use std::collections::BTreeMap;

use super::{Violations, characters};
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

/// What the person typed: digits of any script as ASCII digits, without the blanks, dashes and invisible characters that
/// keyboards, messages and copying add.
pub(super) fn otp(faults: &mut Violations, otp: String) -> Secret<String> {
    let given = Secret::new(otp);
    let added = [characters::is_blank, characters::is_dash, characters::is_invisible, characters::is_keycap];
    let is_meant = |c: &char| !added.iter().any(|is_kind| is_kind(*c));
    let meant = given.expose().chars().filter(is_meant).map(characters::with_ascii_digit);
    // Large enough for so many characters of up to 4 bytes: a text that grows leaves copies of itself in memory.
    let mut otp = String::with_capacity((MAX_OTP + 1) * 4);
    otp.extend(meant.take(MAX_OTP + 1));
    let fits = (1..=MAX_OTP).contains(&otp.len()) && otp.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if given.expose().is_empty() {
        faults.missing("otp");
    } else if !fits {
        faults.invalid("otp", "must be 1 to 16 of [0-9A-Za-z], besides blanks and dashes");
    }
    Secret::new(otp)
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
    let payee = payee(faults, &transaction.payee);
    if !fits(&transaction.reference, MAX_TEXT) {
        faults.invalid("transaction.reference", "must be at most 100 characters");
    }
    // On one line and in their own direction: every text, provider and check sees the same. The person reads both in a message,
    // where a line break or a mark of direction could make it say something else.
    let reference = characters::on_one_line(&transaction.reference);
    Some(Transaction { amount: amount?, payee, reference })
}

/// Who is paid.
fn payee(faults: &mut Violations, given: &str) -> String {
    const FIELD: &str = "transaction.payee";
    if given.is_empty() {
        faults.missing(FIELD);
    } else if !given.chars().any(characters::is_visible) {
        faults.invalid(FIELD, "must hold at least one visible character");
    } else if !fits(given, MAX_TEXT) || given.chars().any(char::is_control) {
        faults.invalid(FIELD, "must be 1 to 100 characters without control characters");
    }
    characters::on_one_line(given)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser makes of a text, or the description of the fault.
    fn read<T>(parse: impl FnOnce(&mut Violations) -> T) -> Result<T, String> {
        let mut faults = Violations::default();
        let value = parse(&mut faults);
        match faults.into_iter().next() {
            None => Ok(value),
            Some(fault) => Err(fault.description),
        }
    }

    #[test]
    fn a_code_is_read_as_it_is_meant() {
        let meant = |typed: &str| read(|faults| otp(faults, typed.to_owned()).expose().clone());
        for (typed, expected) in [
            ("493021", "493021"),
            ("493 021", "493021"),
            (" 493-021\n", "493021"),
            ("493\u{2013}021", "493021"),
            ("493\u{2212}021", "493021"),
            ("4\u{a0}9\u{202f}3\u{3000}021", "493021"),
            ("\u{200e}493\u{200b}021\u{202c}\u{feff}", "493021"),
            ("４９３０２１", "493021"),
            ("٤٩٣٠٢١", "493021"),
            ("۴۹۳۰۲۱", "493021"),
            ("४९३०२१", "493021"),
            ("Ab-1２", "Ab12"),
            ("1234 5678 9012 3456", "1234567890123456"),
            ("4\u{fe0f}\u{20e3}9\u{fe0f}\u{20e3}3\u{fe0f}\u{20e3}0", "4930"),
            ("\u{1d7d8}\u{1d7e3}\u{fe58}\u{fe63}\u{ff0d}𑁦", "010"),
            ("493\u{2800}021\u{3164}\u{fff9}\u{e0020}", "493021"),
            ("493\u{85}021\u{2028}\u{1680}", "493021"),
        ] {
            assert_eq!(meant(typed), Ok(expected.to_owned()), "{typed:?}");
        }
        for typed in ["12345678901234567", "12.34", "1234\0", "é", "①②③④", "１２３４Ａ", " - ", "\u{200b}"]
        {
            assert!(meant(typed).is_err_and(|fault| fault.starts_with("must be 1 to 16")), "{typed:?}");
        }
        assert_eq!(meant(""), Err("is required".to_owned()));
    }

    #[test]
    fn a_payee_is_seen_on_one_line() {
        let shown = |given: &str| read(|faults| payee(faults, given));
        assert_eq!(shown("Bäckerei \u{202e}Müller\u{2066}"), Ok("Bäckerei Müller".to_owned()));
        assert_eq!(shown("Shop\u{2028}Your code"), Ok("Shop Your code".to_owned()));
        assert_eq!(shown("👩\u{200d}🍳"), Ok("👩\u{200d}🍳".to_owned()));
        assert_eq!(shown("a\u{202e}b\u{2028}c"), Ok("ab c".to_owned()));
        for seen in ["€", "?", "店", "א", "7", "🛒", "\u{3164}x", "e\u{301}"] {
            assert_eq!(shown(seen), Ok(seen.to_owned()));
        }
        let unseen = " ,\u{a0},\u{1680},\u{2000},\u{200a},\u{202f},\u{205f},\u{3000},\u{ad},\u{34f},\u{61c},\u{115f},\u{1160},\u{17b4},\
                      \u{180b},\u{180e},\u{200b},\u{200d},\u{200f},\u{2028},\u{2029},\u{202e},\u{2060},\u{2064},\u{2066},\u{206f},\u{2800},\
                      \u{3164},\u{fe0f},\u{feff},\u{ffa0},\u{fff9},\u{fffc},\u{1d173},\u{e0001},\u{e0041},\u{e0100},\u{301},\u{e000},\u{378},\
                      \u{10ffff}, \u{fe0f} ,\u{2028}\u{202e}";
        for unseen in unseen.split(',') {
            assert_eq!(shown(unseen), Err("must hold at least one visible character".to_owned()), "{unseen:?}");
        }
    }

    #[test]
    fn a_reference_is_seen_on_one_line() {
        let asked = |reference: &str| proto::Transaction {
            amount: Some(proto::Amount { amount_micros: 1, currency_code: "EUR".to_owned() }),
            payee: "Shop".to_owned(),
            reference: reference.to_owned(),
        };
        for (given, kept) in
            [("", ""), ("R-1", "R-1"), ("a\u{202e}b\r\nc\u{2029}d\u{85}", "ab  c d "), ("\u{200b}", "\u{200b}")]
        {
            let reference = read(|faults| transaction(faults, asked(given))).map(|it| it.map(|it| it.reference));
            assert_eq!(reference, Ok(Some(kept.to_owned())));
        }
    }
}
