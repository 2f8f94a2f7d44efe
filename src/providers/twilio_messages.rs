//! `twilio-messages`: a code of otpd as an SMS or a WhatsApp message with Twilio's Messages resource, 2010-04-01.
//!
//! Format: twilio.com/docs, "Messages resource"; codes: "Error and warning dictionary"; on WhatsApp, "Content API,
//! whatsapp/authentication". There is no idempotency key. The answer repeats the message with its code.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{
    adapter::{Adapter, Alarm, answer, by_locale::ByLocale, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
    twilio::sid,
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, ChallengeContext, Delivered, Delivery, Failure, Message, RequestError},
    secret::Secret,
    settings::Section,
};

/// The longest text that one message takes, in characters.
const MAX_TEXT: usize = 1600;

/// How long a message may wait to be sent, in seconds: what `ValidityPeriod` takes.
const VALIDITY: RangeInclusive<u64> = 1..=36_000;

/// The longest code that an authentication template of WhatsApp takes, in characters.
const MAX_CODE: usize = 15;

/// An account at Twilio.
#[derive(Clone)]
pub(super) struct TwilioMessages {
    base_url: BaseUrl,
    channels: Vec<Channel>,
    account_sid: String,
    user: String,
    password: Secret<String>,
    sender: Sender,
    content_sids: Option<ByLocale<String>>,
}

/// Who a message comes from.
#[derive(Clone)]
enum Sender {
    From(String),
    Service(String),
}

/// Reads the account.
pub(super) fn read(section: &mut Section<'_>) -> Option<TwilioMessages> {
    let base_url = BaseUrl::read(section, Some("https://api.twilio.com"));
    let channels = settings::channels(section, &[Channel::Sms, Channel::WhatsApp]);
    let account_sid = settings::required(section, "account_sid", "the account, AC and 32 digits", sid("AC"));
    let api_key_sid = section.optional_text("api_key_sid", sid("SK"));
    let password = settings::secret(section, "auth_token", "the account's token, or the secret of api_key_sid");
    let from = section.optional_text("from", sender);
    let service = section.optional_text("messaging_service_sid", sid("MG"));
    let content_sid = section.optional_text("whatsapp_content_sid", sid("HX"));
    let content_sids = content_sids(section, content_sid);
    let whatsapp = channels.contains(&Channel::WhatsApp);
    if whatsapp && from.as_ref().is_some_and(|from| !from.starts_with('+')) {
        section.cross_field_error("from", "must be a number in E.164 where channels has whatsapp");
    }
    if content_sids.is_some() && !whatsapp && !settings::is_wrong(section, "channels") {
        section.cross_field_error("whatsapp_content_sid", "goes with whatsapp in channels");
    }
    let sender = match (from, service) {
        (Some(from), None) => Some(Sender::From(from)),
        (None, Some(service)) => Some(Sender::Service(service)),
        (Some(_), Some(_)) | (None, None) => {
            if !settings::is_wrong(section, "messaging_service_sid") {
                section.missing("from", "this or messaging_service_sid, and not both");
            }
            None
        }
    };
    let account_sid = account_sid?;
    let user = api_key_sid.unwrap_or_else(|| account_sid.clone());
    let (base_url, password, sender) = (base_url?, password?, sender?);
    Some(TwilioMessages { base_url, channels, account_sid, user, password, sender, content_sids })
}

/// The templates of WhatsApp by the language of the reader, with one for all others.
fn content_sids(section: &mut Section<'_>, otherwise: Option<String>) -> Option<ByLocale<String>> {
    const TABLE: &str = "whatsapp_content_sids";
    let templates = ByLocale::read(section, TABLE, otherwise.clone().unwrap_or_default(), sid("HX"));
    if otherwise.is_none() && !templates.is_uniform() && !settings::is_wrong(section, "whatsapp_content_sid") {
        section.missing("whatsapp_content_sid", "the template for readers of other languages");
    }
    otherwise.map(|_| templates)
}

/// A number in E.164, a short code, or a name of at most 11 characters with a letter among them.
fn sender(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()) && (3..=15).contains(&digits.len());
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b'+' | b'-' | b'_' | b'&');
    let name = (1..=11).contains(&text.len())
        && text.bytes().all(letter)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if number || name {
        Ok(text.to_owned())
    } else {
        Err("must be a number in E.164, a short code, or a name of at most 11 letters".to_owned())
    }
}

/// A message as Twilio has it.
#[derive(Deserialize)]
struct Accepted {
    sid: String,
    status: String,
    #[serde(default, deserialize_with = "answer::optional_code")]
    error_code: Option<u32>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(deserialize_with = "answer::code")]
    code: u32,
}

/// The variables of an authentication template: it has one, the code.
#[derive(Serialize)]
struct Variables<'a> {
    #[serde(rename = "1")]
    code: &'a str,
}

/// Whether a code says that the destination does not exist or takes no messages.
///
/// 21211 is no number; 21217 does not look like one; 21265 a short code; 21610 has unsubscribed; 21614 is no mobile, 21635
/// a landline. 30003 to 30006 are unreachable, blocked, unknown, and a landline or a carrier that cannot be reached. 63003
/// and 63024 are the same on WhatsApp.
fn is_bad_destination(code: u32) -> bool {
    matches!(code, 21_211 | 21_217 | 21_265 | 21_610 | 21_614 | 21_635 | 30_003..=30_006 | 63_003 | 63_024)
}

/// Whether a message is sent, or about to be. `canceled`, `partially_delivered`, the statuses of incoming messages, and one that
/// is not documented leave it open.
fn is_on_its_way(status: &str) -> bool {
    matches!(status, "accepted" | "scheduled" | "queued" | "sending" | "sent" | "delivered" | "read")
}

impl TwilioMessages {
    /// The fields of the content: the text, or on WhatsApp the template that was approved for codes.
    fn content<'a>(
        &'a self,
        context: &ChallengeContext,
        message: &'a Message,
    ) -> Result<Vec<(&'a str, Secret<String>)>, RequestError> {
        let templates = self.content_sids.as_ref().filter(|_| context.channel == Channel::WhatsApp);
        let Some(content_sid) = templates.map(|templates| templates.of(&context.locale)) else {
            let fits = message.text.expose().chars().count() <= MAX_TEXT;
            return if fits {
                Ok(vec![("Body", message.text.clone())])
            } else {
                Err(RequestError::InvalidParameter("text"))
            };
        };
        let code = message.code.expose();
        if code.chars().count() > MAX_CODE {
            return Err(RequestError::InvalidParameter("code"));
        }
        // One text in a map: that cannot fail.
        let variables = serde_json::to_string(&Variables { code }).unwrap_or_default();
        Ok(vec![("ContentSid", Secret::new(content_sid.clone())), ("ContentVariables", Secret::new(variables))])
    }
}

impl Adapter for TwilioMessages {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(self.channels.clone())
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let whatsapp = delivery.context.channel == Channel::WhatsApp;
        let scheme = if whatsapp { "whatsapp:" } else { "" };
        let to = format!("{scheme}{}", context::phone(&delivery.context)?);
        let (sender, from) = match &self.sender {
            Sender::From(from) => ("From", format!("{scheme}{from}")),
            Sender::Service(service) => ("MessagingServiceSid", service.clone()),
        };
        let content = self.content(&delivery.context, context::message(delivery)?)?;
        // A message that waits for longer than its code lives is of no use any more.
        let validity = delivery.code_life.as_secs().clamp(*VALIDITY.start(), *VALIDITY.end()).to_string();
        let mut form = vec![("To", to.as_str()), (sender, from.as_str()), ("ValidityPeriod", validity.as_str())];
        form.extend(content.iter().map(|(name, value)| (*name, value.expose().as_str())));
        let url = self.base_url.join(&format!("/2010-04-01/Accounts/{}/Messages.json", self.account_sid));
        Ok(Outbound::post(url).basic(&self.user, &self.password).form(&form))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status == 201 {
            return match answer.json() {
                Some(Accepted { status, error_code, .. }) if matches!(status.as_str(), "failed" | "undelivered") => {
                    // "failed" was never sent; "undelivered" was given to a carrier.
                    match error_code {
                        Some(code) if is_bad_destination(code) => Delivered::Rejected,
                        // 30002 is a suspended account, 30007 a text that was filtered.
                        Some(30_002 | 30_007) if status == "failed" => Delivered::Failed(Failure::Refused),
                        _ if status == "failed" => Delivered::Failed(answer::unavailable(answer)),
                        _ => Delivered::Unknown,
                    }
                }
                Some(Accepted { sid, status, .. }) if !sid.is_empty() && is_on_its_way(&status) => {
                    answer::accepted(&sid)
                }
                _ => Delivered::Unknown,
            };
        }
        let refusal: Option<Refusal> = answer.json().filter(|_| (400..500).contains(&answer.status));
        match refusal {
            Some(Refusal { code }) if is_bad_destination(code) => Delivered::Rejected,
            // Too many requests, or too many messages waiting for this sender.
            Some(Refusal { code: 20_429 | 21_611 }) => Delivered::Failed(answer::unavailable(answer)),
            _ => delivered_by_status(answer),
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        let suspended = Some(Alarm::Account("account suspended or not active"));
        match answer.status {
            201 => {
                let failed = answer.json().filter(|accepted: &Accepted| accepted.status == "failed");
                suspended.filter(|_| failed.is_some_and(|accepted| accepted.error_code == Some(30_002)))
            }
            _ => suspended.filter(|_| answer.json().is_some_and(|Refusal { code }| code == 20_005)),
        }
    }

    fn notes(&self) -> Vec<String> {
        let template = self.content_sids.is_some() || !self.channels.contains(&Channel::WhatsApp);
        let note = "WhatsApp takes free text only within a day of the person's own last message; \
                    set whatsapp_content_sid to a template";
        (!template).then(|| note.to_owned()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "account_sid = \"AC0123456789abcdef0123456789abcdef\"\nauth_token = \"t\"\nfrom = \"+15005550006\"\nchannels = [\"sms\", \"whatsapp\"]\nwhatsapp_content_sid = \"HX0123456789abcdef0123456789abcdef\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("account_sid = \"AC1\"", "account_sid: must be AC and 32"),
                ("api_key_sid = \"AC0123456789abcdef0123456789abcdef\"", "api_key_sid: must be SK and 32"),
                ("auth_token = \"\"", "auth_token: must be visible"),
                ("auth_token", "auth_token: required"),
                ("from", "from: required: this or messaging_service_sid"),
                ("from = \"+1 500\"", "from: must be a number in E.164"),
                ("from = \"Acme\"", "from: must be a number in E.164 where channels has whatsapp"),
                (
                    "messaging_service_sid = \"MG0123456789abcdef0123456789abcdef\"",
                    "from: required: this or messaging_service_sid, and not both",
                ),
                ("channels = [\"voice\"]", "channels: item 1: must be sms or whatsapp"),
                ("channels = [\"sms\"]", "whatsapp_content_sid: goes with whatsapp"),
                ("whatsapp_content_sids = { de = \"HX1\" }", "whatsapp_content_sids.de: must be HX and 32"),
                ("base_url = \"ftp://x\"", "base_url: must be a URL"),
            ],
        );
    }
}
