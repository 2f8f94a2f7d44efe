//! The messages of Wibmo's RuPay calls, spelt as their pages spell them.

use serde::{Deserialize, Serialize};

use crate::providers::adapter::answer::lenient;

#[derive(Serialize)]
pub(super) struct Call<'a, B> {
    pub(super) header: Header<'a>,
    pub(super) body: B,
}

#[derive(Serialize)]
pub(super) struct Header<'a> {
    pub(super) version: &'static str,
    #[serde(rename = "pgInstanceId")]
    pub(super) instance: &'a str,
    #[serde(rename = "x-api-key")]
    pub(super) api_key: &'a str,
}

/// The card, as the caller hands it over.
#[derive(Serialize)]
pub(super) struct Card<'a> {
    pub(super) pan: &'a str,
    #[serde(rename = "expDate")]
    pub(super) expiry: &'a str,
    pub(super) cvd2: &'a str,
    #[serde(rename = "nameOnCard")]
    pub(super) name: &'a str,
}

/// The body of `generateOtp`. Absent values are left out: no page says which fields are mandatory.
#[derive(Serialize)]
pub(super) struct Generate<'a> {
    #[serde(rename = "pgInstanceId")]
    pub(super) instance: &'a str,
    #[serde(rename = "merchantId")]
    pub(super) merchant: &'a str,
    #[serde(flatten)]
    pub(super) card: Card<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<&'a str>,
    #[serde(rename = "currencCode")]
    pub(super) currency: &'static str,
    pub(super) amount: &'a str,
    #[serde(rename = "merchantReferenceNo")]
    pub(super) merchant_reference: &'a str,
    #[serde(rename = "orderDesc")]
    pub(super) order_description: &'a str,
    #[serde(rename = "mobileNumber", skip_serializing_if = "Option::is_none")]
    pub(super) mobile_number: Option<&'a str>,
    #[serde(rename = "cardHolderStatus")]
    pub(super) card_holder_status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http_accept: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) browser_user_agent: Option<&'a str>,
    #[serde(rename = "customerIpAddress", skip_serializing_if = "Option::is_none")]
    pub(super) customer_ip_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ext1: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ext2: Option<&'a str>,
    #[serde(rename = "amountInINR", skip_serializing_if = "Option::is_none")]
    pub(super) amount_in_inr: Option<&'a str>,
    #[serde(rename = "originalAmount", skip_serializing_if = "Option::is_none")]
    pub(super) original_amount: Option<&'a str>,
    #[serde(rename = "purposeOfAuthentication", skip_serializing_if = "Option::is_none")]
    pub(super) purpose_of_authentication: Option<&'a str>,
    #[serde(rename = "tokenAuthenticationValue", skip_serializing_if = "Option::is_none")]
    pub(super) token_authentication_value: Option<&'a str>,
}

/// The body of `verifyOtp`, in which the reference has another spelling.
#[derive(Serialize)]
pub(super) struct Verify<'a> {
    #[serde(rename = "pgInstanceId")]
    pub(super) instance: &'a str,
    #[serde(rename = "merchantId")]
    pub(super) merchant: &'a str,
    #[serde(rename = "merchantRefernceNo")]
    pub(super) merchant_reference: &'a str,
    pub(super) otp: &'a str,
    #[serde(rename = "pgTransactionId")]
    pub(super) transaction: &'a str,
}

/// The answer to both calls.
#[derive(Deserialize)]
pub(super) struct Answer {
    status: String,
    #[serde(deserialize_with = "lenient")]
    errorcode: String,
    #[serde(default, deserialize_with = "lenient")]
    errormsg: String,
    #[serde(rename = "pgTransactionId", default, deserialize_with = "lenient")]
    pub(super) transaction: String,
    #[serde(rename = "validityPeriod", default, deserialize_with = "lenient")]
    pub(super) validity: String,
    #[serde(rename = "tranCtxId", default, deserialize_with = "lenient")]
    pub(super) context: String,
    #[serde(rename = "authResponseCode", default, deserialize_with = "lenient")]
    authentication: String,
}

/// The meaning of an `errorcode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// 00, or 0.
    Success,
    /// 01: a required parameter is missing.
    Missing,
    /// 07: a parameter is not as specified.
    Invalid,
    /// 13: the amount is not positive.
    Amount,
    /// 406, 407: the credentials or the address of this machine are refused.
    Credentials,
    /// 450.
    WrongOtp,
    /// 451.
    Expired,
    /// 452.
    Exhausted,
    /// 501 to 503: no EMI programme for the card, the amount, or by its issuer.
    Ineligible,
    /// Not on the page, or contradicted by the status.
    Other,
}

impl Answer {
    /// The code, where the status agrees with it.
    pub(super) fn code(&self) -> Code {
        let code = match self.errorcode.as_str() {
            "0" | "00" => Code::Success,
            "01" | "1" => Code::Missing,
            "07" | "7" => Code::Invalid,
            "13" => Code::Amount,
            "406" | "407" => Code::Credentials,
            "450" => Code::WrongOtp,
            "451" => Code::Expired,
            "452" => Code::Exhausted,
            "501" | "502" | "503" => Code::Ineligible,
            _ => Code::Other,
        };
        let status = if code == Code::Success { "success" } else { "failed" };
        if self.status.eq_ignore_ascii_case(status) { code } else { Code::Other }
    }

    /// Whether the message names such a parameter, as a word of its own.
    pub(super) fn blames(&self, name: &str) -> bool {
        let words = self.errormsg.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.into_iter().any(|word| word.eq_ignore_ascii_case(name))
    }

    /// The first of these parameters that the message names.
    pub(super) fn blamed(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.blames(name))
    }

    /// Whether the payment network agrees, where the answer quotes it: ACCU000, "authentication done".
    pub(super) fn is_authenticated(&self) -> bool {
        matches!(self.authentication.as_str(), "" | "ACCU000")
    }

    /// What the operator must mend.
    pub(super) fn alarm(&self) -> Option<&'static str> {
        match self.errorcode.as_str() {
            "406" => Some("406 not authenticated"),
            "407" => Some("407 not authorized: is our address on the allow-list?"),
            _ => None,
        }
    }
}
