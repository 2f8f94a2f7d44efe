//! The messages of Google's payment-integrator protocol, as their pages show them.
//!
//! Results are unions of which exactly one member is set. An answer with two members, none, or an unknown one is not
//! understood, and so decides nothing.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ports::provider::Receipt,
    providers::adapter::{Alarm, answer::lenient},
};

/// `RequestHeader` and what a method adds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Call<'a, B> {
    pub(super) request_header: RequestHeader<'a>,
    #[serde(flatten)]
    pub(super) body: B,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RequestHeader<'a> {
    pub(super) protocol_version: Version,
    pub(super) request_id: String,
    pub(super) request_timestamp: EpochMillis,
    pub(super) payment_integrator_account_id: &'a str,
}

#[derive(Serialize)]
pub(super) struct Version {
    pub(super) major: u32,
}

/// Milliseconds as a text, which is the canonical JSON of 64-bit numbers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EpochMillis {
    #[serde(deserialize_with = "lenient")]
    pub(super) epoch_millis: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendOtp<'a> {
    pub(super) enrollment_request_id: &'a str,
    pub(super) challenge_option_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResendOtp<'a> {
    pub(super) authenticate_request_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VerifyOtp<'a> {
    pub(super) authenticate_request_id: &'a str,
    pub(super) otp: &'a str,
}

/// A member without content of its own.
#[derive(Deserialize)]
pub(super) struct Empty {}

/// The answer to `sendOtp` or `resendOtp`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent<R> {
    pub(super) response_header: Option<ResponseHeader>,
    pub(super) result: R,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseHeader {
    pub(super) response_timestamp: Option<EpochMillis>,
}

/// `SendOtpResult` of virtual-cards-v1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum SendOtpResult {
    Success(SendOtpSuccess),
    ChallengeOptionExpired(Empty),
    SendLimitExceeded(Empty),
    AccountLocked(Empty),
    RiskDeclined(Empty),
}

/// All three are required there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendOtpSuccess {
    #[serde(deserialize_with = "lenient")]
    pub(super) max_verification_attempts: String,
    #[serde(deserialize_with = "lenient")]
    pub(super) max_send_attempts: String,
    pub(super) expiration_timestamp: EpochMillis,
}

impl SendOtpSuccess {
    /// The limits, and how long the code is valid by the integrator's clock, which is also the clock that will judge it; by
    /// `now` where the answer has no timestamp. Rounded down to seconds. `None` where a field is not a number.
    pub(super) fn receipt(&self, reference: String, answered: Option<&ResponseHeader>, now: u64) -> Option<Receipt> {
        let limit = |text: &str| text.parse::<u64>().ok().map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let (max_checks, max_sends) = (limit(&self.max_verification_attempts)?, limit(&self.max_send_attempts)?);
        let expires: u64 = self.expiration_timestamp.epoch_millis.parse().ok()?;
        let told = answered.and_then(|header| header.response_timestamp.as_ref()?.epoch_millis.parse().ok());
        Some(Receipt {
            reference,
            code_life: Some(Duration::from_secs(expires.saturating_sub(told.unwrap_or(now)) / 1000)),
            max_checks: Some(max_checks),
            max_sends: Some(max_sends),
            ..Receipt::default()
        })
    }
}

/// The results of `resendOtp` of india-cards-v1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum ResendOtpResult {
    Success(Empty),
    RequestExpired(Empty),
    OtpRequestLimitReached(Empty),
}

/// The answer to `verifyOtp`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verified {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) payment_integrator_verify_otp_id: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) eci: String,
    pub(super) result: VerifyOtpResultCode,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum VerifyOtpResultCode {
    Success(Empty),
    OtpNotMatched(Empty),
    OtpAlreadyUsed(Empty),
}

/// `ErrorResponse`: with an enum, or in newer products with a union of the same names.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ErrorResponse {
    error_response_code: Option<ErrorCode>,
    #[serde(default)]
    error_response_result: BTreeMap<ErrorCode, Value>,
}

impl ErrorResponse {
    /// What it says.
    pub(super) fn code(&self) -> Option<ErrorCode> {
        self.error_response_code.or_else(|| self.error_response_result.keys().next().copied())
    }
}

/// `ErrorResponseCode`. What only the union has (`internalError`, `unimplemented`, `unavailable`, `gatewayTimeout`) says no
/// more than the status, and is `Other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum ErrorCode {
    #[serde(alias = "invalidApiVersion")]
    InvalidApiVersion,
    #[serde(alias = "invalidPayloadSignature")]
    InvalidPayloadSignature,
    #[serde(alias = "invalidPayloadEncryption")]
    InvalidPayloadEncryption,
    #[serde(alias = "requestTimestampOutOfRange")]
    RequestTimestampOutOfRange,
    #[serde(alias = "invalidIdentifier")]
    InvalidIdentifier,
    #[serde(alias = "idempotencyViolation")]
    IdempotencyViolation,
    #[serde(alias = "invalidFieldValue")]
    InvalidFieldValue,
    #[serde(alias = "missingRequiredField")]
    MissingRequiredField,
    #[serde(alias = "preconditionViolation")]
    PreconditionViolation,
    #[serde(alias = "userActionInProgress")]
    UserActionInProgress,
    #[serde(alias = "invalidDecryptedRequest")]
    InvalidDecryptedRequest,
    #[serde(alias = "forbidden")]
    Forbidden,
    #[serde(other)]
    Other,
}

impl ErrorCode {
    /// What the operator must mend: otpd's settings, clock or requests are wrong, and repeating the call cannot help.
    pub(super) fn alarm(self) -> Option<Alarm> {
        let text = match self {
            Self::InvalidApiVersion => "INVALID_API_VERSION",
            Self::InvalidPayloadSignature => "INVALID_PAYLOAD_SIGNATURE",
            Self::InvalidPayloadEncryption => "INVALID_PAYLOAD_ENCRYPTION",
            Self::InvalidDecryptedRequest => "INVALID_DECRYPTED_REQUEST",
            Self::RequestTimestampOutOfRange => "REQUEST_TIMESTAMP_OUT_OF_RANGE",
            Self::IdempotencyViolation => "IDEMPOTENCY_VIOLATION",
            Self::InvalidFieldValue => "INVALID_FIELD_VALUE",
            Self::MissingRequiredField => "MISSING_REQUIRED_FIELD",
            Self::Forbidden => "FORBIDDEN",
            Self::InvalidIdentifier | Self::PreconditionViolation | Self::UserActionInProgress | Self::Other => {
                return None;
            }
        };
        // The account is named in the request, so a refusal of it may concern one tenant only.
        let is_for_all = self == Self::InvalidPayloadSignature;
        Some(if is_for_all { Alarm::Credentials(text) } else { Alarm::Request(text) })
    }
}
