//! `iserveu`: iServeU makes and sends the code, and checks that of a registration where it registers the customer.
//!
//! Sources: developer.iserveu.in/dmtlite-common-api, pages send-otp (three published versions, whose fields are all known
//! here) and process-customer. Errors come inside an HTTP 200. There is no call that only checks a code: a registration's is
//! checked by the call that registers, and for a transaction's no call is published.

mod wire;

#[cfg(test)]
mod tests;

use super::{
    adapter::{
        Abilities, Adapter, delivered_by_status,
        occasion::{derived_hex, indian_mobile, indian_units, is_digits, needed, parameter, phone, said},
        settings::{closed_base_url, header_text, required, secret, url_path, word},
    },
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{destination::Channel, purpose::Purpose, transaction::Amount},
    ports::provider::{Check, Checked, Codes, Delivered, Delivery, Evidence, Occasion, Receipt, Unfit},
    secret::Secret,
    settings::{Section, values},
};
use wire::{Answer, Document, Free, Registration, Send};

const BASE_URL: &str = "https://apidev.iserveu.online";
const SEND_PATH: &str = "/common/dmt-lite/unified/otp/send";
const REGISTRATION_PATH: &str = "/common/dmt-lite/unified/customer/process-customer-registration";

/// The longest external reference.
const MAX_REFERENCE: usize = 22;

/// An account at iServeU.
#[derive(Clone)]
pub(super) struct IServeU {
    base: BaseUrl,
    send_path: String,
    registration_path: String,
    client_id: String,
    client_secret: Secret<String>,
    username: String,
    unit: Unit,
}

/// What an amount is counted in: no page says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Rupees,
    Paise,
}

/// Reads `base_url`, the two paths, `client_id`, `client_secret`, `username` and `amount_unit`.
pub(super) fn read(section: &mut Section<'_>) -> Option<IServeU> {
    let base = closed_base_url(section, Some(BASE_URL), "identity numbers");
    let send_path = section.text("send_path", url_path).unwrap_or_else(|| SEND_PATH.to_owned());
    let registration_path = section.text("registration_path", url_path);
    let client_id = required(section, "client_id", "as shared at onboarding", word);
    let client_secret = secret(section, "client_secret", "as shared at onboarding");
    let username = required(section, "username", "the user at iServeU", header_text);
    let units = values::word(&[("rupees", Unit::Rupees), ("paise", Unit::Paise)]);
    let unit = section.text("amount_unit", units).unwrap_or(Unit::Rupees);
    Some(IServeU {
        base: base?,
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
        Outbound::post(self.base.join(path))
            .header("client_id", &self.client_id)
            .header("client_secret", self.client_secret.expose())
            .json(body)
    }
}

impl Adapter for IServeU {
    fn abilities(&self) -> Abilities {
        Abilities {
            // The check registers a customer: a second one finds the code used up.
            codes: Codes::Managed { check_repeatable: false },
            channels: vec![Channel::Sms],
            contact_on_file: false,
            // 10 min or 3 min, by the version of the page: theirs to judge.
            code_life: None,
        }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, Unfit> {
        let occasion = &delivery.occasion;
        let given = |name| parameter(&occasion.parameters, name);
        let (otp_type, amount) = match (occasion.purpose, &occasion.transaction) {
            (Purpose::Registration, _) => ("1", None),
            (Purpose::Transaction, Some(transaction)) => ("2", Some(whole(&transaction.amount, self.unit)?)),
            (Purpose::Transaction, None) => return Err(Unfit::Missing("transaction")),
            (Purpose::Login, _) => return Err(Unfit::Unsupported("purpose")),
        };
        let document = document(occasion)?;
        if otp_type == "1" {
            needed(&occasion.parameters, "ovdType")?;
            needed(&occasion.parameters, "ovdData")?;
        }
        let body = Send {
            mobile: mobile(occasion)?,
            reference: reference(delivery)?,
            amount,
            username: &self.username,
            otp_type,
            lat_long: said(&occasion.client.lat_long).or_else(|| given("latLong")),
            public_ip: said(&occasion.client.ip_address).or_else(|| given("publicIP")),
            document,
            pid: given("pid"),
            email: given("email"),
            free: free(occasion),
        };
        Ok(self.call(&self.send_path, &body))
    }

    fn delivered(&self, _delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status != 200 {
            return delivered_by_status(answer);
        }
        match answer.json::<Answer>() {
            // The answer names nothing. What a check needs, the caller hands over.
            Some(answer) if answer.succeeded() && answer.code == "0" => Delivered::Accepted(Receipt::default()),
            // "Failed to send OTP", and an amount that is refused.
            Some(answer) if answer.failed() && matches!(answer.code.as_str(), "1" | "-1") => {
                Delivered::Failed { retry_after: None }
            }
            _ => Delivered::Unknown,
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, Unfit> {
        let occasion = &check.occasion;
        if occasion.purpose != Purpose::Registration {
            return Err(Unfit::Unsupported("purpose"));
        }
        let given = |name| parameter(&occasion.parameters, name);
        let pincode = given("pincode");
        if pincode.is_some_and(|text| !is_digits(text, 6..=6)) {
            return Err(Unfit::Invalid("pincode"));
        }
        let body = Registration {
            mobile: mobile(occasion)?,
            name: needed(&occasion.parameters, "name")?,
            address: given("address"),
            pincode,
            document: document(occasion)?,
            otp: check.otp.expose(),
            username: &self.username,
            lat_long: needed(&occasion.parameters, "latlong")?,
            public_ip: needed(&occasion.parameters, "publicIP")?,
            free: free(occasion),
        };
        Ok(self.call(&self.registration_path, &body))
    }

    fn checked(&self, _check: &Check, answer: &Inbound) -> Checked {
        let Some(answer) = answer.json::<Answer>().filter(|_| answer.status == 200) else { return Checked::Unknown };
        if answer.succeeded() && matches!(answer.code.as_str(), "0" | "2") {
            // 0 is the success of every call, 2 "customer verified successfully".
            return Checked::Matched(Evidence::default());
        }
        // No code is published for a wrong code, so the description has to say it.
        match answer.complaint() {
            Some(wire::Complaint::WrongOtp) => Checked::NotMatched,
            Some(wire::Complaint::ExpiredOtp) => Checked::Gone,
            None => Checked::Unknown,
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = vec![
            "codes for transactions can be sent but not verified here: iServeU checks them in the transaction itself, and \
             publishes no call for it"
                .to_owned(),
        ];
        if BaseUrl::parse(BASE_URL).is_ok_and(|documented| documented == self.base) {
            notes.push("base_url is the one of iServeU's documentation, a development host".to_owned());
        }
        notes
    }
}

/// The ten digits of the Indian number.
fn mobile(occasion: &Occasion) -> Result<&str, Unfit> {
    indian_mobile(phone(occasion)?).ok_or(Unfit::Invalid("phone_number"))
}

/// 6 to 22 characters. A transaction's is its own, or a parameter: a resend is only made under a new one. For a registration
/// one version of the page wants it and another does not, so there is always one.
fn reference(delivery: &Delivery) -> Result<String, Unfit> {
    let occasion = &delivery.occasion;
    let given = parameter(&occasion.parameters, "externalRefNumber").map(|text| ("externalRefNumber", text));
    let own = occasion.transaction.as_ref().filter(|_| occasion.purpose == Purpose::Transaction);
    let named = given.or_else(|| own.map(|transaction| ("transaction.reference", transaction.reference.as_str())));
    let Some((name, text)) = named else {
        return Ok(derived_hex(&occasion.tenant, &delivery.idempotency_key, MAX_REFERENCE));
    };
    let fits = (6..=MAX_REFERENCE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(Unfit::Invalid(name)) }
}

/// Digits only, as they want it: so nothing smaller than the unit.
fn whole(amount: &Amount, unit: Unit) -> Result<String, Unfit> {
    match unit {
        Unit::Rupees => indian_units(amount, 1_000_000),
        Unit::Paise => indian_units(amount, 10_000),
    }
}

/// The officially valid document.
fn document(occasion: &Occasion) -> Result<Document<'_>, Unfit> {
    let ovd_type = parameter(&occasion.parameters, "ovdType");
    let ovd_data = parameter(&occasion.parameters, "ovdData");
    let aadhaar = matches!(ovd_type, Some("Aadhaar Card" | "BioAuth"));
    if aadhaar && ovd_data.is_some_and(|text| !is_digits(text, 12..=12)) {
        return Err(Unfit::Invalid("ovdData"));
    }
    Ok(Document { ovd_type, ovd_data })
}

fn free(occasion: &Occasion) -> Free<'_> {
    let given = |name| parameter(&occasion.parameters, name);
    Free { a: given("paramA"), b: given("paramB"), c: given("paramC") }
}
