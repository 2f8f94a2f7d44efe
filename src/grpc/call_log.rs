//! One line and one observation per call. No account, destination, code or challenge is in either.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{method::RpcTarget, status};
use crate::{domain::ids::Tenant, ports::clock::Stopwatch, service::error::Error};

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct CallSummary<'a> {
    /// The fully qualified method, `_OTHER` for one that does not exist.
    pub method: &'static str,
    /// The tenant, once the request was found to be well formed.
    pub tenant: Option<&'a Tenant>,
    /// The name of the result member of an answer, or the reason of a status.
    pub outcome: &'a str,
    /// The name of the status code.
    pub code: &'static str,
    /// From the arrival of the headers to the answer.
    pub duration: Duration,
}

/// Sees every call to the contract at its end; where metrics are counted.
pub trait CallObserver: Send + Sync {
    /// A call has ended. Must not wait.
    fn call_ended(&self, call: &CallSummary<'_>);
}

/// What the handler learns of a call for its line in the log.
#[derive(Debug, Default)]
pub(crate) struct CallRecord {
    pub(crate) tenant: OnceLock<Tenant>,
    /// The result member of the answer.
    pub(crate) outcome: OnceLock<&'static str>,
}

/// A call that has not been answered. Dropped without an answer, it was cancelled by the caller.
pub(crate) struct InFlightCall {
    target: RpcTarget,
    started: Stopwatch,
    observer: Arc<dyn CallObserver>,
    /// Shared with the handler.
    pub(crate) record: Arc<CallRecord>,
    ended: bool,
}

impl InFlightCall {
    pub(crate) fn start(target: RpcTarget, observer: Arc<dyn CallObserver>) -> Self {
        Self { target, started: Stopwatch::start(), observer, record: Arc::default(), ended: false }
    }

    /// The call is answered.
    pub(crate) fn end(mut self, failure: Option<&Status>) {
        self.ended = true;
        match failure {
            None => self.report(Code::Ok, self.record.outcome.get().copied().unwrap_or("OK")),
            Some(failure) => {
                let reason = failure.get_details_error_info().map(|info| info.reason);
                self.report(failure.code(), reason.as_deref().unwrap_or(status::code_name(failure.code())));
            }
        }
    }

    fn report(&self, code: Code, outcome: &str) {
        let duration = self.started.elapsed();
        let tenant = self.record.tenant.get();
        let summary =
            CallSummary { method: self.target.name(), tenant, outcome, code: status::code_name(code), duration };
        tracing::info!(
            target: "otpd::rpc",
            {
                rpc.method = summary.method,
                otp.tenant = tenant.map(Tenant::as_str),
                otp.outcome = outcome,
                rpc.status_code = summary.code,
                duration_ms = duration.as_secs_f64() * 1000.0,
            },
            "call"
        );
        self.observer.call_ended(&summary);
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        if !self.ended {
            self.report(Code::Cancelled, "CANCELLED");
        }
    }
}

/// Tells the operator, once, why a use case failed for a reason that is ours. What is the caller's stays in the call's
/// line.
pub(crate) fn cause(method: &'static str, error: &Error) {
    match error {
        Error::Internal(_) => tracing::error!(target: "otpd::rpc", { rpc.method = method, %error }, "use case failed"),
        Error::Store(_) => tracing::warn!(target: "otpd::rpc", { rpc.method = method, %error }, "use case failed"),
        Error::InvalidIdentifier
        | Error::IdempotencyViolation
        | Error::RequestInProgress { .. }
        | Error::Contention
        | Error::ProviderUnavailable { .. }
        | Error::Invalid(_)
        | Error::VerificationOutcomeUnknown
        | Error::Precondition(_)
        | Error::Forbidden
        | Error::ProviderRefused => {}
    }
}
