//! `iserveu`: iServeU makes and sends the code. It checks the code of a registration when it registers the customer.
//!
//! Sources: developer.iserveu.in/dmtlite-common-api, pages send-otp (three published versions, whose fields are all known
//! here) and process-customer. Errors come inside an HTTP 200. There is no call that only checks a code: the code of a
//! registration is checked by the call that registers, and for that of a transaction no call is published.

mod wire;

#[cfg(test)]
mod tests;

use super::{
    adapter::{Adapter, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{destination::Channel, purpose::Purpose, transaction::Amount},
    ports::provider::{
        Capabilities, ChallengeContext, Check, Checked, Delivered, Delivery, Evidence, Receipt, RequestError,
    },
    secret::Secret,
    settings::{Section, values},
};
use wire::{Answer, Document, Free, Registration, Send};

const BASE_URL: &str = "https://apidev.iserveu.online";
const SEND_PATH: &str = "/common/dmt-lite/unified/otp/send";
const REGISTRATION_PATH: &str = "/common/dmt-lite/unified/customer/process-customer-registration";

/// The parameter with an amount.
const AMOUNT: &str = "requestedAmount";

/// The longest external reference.
const MAX_REFERENCE: usize = 22;

/// The references of a challenge that are told apart.
const MAX_TRACES: usize = 8;

/// An account at iServeU.
#[derive(Clone)]
pub(super) struct IServeU {
    base_url: BaseUrl,
    send_path: String,
    registration_path: String,
    client_id: String,
    client_secret: Secret<String>,
    username: String,
    unit: Unit,
}

/// The unit of amounts, which no page tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rupees,
    Paise,
}

/// Reads `base_url`, the two paths, `client_id`, `client_secret`, `username` and `amount_unit`.
pub(super) fn read(section: &mut Section<'_>) -> Option<IServeU> {
    let base_url = settings::closed_base_url(section, Some(BASE_URL), "identity numbers");
    let send_path = section.text("send_path", settings::url_path).unwrap_or_else(|| SEND_PATH.to_owned());
    let registration_path = section.text("registration_path", settings::url_path);
    let client_id = settings::required(section, "client_id", "as shared at onboarding", settings::word);
    let client_secret = settings::secret(section, "client_secret", "as shared at onboarding");
    let username = settings::required(section, "username", "the user at iServeU", settings::header_text);
    let units = values::word(&[("rupees", Unit::Rupees), ("paise", Unit::Paise)]);
    let unit = section.text("amount_unit", units).unwrap_or(Unit::Rupees);
    Some(IServeU {
        base_url: base_url?,
        send_path,
        registration_path: registration_path.unwrap_or_else(|| REGISTRATION_PATH.to_owned()),
        client_id: client_id?,
        client_secret: client_secret?,
        username: username?,
        unit,
    })
}

impl IServeU {
    fn call(&self, path: &str, body: &impl serde::Serialize) -> Outbound {
        Outbound::post(self.base_url.join(path))
            .header("client_id", &self.client_id)
            .header("client_secret", self.client_secret.expose())
            .json(body)
    }
}

impl Adapter for IServeU {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        // The check registers a customer; in a second check the code is used up. A code lives 10 min or 3 min, depending on the
        // version of the page: only iServeU can judge it. `otpType` has no value for a login.
        let purposes = vec![Purpose::Registration, Purpose::Transaction];
        let abilities = Capabilities::manages(vec![Channel::Sms], false);
        Capabilities { purposes, currencies: Some(&["INR"]), prefix: Some("+91"), ..abilities }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let context = &delivery.context;
        let given = |name| context::parameter(&context.parameters, name);
        let (otp_type, amount) = match (context.purpose, &context.transaction) {
            (Purpose::Registration, _) => ("1", requested_amount(context)?.map(str::to_owned)),
            (Purpose::Transaction, Some(transaction)) => {
                let amount = whole(&transaction.amount, self.unit)?;
                // The code is bound to the challenge's amount, so another one cannot be asked for.
                let other = requested_amount(context)?.is_some_and(|given| given != amount);
                if other {
                    return Err(RequestError::InvalidParameter(AMOUNT));
                }
                ("2", Some(amount))
            }
            (Purpose::Transaction, None) => return Err(RequestError::MissingParameter("transaction")),
            (Purpose::Login, _) => return Err(RequestError::Unsupported("purpose")),
        };
        let document = document(context)?;
        context::needed(&context.parameters, "ovdType")?;
        if otp_type == "1" {
            context::needed(&context.parameters, "ovdData")?;
        }
        let body = Send {
            mobile: mobile(context)?,
            reference: reference(delivery)?,
            amount,
            username: &self.username,
            otp_type,
            lat_long: context::said(&context.client.lat_long).or_else(|| given("latLong")),
            public_ip: context::said(&context.client.ip_address).or_else(|| given("publicIP")),
            document,
            pid: given("pid"),
            email: given("email"),
            free: free(context),
        };
        Ok(self.call(&self.send_path, &body))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status != 200 {
            return delivered_by_status(answer);
        }
        match answer.json::<Answer>() {
            // The answer has no reference, and a check needs none. What is kept tells whether a resend's reference is new.
            Some(said) if said.succeeded() && said.code == "0" => {
                let (reference, values) = (with_this_one(delivery).unwrap_or_default(), said.values());
                Delivered::Accepted(Receipt { reference, values, ..Receipt::default() })
            }
            // "Failed to send OTP", without a reason.
            Some(said) if said.failed() && said.code == "1" => Delivered::Failed(answer::unavailable(answer)),
            // "Requested Amount Must Not be EMPTY Or Only Number Allowed".
            Some(said) if said.failed() && said.code == "-1" => Delivered::Invalid(amount_error(&delivery.context)),
            _ => Delivered::Unknown,
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        let context = &check.context;
        if context.purpose != Purpose::Registration {
            return Err(RequestError::Unsupported("purpose"));
        }
        let given = |name| context::parameter(&context.parameters, name);
        let pincode = given("pincode");
        if pincode.is_some_and(|text| !context::is_digits(text, 6..=6)) {
            return Err(RequestError::InvalidParameter("pincode"));
        }
        let body = Registration {
            mobile: mobile(context)?,
            name: context::needed(&context.parameters, "name")?,
            address: given("address"),
            pincode,
            document: document(context)?,
            otp: check.otp.expose(),
            username: &self.username,
            lat_long: context::needed(&context.parameters, "latlong")?,
            public_ip: context::needed(&context.parameters, "publicIP")?,
            free: free(context),
        };
        Ok(self.call(&self.registration_path, &body))
    }

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        if answer.status != 200 {
            return checked_by_status(answer);
        }
        let Some(answer) = answer.json::<Answer>() else { return Checked::Unknown };
        if answer.succeeded() && matches!(answer.code.as_str(), "0" | "2") {
            // 0 is the success of every call, 2 "customer verified successfully".
            return Checked::Matched(Evidence { values: answer.values(), ..Evidence::default() });
        }
        // No status code is published for a wrong OTP, so only the description tells it.
        match answer.complaint() {
            Some(wire::Complaint::WrongOtp) => Checked::NotMatched { left: None },
            Some(wire::Complaint::ExpiredOtp) => Checked::Gone,
            // What the caller gave is looked at before the code is.
            Some(wire::Complaint::Parameter(name)) => match context::parameter(&check.context.parameters, name) {
                Some(_) => Checked::Invalid(RequestError::InvalidParameter(name)),
                None => Checked::Invalid(RequestError::MissingParameter(name)),
            },
            None => Checked::Unknown,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "codes for transactions can be sent but not verified here: iServeU checks them in the transaction itself, and \
             publishes no call for it"
                .to_owned(),
        ];
        if BaseUrl::parse(BASE_URL).is_ok_and(|documented| documented == self.base_url) {
            notes.push("base_url is the one of iServeU's documentation, a development host".to_owned());
        }
        notes
    }
}

/// The ten digits of the Indian number.
fn mobile(context: &ChallengeContext) -> Result<&str, RequestError> {
    context::indian_mobile(context::phone(context)?).ok_or(RequestError::InvalidParameter("phone_number"))
}

/// The external reference of a send, 6 to 22 characters. For a registration one version of the page requires it and another does
/// not, so it is always sent. A transaction's resend needs a new one: unless the caller gives one that certainly is, the number
/// of the send is added, as in `1432452-2`. A send that failed counts, for its reference may be known there all the same.
fn reference(delivery: &Delivery) -> Result<String, RequestError> {
    let context = &delivery.context;
    let Some(given) = external_reference(context)? else {
        return Ok(context::derived_hex(&context.tenant, &delivery.idempotency_key, MAX_REFERENCE));
    };
    let parameter = context::parameter(&context.parameters, "externalRefNumber").is_some();
    let is_new = || parameter && used(delivery).is_some_and(|used| !used.contains(&trace(context, given).as_str()));
    if context.purpose != Purpose::Transaction || delivery.number <= 1 || is_new() {
        return Ok(given.to_owned());
    }
    let number = format!("-{}", delivery.number);
    let kept: String = given.chars().take(MAX_REFERENCE.saturating_sub(number.len())).collect();
    Ok(kept + &number)
}

/// The traces of the references of all sends before, where every one of them is known: the first accepted send tells its own,
/// and each next one adds to what the one right before it told.
fn used(delivery: &Delivery) -> Option<Vec<&str>> {
    if delivery.number <= 1 {
        return Some(Vec::new());
    }
    let (number, traces) = delivery.previous_reference.split_once(':')?;
    let is_next = number.parse::<u32>().ok()?.checked_add(1) == Some(delivery.number);
    is_next.then(|| traces.split(',').collect())
}

/// What is kept after a send: its number, and the traces of all references up to its own. `None` where one is not known, or
/// there are too many.
fn with_this_one(delivery: &Delivery) -> Option<String> {
    let own = trace(&delivery.context, &reference(delivery).ok()?);
    let mut traces = used(delivery).filter(|used| used.len() < MAX_TRACES)?;
    traces.push(&own);
    Some(format!("{}:{}", delivery.number, traces.join(",")))
}

/// The reference that the caller gives: its parameter, or else the transaction's own.
fn external_reference(context: &ChallengeContext) -> Result<Option<&str>, RequestError> {
    let given = context::parameter(&context.parameters, "externalRefNumber").map(|text| ("externalRefNumber", text));
    let own = context.transaction.as_ref().filter(|_| context.purpose == Purpose::Transaction);
    let named = given.or_else(|| own.map(|transaction| ("transaction.reference", transaction.reference.as_str())));
    let Some((name, text)) = named else { return Ok(None) };
    let fits = (6..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(Some(text)) } else { Err(RequestError::InvalidParameter(name)) }
}

/// What is kept of a reference, which may be a parameter and so is not kept itself.
fn trace(context: &ChallengeContext, reference: &str) -> String {
    context::derived_hex(&context.tenant, reference, 16)
}

/// The amount that the caller asks for with a registration, digits only.
fn requested_amount(context: &ChallengeContext) -> Result<Option<&str>, RequestError> {
    let given = context::parameter(&context.parameters, AMOUNT);
    match given {
        Some(text) if !context::is_digits(text, 1..=18) => Err(RequestError::InvalidParameter(AMOUNT)),
        _ => Ok(given),
    }
}

/// "Requested Amount Must Not be EMPTY Or Only Number Allowed".
fn amount_error(context: &ChallengeContext) -> RequestError {
    match context::parameter(&context.parameters, AMOUNT) {
        _ if context.purpose == Purpose::Transaction => {
            RequestError::InvalidParameter("transaction.amount.amount_micros")
        }
        Some(_) => RequestError::InvalidParameter(AMOUNT),
        None => RequestError::MissingParameter(AMOUNT),
    }
}

/// The amount in digits only, as the page requires, so nothing smaller than the unit.
fn whole(amount: &Amount, unit: Unit) -> Result<String, RequestError> {
    match unit {
        Unit::Rupees => context::indian_units(amount, 1_000_000),
        Unit::Paise => context::indian_units(amount, 10_000),
    }
}

/// The officially valid document.
fn document(context: &ChallengeContext) -> Result<Document<'_>, RequestError> {
    let ovd_type = context::parameter(&context.parameters, "ovdType");
    let ovd_data = context::parameter(&context.parameters, "ovdData");
    let aadhaar = matches!(ovd_type, Some("Aadhaar Card" | "BioAuth"));
    if aadhaar && ovd_data.is_some_and(|text| !context::is_digits(text, 12..=12)) {
        return Err(RequestError::InvalidParameter("ovdData"));
    }
    Ok(Document { ovd_type, ovd_data })
}

fn free(context: &ChallengeContext) -> Free<'_> {
    let given = |name| context::parameter(&context.parameters, name);
    Free { a: given("paramA"), b: given("paramB"), c: given("paramC") }
}
