//! What several adapters read, need and answer alike.

use std::time::Duration;

use super::http::{BaseUrl, Inbound};
use crate::{
    domain::{
        destination::{Channel, Destination},
        time::Timestamp,
    },
    ports::provider::{Delivered, Delivery, Message, Receipt, Unfit},
    secret::Secret,
    settings::{Section, values},
};

/// The longest reference that a receipt keeps, in characters.
const MAX_REFERENCE: usize = 200;

/// The longest wait that a provider is believed.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A setting that must be there; `what` says what it is.
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

/// A credential that must be there.
pub(super) fn secret(section: &mut Section<'_>, name: &str, what: &str) -> Option<Secret<String>> {
    required(section, name, what, |text| graphic(text).map(Secret::new))
}

/// Whether a setting is wrong in itself: then it says nothing about how it goes with others.
pub(super) fn is_wrong(section: &Section<'_>, name: &str) -> bool {
    let path = if section.path().is_empty() { name.to_owned() } else { format!("{}.{name}", section.path()) };
    section.ledger().is_wrong(&path)
}

/// A text that can stand in a header: visible ASCII, not empty. Credentials and names at the provider are such.
pub(super) fn graphic(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("must be visible ASCII characters without spaces".to_owned()) }
}

/// The channels that the operator wants, out of those that there are; the first of them where nothing is said.
pub(super) fn channels(section: &mut Section<'_>, known: &[Channel]) -> Vec<Channel> {
    let words: Vec<(&'static str, Channel)> = known.iter().map(|channel| (channel.name(), *channel)).collect();
    let given = section.list("channels", 1..=known.len(), values::word(&words));
    given.unwrap_or_else(|| known.iter().take(1).copied().collect())
}

/// The number in E.164, with its plus.
pub(super) fn phone(delivery: &Delivery) -> Result<&str, Unfit> {
    match &delivery.occasion.destination {
        Destination::Phone(number) => Ok(number.expose()),
        Destination::Email(_) | Destination::OnFile => Err(Unfit::Invalid("destination")),
    }
}

/// The mailbox.
pub(super) fn mailbox(delivery: &Delivery) -> Result<&str, Unfit> {
    match &delivery.occasion.destination {
        Destination::Email(mailbox) => Ok(mailbox.expose()),
        Destination::Phone(_) | Destination::OnFile => Err(Unfit::Invalid("destination")),
    }
}

/// The code of ours, and its words.
pub(super) fn message(delivery: &Delivery) -> Result<&Message, Unfit> {
    delivery.message.as_ref().ok_or(Unfit::Missing("code"))
}

/// Taken, under this reference. One that is longer than a receipt keeps is left out: the message was taken all the same.
pub(super) fn accepted(reference: &str) -> Delivered {
    let kept = if reference.chars().count() <= MAX_REFERENCE { reference } else { "" };
    Delivered::Accepted(Receipt { reference: kept.to_owned(), code_life: None, code_length: None })
}

/// Refused for now.
pub(super) fn throttled(answer: &Inbound) -> Delivered {
    Delivered::Failed { retry_after: answer.retry_after() }
}

/// Refused for now, until the time in `X-RateLimit-Reset`, which is in seconds or, where it is that large, milliseconds
/// since 1970.
pub(super) fn throttled_until_reset(answer: &Inbound, now: Timestamp) -> Delivered {
    let reset = answer.headers.get("x-ratelimit-reset").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let millis = reset.map(|reset: u64| if reset < 100_000_000_000 { reset.saturating_mul(1000) } else { reset });
    let wait = millis.map(|millis| Timestamp::from_millis(millis).since(now).min(LONGEST_WAIT));
    Delivered::Failed { retry_after: answer.retry_after().or(wait) }
}

/// What the operator should know of an API that is not called over TLS.
pub(super) fn open_note(base_url: &BaseUrl) -> Vec<String> {
    let note = "base_url is plain http: codes and credentials can be read on the way";
    if base_url.is_open() { vec![note.to_owned()] } else { Vec::new() }
}

/// Changes one line of right settings after another, a name alone meaning that the line is left out, and wants one mistake.
#[cfg(test)]
pub(super) fn wrong_settings<A>(right: &str, read: fn(&mut Section<'_>) -> Option<A>, cases: &[(&str, &str)]) {
    let mistakes = |settings: &str| {
        let ledger = crate::settings::Ledger::default();
        let table = crate::settings::tree::Table::from_toml(settings.parse().unwrap());
        let found = Section::root(table, &ledger, read);
        let found = ledger.finish(found).map_err(|mistakes| mistakes.to_string());
        found.map(|found| assert!(found.is_some(), "not read, and no mistake was reported")).err().unwrap_or_default()
    };
    assert_eq!(mistakes(right), "");
    for (change, expected) in cases {
        let (key, value) = change.split_once(' ').unwrap_or((change, ""));
        let kept = right.lines().filter(|line| line.split(' ').next() != Some(key));
        let changed = if value.is_empty() { "" } else { *change };
        let wrong = mistakes(&kept.chain([changed]).collect::<Vec<_>>().join("\n"));
        assert!(wrong.starts_with(expected) && !wrong.contains('\n'), "{change}: {wrong}");
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn a_reset_is_a_time_in_seconds_or_milliseconds() {
        let now = Timestamp::from_millis(1_481_899_949_606);
        let wait = |reset: &str| {
            let headers =
                HeaderMap::from_iter([("x-ratelimit-reset".parse().unwrap(), HeaderValue::from_str(reset).unwrap())]);
            match throttled_until_reset(&Inbound { status: 429, headers, body: Vec::new() }, now) {
                Delivered::Failed { retry_after } => retry_after,
                _ => None,
            }
        };
        assert_eq!(wait("1481899951"), Some(Duration::from_millis(1394)));
        assert_eq!(wait("1481899951606"), Some(Duration::from_secs(2)));
        assert_eq!(wait("1481899900"), Some(Duration::ZERO));
        assert_eq!(wait("99999999999"), Some(LONGEST_WAIT));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_reference_that_is_too_long_is_left_out() {
        let reference = |length| match accepted(&"x".repeat(length)) {
            Delivered::Accepted(receipt) => receipt.reference.len(),
            _ => usize::MAX,
        };
        assert_eq!((reference(MAX_REFERENCE), reference(MAX_REFERENCE + 1)), (MAX_REFERENCE, 0));
    }
}
