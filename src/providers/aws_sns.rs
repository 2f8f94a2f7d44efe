//! `aws-sns`: texts a code of otpd with Amazon SNS.
//!
//! Format: the service model sns/2010-03-31, `Publish`, and the developer guide, "Sending SMS messages" (attributes) and "Common
//! errors". SNS reports failed deliveries later, in CloudWatch.

use http::Method;

use super::{
    adapter::{Adapter, Alarm, answer, context, delivered_by_status, settings},
    aws::{self, Account, Fault},
    http::{Authority, BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::destination::Channel,
    ports::provider::{Capabilities, Delivered, Delivery, Failure, RequestError},
    settings::{Section, values},
};

/// An account that may publish text messages.
#[derive(Clone)]
pub(super) struct AwsSns {
    account: Account,
    /// Names and values of message attributes.
    attributes: Vec<(&'static str, String)>,
}

/// Reads the account and what messages have in common.
pub(super) fn read(section: &mut Section<'_>) -> Option<AwsSns> {
    let account = Account::read(section, "sns", "sns");
    let types = [("Transactional", "Transactional"), ("Promotional", "Promotional")];
    let sms_type = section.text("sms_type", values::word(&types)).unwrap_or("Transactional");
    let entity_id = section.optional_text("entity_id", aws::printable(50));
    let template_id = section.optional_text("template_id", aws::printable(50));
    if entity_id.is_some() != template_id.is_some() && !settings::is_wrong(section, "entity_id") {
        section.cross_field_error("template_id", "goes with entity_id: India requires both");
    }
    let optional = [
        ("AWS.SNS.SMS.SenderID", section.optional_text("sender_id", sender_id)),
        ("AWS.MM.SMS.OriginationNumber", section.optional_text("origination_number", origination_number)),
        ("AWS.SNS.SMS.MaxPrice", section.optional_text("max_price", max_price)),
        ("AWS.MM.SMS.EntityId", entity_id),
        ("AWS.MM.SMS.TemplateId", template_id),
    ];
    let mut attributes = vec![("AWS.SNS.SMS.SMSType", sms_type.to_owned())];
    attributes.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
    Some(AwsSns { account: account?, attributes })
}

/// 1 to 11 letters and digits, at least one of them a letter.
fn sender_id(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let fits = (1..=11).contains(&text.len()) && letters && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 11 letters, digits and hyphens, with a letter".to_owned())
    }
}

/// 5 to 14 digits, with or without a plus.
fn origination_number(text: &str) -> Result<String, String> {
    let fits = context::is_digits(text.strip_prefix('+').unwrap_or(text), 5..=14);
    if fits { Ok(text.to_owned()) } else { Err("must be 5 to 14 digits".to_owned()) }
}

/// A price in US dollars.
fn max_price(text: &str) -> Result<String, String> {
    let (whole, cents) = text.split_once('.').unwrap_or((text, "0"));
    let fits = context::is_digits(whole, 1..=4) && context::is_digits(cents, 1..=5);
    if fits { Ok(text.to_owned()) } else { Err("must be a price in USD, such as \"0.50\"".to_owned()) }
}

impl Adapter for AwsSns {
    fn base_url(&self) -> &BaseUrl {
        &self.account.base_url
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::delivers(vec![Channel::Sms])
    }

    fn authority(&self) -> Option<Box<dyn Authority>> {
        Some(self.account.authority())
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let mut form = vec![
            ("Action".to_owned(), "Publish"),
            ("Version".to_owned(), "2010-03-31"),
            ("PhoneNumber".to_owned(), context::phone(&delivery.context)?),
            ("Message".to_owned(), context::message(delivery)?.text.expose().as_str()),
        ];
        for (i, (name, value)) in self.attributes.iter().enumerate() {
            let entry = format!("MessageAttributes.entry.{}", i + 1);
            form.push((format!("{entry}.Name"), name));
            form.push((format!("{entry}.Value.DataType"), "String"));
            form.push((format!("{entry}.Value.StringValue"), value));
        }
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        Ok(Outbound::new(Method::POST, self.account.base_url.join("/")).form(&form))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status == 200 {
            return aws::field(answer, "MessageId").map_or(Delivered::Unknown, |id| answer::accepted(&id));
        }
        let fault = Fault::of(answer);
        let about_number = ["phonenumber", "phone number", "opted out"].iter().any(|words| fault.text.contains(words));
        match fault.name.as_str() {
            "InvalidParameter"
            | "InvalidParameterValue"
            | "ParameterValueInvalid"
            | "Validation"
            | "ValidationError"
            | "OptedOut"
                if about_number =>
            {
                Delivered::Rejected
            }
            _ if fault.is_throttling() => Delivered::Failed(answer::unavailable(answer)),
            _ if fault.is_about_credentials() || fault.is_about_time() => Delivered::Failed(Failure::Refused),
            _ => delivered_by_status(answer),
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        alarm(answer)
    }
}

/// What the operator must mend according to an answer of AWS.
pub(super) fn alarm(answer: &Inbound) -> Option<Alarm> {
    if answer.is_success() {
        return None;
    }
    let fault = Fault::of(answer);
    match fault.name.as_str() {
        _ if fault.is_about_time() => Some(Alarm::Credentials("the clock of otpd is not that of AWS")),
        _ if fault.is_about_credentials() => {
            Some(Alarm::Credentials("the access key is not known, or its signature is wrong"))
        }
        "AccessDenied" | "AuthorizationError" | "NotAuthorized" | "OptInRequired" => {
            Some(Alarm::Account("the account or role may not do this"))
        }
        "AccountSuspended" | "SendingPaused" => Some(Alarm::Account("sending is suspended or paused")),
        "MailFromDomainNotVerified" => Some(Alarm::Account("the sender is not verified")),
        name if name.starts_with("KMS") && !fault.is_throttling() => {
            Some(Alarm::Account("a key of KMS cannot be used"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "region = \"eu-central-1\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("region", "region: required"),
                ("region = \"a.b\"", "region: must be a region"),
                ("secret_access_key", "secret_access_key: goes with access_key_id"),
                ("access_key_id", "secret_access_key: goes with access_key_id"),
                ("role_arn = \"arn:aws:iam::1:role/r\"", "web_identity_token_file: goes with role_arn"),
                ("role_session_name = \"a b\"", "role_session_name: must be 2 to 64"),
                ("sender_id = \"12345\"", "sender_id: must be 1 to 11"),
                ("sender_id = \"ACME Ltd\"", "sender_id: must be 1 to 11"),
                ("origination_number = \"12a45\"", "origination_number: must be 5 to 14 digits"),
                ("sms_type = \"Both\"", "sms_type: must be Transactional or Promotional"),
                ("max_price = \"1,5\"", "max_price: must be a price"),
                ("entity_id = \"1\"", "template_id: goes with entity_id"),
            ],
        );
    }

    #[test]
    fn without_credentials_the_account_is_of_no_use() {
        wrong_settings("region = \"eu-central-1\"\naccess_key_id = \"A\"\nsecret_access_key = \"s\"", read, &[]);
        let wrong = settings::adapter_of("region = \"eu-central-1\"", read).map(drop).unwrap_err().to_string();
        assert!(wrong.starts_with("access_key_id: required: credentials"), "{wrong}");
    }
}
