//! What adapters read from a call: destinations in the form that providers want, the caller's parameters, amounts, languages,
//! and names derived from those of otpd.

use std::{collections::BTreeMap, ops::RangeInclusive};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::answer::is_reference;
use crate::{
    domain::{
        destination::Destination,
        ids::Tenant,
        locale,
        transaction::{Amount, Transaction},
    },
    ports::provider::{ChallengeContext, Check, Delivery, Message, Parameters, RequestError},
};

/// The number in E.164, with its plus.
pub(in crate::providers) fn phone(context: &ChallengeContext) -> Result<&str, RequestError> {
    match &context.destination {
        Destination::Phone(number) => Ok(number.expose()),
        Destination::Email(_) | Destination::OnFile => Err(RequestError::Unsupported("destination")),
    }
}

/// The number without its plus.
pub(in crate::providers) fn phone_digits(context: &ChallengeContext) -> Result<&str, RequestError> {
    phone(context).map(|number| number.trim_start_matches('+'))
}

/// The mailbox.
pub(in crate::providers) fn mailbox(context: &ChallengeContext) -> Result<&str, RequestError> {
    match &context.destination {
        Destination::Email(mailbox) => Ok(mailbox.expose()),
        Destination::Phone(_) | Destination::OnFile => Err(RequestError::Unsupported("destination")),
    }
}

/// The ten digits of an Indian number in E.164. `None` for any other.
pub(in crate::providers) fn indian_mobile(number: &str) -> Option<&str> {
    // Mobile numbers begin with 6 to 9 (National Numbering Plan of India, 2003).
    number.strip_prefix("+91").filter(|rest| is_digits(rest, 10..=10) && rest.starts_with(['6', '7', '8', '9']))
}

/// Whether the text is ASCII digits, of an allowed length.
pub(in crate::providers) fn is_digits(text: &str, lengths: RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The code that otpd made, with its text.
pub(in crate::providers) fn message(delivery: &Delivery) -> Result<&Message, RequestError> {
    delivery.message.as_ref().ok_or(RequestError::MissingParameter("code"))
}

/// The reference from the delivery, for a provider whose checks need it.
pub(in crate::providers) fn sent_reference(check: &Check) -> Result<&str, RequestError> {
    Some(check.reference.as_str()).filter(|text| is_reference(text)).ok_or(RequestError::Unsupported("check"))
}

/// One of the caller's parameters. An empty one counts as absent.
pub(in crate::providers) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).map(|value| value.expose().as_str()).filter(|value| !value.is_empty())
}

/// One of the caller's parameters, without which the provider cannot be called.
pub(in crate::providers) fn needed<'a>(
    parameters: &'a Parameters,
    name: &'static str,
) -> Result<&'a str, RequestError> {
    parameter(parameters, name).ok_or(RequestError::MissingParameter(name))
}

/// The text, or `None` where it is empty, so that the field is left out.
pub(in crate::providers) fn said(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// The amount as the person reads it: `EUR 12.50`.
pub(in crate::providers) fn amount(transaction: &Transaction) -> String {
    format!("{} {}", transaction.amount.currency, transaction.amount.decimal())
}

/// The transaction as variables of a provider's message: amount and payee. Empty where there is none.
pub(in crate::providers) fn placeholders(context: &ChallengeContext) -> BTreeMap<&'static str, String> {
    let pairs = |it: &Transaction| BTreeMap::from([("amount", amount(it)), ("payee", it.payee.clone())]);
    context.transaction.as_ref().map(pairs).unwrap_or_default()
}

/// An amount in rupees as a whole number of units of `unit_micros`. Other currencies and fractions of a unit are refused.
pub(in crate::providers) fn indian_units(amount: &Amount, unit_micros: i64) -> Result<String, RequestError> {
    if amount.currency != "INR" {
        return Err(RequestError::InvalidParameter("transaction.amount.currency_code"));
    }
    let whole = amount.micros > 0 && amount.micros % unit_micros == 0;
    let units = whole.then(|| (amount.micros / unit_micros).to_string());
    units.ok_or(RequestError::InvalidParameter("transaction.amount.amount_micros"))
}

/// The provider's language for a locale (BCP 47): the nearest of those that it has. `None`: it has none that the person reads.
pub(in crate::providers) fn language(known: &[&'static str], locale: &str) -> Option<&'static str> {
    locale::nearest_tag(known.iter().copied(), locale)
}

/// A name for the provider, derived from tenant and name: 43 of `[A-Za-z0-9_-]`, always the same. It keeps tenants apart
/// that share an account at the provider and may choose equal names.
pub(in crate::providers) fn derived_id(tenant: &Tenant, name: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(tenant, name))
}

/// As [`derived_id`], of `[0-9a-f]` and as long as asked, at most 64.
pub(in crate::providers) fn derived_hex(tenant: &Tenant, name: &str, length: usize) -> String {
    let hex = digest(tenant, name).map(|byte| format!("{byte:02x}")).concat();
    hex.chars().take(length).collect()
}

fn digest(tenant: &Tenant, name: &str) -> [u8; 32] {
    // Neither part can hold a zero byte, so no two pairs give the same input.
    Sha256::new().chain_update(tenant.as_str()).chain_update([0]).chain_update(name).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_tenant() {
        let tenant = |name| Tenant::parse(name).unwrap();
        let id = derived_id(&tenant("acme"), "C1-1");
        assert_eq!(id, derived_id(&tenant("acme"), "C1-1"));
        assert_ne!(id, derived_id(&tenant("bold"), "C1-1"));
        assert_eq!((id.len(), derived_hex(&tenant("acme"), "C1-1", 22).len()), (43, 22));
    }

    #[test]
    fn indian_mobiles_have_ten_digits() {
        assert_eq!(indian_mobile("+918144094480"), Some("8144094480"));
        for other in ["+14155550100", "+91814409448", "+9181440944801", "+911144094480", "8144094480"] {
            assert_eq!(indian_mobile(other), None, "{other}");
        }
    }
}
