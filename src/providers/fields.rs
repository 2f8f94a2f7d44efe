//! What several adapters read alike: required settings, destinations as providers want them, and references.

use std::time::Duration;

use super::http::BaseUrl;
use crate::{
    domain::{
        destination::{Channel, Destination},
        transaction::Transaction,
    },
    ports::provider::{Occasion, Unfit},
    secret::Secret,
    settings::Section,
};

/// The longest reference that a challenge keeps.
const MAX_REFERENCE: usize = 200;

/// A setting without which a provider cannot be called.
pub(super) fn required<T>(
    section: &mut Section<'_>,
    name: &str,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let value = section.text(name, parse);
    if value.is_none() {
        section.misfit(name, format!("required: {what}"));
    }
    value
}

/// An identifier of the provider's.
pub(super) fn word(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 200 printable characters without spaces".to_owned()) }
}

/// A key or password.
pub(super) fn secret(text: &str) -> Result<Secret<String>, String> {
    word(text).map(Secret::new)
}

/// The phone number in E.164.
pub(super) fn phone(occasion: &Occasion) -> Result<&str, Unfit> {
    match &occasion.destination {
        Destination::Phone(number) if occasion.channel != Channel::Email => Ok(number.expose()),
        _ => Err(Unfit::Unsupported("destination")),
    }
}

/// The phone number without its plus.
pub(super) fn digits(occasion: &Occasion) -> Result<&str, Unfit> {
    phone(occasion).map(|number| number.trim_start_matches('+'))
}

/// The mailbox.
pub(super) fn mailbox(occasion: &Occasion) -> Result<&str, Unfit> {
    match &occasion.destination {
        Destination::Email(mailbox) if occasion.channel == Channel::Email => Ok(mailbox.expose()),
        _ => Err(Unfit::Unsupported("destination")),
    }
}

/// Whether an identifier of the provider's can be kept as a reference, and put into a path as it is.
pub(super) fn is_reference(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(plain)
}

/// The amount as the person reads it: `EUR 12.50`.
pub(super) fn amount(transaction: &Transaction) -> String {
    format!("{} {}", transaction.amount.currency, transaction.amount.decimal())
}

/// The one of a provider's languages that is meant: the whole tag (BCP 47) where it is there, or else the first of its
/// language.
pub(super) fn language(known: &[&'static str], locale: &str) -> Option<&'static str> {
    fn primary(tag: &str) -> &str {
        tag.split('-').next().unwrap_or_default()
    }
    let whole = known.iter().find(|tag| tag.eq_ignore_ascii_case(locale));
    let found = whole.or_else(|| known.iter().find(|tag| primary(tag).eq_ignore_ascii_case(primary(locale))));
    found.copied()
}

/// A span of time in whole minutes.
pub(super) fn minutes(text: &str, most: u64) -> Result<Duration, String> {
    let span = humantime::parse_duration(text.trim()).ok();
    let whole = span.filter(|span| span.subsec_nanos() == 0 && span.as_secs() % 60 == 0);
    let span = whole.filter(|span| (1..=most).contains(&(span.as_secs() / 60)));
    span.ok_or_else(|| format!("must be whole minutes, such as \"5m\", 1m to {most}m"))
}

/// What the operator should know of an API that is not called over TLS.
pub(super) fn open_note(base_url: &BaseUrl) -> Option<String> {
    base_url.is_open().then(|| "base_url is plain http: codes and credentials can be read on the way".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_matched_as_a_whole_and_then_by_their_start() {
        let known = ["en", "en-GB", "pt-BR", "pt"];
        for (locale, expected) in
            [("en-gb", Some("en-GB")), ("en-US", Some("en")), ("pt-PT", Some("pt-BR")), ("xx", None), ("", None)]
        {
            assert_eq!(language(&known, locale), expected, "{locale}");
        }
    }

    #[test]
    fn references_cannot_leave_their_path() {
        assert!(is_reference("c11236f4-00bf-4b89-84ba-88b25df97315"));
        for bad in ["", "..", "a/b", "a?b", "a b", "é", "x".repeat(201).as_str()] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn minutes_are_whole() {
        assert_eq!(minutes("10m", 1440), Ok(Duration::from_secs(600)));
        for bad in ["90s", "0m", "25h", "10", ""] {
            assert!(minutes(bad, 1440).is_err(), "{bad}");
        }
    }
}
