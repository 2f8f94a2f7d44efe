//! Vonage Verify v2: makes, delivers and checks its own codes. Authorised with key and secret; not with JWT.
//!
//! Formats: <https://developer.vonage.com/en/api/verify.v2>; errors: <https://developer.vonage.com/en/api-errors/verify-v2>.

use std::time::Duration;

use http::Method;
use serde::{Deserialize, Serialize};

use super::{
    adapter::{Adapter, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::destination::Channel,
    ports::provider::{
        Capabilities, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError, Running,
    },
    secret::Secret,
    settings::{Section, values},
};

/// <https://developer.vonage.com/en/verify/guides/verify-v2-languages>: those with a text of Vonage's own, and the languages of
/// <https://developer.vonage.com/en/verify/guides/verify-languages>, to which the API's description referred before.
const LOCALES: [&str; 40] = [
    "ar-xa", "cs-cz", "cy-cy", "cy-gb", "da-dk", "de-de", "el-gr", "en-gb", "en-au", "en-in", "en-us", "es-es",
    "es-mx", "es-us", "fi-fi", "fil-ph", "fr-ca", "fr-fr", "hi-in", "hu-hu", "id-id", "is-is", "it-it", "ja-jp",
    "ko-kr", "nb-no", "nl-nl", "pl-pl", "pt-br", "pt-pt", "ro-ro", "ru-ru", "sv-se", "th-th", "tr-tr", "vi-vn",
    "yue-cn", "zh-cn", "zh-hk", "zh-tw",
];

/// The shortest time that a step of a workflow may take.
const SHORTEST: Duration = Duration::from_secs(15);

/// What a running verification is remembered for beyond its step: for the way of its answer, and the clocks of two replicas.
const MARGIN: Duration = Duration::from_secs(2);

/// One account and brand.
#[derive(Clone)]
pub(super) struct VonageVerify {
    base_url: BaseUrl,
    api_key: String,
    api_secret: Secret<String>,
    brand: String,
    code_length: u8,
    channel_timeout: Duration,
    sms_from: Option<String>,
    whatsapp_from: Option<String>,
    email_from: Option<String>,
}

/// Reads the settings.
pub(super) fn read(section: &mut Section<'_>) -> Option<VonageVerify> {
    let base_url = BaseUrl::read(section, Some("https://api.nexmo.com"));
    let api_key = settings::required(section, "api_key", "the account's API key", settings::word);
    let api_secret = settings::secret(section, "api_secret", "the account's API secret");
    let brand = settings::required(section, "brand", "the name that messages show", brand);
    let code_length = section.integer("code_length", 6..=10).unwrap_or(6);
    let channel_timeout = section.text("channel_timeout", values::span(SHORTEST..=Duration::from_secs(900)));
    let sms_from = section.optional_text("sms_from", settings::word);
    let whatsapp_from = section.optional_text("whatsapp_from", settings::word);
    let email_from = section.optional_text("email_from", settings::word);
    Some(VonageVerify {
        base_url: base_url?,
        api_key: api_key?,
        api_secret: api_secret?,
        brand: brand?,
        code_length,
        channel_timeout: channel_timeout.unwrap_or(Duration::from_secs(180)),
        sms_from,
        whatsapp_from,
        email_from,
    })
}

fn brand(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 15 characters".to_owned()) }
}

#[derive(Serialize)]
struct Start<'a> {
    brand: &'a str,
    workflow: [Step<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    locale: Option<&'a str>,
    channel_timeout: u64,
    code_length: u8,
}

#[derive(Serialize)]
struct Step<'a> {
    channel: &'a str,
    to: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
}

#[derive(Deserialize)]
struct Started {
    request_id: String,
}

#[derive(Serialize)]
struct Typed<'a> {
    code: &'a str,
}

#[derive(Deserialize)]
struct Completed {
    request_id: String,
    status: String,
}

/// An error (RFC 7807).
#[derive(Deserialize)]
struct Problem {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    invalid_parameters: Vec<Parameter>,
    /// The verification that is in the way of another start.
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Parameter {
    #[serde(default)]
    name: String,
}

impl Problem {
    /// The part of its type after the `#`.
    fn name(&self) -> &str {
        self.kind.rsplit_once('#').map_or("", |(_, name)| name)
    }

    /// Whether such a field is at fault: of a step, as in `workflow[0].to`, or of the request.
    fn blames(&self, field: &str) -> bool {
        self.invalid_parameters.iter().any(|it| it.name.rsplit(['.', '/']).next() == Some(field))
    }
}

impl VonageVerify {
    /// How long the only step takes. The code expires at its end.
    fn step(&self, delivery: &Delivery) -> Duration {
        let span = self.channel_timeout.min(delivery.code_life).max(SHORTEST);
        Duration::from_secs(span.as_secs())
    }

    /// The verification of this account that an answer says is in the way of this start.
    fn in_the_way<'a>(delivery: &'a Delivery, answer: &Inbound) -> Option<&'a Running> {
        let problem = answer.json::<Problem>().filter(|_| answer.status == 409)?;
        let request_id = problem.request_id.filter(|id| answer::is_reference(id))?;
        delivery.running.iter().find(|running| running.reference == request_id)
    }

    /// How long another start is refused: what is left of a step that is known, or else a whole step.
    fn wait(&self, delivery: &Delivery, answer: &Inbound) -> Duration {
        let known = Self::in_the_way(delivery, answer).map(|running| running.until.since(delivery.context.now));
        answer.retry_after().or(known).unwrap_or(self.channel_timeout).clamp(MARGIN, self.channel_timeout)
    }
}

impl Adapter for VonageVerify {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        let mut channels = vec![Channel::Sms, Channel::Voice, Channel::Email];
        channels.extend(self.whatsapp_from.is_some().then_some(Channel::WhatsApp));
        // A completed request is not found by a second check.
        Capabilities { code_life: Some(self.channel_timeout), ..Capabilities::manages(channels, false) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let context = &delivery.context;
        let step = match context.channel {
            Channel::Sms => {
                Step { channel: "sms", to: context::phone_digits(context)?, from: self.sms_from.as_deref() }
            }
            Channel::Voice => Step { channel: "voice", to: context::phone_digits(context)?, from: None },
            Channel::WhatsApp => {
                Step { channel: "whatsapp", to: context::phone_digits(context)?, from: self.whatsapp_from.as_deref() }
            }
            Channel::Email => {
                Step { channel: "email", to: context::mailbox(context)?, from: self.email_from.as_deref() }
            }
        };
        let start = Start {
            brand: &self.brand,
            workflow: [step],
            locale: context::language(&LOCALES, &context.locale),
            channel_timeout: self.step(delivery).as_secs(),
            code_length: self.code_length,
        };
        let url = self.base_url.join("/v2/verify/");
        Ok(Outbound::post(url).basic(&self.api_key, &self.api_secret).json(&start))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        match (answer.status, answer.json::<Problem>()) {
            (202, _) => {
                let started = answer.json::<Started>().filter(|it| answer::is_reference(&it.request_id));
                started.map_or(Delivered::Unknown, |it| {
                    let step = self.step(delivery);
                    Delivered::Accepted(Receipt {
                        reference: it.request_id,
                        code_life: Some(step),
                        code_length: Some(self.code_length),
                        running_for: Some(step + MARGIN),
                        ..Receipt::default()
                    })
                })
            }
            (400 | 422, Some(problem)) if problem.blames("to") => Delivered::Rejected,
            // Another verification of the destination runs, which is not this account's, or could not be cancelled.
            (409, _) => {
                let retry_after = Some(self.wait(delivery, answer));
                Delivered::Failed(Failure::Unavailable { retry_after })
            }
            _ => delivered_by_status(answer),
        }
    }

    /// Vonage runs one verification for each destination. One of the same account is cancelled, because a resend, or a challenge
    /// that was opened anew, makes its code void; another's must not be, or anybody who knows a number could void its codes.
    fn clearing(&self, delivery: &Delivery, answer: &Inbound) -> Option<Outbound> {
        let running = Self::in_the_way(delivery, answer)?;
        let url = self.base_url.join(&format!("/v2/verify/{}", running.reference));
        Some(Outbound::new(Method::DELETE, url).basic(&self.api_key, &self.api_secret))
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        // Only the answer to the start names the request.
        let request_id = context::sent_reference(check)?;
        let url = self.base_url.join(&format!("/v2/verify/{request_id}"));
        Ok(Outbound::post(url).basic(&self.api_key, &self.api_secret).json(&Typed { code: check.otp.expose() }))
    }

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        if answer.status == 200 {
            let completed = answer.json::<Completed>().filter(|it| {
                it.request_id == check.reference && matches!(it.status.as_str(), "completed" | "complete")
            });
            return completed.map_or(Checked::Unknown, |_| Checked::Matched(Evidence::default()));
        }
        let problem = answer.json::<Problem>();
        match (answer.status, problem.as_ref().map(Problem::name)) {
            (400, Some("invalid-code")) => Checked::NotMatched { left: None },
            // No code of Vonage's looks like what was typed.
            (400 | 422, _) if problem.as_ref().is_some_and(|it| it.blames("code")) => {
                Checked::NotMatched { left: None }
            }
            (404, Some("not-found")) => Checked::Gone,
            // "An incorrect code has been provided too many times. Workflow terminated."
            (410, Some("expired")) => Checked::AttemptsExceeded,
            // "The current Verify workflow step does not support a code": it has compared none.
            (409, Some(name)) if !name.is_empty() => Checked::Failed(answer::unavailable(answer)),
            _ => checked_by_status(answer),
        }
    }
}
