//! `whatsapp-cloud`: a code of otpd in an authentication template of Meta's WhatsApp Cloud API.
//!
//! Format: developers.facebook.com/docs/whatsapp, "Authentication templates" (the code stands in the body and in the
//! button), "Messages" and "Error codes".

use serde::{Deserialize, Serialize};

use super::{
    adapter::{Adapter, Alarm, answer, by_locale::ByLocale, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Delivered, Delivery, Failure, RequestError},
    secret::Secret,
    settings::Section,
};

/// The longest code that an authentication template takes, in characters.
const MAX_CODE: usize = 15;

/// A number of a WhatsApp business account.
#[derive(Clone)]
pub(super) struct WhatsAppCloud {
    base_url: BaseUrl,
    version: String,
    phone_number_id: String,
    access_token: Secret<String>,
    templates: ByLocale<String>,
    languages: ByLocale<String>,
}

/// Reads the account, and the templates that were approved for it.
pub(super) fn read(section: &mut Section<'_>) -> Option<WhatsAppCloud> {
    let base_url = BaseUrl::read(section, Some("https://graph.facebook.com"));
    let graph = section.text("version", version).unwrap_or_else(|| "v23.0".to_owned());
    let phone_number_id = settings::required(section, "phone_number_id", "the id of the sending number", digits);
    let access_token = settings::secret(section, "access_token", "a token of a system user");
    let template = settings::required(section, "template", "the name of the authentication template", word);
    let language = section.text("language", word).unwrap_or_else(|| "en_US".to_owned());
    let languages = ByLocale::read(section, "languages", language, word);
    let templates = ByLocale::read(section, "templates", template.clone().unwrap_or_default(), word);
    Some(WhatsAppCloud {
        base_url: base_url?,
        version: graph,
        phone_number_id: phone_number_id?,
        access_token: access_token?,
        templates: template.map(|_| templates)?,
        languages,
    })
}

/// A version of the Graph API.
fn version(text: &str) -> Result<String, String> {
    let number = text.strip_prefix('v').and_then(|rest| rest.split_once('.'));
    let fits = number.is_some_and(|(major, minor)| digits(major).is_ok() && digits(minor).is_ok());
    if fits { Ok(text.to_owned()) } else { Err("must be a version of the Graph API such as v23.0".to_owned()) }
}

fn digits(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(text.to_owned()) } else { Err("must be digits".to_owned()) }
}

fn word(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits { Ok(text.to_owned()) } else { Err("must be letters, digits and underscores".to_owned()) }
}

#[derive(Serialize)]
struct Send<'a> {
    messaging_product: &'a str,
    recipient_type: &'a str,
    to: &'a str,
    r#type: &'a str,
    template: Template<'a>,
}

#[derive(Serialize)]
struct Template<'a> {
    name: &'a str,
    language: Language<'a>,
    components: [Component<'a>; 2],
}

#[derive(Serialize)]
struct Language<'a> {
    code: &'a str,
}

#[derive(Serialize)]
struct Component<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    parameters: [Parameter<'a>; 1],
}

#[derive(Serialize, Clone, Copy)]
struct Parameter<'a> {
    r#type: &'a str,
    text: &'a str,
}

#[derive(Deserialize)]
struct Accepted {
    messages: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
    /// What Meta does with the message, where it says so.
    #[serde(default, deserialize_with = "answer::lenient")]
    message_status: String,
}

#[derive(Deserialize)]
struct Refusal {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(deserialize_with = "answer::code")]
    code: i64,
}

/// The alarm of an error code that waiting cannot mend. A caller's locale chooses among several templates and languages, and its
/// destination the country (130497): these stop no other caller.
fn refusal(code: i64, has_one_template: bool) -> Option<Alarm> {
    match code {
        0 | 190 => Some(Alarm::Credentials("access token")),
        3 | 10 | 200..=299 | 131_005 => Some(Alarm::Account("permission")),
        368 | 131_031 => Some(Alarm::Account("account blocked or restricted")),
        130_497 => Some(Alarm::Request("account restricted in a country")),
        131_042 | 131_045 | 133_010 | 133_016 => Some(Alarm::Account("payment or registration")),
        132_001 | 132_007 | 132_015 | 132_016 if has_one_template => Some(Alarm::Account("template")),
        132_000 | 132_001 | 132_005 | 132_007 | 132_008 | 132_012 | 132_015 | 132_016 => {
            Some(Alarm::Request("template"))
        }
        _ => None,
    }
}

/// What an error code says. A code that is not here is judged by its status: refusals of the request come as 4xx; trouble
/// at Meta (1, 2, 131000, 131016) comes as 5xx, and then the message may have been sent.
fn by_code(code: i64, answer: &Inbound) -> Delivered {
    match code {
        // Undeliverable: the person is not on WhatsApp, has not accepted its terms, or has too old a version.
        131_026 => Delivered::Rejected,
        // Limits of the app, the account and the throughput; too much suspected spam; too many messages to this person; the
        // business account is in maintenance.
        4 | 80_007 | 130_429 | 131_048 | 131_056 | 131_057 => Delivered::Failed(answer::unavailable(answer)),
        // The sender is the destination, or the destination is not among the numbers that a test account may write to. The
        // message was refused, and the destination may still be good for another provider.
        131_021 | 131_030 => Delivered::Failed(Failure::Refused),
        _ if refusal(code, false).is_some() => Delivered::Failed(Failure::Refused),
        _ => delivered_by_status(answer),
    }
}

fn code_of(answer: &Inbound) -> Option<i64> {
    answer.json().filter(|_| !answer.is_success()).map(|Refusal { error }| error.code)
}

impl Adapter for WhatsAppCloud {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(vec![Channel::WhatsApp])
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let code = context::message(delivery)?.code.expose();
        if code.chars().count() > MAX_CODE {
            return Err(RequestError::InvalidParameter("code"));
        }
        let parameters = [Parameter { r#type: "text", text: code }];
        let body = Send {
            messaging_product: "whatsapp",
            recipient_type: "individual",
            to: context::phone(&delivery.context)?,
            r#type: "template",
            template: Template {
                name: self.templates.of(&delivery.context.locale),
                language: Language { code: self.languages.of(&delivery.context.locale) },
                components: [
                    Component { r#type: "body", sub_type: None, index: None, parameters },
                    Component { r#type: "button", sub_type: Some("url"), index: Some("0"), parameters },
                ],
            },
        };
        let url = self.base_url.join(&format!("/{}/{}/messages", self.version, self.phone_number_id));
        Ok(Outbound::post(url).bearer(&self.access_token).json(&body))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        // No page documents an error inside a success, so it proves nothing.
        let refusal = answer.json().filter(|_| !answer.is_success());
        if let Some(Refusal { error }) = refusal {
            return by_code(error.code, answer);
        }
        let accepted: Option<Accepted> = answer.json().filter(|_| answer.status == 200);
        match accepted.and_then(|it| it.messages.into_iter().next()) {
            // `held_for_quality_assessment` is sent or dropped later; what is not documented may be either, too.
            Some(Id { message_status, .. }) if !matches!(message_status.as_str(), "" | "accepted") => {
                Delivered::Unknown
            }
            Some(Id { id, .. }) if !id.is_empty() => answer::accepted(&id),
            _ => delivered_by_status(answer),
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        let has_one_template = self.templates.is_uniform() && self.languages.is_uniform();
        code_of(answer).and_then(|code| refusal(code, has_one_template))
    }

    fn concerns_one(&self, answer: &Inbound) -> bool {
        // Too many messages from this sender to one person.
        code_of(answer) == Some(131_056)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "phone_number_id = \"1\"\naccess_token = \"t\"\ntemplate = \"otp\"\nlanguage = \"en_US\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("version = \"23\"", "version: must be a version"),
                ("version = \"v23.0/x\"", "version: must be a version"),
                ("phone_number_id = \"a/b\"", "phone_number_id: must be digits"),
                ("phone_number_id", "phone_number_id: required"),
                ("access_token = \"a b\"", "access_token: must be visible"),
                ("template", "template: required"),
                ("language = \"en-US\"", "language: must be letters"),
                ("languages = { de = \"de-DE\" }", "languages.de: must be letters"),
                ("templates = { de = \"\" }", "templates.de: must be letters"),
            ],
        );
    }
}
