//! What a provider over HTTP is made of: pure functions from messages to requests, and from answers to decisions.
//!
//! An adapter does no I/O, reads no clock and keeps no state; [`super::http`] does all of that for every adapter alike.

pub(super) mod answer;
pub(super) mod by_locale;
pub(super) mod context;
pub(super) mod settings;

use super::http::{Authority, BaseUrl, Inbound, Outbound};
use crate::ports::provider::{Capabilities, Check, Checked, Delivered, Delivery, Failure, RequestError};

/// One provider's wire format.
pub trait Adapter: Send + Sync {
    /// Where the provider's API begins.
    fn base_url(&self) -> &BaseUrl;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The request that delivers.
    ///
    /// # Errors
    /// The caller has not given what the provider needs, or the provider has no such call.
    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError>;

    /// What the answer to it means. Judges the body, not only the status: some providers report failure inside a 200.
    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered;

    /// What must be asked first so that a request which was answered like this can succeed: the executor asks it, and then
    /// repeats the request once.
    fn clearing(&self, _delivery: &Delivery, _answer: &Inbound) -> Option<Outbound> {
        None
    }

    /// The request that checks what the person typed.
    ///
    /// # Errors
    /// As [`Adapter::deliver`]. The default is for providers that deliver codes of otpd.
    fn check(&self, _check: &Check) -> Result<Outbound, RequestError> {
        Err(RequestError::Unsupported("check"))
    }

    /// What the answer to it means. [`Checked::Failed`] needs the provider's own word that it judged nothing; what is not
    /// certain is [`Checked::Unknown`].
    fn checked(&self, _check: &Check, _answer: &Inbound) -> Checked {
        Checked::Unknown
    }

    /// What the operator must mend according to an answer whose status alone does not say so.
    fn alarm(&self, _answer: &Inbound) -> Option<Alarm> {
        None
    }

    /// Whether an answer of 429 or 5xx is about one destination or one verification, such as its own limit. Then the provider is
    /// not left alone for it: other calls are served.
    fn concerns_one(&self, _answer: &Inbound) -> bool {
        false
    }

    /// What lets requests in beyond what the adapter writes into them itself. A new one for each provider that is built: it
    /// may keep what it fetched.
    fn authority(&self) -> Option<Box<dyn Authority>> {
        None
    }

    /// What `check-config` should tell the operator about this provider, one line each. That a URL is not encrypted is told
    /// for every provider alike.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Something that the operator must mend, as a fixed text for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The provider refuses otpd's credentials or address, and so every call: the breaker counts it.
    Credentials(&'static str),
    /// The provider refuses every request for a reason that no caller's data can cause, such as a suspended account or a missing
    /// template where there is one for all: the breaker counts it.
    Account(&'static str),
    /// The provider refuses this request. Other requests may succeed, so the breaker does not count it.
    Request(&'static str),
}

impl Alarm {
    /// What a status says for every provider (RFC 9110, 15.5).
    pub(super) fn by_status(status: u16) -> Option<Self> {
        match status {
            401 | 407 => Some(Self::Credentials("credentials")),
            403 => Some(Self::Request("not allowed")),
            _ => None,
        }
    }
}

/// What an HTTP status alone says of a delivery, where the provider's documentation says nothing else.
///
/// The next provider is tried only on a proof that nothing was sent: a request that was refused before it was worked on. A
/// 500, 502 or 504 proves nothing, and neither does a success whose body is not understood.
pub fn delivered_by_status(answer: &Inbound) -> Delivered {
    match answer.status {
        // See Other: the request was worked on, and its result stands elsewhere (RFC 9110, 15.4.4).
        303 => Delivered::Unknown,
        408 | 409 | 423 | 425 | 429 => Delivered::Failed(answer::unavailable(answer)),
        300..=499 => Delivered::Failed(Failure::Refused),
        503 if !answer.is_reset_behind_proxy() => Delivered::Failed(answer::unavailable(answer)),
        _ => Delivered::Unknown,
    }
}

/// What an HTTP status alone says of a check, where the provider's documentation says nothing else.
///
/// Only a status by which the server says that it did not work on the request proves that nothing was judged (RFC 9110, 15;
/// RFC 6585; RFC 8470): credentials, payment, permission, a request that is cut off, too early, too large or not taken there at
/// all, too many requests, overload. Any other answer, a redirect too, may come after the code was compared.
pub fn checked_by_status(answer: &Inbound) -> Checked {
    match answer.status {
        401 | 402 | 403 | 405 | 407 | 411 | 413 | 414 | 415 | 421 | 426 | 431 => Checked::Failed(Failure::Refused),
        408 | 425 | 429 => Checked::Failed(answer::unavailable(answer)),
        503 if !answer.is_reset_behind_proxy() => Checked::Failed(answer::unavailable(answer)),
        _ => Checked::Unknown,
    }
}
