//! Answers in one or two words, so that tests can list what they expect.

use std::{collections::BTreeMap, time::Duration};

use otpd::grpc::proto::{
    CreateChallengeResponse, SendOtpResponse, SendOtpResult, VerifyOtpResponse,
    create_challenge_result::Result as CreateResult, send_otp_result::Result as SendResult,
    verify_otp_result_code::VerifyOtpResultCode as VerifyResult,
};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::caller::Told;

/// The member of the result, and after it that of the send; or the status.
pub(crate) fn created(told: &Told<CreateChallengeResponse>) -> String {
    let response = match told {
        Ok(response) => response,
        Err(status) => return failed(status),
    };
    match response.result.as_ref().and_then(|result| result.result.as_ref()).expect("a result") {
        CreateResult::Success(success) => match &success.send_result {
            Some(sent) => format!("success with {}", send_word(sent)),
            None => "success".into(),
        },
        CreateResult::AccountLocked(_) => "account_locked".into(),
        CreateResult::RiskDeclined(_) => "risk_declined".into(),
    }
}

/// The member of the result, or the status.
pub(crate) fn sent(told: &Told<SendOtpResponse>) -> String {
    match told {
        Ok(response) => send_word(response.result.as_ref().expect("a result")).into(),
        Err(status) => failed(status),
    }
}

/// The member of the result, or the status.
pub(crate) fn verified(told: &Told<VerifyOtpResponse>) -> String {
    let response = match told {
        Ok(response) => response,
        Err(status) => return failed(status),
    };
    let result = response.result.as_ref().and_then(|result| result.verify_otp_result_code.as_ref());
    let word = match result.expect("a result") {
        VerifyResult::Success(_) => "success",
        VerifyResult::OtpNotMatched(_) => "otp_not_matched",
        VerifyResult::OtpAlreadyUsed(_) => "otp_already_used",
        VerifyResult::OtpExpired(_) => "otp_expired",
        VerifyResult::VerificationAttemptsExceeded(_) => "verification_attempts_exceeded",
        VerifyResult::AccountLocked(_) => "account_locked",
    };
    assert_eq!(word == "success", response.verified.is_some(), "what was verified is told with a success only");
    word.into()
}

/// The word for any call that only succeeds or fails.
pub(crate) fn ended<T>(told: &Told<T>) -> String {
    told.as_ref().map_or_else(failed, |_| "done".into())
}

fn send_word(result: &SendOtpResult) -> &'static str {
    match result.result.as_ref().expect("a result") {
        SendResult::Success(_) => "success",
        SendResult::ChallengeOptionExpired(_) => "challenge_option_expired",
        SendResult::SendLimitExceeded(_) => "send_limit_exceeded",
        SendResult::AccountLocked(_) => "account_locked",
        SendResult::RiskDeclined(_) => "risk_declined",
        SendResult::ResendTooSoon(_) => "resend_too_soon",
        SendResult::DestinationRejected(_) => "destination_rejected",
    }
}

/// The code and the reason of a status. One without a reason is not otpd's but the client's own: the connection is gone.
pub(crate) fn failed(status: &Status) -> String {
    let Some(info) = status.get_details_error_info() else { return format!("{:?} -", status.code()) };
    assert_eq!(info.domain, "otp.v1", "{status:?}");
    assert_eq!(
        matches!(status.code(), Code::Aborted | Code::Unavailable | Code::ResourceExhausted),
        status.get_details_retry_info().is_some_and(|info| info.retry_delay > Some(Duration::ZERO)),
        "waiting helps exactly here: {status:?}"
    );
    format!("{:?} {}", status.code(), info.reason)
}

/// How often each answer was given.
pub(crate) type Tally = BTreeMap<String, usize>;

/// Makes calls at the same time, and counts the answers.
pub(crate) async fn tally(calls: impl Iterator<Item = impl Future<Output = String> + Send + 'static>) -> Tally {
    let mut tasks: JoinSet<String> = calls.collect();
    let mut tally = Tally::new();
    while let Some(word) = tasks.join_next().await {
        *tally.entry(word.unwrap()).or_default() += 1;
    }
    tally
}

/// What is expected of a [`tally`].
pub(crate) fn counts(expected: &[(&str, usize)]) -> Tally {
    expected.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}
