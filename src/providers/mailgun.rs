//! `mailgun`: mails a code of otpd with Mailgun's messages API v3.
//!
//! Format: documentation.mailgun.com, "Messages" (`POST /v3/{domain}/messages`) and "Rate limits". The message of a 400
//! for a bad address is what the API answers in practice; no error codes are documented.

use serde::Deserialize;

use super::{
    adapter::{Adapter, answer, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
    mail::Envelope,
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Delivered, Delivery, RequestError},
    secret::Secret,
    settings::Section,
};

/// How the message of a 400 begins where the destination is not an address. The name of the parameter may be in quotes.
const BAD_ADDRESS: &str = "to parameter is not a valid address";

/// A domain at Mailgun.
#[derive(Clone)]
pub(super) struct Mailgun {
    base_url: BaseUrl,
    domain: String,
    api_key: Secret<String>,
    envelope: Envelope,
}

/// Reads the domain.
pub(super) fn read(section: &mut Section<'_>) -> Option<Mailgun> {
    let base_url = BaseUrl::read(section, Some("https://api.mailgun.net"));
    let name = settings::required(section, "domain", "the domain that is set up at Mailgun", domain);
    let api_key = settings::secret(section, "api_key", "a sending key of the domain, or an API key");
    let envelope = Envelope::read(section);
    Some(Mailgun { base_url: base_url?, domain: name?, api_key: api_key?, envelope: envelope? })
}

/// A domain, which stands in the path without escapes.
fn domain(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let fits = letters && (1..=253).contains(&text.len()) && text.split('.').all(|label| !label.is_empty());
    if fits { Ok(text.to_owned()) } else { Err("must be a domain such as mail.example.com".to_owned()) }
}

#[derive(Deserialize)]
struct Accepted {
    /// The message's id, as in its header: `<…@domain>`.
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Refusal {
    fn is_about_the_destination(&self) -> bool {
        self.message.replace(['\'', '"'], "").to_ascii_lowercase().starts_with(BAD_ADDRESS)
    }
}

impl Adapter for Mailgun {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(vec![Channel::Email])
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let (from, to) = (self.envelope.sender(), context::mailbox(&delivery.context)?);
        let form = [
            ("from", from.as_str()),
            ("to", to),
            ("subject", self.envelope.subject(&delivery.context.locale)),
            ("text", context::message(delivery)?.text.expose()),
            // Tracking rewrites links and adds an image; a mail with a code needs neither.
            ("o:tracking", "no"),
        ];
        let url = self.base_url.join(&format!("/v3/{}/messages", self.domain));
        Ok(Outbound::post(url).basic("api", &self.api_key).form(&form))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        match answer.status {
            200 => match answer.json() {
                Some(Accepted { id }) if !id.is_empty() => answer::accepted(&id),
                _ => Delivered::Unknown,
            },
            400 if answer.json().is_some_and(|refusal: Refusal| refusal.is_about_the_destination()) => {
                Delivered::Rejected
            }
            429 => Delivered::Failed(answer::unavailable_until_reset(answer, delivery.context.now)),
            _ => delivered_by_status(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "domain = \"mail.acme.example\"\napi_key = \"k\"\nfrom = \"otp@acme.example\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("domain", "domain: required"),
                ("domain = \"a/b\"", "domain: must be a domain"),
                ("domain = \"..\"", "domain: must be a domain"),
                ("api_key", "api_key: required"),
                ("from", "from: required"),
            ],
        );
    }
}
