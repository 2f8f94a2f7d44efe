//! Row by row: what each failure looks like from outside.

use super::*;
use crate::ports::store::StoreError;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Where the base of a wait is told, the wait is that, lengthened by at most a half.
fn is_spread(told: Option<Duration>, base: Option<Duration>) -> bool {
    match (told, base) {
        (Some(told), Some(base)) => (base..=base.mul_f64(1.5)).contains(&told),
        (told, base) => told == base,
    }
}

fn seen(status: &Status) -> (Code, String, Option<Duration>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every status has ErrorInfo");
    assert_eq!(info.domain, "otp.v1");
    let retry = details.retry_info().and_then(|info| info.retry_delay);
    // Clients' retry policies are told the same, in whole milliseconds.
    let pushback = status.metadata().get(RETRY_PUSHBACK).map(|value| value.to_str().unwrap().parse::<u64>().unwrap());
    assert_eq!(pushback, retry.map(|retry| u64::try_from(retry.as_micros().div_ceil(1_000)).unwrap()));
    (status.code(), info.reason.clone(), retry)
}

#[test]
fn every_error_has_its_row() {
    for (error, code, reason, retry) in [
        (Error::InvalidIdentifier, Code::NotFound, "INVALID_IDENTIFIER", None),
        (Error::IdempotencyViolation, Code::AlreadyExists, "IDEMPOTENCY_VIOLATION", None),
        (
            Error::RequestInProgress { retry_after: millis(700) },
            Code::Aborted,
            "REQUEST_IN_PROGRESS",
            Some(millis(700)),
        ),
        (Error::RequestInProgress { retry_after: millis(0) }, Code::Aborted, "REQUEST_IN_PROGRESS", Some(millis(1))),
        (Error::Contention, Code::Aborted, "CONTENTION", Some(millis(200))),
        (Error::ProviderUnavailable { retry_after: None }, Code::Aborted, "PROVIDER_UNAVAILABLE", Some(millis(2000))),
        (Error::VerificationOutcomeUnknown, Code::Aborted, "VERIFICATION_OUTCOME_UNKNOWN", Some(millis(2000))),
        (Error::ProviderRefused, Code::FailedPrecondition, "PROVIDER_REFUSED", None),
        (Error::Invalid(RequestError::MissingParameter("pan")), Code::InvalidArgument, "MISSING_REQUIRED_FIELD", None),
        (Error::Invalid(RequestError::InvalidParameter("pan")), Code::InvalidArgument, "INVALID_FIELD_VALUE", None),
        (Error::Invalid(RequestError::Unsupported("check")), Code::FailedPrecondition, "PRECONDITION_VIOLATION", None),
        (Error::Precondition(Precondition::NoProvider), Code::FailedPrecondition, "PRECONDITION_VIOLATION", None),
        (Error::Precondition(Precondition::NothingSent), Code::FailedPrecondition, "PRECONDITION_VIOLATION", None),
        (Error::Precondition(Precondition::Verified), Code::FailedPrecondition, "PRECONDITION_VIOLATION", None),
        (Error::Forbidden, Code::PermissionDenied, "FORBIDDEN", None),
        (
            Error::Store(StoreError::new("load", "10.0.0.7 said no")),
            Code::Unavailable,
            "STORE_UNAVAILABLE",
            Some(millis(1000)),
        ),
        (Error::Internal("record of jane is broken".to_owned()), Code::Internal, "INTERNAL", None),
    ] {
        let status = of_error(&error);
        let (told_code, told_reason, told_retry) = seen(&status);
        assert_eq!((told_code, told_reason.as_str()), (code, reason), "{error:?}");
        assert!(is_spread(told_retry, retry), "{error:?}: {told_retry:?}");
        let printed = format!("{status:?}");
        assert!(!printed.contains("10.0.0.7") && !printed.contains("jane"), "{printed}");
    }
}

#[test]
fn preconditions_are_told_apart_by_metadata() {
    for (precondition, condition) in [
        (Precondition::NoProvider, "NO_PROVIDER"),
        (Precondition::NothingSent, "NOTHING_SENT"),
        (Precondition::Verified, "VERIFIED"),
    ] {
        let details = of_error(&Error::Precondition(precondition)).get_error_details();
        let info = details.error_info().expect("every status has ErrorInfo");
        assert_eq!(info.metadata.get("condition").map(String::as_str), Some(condition));
    }
}

#[test]
fn the_frameworks_failures_have_their_rows() {
    for (status, code, reason, retry) in [
        (overloaded(), Code::ResourceExhausted, "OVERLOADED", Some(millis(1000))),
        (unimplemented(), Code::Unimplemented, "UNIMPLEMENTED", None),
        (undecodable(), Code::InvalidArgument, "INVALID_FIELD_VALUE", None),
        (too_large(65_536), Code::InvalidArgument, "INVALID_FIELD_VALUE", None),
        (deadline_exceeded(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
        (too_late(), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", None),
        (internal(), Code::Internal, "INTERNAL", None),
    ] {
        let (told_code, told_reason, told_retry) = seen(&status);
        assert_eq!((told_code, told_reason.as_str()), (code, reason));
        assert!(is_spread(told_retry, retry), "{reason}: {told_retry:?}");
    }
}

/// What a provider says of when to come back is handed on as it is.
#[test]
fn the_wait_of_a_provider_is_told_exactly() {
    for (given, told) in [(30_000, 30_000), (42, 42), (0, 1)] {
        let status = of_error(&Error::ProviderUnavailable { retry_after: Some(millis(given)) });
        assert_eq!(seen(&status).2, Some(millis(told)));
    }
}

/// Goal: callers that were told to wait do not come back together. Method: a thousand waits, by quarters of the spread.
#[test]
fn waits_are_spread() {
    let mut quarters = [0; 4];
    for _ in 0..1000 {
        let (_, _, retry) = seen(&overloaded());
        let beyond = retry.unwrap().checked_sub(AFTER_SHED).unwrap();
        let quarter = (0..4).find(|quarter| beyond <= AFTER_SHED / 8 * (quarter + 1)).unwrap();
        quarters[usize::try_from(quarter).unwrap()] += 1;
    }
    assert!(quarters.iter().all(|count| *count > 100), "{quarters:?}");
}

#[test]
fn violations_are_listed_under_the_gravest_reason() {
    let mut violations = Violations::default();
    violations.add("otp", FieldReason::InvalidFieldValue, "must be 1 to 16 of [0-9A-Za-z]");
    violations.add("authenticate_request_id", FieldReason::MissingRequiredField, "is required");
    let status = of_violations(violations);
    assert_eq!(seen(&status), (Code::InvalidArgument, "MISSING_REQUIRED_FIELD".to_owned(), None));
    let details = status.get_error_details();
    let listed = details.bad_request().expect("listed").field_violations.iter();
    let listed: Vec<_> = listed.map(|fault| (fault.field.as_str(), fault.description.as_str())).collect();
    assert_eq!(listed, [("otp", "must be 1 to 16 of [0-9A-Za-z]"), ("authenticate_request_id", "is required")]);
}
