//! `sendgrid`: mails a code of otpd with Twilio SendGrid's Web API v3.
//!
//! Format: docs.sendgrid.com, "Mail Send" and its "Errors"; 202 with an empty body is a mail that was accepted, 200 is the
//! answer of their sandbox, which sends nothing. The mail's id in `X-Message-Id` is seen in practice but not specified, so its
//! absence is no failure.

use serde::{Deserialize, Serialize};

use super::{
    adapter::{Adapter, Alarm, answer, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
    mail::Envelope,
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Delivered, Delivery, RequestError},
    secret::Secret,
    settings::Section,
};

/// An account at SendGrid.
#[derive(Clone)]
pub(super) struct SendGrid {
    base_url: BaseUrl,
    api_key: Secret<String>,
    envelope: Envelope,
}

/// Reads the account.
pub(super) fn read(section: &mut Section<'_>) -> Option<SendGrid> {
    let base_url = BaseUrl::read(section, Some("https://api.sendgrid.com"));
    let api_key = settings::secret(section, "api_key", "an API key that may send mail");
    let envelope = Envelope::read(section);
    Some(SendGrid { base_url: base_url?, api_key: api_key?, envelope: envelope? })
}

#[derive(Serialize)]
struct Mail<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Address<'a>,
    subject: &'a str,
    content: [Content<'a>; 1],
    tracking_settings: Tracking,
}

#[derive(Serialize)]
struct Personalization<'a> {
    to: [Address<'a>; 1],
}

#[derive(Serialize)]
struct Address<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
}

#[derive(Serialize)]
struct Content<'a> {
    r#type: &'a str,
    value: &'a str,
}

/// Tracking rewrites links and adds an image; a mail with a code needs neither.
#[derive(Serialize, Default)]
struct Tracking {
    click_tracking: ClickTracking,
    open_tracking: OpenTracking,
}

#[derive(Serialize, Default)]
struct ClickTracking {
    enable: bool,
    enable_text: bool,
}

#[derive(Serialize, Default)]
struct OpenTracking {
    enable: bool,
}

#[derive(Deserialize)]
struct Refusal {
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    /// Which field is wrong, such as `personalizations.0.to.0.email`.
    field: Option<String>,
}

impl Fault {
    fn is_about_the_destination(&self) -> bool {
        self.field.as_deref().is_some_and(|field| field.starts_with("personalizations.0.to.0"))
    }
}

impl Adapter for SendGrid {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(vec![Channel::Email])
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let to = Address { email: context::mailbox(&delivery.context)?, name: "" };
        let text = context::message(delivery)?.text.expose();
        let mail = Mail {
            personalizations: [Personalization { to: [to] }],
            from: Address { email: self.envelope.from.expose(), name: &self.envelope.from_name },
            subject: self.envelope.subject(&delivery.context.locale),
            content: [Content { r#type: "text/plain", value: text }],
            tracking_settings: Tracking::default(),
        };
        Ok(Outbound::post(self.base_url.join("/v3/mail/send")).bearer(&self.api_key).json(&mail))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        match answer.status {
            202 if answer.body.is_empty() => {
                let id = answer.headers.get("x-message-id").and_then(|value| value.to_str().ok());
                answer::accepted(id.unwrap_or_default())
            }
            400 if answer
                .json()
                .is_some_and(|refusal: Refusal| refusal.errors.iter().any(Fault::is_about_the_destination)) =>
            {
                Delivered::Rejected
            }
            429 => Delivered::Failed(answer::unavailable_until_reset(answer, delivery.context.now)),
            _ => delivered_by_status(answer),
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        // The key may not send mail, or the sender is not verified: both are the same for every mail.
        (answer.status == 403).then_some(Alarm::Account("not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "api_key = \"k\"\nfrom = \"otp@acme.example\"\nfrom_name = \"Acme Ltd.\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("api_key", "api_key: required"),
                ("from", "from: required"),
                ("from = \"Acme <otp@acme.example>\"", "from: must be one e-mail address"),
                ("from_name = \"Acme \\\"x\\\"\"", "from_name: must be without quotes"),
                ("subject = \"\"", "subject: must be one line"),
                ("subject = \"a\\nb\"", "subject: must be one line"),
                ("subjects = { de = \"\" }", "subjects.de: must be one line"),
                ("subjects = { de_DE = \"Code\" }", "subjects.de_DE: must be named by a BCP 47 tag"),
            ],
        );
    }
}
