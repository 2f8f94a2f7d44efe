//! `aws-ses`: mails a code of otpd with Amazon SES.
//!
//! Format: the service model sesv2/2019-09-27, `SendEmail`. Inferred: how the text of a BadRequestException says that the
//! destination is no address.

use serde::Serialize;

use super::{
    adapter::{Adapter, Alarm, answer, context, delivered_by_status},
    aws::{self, Account, Fault},
    aws_sns,
    http::{Authority, BaseUrl, Inbound, Outbound},
    mail::Envelope,
    mail_html::HtmlPart,
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Delivered, Delivery, Failure, RequestError},
    settings::Section,
};

/// What the text of a refusal says of a destination that is no address.
const BAD_ADDRESS: [&str; 6] = [
    "illegal address",
    "invalid domain",
    "domain contains",
    "domain ends with dot",
    "missing final '@domain'",
    "local address contains",
];

/// An account that may send mail.
#[derive(Clone)]
pub(super) struct AwsSes {
    account: Account,
    envelope: Envelope,
    html: Option<HtmlPart>,
    configuration_set: Option<String>,
}

/// Reads the account and what mails have in common.
pub(super) fn read(section: &mut Section<'_>) -> Option<AwsSes> {
    let account = Account::read(section, "ses", "email");
    let envelope = Envelope::read(section);
    let html = HtmlPart::read(section);
    let configuration_set = section.optional_text("configuration_set", aws::printable(64));
    Some(AwsSes { account: account?, envelope: envelope?, html, configuration_set })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mail<'a> {
    from_email_address: String,
    destination: Destination<'a>,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_set_name: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Destination<'a> {
    to_addresses: [&'a str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    simple: Simple<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Simple<'a> {
    subject: Part<'a>,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    text: Part<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Part<'a> {
    data: &'a str,
    charset: &'static str,
}

fn part(data: &str) -> Part<'_> {
    Part { data, charset: "UTF-8" }
}

impl Adapter for AwsSes {
    fn base_url(&self) -> &BaseUrl {
        &self.account.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(vec![Channel::Email])
    }

    fn authority(&self) -> Option<Box<dyn Authority>> {
        Some(self.account.authority())
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let message = context::message(delivery)?;
        let html = self.html.as_ref().map(|page| page.fill(message));
        let mail = Mail {
            from_email_address: self.envelope.encoded_sender(),
            destination: Destination { to_addresses: [context::mailbox(&delivery.context)?] },
            content: Content {
                simple: Simple {
                    subject: part(self.envelope.subject(&delivery.context.locale)),
                    body: Body {
                        text: part(message.text.expose()),
                        html: html.as_ref().map(|page| part(page.expose())),
                    },
                },
            },
            configuration_set_name: self.configuration_set.as_deref(),
        };
        Ok(Outbound::post(self.account.base_url.join("/v2/email/outbound-emails")).json(&mail))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status == 200 {
            return aws::field(answer, "MessageId").map_or(Delivered::Unknown, |id| answer::accepted(&id));
        }
        let fault = Fault::of(answer);
        let bad_address = BAD_ADDRESS.iter().any(|words| fault.text.contains(words));
        match fault.name.as_str() {
            "BadRequest" | "MessageRejected" | "InvalidParameterValue" if bad_address => Delivered::Rejected,
            _ if fault.is_throttling() => Delivered::Failed(answer::unavailable(answer)),
            _ if fault.is_about_credentials() || fault.is_about_time() => Delivered::Failed(Failure::Refused),
            _ => delivered_by_status(answer),
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        aws_sns::alarm(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "region = \"eu-central-1\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"\n\
                         from = \"otp@acme.example\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("region", "region: required"),
                ("from", "from: required"),
                ("html = \"<p>\"", "html: must be HTML"),
                ("configuration_set = \"\\u00e9\"", "configuration_set: must be 1 to"),
            ],
        );
    }
}
