//! Infobip 2FA: makes, delivers and checks its own PINs, as an application and a message template set up there say.
//!
//! Formats: <https://www.infobip.com/docs/api/platform/2fa> and Infobip's client libraries; the values of `pinError` and of
//! `ncStatus` are known from public clients only.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    adapter::{Adapter, Alarm, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError},
    secret::Secret,
    settings::{Section, values},
};

/// One application and its templates.
#[derive(Clone)]
pub(super) struct Infobip2fa {
    base_url: BaseUrl,
    api_key: Secret<String>,
    application_id: String,
    message_id: String,
    email_message_id: Option<String>,
    from: Option<String>,
    code_length: u8,
    code_life: Duration,
}

/// Reads the settings.
pub(super) fn read(section: &mut Section<'_>) -> Option<Infobip2fa> {
    let base_url = BaseUrl::read(section, None);
    let api_key = settings::secret(section, "api_key", "an API key that may use 2FA");
    let application_id = settings::required(section, "application_id", "the 2FA application", settings::word);
    let message_id = settings::required(section, "message_id", "the application's message template", settings::word);
    let email_message_id = section.optional_text("email_message_id", settings::word);
    let from = section.optional_text("from", settings::word);
    let code_length = section.integer("code_length", 6..=16).unwrap_or(6);
    let code_life = section.text("code_life", values::span(Duration::from_secs(30)..=Duration::from_secs(86_400)));
    Some(Infobip2fa {
        base_url: base_url?,
        api_key: api_key?,
        application_id: application_id?,
        message_id: message_id?,
        email_message_id,
        from,
        code_length,
        code_life: code_life.unwrap_or(Duration::from_secs(300)),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Send<'a> {
    application_id: &'a str,
    message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    to: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    placeholders: BTreeMap<&'static str, String>,
}

/// The answer to a send. It has one of the three states, depending on the channel.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    pin_id: Option<String>,
    nc_status: Option<String>,
    sms_status: Option<String>,
    call_status: Option<String>,
    email_status: Option<EmailStatus>,
}

#[derive(Deserialize)]
struct EmailStatus {
    name: String,
}

#[derive(Serialize)]
struct Typed<'a> {
    pin: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Verdict {
    pin_id: Option<String>,
    verified: bool,
    pin_error: Option<String>,
    #[serde(default, deserialize_with = "answer::lenient")]
    attempts_remaining: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Problem {
    request_error: Exception,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Exception {
    service_exception: ServiceException,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceException {
    #[serde(default)]
    validation_errors: serde_json::Value,
}

impl Infobip2fa {
    fn post(&self, path: &str) -> Outbound {
        let authorization = Secret::new(format!("App {}", self.api_key.expose()));
        Outbound::post(self.base_url.join(path)).header("authorization", authorization.expose())
    }
}

/// The fields that an error blames.
fn blamed(answer: &Inbound) -> Option<serde_json::Value> {
    answer.json::<Problem>().map(|it| it.request_error.service_exception.validation_errors)
}

impl Adapter for Infobip2fa {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        let mut channels = vec![Channel::Sms, Channel::Voice];
        channels.extend(self.email_message_id.is_some().then_some(Channel::Email));
        // Whether a PIN verifies twice is a setting of the application (allowMultiplePinVerifications) that no answer shows, and
        // each check uses up one of its attempts.
        Capabilities { code_life: Some(self.code_life), ..Capabilities::manages(channels, false) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let context = &delivery.context;
        let (path, message_id, to) = match (context.channel, &self.email_message_id) {
            (Channel::Sms, _) => ("/2fa/2/pin", &self.message_id, context::phone_digits(context)?),
            (Channel::Voice, _) => ("/2fa/2/pin/voice", &self.message_id, context::phone_digits(context)?),
            (Channel::Email, Some(template)) => ("/2fa/2/pin/email", template, context::mailbox(context)?),
            _ => return Err(RequestError::Unsupported("channel")),
        };
        let placeholders = context::placeholders(context);
        // The sender of texts and calls; the sender of a mail is in its template.
        let from = self.from.as_deref().filter(|_| context.channel != Channel::Email);
        let send = Send { application_id: &self.application_id, message_id, from, to, placeholders };
        Ok(self.post(path).json(&send))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status == 400 {
            let destination = blamed(answer).is_some_and(|errors| errors.get("to").is_some());
            return if destination { Delivered::Rejected } else { delivered_by_status(answer) };
        }
        if answer.status != 200 {
            return delivered_by_status(answer);
        }
        let Some(sent) = answer.json::<Sent>() else { return Delivered::Unknown };
        let email_status = sent.email_status.map(|status| status.name);
        let state = sent.sms_status.or(sent.call_status).or(email_status).unwrap_or_default();
        if state == "MESSAGE_NOT_SENT" || state.starts_with("REJECTED_") {
            let unreachable = ["NC_DESTINATION_UNKNOWN", "NC_DESTINATION_NOT_REACHABLE"];
            return match state.as_str() {
                _ if sent.nc_status.is_some_and(|status| unreachable.contains(&status.as_str())) => Delivered::Rejected,
                // No reason is given, or there were too many messages: a later one may be sent.
                "MESSAGE_NOT_SENT" | "REJECTED_FLOODING_FILTER" => Delivered::Failed(answer::unavailable(answer)),
                _ => Delivered::Failed(Failure::Refused),
            };
        }
        let accepted = state == "MESSAGE_SENT" || state.starts_with("PENDING_");
        let reference = sent.pin_id.filter(|pin_id| accepted && answer::is_reference(pin_id));
        reference.map_or(Delivered::Unknown, |reference| {
            let (code_life, code_length) = (Some(self.code_life), Some(self.code_length));
            Delivered::Accepted(Receipt { reference, code_life, code_length, ..Receipt::default() })
        })
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        // Only the answer to the send names the PIN.
        let pin_id = context::sent_reference(check)?;
        Ok(self.post(&format!("/2fa/2/pin/{pin_id}/verify")).json(&Typed { pin: check.otp.expose() }))
    }

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        if answer.status == 404 && answer.json::<Problem>().is_some() {
            return Checked::Gone;
        }
        if answer.status == 400 {
            // No PIN of the application looks like what was typed.
            let blames_pin = blamed(answer).is_some_and(|errors| errors.get("pin").is_some());
            return if blames_pin { Checked::NotMatched { left: None } } else { Checked::Unknown };
        }
        if answer.status != 200 {
            return checked_by_status(answer);
        }
        let verdict = answer.json::<Verdict>();
        // An answer about another PIN decides nothing.
        let Some(verdict) = verdict.filter(|it| it.pin_id.as_ref().is_none_or(|pin_id| *pin_id == check.reference))
        else {
            return Checked::Unknown;
        };
        match (verdict.verified, verdict.pin_error.as_deref().unwrap_or_default()) {
            (true, "" | "NO_ERROR") => Checked::Matched(Evidence::default()),
            // Not verified and no other reason: the PIN was wrong. The reason may be left out.
            (false, "WRONG_PIN" | "") => Checked::NotMatched { left: verdict.attempts_remaining.parse().ok() },
            (false, "TTL_EXPIRED") => Checked::Gone,
            (false, "NO_MORE_PIN_ATTEMPTS") => Checked::AttemptsExceeded,
            _ => Checked::Unknown,
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        // The API key may not do this.
        (answer.status == 403).then_some(Alarm::Account("not allowed"))
    }

    fn concerns_one(&self, answer: &Inbound) -> bool {
        // Limits are those of one PIN (verifyPinLimit) and of one number (sendPinPerPhoneNumberLimit). That of the application has
        // the same answer.
        answer.status == 429
    }
}
