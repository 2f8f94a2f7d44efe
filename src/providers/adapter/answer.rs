//! What adapters read from an answer: fields that servers write differently, references, evidence, and when to come back.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserializer,
    de::{Error as _, Visitor},
};

use crate::{
    domain::time::Timestamp,
    ports::provider::{Delivered, Failure, Receipt},
    providers::http::Inbound,
};

/// The longest reference that a receipt keeps, in characters.
const MAX_REFERENCE: usize = 200;

/// The longest text of an [`Evidence`](crate::ports::provider::Evidence), in characters.
const MAX_EVIDENCE: usize = 100;

/// The longest wait that a provider can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Accepted, under this reference. A reference longer than a receipt keeps is left out: the message was accepted all the same.
pub(in crate::providers) fn accepted(reference: &str) -> Delivered {
    let kept = if reference.chars().count() <= MAX_REFERENCE { reference } else { "" };
    Delivered::Accepted(Receipt { reference: kept.to_owned(), ..Receipt::default() })
}

/// Whether an identifier of the provider's can be kept as a reference, and stand in a path without escapes.
pub(in crate::providers) fn is_reference(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(plain)
}

/// A text of [`Evidence`](crate::ports::provider::Evidence). One that is too long is left out rather than cut: half an id
/// names something else.
pub(in crate::providers) fn evidence(text: String) -> String {
    if text.chars().count() <= MAX_EVIDENCE { text } else { String::new() }
}

/// A refusal for now, with `Retry-After` where it is there.
pub(in crate::providers) fn unavailable(answer: &Inbound) -> Failure {
    Failure::Unavailable { retry_after: answer.retry_after() }
}

/// A refusal until the time in `X-RateLimit-Reset`, which is in seconds since 1970 or, where the number is that large, in
/// milliseconds.
pub(in crate::providers) fn unavailable_until_reset(answer: &Inbound, now: Timestamp) -> Failure {
    let reset = answer.headers.get("x-ratelimit-reset").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let millis = reset.map(|reset: u64| if reset < 100_000_000_000 { reset.saturating_mul(1000) } else { reset });
    let wait = millis.map(|millis| Timestamp::from_millis(millis).since(now).min(LONGEST_WAIT));
    Failure::Unavailable { retry_after: answer.retry_after().or(wait) }
}

/// A code in an answer: a number, or its digits as a text.
pub(in crate::providers) fn code<'de, D: Deserializer<'de>, N: FromStr>(deserializer: D) -> Result<N, D::Error> {
    lenient(deserializer)?.parse().map_err(|_| D::Error::custom("a code is a number"))
}

/// As [`code`], where there may be none.
pub(in crate::providers) fn optional_code<'de, D: Deserializer<'de>, N: FromStr>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    let text = lenient(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| D::Error::custom("a code is a number")) }
}

/// A text in an answer. A whole number is read as its digits and null as empty, because servers differ.
pub(in crate::providers) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = String;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text or a whole number")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
            Ok(text.trim().to_owned())
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<String, E> {
            Ok(number.to_string())
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
            Ok(String::new())
        }
    }

    deserializer.deserialize_any(Text)
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
            match unavailable_until_reset(&Inbound { status: 429, headers, body: Vec::new() }, now) {
                Failure::Unavailable { retry_after } => retry_after,
                Failure::Refused => None,
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

    #[test]
    fn references_cannot_leave_their_path() {
        assert!(is_reference("c11236f4-00bf-4b89-84ba-88b25df97315"));
        for bad in ["", "..", "a/b", "a?b", "a b", "é", "x".repeat(201).as_str()] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
