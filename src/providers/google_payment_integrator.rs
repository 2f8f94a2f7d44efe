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
    adapter::{Adapter, Alarm, answer, checked_by_status, context, delivered_by_status, settings},
    http::{BaseUrl, Inbound, Outbound},
};
use crate::{
    domain::{
        challenge::Decline,
        destination::Channel,
        ids::{OptionId, RequestId, Tenant},
    },
    ports::provider::{
        Capabilities, ChallengeContext, Check, Checked, Delivered, Delivery, Evidence, Failure, Receipt, RequestError,
    },
    secret::Secret,
    settings::Section,
};
use wire::{Call, EpochMillis, ErrorCode, ErrorResponse, RequestHeader, ResendOtp, SendOtp, Sent, VerifyOtp, Version};
use wire::{ResendOtpResult, SendOtpResult, Verified, VerifyOtpResultCode};

const SEND_PATH: &str = "/virtual-cards-v1/sendOtp";
const RESEND_PATH: &str = "/v1/payment-integrator-authenticated-card-fop-api/resendOtp";
const VERIFY_PATH: &str = "/v1/payment-integrator-authenticated-card-fop-api/verifyOtp";

/// The caller's parameters. Without them the ids are the caller's own of challenge and option.
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

/// The call that has a code sent.
enum SendCall<'a> {
    Option(SendOtp<'a>),
    Authentication(ResendOtp<'a>),
}

/// `sendOtp` where an option of a virtual card is given, or the caller named the option itself; `resendOtp` where only an
/// authentication is given. An option whose id otpd made is nobody's upstream.
fn send_call(context: &ChallengeContext) -> Result<SendCall<'_>, RequestError> {
    let (option, authentication) = (id(context, OPTION)?, id(context, AUTHENTICATION)?);
    let own = context.option.as_ref().map(OptionId::as_str);
    match (option, authentication, own) {
        (Some(challenge_option_id), _, _) | (None, None, Some(challenge_option_id)) => {
            let enrollment_request_id = id(context, ENROLLMENT)?.unwrap_or(context.challenge.as_str());
            Ok(SendCall::Option(SendOtp { enrollment_request_id, challenge_option_id }))
        }
        (None, Some(authenticate_request_id), _) => Ok(SendCall::Authentication(ResendOtp { authenticate_request_id })),
        (None, None, None) => Err(RequestError::MissingParameter(OPTION)),
    }
}

impl Adapter for GooglePaymentIntegrator {
    fn base_url(&self) -> &BaseUrl {
        &self.base_url
    }

    fn capabilities(&self) -> Capabilities {
        // The integrator answers the same request id as before, for 30 days. The option names the contact, so the destination is
        // not sent.
        let abilities = Capabilities::manages(Channel::ALL.to_vec(), true);
        Capabilities { contact_on_file: true, send_repeatable: true, ..abilities }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let (context, key) = (&delivery.context, delivery.idempotency_key.as_str());
        Ok(match send_call(context)? {
            SendCall::Option(body) => self.call(&self.send_path, context, key, body),
            SendCall::Authentication(body) => self.call(&self.resend_path, context, key, body),
        })
    }

    fn delivered(&self, delivery: &Delivery, answer: &Inbound) -> Delivered {
        let context = &delivery.context;
        if answer.status != 200 {
            return refused(context, answer);
        }
        let reference = self.request_id(context, &delivery.idempotency_key);
        if matches!(send_call(context), Ok(SendCall::Option(_))) {
            let Some(sent) = answer.json::<Sent<SendOtpResult>>() else { return Delivered::Unknown };
            let now = context.now.as_millis();
            match sent.result {
                SendOtpResult::Success(success) => {
                    let receipt = success.receipt(reference, sent.response_header.as_ref(), now);
                    receipt.map_or(Delivered::Unknown, Delivered::Accepted)
                }
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

    fn checked(&self, check: &Check, answer: &Inbound) -> Checked {
        match (answer.status, error(answer)) {
            (200, _) => {}
            // The caller names another authentication than there is, or one in a state that takes no code. Its own challenge ends so
            // where the code has expired.
            (404, Some(ErrorCode::InvalidIdentifier)) | (400, Some(ErrorCode::PreconditionViolation))
                if given(&check.context, AUTHENTICATION) =>
            {
                return Checked::Invalid(RequestError::InvalidParameter(AUTHENTICATION));
            }
            // No code of the integrator's looks like what was typed.
            (400, Some(ErrorCode::InvalidFieldValue)) if !context::is_digits(check.otp.expose(), 4..=10) => {
                return Checked::NotMatched { left: None };
            }
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
                ..Evidence::default()
            }),
            VerifyOtpResultCode::OtpNotMatched(_) => Checked::NotMatched { left: None },
            VerifyOtpResultCode::OtpAlreadyUsed(_) => Checked::AlreadyUsed,
        }
    }

    fn alarm(&self, answer: &Inbound) -> Option<Alarm> {
        error(answer).and_then(ErrorCode::alarm)
    }

    fn concerns_one(&self, answer: &Inbound) -> bool {
        error(answer) == Some(ErrorCode::UserActionInProgress)
    }
}

/// The error code of an answer; `None` for a success, and for a body that is not the protocol's.
fn error(answer: &Inbound) -> Option<ErrorCode> {
    if answer.status < 400 {
        return None;
    }
    answer.json::<ErrorResponse>().and_then(|error| error.code())
}

fn given(context: &ChallengeContext, name: &str) -> bool {
    context::parameter(&context.parameters, name).is_some()
}

/// Any status but 200 says that the request was not processed, with some exceptions.
fn refused(context: &ChallengeContext, answer: &Inbound) -> Delivered {
    match (answer.status, error(answer)) {
        // An id that the caller gave is not known there. An unknown option is answered as expired, so of several the others are
        // likelier.
        (404, Some(ErrorCode::InvalidIdentifier))
            if [ENROLLMENT, OPTION, AUTHENTICATION].iter().any(|name| given(context, name)) =>
        {
            let name = [ENROLLMENT, OPTION].into_iter().find(|name| given(context, name));
            Delivered::Invalid(RequestError::InvalidParameter(name.unwrap_or(AUTHENTICATION)))
        }
        // Another call with this request id came first, or this one was cut off: a code may have been sent.
        (_, Some(ErrorCode::IdempotencyViolation)) | (409 | 412 | 499, _) => Delivered::Unknown,
        (400..=499, Some(ErrorCode::UserActionInProgress)) | (423, _) => Delivered::Failed(answer::unavailable(answer)),
        // No such method there.
        (501, _) => Delivered::Failed(Failure::Refused),
        _ => delivered_by_status(answer),
    }
}
