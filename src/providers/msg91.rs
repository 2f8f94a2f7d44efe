//! MSG91 SendOTP v5: makes, delivers and checks its own codes, one for each phone number.
//!
//! Formats: MSG91's client packages on npm (`msg91-api`, `@msg91comm/otp`) and <https://world.msg91.com/apidoc/otp/otp.php>.
//! Some failures come with status 200. Their causes are texts, known from public clients of MSG91; in some, underscores
//! stand for spaces.

use std::time::Duration;

use serde::Deserialize;

use super::{
    adapter::{Adapter, Alarm, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{challenge::Decline, destination::Channel, purpose::Purpose},
    ports::provider::{Capabilities, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError},
    secret::Secret,
    settings::Section,
};

/// A day, the longest that MSG91 keeps a code, in minutes.
const LONGEST: u64 = 1440;

/// One account and template.
#[derive(Clone)]
pub(super) struct Msg91 {
    base_url: BaseUrl,
    authkey: Secret<String>,
    template_id: String,
    otp_length: u8,
    otp_expiry: Duration,
    voice_retry: bool,
    transactions: bool,
}

/// Reads the settings.
pub(super) fn read(section: &mut Section<'_>) -> Option<Msg91> {
    let base_url = BaseUrl::read(section, Some("https://control.msg91.com"));
    let authkey = settings::secret(section, "authkey", "the account's authkey");
    let template_id = settings::required(section, "template_id", "the template of the messages", settings::word);
    let otp_length = section.integer("otp_length", 6..=9).unwrap_or(6);
    let otp_expiry = section.text("otp_expiry", |text| settings::minutes(text, LONGEST));
    let voice_retry = section.boolean("voice_retry").unwrap_or(false);
    let transactions = section.boolean("transactions").unwrap_or(false);
    Some(Msg91 {
        base_url: base_url?,
        authkey: authkey?,
        template_id: template_id?,
        otp_length,
        otp_expiry: otp_expiry.unwrap_or(Duration::from_secs(300)),
        voice_retry,
        transactions,
    })
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: String,
    request_id: Option<String>,
}

impl Answer {
    fn text(&self) -> String {
        self.message.to_ascii_lowercase().replace('_', " ")
    }

    /// Whether MSG91 refuses the authkey, or the address of this machine.
    fn refuses_credentials(&self) -> bool {
        let text = self.text();
        ["authentication failure", "authenticationfailure", "unauthorized", "invalid authkey", "invalid auth key"]
            .iter()
            .any(|words| text.starts_with(words))
            || text.contains("whitelisted")
    }
}

impl Msg91 {
    /// Refuses a transaction unless the operator allows them, because the code is not bound to it.
    fn admits(&self, delivery: &Delivery) -> Result<(), RequestError> {
        let refused = delivery.context.transaction.is_some() && !self.transactions;
        if refused { Err(RequestError::Unsupported("transaction")) } else { Ok(()) }
    }
}

impl Adapter for Msg91 {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        let mut channels = vec![Channel::Sms];
        channels.extend(self.voice_retry.then_some(Channel::Voice));
        let mut purposes = vec![Purpose::Login, Purpose::Registration];
        purposes.extend(self.transactions.then_some(Purpose::Transaction));
        // A code that was verified is answered with "already verified".
        Capabilities { purposes, code_life: Some(self.otp_expiry), ..Capabilities::manages(channels, false) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        self.admits(delivery)?;
        let context = &delivery.context;
        let mobile = context::phone_digits(context)?;
        match context.channel {
            Channel::Sms => {
                let length = self.otp_length.to_string();
                let expiry = (self.otp_expiry.as_secs() / 60).to_string();
                let mut query = vec![("template_id", self.template_id.as_str()), ("mobile", mobile)];
                query.extend([("otp_length", length.as_str()), ("otp_expiry", expiry.as_str())]);
                if !context.client.ip_address.is_empty() {
                    query.push(("userip", &context.client.ip_address));
                }
                // The body holds the variables of the template.
                let variables = context::placeholders(context);
                let request = Outbound::post(self.base_url.join("/api/v5/otp")).query(&query);
                Ok(request.header("authkey", self.authkey.expose()).json(&variables))
            }
            // A voice call can only repeat the code of the text before.
            Channel::Voice if self.voice_retry => {
                let request = Outbound::get(self.base_url.join("/api/v5/otp/retry"));
                let request = request.query(&[("mobile", mobile), ("retrytype", "voice")]);
                Ok(request.header("authkey", self.authkey.expose()))
            }
            _ => Err(RequestError::Unsupported("channel")),
        }
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        let known = answer.is_success() || (400..=499).contains(&answer.status);
        let Some(said) = answer.json::<Answer>().filter(|_| known && answer.status != 429) else {
            return delivered_by_status(answer);
        };
        match said.kind.as_str() {
            "success" if answer.is_success() => {
                // Checks name the number; the id is for the operator's questions to MSG91.
                let reference = said.request_id.filter(|id| answer::is_reference(id)).unwrap_or_default();
                let (code_life, code_length) = (Some(self.otp_expiry), Some(self.otp_length));
                Delivered::Accepted(Receipt { reference, code_life, code_length, ..Receipt::default() })
            }
            "error" => match said.text().as_str() {
                "please enter atleast one number to send sms."
                | "mobile no. empty or not numeric"
                | "mobile number empty or not numeric"
                | "invalid mobile number" => Delivered::Rejected,
                "otp retry count maxed out" => Delivered::Declined(Decline::SendLimitExceeded),
                _ if said.refuses_credentials() => Delivered::Failed(Failure::Refused),
                "template id missing or invalid template" | "no otp request found to retryotp" => {
                    Delivered::Failed(Failure::Refused)
                }
                _ => Delivered::Failed(answer::unavailable(answer)),
            },
            _ => delivered_by_status(answer),
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        let mobile = context::phone_digits(&check.context)?;
        let request = Outbound::get(self.base_url.join("/api/v5/otp/verify"));
        let request = request.query(&[("otp", check.otp.expose()), ("mobile", mobile)]);
        Ok(request.header("authkey", self.authkey.expose()))
    }

    fn checked(&self, _check: &Check, answer: &Inbound) -> Checked {
        let known = answer.is_success() || matches!(answer.status, 400 | 404);
        let Some(said) = answer.json::<Answer>().filter(|_| known) else { return checked_by_status(answer) };
        match (said.kind.as_str(), said.text().as_str()) {
            ("success", "otp verified success" | "otp verified" | "number verified successfully")
                if answer.is_success() =>
            {
                Checked::Matched(Evidence::default())
            }
            ("error", "otp not match" | "otp not verified") => Checked::NotMatched { left: None },
            ("error", "otp expired" | "mobile no. not found") => Checked::Gone,
            ("error", "max limit reached for this otp verification") => Checked::AttemptsExceeded,
            ("error", "mobile no. already verified" | "otp already verified" | "already verified") => {
                Checked::AlreadyUsed
            }
            ("error", _) if said.refuses_credentials() => Checked::Failed(Failure::Refused),
            _ => Checked::Unknown,
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        let said = answer.json::<Answer>().filter(|said| said.kind == "error")?;
        let template = said.text() == "template id missing or invalid template";
        if said.refuses_credentials() {
            Some(Alarm::Credentials("authkey or address"))
        } else {
            template.then_some(Alarm::Account("template"))
        }
    }

    fn notes(&self) -> Vec<String> {
        let shared = "one phone number has one code at MSG91, so a code is not bound to its transaction";
        self.transactions.then(|| shared.to_owned()).into_iter().collect()
    }
}
