//! A provider's answer. It cannot be printed, because some providers repeat the message in it.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderValue,
    header::{DATE, RETRY_AFTER},
};
use serde::de::DeserializeOwned;

use super::charset;
use crate::domain::time::Timestamp;

/// A provider's whole answer.
pub struct Inbound {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`Inbound::MAX_BODY`].
    pub body: Vec<u8>,
}

impl Inbound {
    /// The longest body that is read, in bytes. An answer with a longer one is not used.
    pub const MAX_BODY: usize = 64 * 1024;

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON of the given type; `None` where it is anything else.
    ///
    /// A byte order mark, another encoding than UTF-8 and a member that is there twice, of which the last counts, are no
    /// obstacles.
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        // By way of a `Value`: read at once, a member that is there twice would be an error.
        let value: serde_json::Value = serde_json::from_str(&self.text()).ok()?;
        serde_json::from_value(value).ok()
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        let content_type = self.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        charset::text(content_type.unwrap_or_default(), &self.body)
    }

    /// Whether a proxy in front of the provider (Envoy) lost the connection to it before the answer. The proxy says 503 for
    /// that too, although the request may have been worked on.
    pub(in crate::providers) fn is_reset_behind_proxy(&self) -> bool {
        self.body.starts_with(b"upstream connect error or disconnect/reset before headers")
    }

    /// Writes a `Retry-After` that is a date (RFC 9110, 10.2.3) as the seconds from the time at which the answer came, or from its
    /// own `Date` where it has one: then the clocks need not agree.
    pub(super) fn count_retry_after_from(&mut self, now: Timestamp) {
        let date = |name| {
            let text = self.headers.get(name)?.to_str().ok()?;
            httpdate::parse_http_date(text.trim()).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()
        };
        let Some(until) = date(RETRY_AFTER) else { return };
        let from = date(DATE).unwrap_or_else(|| Duration::from_millis(now.as_millis()));
        let wait = until.saturating_sub(from);
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
        self.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }

    /// How long to wait: `Retry-After` in seconds (RFC 9110, 10.2.3), at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number that is too large for us is a long wait all the same.
        is_number.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX).min(3600)))
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbound({}, {} bytes)", self.status, self.body.len())
    }
}
