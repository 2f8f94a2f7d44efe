//! `google-payment-integrator`: an integrator that speaks Google's payment-integrator protocol makes, sends and checks its
//! own codes.
//!
//! Sources: `sendOtp` of virtual-cards-v1, `resendOtp`, `verifyOtp`, `RequestHeader` and `ErrorResponse` of india-cards-v1
//! (developers.google.com/pay/virtual-cards-v1, …/pay/india-cards-v1), and the rules of idempotency that they share
//! (developers.google.com/standard-payments/reference/idempotency). Bodies are plain JSON, for a gateway that authenticates
//! otpd itself; the PGP and JWE envelopes are not made here.

mod wire;

#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{
    adapter::{Abilities, Adapter, Alarm, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{
        challenge::Decline,
        code::CodeOwner,
        destination::Channel,
        ids::{RequestId, Tenant},
    },
    ports::provider::{
        ChallengeContext, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError,
    },
    secret::Secret,
    settings::Section,
};
use wire::{Call, EpochMillis, ErrorCode, ErrorResponse, RequestHeader, ResendOtp, SendOtp, Sent, VerifyOtp, Version};
use wire::{ResendOtpResult, SendOtpResult, Verified, VerifyOtpResultCode};

const SEND_PATH: &str = "/virtual-cards-v1/sendOtp";
const RESEND_PATH: &str = "/v1/payment-integrator-authenticated-card-fop-api/resendOtp";
const VERIFY_PATH: &str = "/v1/payment-integrator-authenticated-card-fop-api/verifyOtp";

/// The caller's parameters. With an option of a virtual card the call is `sendOtp`; with an authentication only, `resendOtp`.
const ENROLLMENT: &str = "enrollment_request_id";
const OPTION: &str = "challenge_option_id";
const AUTHENTICATION: &str = "authenticate_request_id";

/// An integrator, and otpd's account there.
#[derive(Clone)]
pub(super) struct GooglePaymentIntegrator {
    base_url: BaseUrl,
    send_path: String,
    resend_path: String,
    verify_path: String,
    /// `None`: each tenant has an account there, under its own name.
    account: Option<Tenant>,
    authorization: Option<Secret<String>>,
}

/// Reads `base_url`, the three paths, `account_id` and `authorization`.
pub(super) fn read(section: &mut Section<'_>) -> Option<GooglePaymentIntegrator> {
    let base_url = BaseUrl::read(section, None);
    let mut path = |name, default: &str| section.text(name, settings::url_path).unwrap_or_else(|| default.to_owned());
    let (send_path, resend_path) = (path("send_path", SEND_PATH), path("resend_path", RESEND_PATH));
    let verify_path = path("verify_path", VERIFY_PATH);
    let account = section.optional_text("account_id", |text| Tenant::parse(text).map_err(|error| error.to_string()));
    let authorization = section.optional_secret("authorization", settings::header_text).map(Secret::new);
    Some(GooglePaymentIntegrator { base_url: base_url?, send_path, resend_path, verify_path, account, authorization })
}

impl GooglePaymentIntegrator {
    fn call(&self, path: &str, context: &ChallengeContext, key: &str, body: impl Serialize) -> Outbound {
        let request_header = RequestHeader {
            protocol_version: Version { major: 1 },
            request_id: self.request_id(context, key),
            request_timestamp: EpochMillis { epoch_millis: context.now.as_millis().to_string() },
            payment_integrator_account_id: self.account.as_ref().unwrap_or(&context.tenant).as_str(),
        };
        let request = Outbound::post(self.base_url.join(path)).json(&Call { request_header, body });
        match &self.authorization {
            Some(value) => request.header("authorization", value.expose()),
            None => request,
        }
    }

    /// The idempotency key as a request id. It is the same each time that the integrator is asked about one send or attempt,
    /// so that it answers as before and does nothing twice. Request ids belong to an account; where tenants share one, the
    /// id is derived from the tenant too.
    fn request_id(&self, context: &ChallengeContext, key: &str) -> String {
        let own = self.account.as_ref().is_none_or(|account| *account == context.tenant);
        if own && RequestId::parse(key).is_ok() { key.to_owned() } else { context::derived_id(&context.tenant, key) }
    }
}

/// The id of a call that the caller made there before: 1 to 100 of `[a-zA-Z0-9:_-]`, as every id of the protocol.
fn id<'a>(context: &'a ChallengeContext, name: &'static str) -> Result<Option<&'a str>, RequestError> {
    let given = context::parameter(&context.parameters, name);
    match given.map(RequestId::parse) {
        Some(Err(_)) => Err(RequestError::InvalidParameter(name)),
        _ => Ok(given),
    }
}

impl Adapter for GooglePaymentIntegrator {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            // The integrator answers the same request id as before, for 30 days.
            code_owner: CodeOwner::Provider { check_repeatable: true },
            // The option names the contact, so the destination is not sent.
            channels: Channel::ALL.to_vec(),
            contact_on_file: true,
            code_life: None,
        }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let (context, key) = (&delivery.context, delivery.idempotency_key.as_str());
        if let Some(challenge_option_id) = id(context, OPTION)? {
            let enrollment_request_id = id(context, ENROLLMENT)?.unwrap_or(context.challenge.as_str());
            let body = SendOtp { enrollment_request_id, challenge_option_id };
            return Ok(self.call(&self.send_path, context, key, body));
        }
        let authenticate_request_id = id(context, AUTHENTICATION)?.ok_or(RequestError::MissingParameter(OPTION))?;
        Ok(self.call(&self.resend_path, context, key, ResendOtp { authenticate_request_id }))
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        if answer.status != 200 {
            return refused(answer);
        }
        let context = &delivery.context;
        let reference = self.request_id(context, &delivery.idempotency_key);
        if context::parameter(&context.parameters, OPTION).is_some() {
            let Some(sent) = answer.json::<Sent<SendOtpResult>>() else { return Delivered::Unknown };
            let now = context.now.as_millis();
            match sent.result {
                SendOtpResult::Success(success) => match success.code_life(sent.response_header.as_ref(), now) {
                    Some(life) => Delivered::Accepted(Receipt { reference, code_life: Some(life), code_length: None }),
                    None => Delivered::Unknown,
                },
                SendOtpResult::ChallengeOptionExpired(_) => Delivered::Declined(Decline::OptionExpired),
                SendOtpResult::SendLimitExceeded(_) => Delivered::Declined(Decline::SendLimitExceeded),
                SendOtpResult::AccountLocked(_) => Delivered::Declined(Decline::AccountLocked),
                SendOtpResult::RiskDeclined(_) => Delivered::Declined(Decline::Risk),
            }
        } else {
            match answer.json::<Sent<ResendOtpResult>>().map(|sent| sent.result) {
                Some(ResendOtpResult::Success(_)) => Delivered::Accepted(Receipt { reference, ..Receipt::default() }),
                Some(ResendOtpResult::RequestExpired(_)) => Delivered::Declined(Decline::OptionExpired),
                Some(ResendOtpResult::OtpRequestLimitReached(_)) => Delivered::Declined(Decline::SendLimitExceeded),
                None => Delivered::Unknown,
            }
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        let context = &check.context;
        let authenticate_request_id = id(context, AUTHENTICATION)?.unwrap_or(context.challenge.as_str());
        let body = VerifyOtp { authenticate_request_id, otp: check.otp.expose() };
        Ok(self.call(&self.verify_path, context, &check.idempotency_key, body))
    }

    fn checked(&self, _check: &Check, answer: &Inbound) -> Checked {
        match (answer.status, error(answer)) {
            (200, _) => {}
            // No page says how an expired code or too many attempts are answered. Of the documented errors these two can
            // mean it: a state in which no retry can help, and an authentication that is not known any more.
            (400, Some(ErrorCode::PreconditionViolation)) | (404, Some(ErrorCode::InvalidIdentifier)) => {
                return Checked::Gone;
            }
            // Another call with this request id came first, or this one was cut off: a code may have been judged.
            (_, Some(ErrorCode::IdempotencyViolation)) | (409 | 412 | 499, _) => return Checked::Unknown,
            (400..=499, Some(ErrorCode::UserActionInProgress)) | (423, _) => {
                return Checked::Failed(answer::unavailable(answer));
            }
            // Any status but 200 says that the request was not processed, and these codes say what has to be mended.
            (400..=499, Some(code)) if code.alarm().is_some() => return Checked::Failed(Failure::Refused),
            // No such method there.
            (501, _) => return Checked::Failed(Failure::Refused),
            _ => return checked_by_status(answer),
        }
        let Some(verified) = answer.json::<Verified>() else { return Checked::Unknown };
        match verified.result {
            VerifyOtpResultCode::Success(_) => Checked::Matched(Evidence {
                eci: answer::evidence(verified.eci),
                verification_id: answer::evidence(verified.payment_integrator_verify_otp_id),
            }),
            VerifyOtpResultCode::OtpNotMatched(_) => Checked::NotMatched,
            VerifyOtpResultCode::OtpAlreadyUsed(_) => Checked::AlreadyUsed,
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        error(answer).and_then(ErrorCode::alarm)
    }
}

/// The error code of an answer; `None` for a success, and for a body that is not the protocol's.
fn error(answer: &Inbound) -> Option<ErrorCode> {
    if answer.status < 400 {
        return None;
    }
    answer.json::<ErrorResponse>().and_then(|error| error.code())
}

/// Any status but 200 says that the request was not processed, with some exceptions.
fn refused(answer: &Inbound) -> Delivered {
    match (answer.status, error(answer)) {
        // Another call with this request id came first, or this one was cut off: a code may have been sent.
        (_, Some(ErrorCode::IdempotencyViolation)) | (409 | 412 | 499, _) => Delivered::Unknown,
        (400..=499, Some(ErrorCode::UserActionInProgress)) | (423, _) => Delivered::Failed(answer::unavailable(answer)),
        // No such method there.
        (501, _) => Delivered::Failed(Failure::Refused),
        _ => delivered_by_status(answer),
    }
}
