//! The one table from "could not be decided" to a gRPC status. Every status of the process is made here, with fixed
//! public texts: no cause, id or value of a request leaves through it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{
    parse::{FieldReason, Violations},
    proto::Reason,
    reason,
};
use crate::{
    ports::provider::RequestError,
    service::error::{Error, Precondition},
};

/// When a client's own retry policy may try again, in milliseconds (gRFC A6). As `RetryInfo`, which only programs read.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The domain of every reason.
pub(crate) const DOMAIN: &str = "otp.v1";
/// When to try again after lost races: the winners are done by then.
const AFTER_CONTENTION: Duration = Duration::from_millis(200);
/// When to ask a provider again that did not answer.
const AFTER_UNKNOWN: Duration = Duration::from_secs(2);
/// When to try again where no provider says when it might do better.
const AFTER_PROVIDER: Duration = Duration::from_secs(2);
/// When to try again while the store is away: not so soon that retries keep it down.
const AFTER_STORE: Duration = Duration::from_secs(1);
/// When to try again after being shed.
const AFTER_SHED: Duration = Duration::from_secs(1);
/// "At once" makes callers spin.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);
/// Callers that failed together are told waits that differ by up to this part of the wait, so that they do not come back
/// together. The wait that they need is always the least.
const SPREAD: f64 = 0.5;

/// One row of the table.
struct Row {
    code: Code,
    reason: Reason,
    message: &'static str,
    retry_after: Option<Duration>,
    metadata: Vec<(&'static str, String)>,
    violations: Vec<FieldViolation>,
}

impl Row {
    fn violation(mut self, field: &str, description: &str) -> Self {
        self.violations.push(FieldViolation::new(field, description));
        self
    }

    fn new(code: Code, reason: Reason, message: &'static str) -> Self {
        Self { code, reason, message, retry_after: None, metadata: Vec::new(), violations: Vec::new() }
    }

    fn retry_after(self, span: Duration) -> Self {
        Self { retry_after: Some(spread(span.max(SHORTEST_RETRY))), ..self }
    }

    /// What a provider says is told as it is, since its own bounds count from there.
    fn provider_wait(self, told: Option<Duration>) -> Self {
        match told {
            Some(told) => Self { retry_after: Some(told.max(SHORTEST_RETRY)), ..self },
            None => self.retry_after(AFTER_PROVIDER),
        }
    }

    fn metadata(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((key, value.into()));
        self
    }

    fn into_status(self) -> Status {
        let metadata: HashMap<String, String> =
            self.metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(reason::name(self.reason), DOMAIN, metadata);
        if self.retry_after.is_some() {
            details.set_retry_info(self.retry_after);
        }
        if !self.violations.is_empty() {
            details.set_bad_request(self.violations);
        }
        let mut status = Status::with_error_details(self.code, self.message, details);
        if let Some(span) = self.retry_after {
            status.metadata_mut().insert(RETRY_PUSHBACK, pushback(span).into());
        }
        status
    }
}

/// A wait as a client's retry policy is told it, never shorter than `RetryInfo` says.
fn pushback(span: Duration) -> i32 {
    i32::try_from(span.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
}

/// A wait lengthened by a part of its own, evenly spread between none and [`SPREAD`].
fn spread(span: Duration) -> Duration {
    // The standard library keys each hasher differently: even enough for this, and nothing here is secret.
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(0);
    span + span.mul_f64(SPREAD * f64::from(random) / f64::from(u32::MAX))
}

/// A call that a use case could not decide.
pub(crate) fn of_error(error: &Error) -> Status {
    let row = match error {
        Error::InvalidIdentifier => {
            Row::new(Code::NotFound, Reason::InvalidIdentifier, "no such challenge or challenge option")
        }
        Error::IdempotencyViolation => Row::new(
            Code::AlreadyExists,
            Reason::IdempotencyViolation,
            "the request_id was used for other content; nothing was counted",
        ),
        Error::RequestInProgress { retry_after } => Row::new(
            Code::Aborted,
            Reason::RequestInProgress,
            "this request, or one that must end first, is being worked on; try again",
        )
        .retry_after(*retry_after),
        Error::Contention => Row::new(
            Code::Aborted,
            Reason::Contention,
            "other requests changed the challenge or its lockout at the same time; try again",
        )
        .retry_after(AFTER_CONTENTION),
        Error::ProviderUnavailable { retry_after } => Row::new(
            Code::Aborted,
            Reason::ProviderUnavailable,
            "every provider failed; nothing was sent or judged; try again",
        )
        .provider_wait(*retry_after),
        Error::ProviderRefused => Row::new(
            Code::FailedPrecondition,
            Reason::ProviderRefused,
            "every provider refused; nothing was sent or judged; an operator has to correct its settings",
        ),
        Error::LockInThePast => Row::new(
            Code::InvalidArgument,
            Reason::InvalidFieldValue,
            "a field's value is not allowed; see the field violations",
        )
        .violation("unlock_timestamp", "must be in the future"),
        Error::Invalid(error) => of_request_error(*error),
        Error::VerificationOutcomeUnknown => Row::new(
            Code::Aborted,
            Reason::VerificationOutcomeUnknown,
            "the verifying provider did not answer; the same request_id asks it again",
        )
        .retry_after(AFTER_UNKNOWN),
        Error::Precondition(precondition) => of_precondition(*precondition),
        Error::Forbidden => Row::new(Code::PermissionDenied, Reason::Forbidden, "the caller is not allowed to do this"),
        Error::Store(_) => Row::new(Code::Unavailable, Reason::StoreUnavailable, "the store did not answer; try again")
            .retry_after(AFTER_STORE),
        Error::Gate(_) | Error::Audit(_) => {
            Row::new(Code::Unavailable, Reason::StoreUnavailable, "this replica cannot serve now; try again")
                .retry_after(AFTER_STORE)
        }
        Error::Internal(_) => return internal(),
    };
    row.into_status()
}

/// A provider cannot be called with what the caller gave. The names are the adapters' own, never a caller's text.
fn of_request_error(error: RequestError) -> Row {
    let (reason, message, name, description) = match error {
        RequestError::MissingParameter(name) => (
            Reason::MissingRequiredField,
            "the provider needs more than it was given; see the field violations",
            name,
            "is required",
        ),
        RequestError::InvalidParameter(name) => (
            Reason::InvalidFieldValue,
            "the provider does not take a value; see the field violations",
            name,
            "is not as the provider wants it",
        ),
        RequestError::Unsupported(call) => {
            let message = "the provider has no such call";
            return Row::new(Code::FailedPrecondition, Reason::PreconditionViolation, message)
                .metadata("condition", "UNSUPPORTED_BY_PROVIDER")
                .metadata("call", call);
        }
    };
    Row::new(Code::InvalidArgument, reason, message).violation(&field_of(name), description)
}

/// Where a caller finds what a provider does not take: among its parameters, or in the challenge.
fn field_of(name: &str) -> String {
    let of_challenge = matches!(name, "transaction" | "phone_number") || name.starts_with("transaction.");
    if of_challenge { name.to_owned() } else { format!("provider_parameters[{name}]") }
}

fn of_precondition(precondition: Precondition) -> Row {
    let (message, condition) = match precondition {
        Precondition::NoProvider => ("no provider serves one of the destinations", "NO_PROVIDER"),
        Precondition::NothingSent => ("no code has been sent", "NOTHING_SENT"),
        Precondition::Verified => ("the challenge has been verified", "VERIFIED"),
    };
    Row::new(Code::FailedPrecondition, Reason::PreconditionViolation, message).metadata("condition", condition)
}

/// A request with fields at fault. All are listed; the reason is that of the gravest.
pub(crate) fn of_violations(violations: Violations) -> Status {
    let (reason, message) = match violations.gravest() {
        FieldReason::InvalidApiVersion => {
            (Reason::InvalidApiVersion, "the protocol version is not supported; see the field violations")
        }
        FieldReason::MissingRequiredField => {
            (Reason::MissingRequiredField, "a required field is missing; see the field violations")
        }
        FieldReason::InvalidFieldValue => {
            (Reason::InvalidFieldValue, "a field's value is not allowed; see the field violations")
        }
        FieldReason::RequestTimestampOutOfRange => (
            Reason::RequestTimestampOutOfRange,
            "the request timestamp is too far from the server's clock; see the field violations",
        ),
    };
    let fields = violations.into_iter().map(|violation| FieldViolation::new(violation.field, violation.description));
    let row = Row { violations: fields.collect(), ..Row::new(Code::InvalidArgument, reason, message) };
    row.into_status()
}

/// The caller is not known. Why, is nobody's business but the operator's; there is no reason to tell apart.
pub(crate) fn unauthenticated() -> Status {
    Status::unauthenticated("the caller is not known")
}

/// The caller is known, and this is not for it.
pub(crate) fn forbidden() -> Status {
    of_error(&Error::Forbidden)
}

/// The caller's time ran out.
pub(crate) fn deadline_exceeded() -> Status {
    Row::new(
        Code::DeadlineExceeded,
        Reason::DeadlineExceeded,
        "the deadline passed; the work goes on, the same request_id asks for its outcome",
    )
    .into_status()
}

/// The caller's time was over before its message was here, and anything begun.
pub(crate) fn too_late() -> Status {
    let message = "the deadline passed before the whole call was here; nothing was begun";
    Row::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, message).into_status()
}

/// A broken invariant.
pub(crate) fn internal() -> Status {
    Row::new(Code::Internal, Reason::Internal, "internal error").into_status()
}

/// Shed before any work.
pub(crate) fn overloaded() -> Status {
    Row::new(Code::ResourceExhausted, Reason::Overloaded, "too many calls are in flight; try again")
        .retry_after(AFTER_SHED)
        .into_status()
}

/// A stream of health or reflection has been open for as long as one may be.
pub(crate) fn stream_over() -> Status {
    Row::new(Code::DeadlineExceeded, Reason::DeadlineExceeded, "the stream has reached its time; open another")
        .into_status()
}

/// No such method, or an encoding that is not known.
pub(crate) fn unimplemented() -> Status {
    Row::new(Code::Unimplemented, Reason::Unimplemented, "no such method, or an unsupported message encoding")
        .into_status()
}

/// The bytes are not a message of the method.
pub(crate) fn undecodable() -> Status {
    Row::new(Code::InvalidArgument, Reason::InvalidFieldValue, "the message cannot be decoded").into_status()
}

/// The message is larger than is taken.
pub(crate) fn too_large(max_bytes: usize) -> Status {
    Row::new(Code::InvalidArgument, Reason::InvalidFieldValue, "the message is too large")
        .metadata("max_bytes", max_bytes.to_string())
        .into_status()
}

/// The name of a code, as logs and metrics show it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests;
