//! What a provider over HTTP is made of: pure functions from messages to requests, and from answers to decisions.
//!
//! An adapter does no I/O, reads no clock and keeps no state; [`super::http`] does all of that for every adapter alike.

pub(super) mod answer;
pub(super) mod occasion;
pub(super) mod settings;

use std::time::Duration;

use super::http::{Inbound, Outbound};
use crate::domain::destination::Channel;
use crate::ports::provider::{Check, Checked, Codes, Delivered, Delivery, Unfit};

/// What an adapter can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Who makes and checks the codes.
    pub codes: Codes,
    /// The channels that it delivers on.
    pub channels: Vec<Channel>,
    /// Whether the provider knows destinations itself.
    pub contact_on_file: bool,
    /// How long the provider's own codes are valid, where its documentation says so.
    pub code_life: Option<Duration>,
}

/// One provider's wire format.
pub trait Adapter: Send + Sync {
    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The request that delivers.
    ///
    /// # Errors
    /// The caller has not given what the provider needs, or the provider has no such call.
    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, Unfit>;

    /// What the answer to it means. Judges the body, not only the status: some providers report failure inside a 200.
    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered;

    /// The request that checks what the person typed.
    ///
    /// # Errors
    /// As [`Adapter::deliver`]. The default is for providers that deliver codes of ours.
    fn check(&self, _check: &Check) -> Result<Outbound, Unfit> {
        Err(Unfit::Unsupported("check"))
    }

    /// What the answer to it means. What is not certain is [`Checked::Unknown`].
    fn checked(&self, _check: &Check, _answer: &Inbound) -> Checked {
        Checked::Unknown
    }

    /// What of an answer the operator must mend, as a fixed word for the log: that our credentials, address or requests are
    /// refused, where the status alone does not say so.
    fn alarm(&self, _answer: &Inbound) -> Option<&'static str> {
        None
    }

    /// What `check-config` should tell the operator about this provider, one line each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What an HTTP status alone says of a delivery, where the provider's documentation says nothing else.
///
/// Another provider is tried only on a proof that nothing was sent: a request that was refused before it was worked on. A
/// 500, 502 or 504 proves nothing, and neither does a success whose body is not understood.
pub fn delivered_by_status(answer: &Inbound) -> Delivered {
    match answer.status {
        429 | 503 => answer::refused_for_now(answer),
        // See Other: it was worked on, and elsewhere stands what came of it (RFC 9110, 15.4.4).
        303 => Delivered::Unknown,
        300..=499 => Delivered::Failed { retry_after: None },
        _ => Delivered::Unknown,
    }
}
