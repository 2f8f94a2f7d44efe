//! `wibmo-rupay`: the issuer of a RuPay card makes, sends and checks the code, over Wibmo's seamless flow.
//!
//! Sources: developer.wibmo.com/reference, pages generate-otp-rupay-card-api, resend-otp-rupay-card-api (the same call) and
//! verify-otp-rupay-card-api. The spellings `currencCode` and `merchantRefernceNo` are theirs. Errors come inside an HTTP 200.
//!
//! Card data comes from the caller with each call and is never kept; the reference of a delivery is the provider's own
//! number.

mod wire;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    adapter::{Adapter, Alarm, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{
        challenge::Decline,
        destination::{Channel, Destination},
        purpose::Purpose,
        transaction::Amount,
    },
    ports::provider::{
        Capabilities, ChallengeContext, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError,
    },
    secret::Secret,
    settings::Section,
};
use wire::{Answer, Call, Code, Generate, Header, Verify};

const GENERATE_PATH: &str = "/authentication/api/v1/generateOtp";
const VERIFY_PATH: &str = "/authentication/api/v1/verifyOtp";

/// The version in the header of the body, as in all samples.
const VERSION: &str = "1.0.0.0";

/// The status of the sample; the page lists no others.
const CARD_HOLDER_STATUS: &str = "NW";

/// The rupee in ISO 4217 digits: the only currency of the pages, and RuPay's own.
const RUPEE: &str = "356";

/// The longest merchant reference that another page of the same provider allows.
const MAX_REFERENCE: usize = 20;

/// The parameters of a send, as the caller and Wibmo name them.
const PARAMETERS: [&str; 15] = [
    "pan",
    "expDate",
    "cvd2",
    "nameOnCard",
    "email",
    "merchantReferenceNo",
    "orderDesc",
    "mobileNumber",
    "cardHolderStatus",
    "http_accept",
    "browser_user_agent",
    "customerIpAddress",
    "amountInINR",
    "originalAmount",
    "tokenAuthenticationValue",
];

/// The amount of the challenge, which is not a parameter.
const AMOUNT: &str = "transaction.amount.amount_micros";

/// The longest that a code is valid, in minutes.
const MAX_VALIDITY: u64 = 30;

/// An instance of the payment gateway, and otpd's account there.
#[derive(Clone)]
pub(super) struct WibmoRupay {
    base_url: BaseUrl,
    generate_path: String,
    verify_path: String,
    instance: String,
    /// The HTTP header has a setting of its own, because in the samples it names another instance than the body.
    header_instance: String,
    merchant: String,
    api_key: Secret<String>,
}

/// Reads `base_url`, the two paths, `pg_instance_id`, `header_pg_instance_id`, `merchant_id` and `api_key`.
pub(super) fn read(section: &mut Section<'_>) -> Option<WibmoRupay> {
    let base_url = settings::closed_base_url(section, None, "card numbers");
    let generate_path = section.text("generate_path", settings::url_path).unwrap_or_else(|| GENERATE_PATH.to_owned());
    let verify_path = section.text("verify_path", settings::url_path).unwrap_or_else(|| VERIFY_PATH.to_owned());
    let instance = settings::required(section, "pg_instance_id", "the id of the gateway's instance", settings::word);
    let header_instance = section.optional_text("header_pg_instance_id", settings::word);
    let merchant = settings::required(section, "merchant_id", "the merchant's id there", settings::word);
    let api_key = settings::secret(section, "api_key", "the x-api-key");
    let instance = instance?;
    Some(WibmoRupay {
        base_url: base_url?,
        generate_path,
        verify_path,
        header_instance: header_instance.unwrap_or_else(|| instance.clone()),
        instance,
        merchant: merchant?,
        api_key: api_key?,
    })
}

impl WibmoRupay {
    fn call(&self, path: &str, body: impl serde::Serialize) -> Outbound {
        let header = Header { version: VERSION, instance: &self.instance, api_key: self.api_key.expose() };
        Outbound::post(self.base_url.join(path))
            .header("pgInstanceId", &self.header_instance)
            .json(&Call { header, body })
    }
}

impl Adapter for WibmoRupay {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        // A second check of one code may count as a second attempt. The issuer sends to the number that it has on file for the card.
        let abilities = Capabilities::manages(vec![Channel::Sms], false);
        let purposes = vec![Purpose::Transaction];
        Capabilities { contact_on_file: true, purposes, currencies: Some(&["INR"]), ..abilities }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let context = &delivery.context;
        let given = |name| context::parameter(&context.parameters, name);
        let transaction = context.transaction.as_ref().ok_or(RequestError::MissingParameter("transaction"))?;
        let amount = paise(&transaction.amount)?;
        let reference = merchant_reference(context);
        let body = Generate {
            instance: &self.instance,
            merchant: &self.merchant,
            card: card(context)?,
            email: given("email"),
            currency: RUPEE,
            amount: &amount,
            merchant_reference: &reference,
            order_description: given("orderDesc").unwrap_or(&transaction.payee),
            mobile_number: mobile(context),
            card_holder_status: given("cardHolderStatus").unwrap_or(CARD_HOLDER_STATUS),
            http_accept: given("http_accept"),
            browser_user_agent: context::said(&context.client.user_agent).or_else(|| given("browser_user_agent")),
            customer_ip_address: context::said(&context.client.ip_address).or_else(|| given("customerIpAddress")),
            ext1: given("ext1"),
            ext2: given("ext2"),
            amount_in_inr: given("amountInINR"),
            original_amount: given("originalAmount"),
            purpose_of_authentication: given("purposeOfAuthentication"),
            token_authentication_value: given("tokenAuthenticationValue"),
        };
        Ok(self.call(&self.generate_path, body))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if !answer.is_success() {
            return delivered_by_status(answer);
        }
        let Some(answer) = answer.json::<Answer>() else { return Delivered::Unknown };
        let blamed = answer.blamed(&PARAMETERS);
        match answer.code() {
            // Only with the transaction's number can the code be checked.
            Code::Success if (1..=200).contains(&answer.transaction.len()) => Delivered::Accepted(Receipt {
                code_life: code_life(&answer.validity),
                reference: answer.transaction,
                ..Receipt::default()
            }),
            // The card is the caller's, so where the message blames nothing by name, the card is likelier at fault than the settings.
            Code::Invalid => Delivered::Invalid(RequestError::InvalidParameter(blamed.unwrap_or("pan"))),
            Code::Amount => Delivered::Invalid(RequestError::InvalidParameter(AMOUNT)),
            // What is always needed is always sent, unless a setting is wrong.
            Code::Missing => blamed.map_or(Delivered::Failed(Failure::Refused), |name| {
                Delivered::Invalid(RequestError::MissingParameter(name))
            }),
            Code::Credentials => Delivered::Failed(Failure::Refused),
            // "User must initiate a new transaction."
            Code::Exhausted => Delivered::Declined(Decline::OptionExpired),
            // The card or its issuer does not allow the payment: a decision, not a failure.
            Code::Ineligible => Delivered::Declined(Decline::Risk),
            Code::Success | Code::WrongOtp | Code::Expired | Code::Other => Delivered::Unknown,
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        let transaction = match context::said(&check.reference) {
            Some(reference) => reference,
            // Where the answer to the send was lost, the caller may know the number from elsewhere.
            None => context::needed(&check.context.parameters, "pgTransactionId")?,
        };
        let body = Verify {
            instance: &self.instance,
            merchant: &self.merchant,
            merchant_reference: &merchant_reference(&check.context),
            otp: check.otp.expose(),
            transaction,
        };
        Ok(self.call(&self.verify_path, body))
    }

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        if !answer.is_success() {
            return checked_by_status(answer);
        }
        let Some(answer) = answer.json::<Answer>() else { return Checked::Unknown };
        match answer.code() {
            Code::Success if answer.is_authenticated() => {
                // The bank asks for it when the payment is authorised.
                Checked::Matched(Evidence { verification_id: answer::evidence(answer.context), ..Evidence::default() })
            }
            Code::WrongOtp => Checked::NotMatched { left: None },
            Code::Expired => Checked::Gone,
            Code::Exhausted => Checked::AttemptsExceeded,
            // Refused before the code was compared.
            Code::Credentials => Checked::Failed(Failure::Refused),
            // All parameters are looked at before the code is compared.
            Code::Missing | Code::Invalid | Code::Amount => invalid_parameter(check, &answer),
            Code::Success | Code::Ineligible | Code::Other => Checked::Unknown,
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        answer.json::<Answer>()?.alarm().map(Alarm::Credentials)
    }
}

/// What a check means one of whose parameters is invalid. The typed code is one of them: one that is no code of an issuer's has not
/// matched, or any number of such could be typed. Then come the references that the caller gave with this call.
fn invalid_parameter(check: &Check, answer: &Answer) -> Checked {
    let given = |name: &&'static str| context::parameter(&check.context.parameters, name).is_some();
    let transaction = Some("pgTransactionId").filter(|name| check.reference.is_empty() && given(name));
    let reference = Some("merchantReferenceNo").filter(given);
    if answer.blames("otp") || !context::is_digits(check.otp.expose(), 6..=6) {
        return Checked::NotMatched { left: None };
    }
    match transaction.or(reference) {
        Some(name) => Checked::Invalid(RequestError::InvalidParameter(name)),
        None => Checked::Failed(Failure::Refused),
    }
}

fn card(context: &ChallengeContext) -> Result<wire::Card<'_>, RequestError> {
    let shaped = |name, fits: fn(&str) -> bool| {
        let value = context::needed(&context.parameters, name)?;
        if fits(value) { Ok(value) } else { Err(RequestError::InvalidParameter(name)) }
    };
    Ok(wire::Card {
        // ISO/IEC 7812: at most 19 digits.
        pan: shaped("pan", |text| context::is_digits(text, 12..=19))?,
        expiry: shaped("expDate", is_month)?,
        cvd2: shaped("cvd2", |text| context::is_digits(text, 3..=4))?,
        name: shaped("nameOnCard", |text| text.chars().count() <= 100 && !text.chars().any(char::is_control))?,
    })
}

/// MMYYYY.
fn is_month(text: &str) -> bool {
    context::is_digits(text, 6..=6) && text.get(..2).is_some_and(|month| ("01"..="12").contains(&month))
}

/// The amount in hundredths without a point, as another page of the same provider says.
fn paise(amount: &Amount) -> Result<String, RequestError> {
    let fits = |paise: &String| context::is_digits(paise, 1..=12);
    context::indian_units(amount, 10_000)
        .and_then(|paise| Some(paise).filter(fits).ok_or(RequestError::InvalidParameter(AMOUNT)))
}

/// The merchant reference: the caller's parameter, or else the transaction's reference, or else a name derived from the
/// challenge. It is the same for all sends of a challenge, so that a new code voids the old one, and for its checks.
fn merchant_reference(context: &ChallengeContext) -> String {
    let reference = context.transaction.as_ref().and_then(|transaction| context::said(&transaction.reference));
    match context::parameter(&context.parameters, "merchantReferenceNo").or(reference) {
        Some(reference) => reference.to_owned(),
        None => context::derived_hex(&context.tenant, context.challenge.as_str(), MAX_REFERENCE),
    }
}

/// The ten digits of an Indian number, as in the sample; any other number without its plus. Where the contact is on file,
/// the caller's parameter.
fn mobile(context: &ChallengeContext) -> Option<&str> {
    match &context.destination {
        Destination::Phone(number) => {
            let number = number.expose();
            context::indian_mobile(number).or_else(|| number.strip_prefix('+'))
        }
        Destination::Email(_) | Destination::OnFile => context::parameter(&context.parameters, "mobileNumber"),
    }
}

/// The validity from two digits of minutes, at most 30; 00 means that it is not told.
fn code_life(minutes: &str) -> Option<Duration> {
    let minutes: u64 = minutes.parse().ok().filter(|minutes| (1..=MAX_VALIDITY).contains(minutes))?;
    Some(Duration::from_secs(minutes * 60))
}
