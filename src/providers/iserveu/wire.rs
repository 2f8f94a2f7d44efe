//! The messages of iServeU's calls, spelt as their pages spell them: `latLong` in one, `latlong` in the other.

use serde::{Deserialize, Serialize};

use crate::{ports::provider::ProviderValues, providers::adapter::answer::lenient, secret::Secret};

/// The longest text that is handed on, as of the contract's parameters.
const MAX_VALUE: usize = 1000;

/// The body of `otp/send`.
#[derive(Serialize)]
pub(super) struct Send<'a> {
    #[serde(rename = "customerMobileNumber")]
    pub(super) mobile: &'a str,
    #[serde(rename = "externalRefNumber")]
    pub(super) reference: String,
    #[serde(rename = "requestedAmount", skip_serializing_if = "Option::is_none")]
    pub(super) amount: Option<String>,
    pub(super) username: &'a str,
    #[serde(rename = "otpType")]
    pub(super) otp_type: &'static str,
    #[serde(rename = "latLong", skip_serializing_if = "Option::is_none")]
    pub(super) lat_long: Option<&'a str>,
    #[serde(rename = "publicIP", skip_serializing_if = "Option::is_none")]
    pub(super) public_ip: Option<&'a str>,
    #[serde(flatten)]
    pub(super) document: Document<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<&'a str>,
    #[serde(flatten)]
    pub(super) free: Free<'a>,
}

/// The body of `process-customer-registration`.
#[derive(Serialize)]
pub(super) struct Registration<'a> {
    #[serde(rename = "mobileNumber")]
    pub(super) mobile: &'a str,
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pincode: Option<&'a str>,
    #[serde(flatten)]
    pub(super) document: Document<'a>,
    pub(super) otp: &'a str,
    pub(super) username: &'a str,
    #[serde(rename = "latlong")]
    pub(super) lat_long: &'a str,
    #[serde(rename = "publicIP")]
    pub(super) public_ip: &'a str,
    #[serde(flatten)]
    pub(super) free: Free<'a>,
}

/// The document that identifies the person.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    #[serde(rename = "ovdType", skip_serializing_if = "Option::is_none")]
    pub(super) ovd_type: Option<&'a str>,
    #[serde(rename = "ovdData", skip_serializing_if = "Option::is_none")]
    pub(super) ovd_data: Option<&'a str>,
}

/// "To be used as per client requirement".
#[derive(Serialize)]
pub(super) struct Free<'a> {
    #[serde(rename = "paramA", skip_serializing_if = "Option::is_none")]
    pub(super) a: Option<&'a str>,
    #[serde(rename = "paramB", skip_serializing_if = "Option::is_none")]
    pub(super) b: Option<&'a str>,
    #[serde(rename = "paramC", skip_serializing_if = "Option::is_none")]
    pub(super) c: Option<&'a str>,
}

/// The answer to both calls.
#[derive(Deserialize)]
pub(super) struct Answer {
    status: String,
    #[serde(rename = "statusCode", deserialize_with = "lenient")]
    pub(super) code: String,
    #[serde(rename = "statusDesc", default, deserialize_with = "lenient")]
    description: String,
    #[serde(rename = "paramA", default, deserialize_with = "lenient")]
    a: String,
    #[serde(rename = "paramB", default, deserialize_with = "lenient")]
    b: String,
    #[serde(rename = "paramC", default, deserialize_with = "lenient")]
    c: String,
}

const EXPIRED: &[&str] = &["otp expired", "otp is expired", "otp has expired", "expired otp"];

const WRONG: &[&str] = &[
    "invalid otp",
    "incorrect otp",
    "wrong otp",
    "otp invalid",
    "otp is invalid",
    "otp incorrect",
    "otp is incorrect",
    "otp mismatch",
    "otp not matched",
    "otp did not match",
    "otp does not match",
];

/// What a description says of the typed code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Complaint {
    WrongOtp,
    ExpiredOtp,
    /// Not about the code, but about this parameter.
    Parameter(&'static str),
}

/// The parameters of a registration as the caller names them, with the ways to write them.
const PARAMETERS: [(&str, &[&str]); 7] = [
    ("pincode", &["pincode", "pin code"]),
    ("latlong", &["latlong", "lat long"]),
    ("publicIP", &["publicip", "public ip"]),
    ("ovdType", &["ovdtype", "ovd type"]),
    ("ovdData", &["ovddata", "ovd data"]),
    ("name", &["name"]),
    ("address", &["address"]),
];

/// What is said of a parameter that is at fault.
const COMPLAINTS: &[&str] = &["invalid", "empty", "required", "mandatory", "missing", "must"];

impl Answer {
    pub(super) fn succeeded(&self) -> bool {
        self.status == "SUCCESS"
    }

    pub(super) fn failed(&self) -> bool {
        self.status == "FAILED"
    }

    /// The free texts that came, for the caller. One that is empty, or longer than a parameter may be, is left out.
    pub(super) fn values(&self) -> ProviderValues {
        let free = [("paramA", &self.a), ("paramB", &self.b), ("paramC", &self.c)];
        let kept = free.into_iter().filter(|(_, value)| (1..=MAX_VALUE).contains(&value.chars().count()));
        kept.map(|(name, value)| (name.to_owned(), Secret::new(value.clone()))).collect()
    }

    /// What a failure says of the typed code; `None` where it is about something else. Only whole phrases count: "invalid
    /// mobile number for OTP" is not about the code.
    pub(super) fn complaint(&self) -> Option<Complaint> {
        let words: Vec<&str> =
            self.description.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
        let description = format!(" {} ", words.join(" ").to_ascii_lowercase());
        let says = |phrases: &[&str]| phrases.iter().any(|phrase| description.contains(&format!(" {phrase} ")));
        if !self.failed() {
            None
        } else if says(EXPIRED) {
            Some(Complaint::ExpiredOtp)
        } else if says(WRONG) {
            Some(Complaint::WrongOtp)
        } else if says(COMPLAINTS) && !says(&["otp"]) {
            PARAMETERS.iter().find(|(_, spellings)| says(spellings)).map(|(name, _)| Complaint::Parameter(name))
        } else {
            None
        }
    }
}
