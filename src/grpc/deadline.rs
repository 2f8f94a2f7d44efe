//! The call's deadline: the caller's `grpc-timeout`, or what a proxy waits if that is shorter, capped, minus a margin so that
//! our DEADLINE_EXCEEDED arrives while both still wait. What a caller decides by itself names no reason, and what a proxy makes
//! of its own time-out is often tried again elsewhere.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::ports::clock::Deadline;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How long Envoy waits for this try, in milliseconds: the smaller of its route's time-outs
/// (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter>).
const ENVOY_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
/// The specification allows at most 8 digits.
const MAX_DIGITS: usize = 8;
/// How much earlier than the caller's deadline we answer, at least and at most: so late are timers and turns on a machine with
/// three times as much to do as it has processors.
const MIN_MARGIN: Duration = Duration::from_millis(5);
const MAX_MARGIN: Duration = Duration::from_millis(100);

/// How long a call may take at most, whatever its `grpc-timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestTimeout(pub(crate) Duration);

impl RequestTimeout {
    /// When a call with these headers, arriving now, must have been answered.
    pub(crate) fn deadline(self, headers: &HeaderMap) -> Deadline {
        Deadline::after(self.budget(headers))
    }

    fn budget(self, headers: &HeaderMap) -> Duration {
        let value = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        // A malformed value counts as absent. Either only shortens.
        let of_caller = value(&GRPC_TIMEOUT).and_then(parse_timeout);
        // Envoy writes 0 for a time-out that is switched off.
        let of_envoy = value(&ENVOY_TIMEOUT).and_then(number).filter(|millis| *millis != 0).map(Duration::from_millis);
        let asked = of_caller.into_iter().chain(of_envoy).min();
        asked.map_or(self.0, before).min(self.0)
    }
}

/// A little earlier: a tenth within the bounds of the margin, and never more than half.
fn before(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).clamp(MIN_MARGIN, MAX_MARGIN).min(timeout / 2))
}

/// Decimal digits, and no sign before them.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads a `grpc-timeout`: up to 8 digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let mut digits = text.chars();
    let unit = digits.next_back()?;
    let digits = digits.as_str();
    if digits.len() > MAX_DIGITS {
        return None;
    }
    let amount = number(digits)?;
    match unit {
        'H' => Some(Duration::from_secs(amount * 3600)),
        'M' => Some(Duration::from_secs(amount * 60)),
        'S' => Some(Duration::from_secs(amount)),
        'm' => Some(Duration::from_millis(amount)),
        'u' => Some(Duration::from_micros(amount)),
        'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_at_most_8_digits() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("400m", Some(Duration::from_millis(400))),
            ("500u", Some(Duration::from_micros(500))),
            ("600n", Some(Duration::from_nanos(600))),
            ("0m", Some(Duration::ZERO)),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("123456789m", None),
            ("", None),
            ("S", None),
            ("5", None),
            ("5s", None),
            ("5 S", None),
            ("-5S", None),
            ("+5S", None),
            ("\u{665}S", None),
            ("1.5S", None),
            ("5é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn the_budget_ends_before_the_callers_and_is_capped() {
        let time = RequestTimeout(Duration::from_secs(30));
        let both = |caller: Option<&'static str>, envoy: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            caller.map(|value| headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(value)));
            envoy.map(|value| headers.insert(ENVOY_TIMEOUT, HeaderValue::from_static(value)));
            time.budget(&headers)
        };
        let budget = |value| both(value, None);
        assert_eq!(budget(None), Duration::from_secs(30));
        assert_eq!(budget(Some("rubbish")), Duration::from_secs(30));
        assert_eq!(budget(Some("1H")), Duration::from_secs(30));
        assert_eq!(budget(Some("20S")), Duration::from_millis(19_900));
        assert_eq!(budget(Some("200m")), Duration::from_millis(180));
        assert_eq!(budget(Some("10m")), Duration::from_millis(5));
        assert_eq!(budget(Some("1n")), Duration::from_nanos(1));
        assert_eq!(budget(Some("0m")), Duration::ZERO);
        assert_eq!(both(None, Some("200")), budget(Some("200m")));
        assert_eq!(both(Some("1S"), Some("200")), budget(Some("200m")));
        assert_eq!(both(Some("200m"), Some("15000")), budget(Some("200m")));
        for none in ["", "0", "00", "-5", "+200", "1.5", "200m", "99999999999999999999"] {
            assert_eq!(both(Some("1S"), Some(none)), budget(Some("1S")), "{none}");
            assert_eq!(both(None, Some(none)), budget(None), "{none}");
        }
    }
}
