//! Twilio Verify v2: makes, delivers and checks its own codes.
//!
//! Formats: <https://www.twilio.com/docs/verify/api/verification>, <https://www.twilio.com/docs/verify/api/verification-check>
//! and Twilio's OpenAPI description `twilio_verify_v2`; codes of errors: <https://www.twilio.com/docs/api/errors>.

use std::time::Duration;

use serde::Deserialize;

use super::{
    adapter::{Adapter, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
    twilio::sid,
};
use crate::{
    domain::{
        challenge::Decline,
        destination::{Channel, Destination},
        purpose::Purpose,
    },
    ports::provider::{
        Capabilities, ChallengeContext, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError,
    },
    secret::Secret,
    settings::{Section, values},
};

/// <https://www.twilio.com/docs/verify/supported-languages>. For any other, Twilio answers 404 and sends nothing.
const LANGUAGES: [&str; 43] = [
    "en", "en-GB", "af", "ar", "ca", "cs", "da", "de", "el", "es", "et", "fi", "fr", "he", "hi", "hr", "hu", "id",
    "it", "ja", "kn", "ko", "lt", "ms", "mr", "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sk", "sv", "te", "th",
    "tl", "tr", "uk", "vi", "zh", "zh-CN", "zh-HK",
];

/// One Verify service.
#[derive(Clone)]
pub(super) struct TwilioVerify {
    base_url: BaseUrl,
    account_sid: String,
    auth_token: Secret<String>,
    service_sid: String,
    code_length: u8,
    code_life: Duration,
    purposes: Vec<Purpose>,
}

/// Reads the settings.
pub(super) fn read(section: &mut Section<'_>) -> Option<TwilioVerify> {
    let base_url = BaseUrl::read(section, Some("https://verify.twilio.com"));
    let account_sid =
        settings::required(section, "account_sid", "the account's SID, or that of an API key", settings::word);
    let auth_token = settings::secret(section, "auth_token", "the token or secret that goes with it");
    let service_sid = settings::required(section, "service_sid", "the SID of the Verify service, VA…", sid("VA"));
    let code_length = section.integer("code_length", 6..=10).unwrap_or(6);
    let code_life = section.text("code_life", values::span(Duration::from_secs(120)..=Duration::from_secs(86_400)));
    // A service either binds codes to a transaction, and then refuses everything else, or does not (60206).
    let purposes = match section.boolean("psd2") {
        None => Purpose::ALL.to_vec(),
        Some(true) => vec![Purpose::Transaction],
        Some(false) => vec![Purpose::Login, Purpose::Registration],
    };
    Some(TwilioVerify {
        base_url: base_url?,
        account_sid: account_sid?,
        auth_token: auth_token?,
        service_sid: service_sid?,
        code_length,
        code_life: code_life.unwrap_or(Duration::from_secs(600)),
        purposes,
    })
}

/// A verification, or the answer to a check of one.
#[derive(Deserialize)]
struct Verification {
    sid: String,
    status: String,
    valid: Option<bool>,
}

/// What an error's body says.
#[derive(Deserialize)]
struct Problem {
    #[serde(deserialize_with = "answer::code")]
    code: u32,
    #[serde(default)]
    message: String,
}

impl Problem {
    /// Too many requests: of the account, by a limit of the service, or for one phone at the same time.
    fn is_busy(&self) -> bool {
        matches!(self.code, 20_429 | 60_207 | 60_212)
    }

    /// Whether a limit is that of one verification (60202, 60203), of one key of a service's rate limit (60207), such as a number
    /// or an address, or of one phone (60212).
    fn concerns_one(&self) -> bool {
        matches!(self.code, 60_202 | 60_203 | 60_207 | 60_212)
    }

    /// The name in `Invalid parameter: NAME`, with or without quotes.
    fn parameter(&self) -> Option<&str> {
        let rest = self.message.strip_prefix("Invalid parameter")?;
        rest.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty())
    }
}

impl TwilioVerify {
    fn post(&self, resource: &str, pairs: &[(&str, &str)]) -> Outbound {
        let url = self.base_url.join(&format!("/v2/Services/{}/{resource}", self.service_sid));
        Outbound::post(url).basic(&self.account_sid, &self.auth_token).form(pairs)
    }
}

fn to(context: &ChallengeContext) -> Result<&str, RequestError> {
    match context.channel {
        Channel::Email => context::mailbox(context),
        _ => context::phone(context),
    }
}

impl Adapter for TwilioVerify {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        // An approved verification is deleted, so a second check answers 404.
        let abilities = Capabilities::manages(Channel::ALL.to_vec(), false);
        Capabilities { purposes: self.purposes.clone(), code_life: Some(self.code_life), ..abilities }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let context = &delivery.context;
        let channel = match context.channel {
            Channel::Sms => "sms",
            Channel::Voice => "call",
            Channel::WhatsApp => "whatsapp",
            Channel::Email => "email",
        };
        let mut pairs = vec![("To", to(context)?), ("Channel", channel)];
        // Mails have no languages.
        let language = context::language(&LANGUAGES, &context.locale).filter(|_| context.channel != Channel::Email);
        pairs.extend(language.map(|language| ("Locale", language)));
        let amount = context.transaction.as_ref().map(context::amount);
        if let (Some(amount), Some(transaction)) = (&amount, &context.transaction) {
            pairs.extend([("Amount", amount.as_str()), ("Payee", transaction.payee.as_str())]);
        }
        if !context.client.ip_address.is_empty() {
            pairs.push(("DeviceIp", &context.client.ip_address));
        }
        Ok(self.post("Verifications", &pairs))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.is_success() {
            let started = answer.json::<Verification>();
            let started = started.filter(|it| it.status == "pending" && answer::is_reference(&it.sid));
            return started.map_or(Delivered::Unknown, |it| {
                let code_length = Some(self.code_length);
                let code_life = Some(self.code_life);
                Delivered::Accepted(Receipt { reference: it.sid, code_life, code_length, ..Receipt::default() })
            });
        }
        let problem = answer.json::<Problem>().filter(|_| (400..=499).contains(&answer.status));
        match problem.as_ref().map(|problem| (problem.code, problem.parameter())) {
            // Not an existing number; a landline; the parameter `To` is invalid.
            Some((60_006 | 60_205, _) | (60_200, Some("To"))) => Delivered::Rejected,
            Some((60_200, Some("Payee"))) => Delivered::Invalid(RequestError::InvalidParameter("transaction.payee")),
            Some((60_200, Some("Amount"))) => Delivered::Invalid(RequestError::InvalidParameter("transaction.amount")),
            // Five sends without a successful check.
            Some((60_203, _)) => Delivered::Declined(Decline::SendLimitExceeded),
            // Blocked by review, by Fraud Guard, by device intelligence, by geo permissions.
            Some((60_238 | 60_410 | 60_413 | 60_605, _)) => Delivered::Declined(Decline::Risk),
            _ if problem.as_ref().is_some_and(Problem::is_busy) => Delivered::Failed(answer::unavailable(answer)),
            _ => delivered_by_status(answer),
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        let context = &check.context;
        let mut pairs = vec![("Code", check.otp.expose().as_str())];
        // An unconfirmed send has no SID; the destination names the verification just as well.
        pairs.push(match &context.destination {
            _ if answer::is_reference(&check.reference) => ("VerificationSid", check.reference.as_str()),
            Destination::OnFile => return Err(RequestError::Unsupported("check")),
            _ => ("To", to(context)?),
        });
        let amount = context.transaction.as_ref().map(context::amount);
        if let (Some(amount), Some(transaction)) = (&amount, &context.transaction) {
            pairs.extend([("Amount", amount.as_str()), ("Payee", transaction.payee.as_str())]);
        }
        Ok(self.post("VerificationCheck", &pairs))
    }

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        if !answer.is_success() {
            return match (answer.status, answer.json::<Problem>()) {
                (404, Some(_)) => Checked::Gone,
                (400..=499, Some(Problem { code: 60_202, .. })) => Checked::AttemptsExceeded,
                // No code of this service is as short or as long as what was typed.
                (400, Some(problem)) if problem.code == 60_200 && problem.parameter() == Some("Code") => {
                    Checked::NotMatched { left: None }
                }
                // Another parameter is invalid, the service does not check, or wants a transaction or none: nothing was compared.
                (400, Some(Problem { code: 60_200, message })) if message.starts_with("Invalid parameter") => {
                    Checked::Failed(Failure::Refused)
                }
                (400..=499, Some(Problem { code: 60_204 | 60_206, .. })) => Checked::Failed(Failure::Refused),
                (400..=499, Some(problem)) if problem.is_busy() => Checked::Failed(answer::unavailable(answer)),
                _ => checked_by_status(answer),
            };
        }
        let Some(checked) = answer.json::<Verification>() else { return Checked::Unknown };
        if !check.reference.is_empty() && checked.sid != check.reference {
            return Checked::Unknown;
        }
        match (checked.status.as_str(), checked.valid) {
            ("approved", Some(true)) => {
                Checked::Matched(Evidence { verification_id: answer::evidence(checked.sid), ..Evidence::default() })
            }
            ("pending", Some(false)) => Checked::NotMatched { left: None },
            ("max_attempts_reached", Some(false) | None) => Checked::AttemptsExceeded,
            ("canceled" | "deleted" | "expired" | "failed", Some(false) | None) => Checked::Gone,
            _ => Checked::Unknown,
        }
    }

    fn concerns_one(&self, answer: &Inbound) -> bool {
        answer.json::<Problem>().is_some_and(|problem| problem.concerns_one())
    }
}
