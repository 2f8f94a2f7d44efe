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
        Destination::Email(_) | Destination::OnFile => Err(Unfit::Unsupported("destination")),
    }
}

/// The mailbox.
pub(super) fn mailbox(delivery: &Delivery) -> Result<&str, Unfit> {
    match &delivery.occasion.destination {
        Destination::Email(mailbox) => Ok(mailbox.expose()),
        Destination::Phone(_) | Destination::OnFile => Err(Unfit::Unsupported("destination")),
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
