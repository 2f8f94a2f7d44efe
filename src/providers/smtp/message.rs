//! One mail: its envelope, and its headers and parts as they go over the wire.

use std::time::{Duration, SystemTime};

use lettre::{
    Address, Message,
    message::{Mailbox, MultiPart, SinglePart, header},
};

use super::{Style, domain_of};
use crate::{
    ports::provider::{Delivery, RequestError},
    providers::adapter::context,
    secret::Secret,
};

/// Says that no person wrote the mail, so that nobody answers it by machine (RFC 3834, 5).
const AUTO_SUBMITTED: &str = "Auto-Submitted";

/// A mail that can be sent.
pub(super) struct Mail {
    pub(super) from: Address,
    pub(super) to: Address,
    /// Its `Message-ID` without the brackets.
    pub(super) id: String,
    pub(super) content: Secret<Vec<u8>>,
}

impl Mail {
    /// The mail of a delivery. The same delivery makes the same `Message-ID`, so that who gets it twice can tell.
    pub(super) fn new(delivery: &Delivery, style: &Style) -> Result<Self, RequestError> {
        let wrong = RequestError::InvalidParameter("destination");
        let message = context::message(delivery)?;
        let from = address(style.envelope.from.expose()).ok_or(RequestError::Unsupported("from"))?;
        let to = address(context::mailbox(&delivery.context)?).ok_or(wrong)?;
        let name = Some(style.envelope.from_name.clone()).filter(|name| !name.is_empty());
        let local = context::derived_id(&delivery.context.tenant, &delivery.idempotency_key);
        let id = format!("{local}@{}", domain_of(&style.envelope));
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(delivery.context.now.as_millis());
        let builder = Message::builder()
            .from(Mailbox::new(name, from.clone()))
            .to(Mailbox::new(None, to.clone()))
            .subject(style.envelope.subject(&delivery.context.locale))
            .date(now)
            .message_id(Some(format!("<{id}>")))
            .raw_header(header::HeaderValue::new(
                header::HeaderName::new_from_ascii_str(AUTO_SUBMITTED),
                "auto-generated".to_owned(),
            ));
        let text = message.text.expose().clone();
        let built = match &style.html {
            Some(page) => {
                builder.multipart(MultiPart::alternative_plain_html(text, page.fill(message).expose().clone()))
            }
            None => builder.singlepart(SinglePart::plain(text)),
        };
        let content = Secret::new(built.map_err(|_| wrong)?.formatted());
        Ok(Self { from, to, id, content })
    }
}

/// An address as SMTP has it.
pub(super) fn address(mailbox: &str) -> Option<Address> {
    mailbox.parse().ok()
}
