//! One line and one observation per call. No account, destination or code is in either, but keyed tags.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::Response;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::Span;

use super::{method::RpcTarget, origin, reason, status};
use crate::{
    domain::{
        caller::CallerName,
        ids::{RequestId, Tenant},
    },
    ports::{
        call::{CallOrigin, CallRecord},
        clock::Stopwatch,
        observer::{CallObserver, CallSummary},
    },
    service::error::Error,
};

/// Codes by which a server says that it has failed: OpenTelemetry's conventions for RPC.
const SERVER_FAULTS: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];

/// The line of a call. A macro, since a target is part of the code. The ids of the call are in every line of the log that
/// belongs to one.
macro_rules! line {
    ($target:literal, $summary:expr, $peer:expr) => {
        tracing::info!(
            target: $target,
            {
                rpc.method = $summary.method,
                rpc.response.status_code = $summary.code,
                otp.outcome = $summary.outcome,
                peer = $peer.map(tracing::field::display),
                duration_ms = $summary.duration.as_secs_f64() * 1000.0,
            },
            "call"
        )
    };
}

/// A call that has not been answered. Dropped without an answer, it was cancelled by the caller.
pub(crate) struct InFlightCall {
    target: RpcTarget,
    started: Stopwatch,
    observer: Arc<dyn CallObserver>,
    /// Shared with the handler.
    pub(crate) record: Arc<CallRecord>,
    /// The work goes on within it.
    pub(crate) span: Span,
    ended: bool,
}

impl InFlightCall {
    pub(crate) fn start(
        target: RpcTarget,
        caller: Option<CallerName>,
        (span, origin): (Span, CallOrigin),
        observer: Arc<dyn CallObserver>,
    ) -> Self {
        let record = CallRecord::arrived(origin, caller);
        Self { target, started: Stopwatch::start(), observer, record, span, ended: false }
    }

    /// The time since it came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The call is answered with this response, which gets the name of the call.
    pub(crate) fn end<B>(mut self, response: &mut Response<B>, failure: Option<&Status>) {
        self.ended = true;
        if let Some(origin) = self.record.origin.get() {
            origin::tell(origin, response.headers_mut());
        }
        match failure {
            None => self.report(Code::Ok, self.record.outcome.get().copied().unwrap_or("OK")),
            Some(failure) => self.report(failure.code(), reason_of(failure)),
        }
    }

    fn report(&self, code: Code, outcome: &'static str) {
        let (duration, record) = (self.started.elapsed(), &*self.record);
        let summary =
            CallSummary { method: self.target.name(), record, outcome, code: status::code_name(code), duration };
        let peer = record.origin.get().map(|origin| ShownPeer(origin.peer));
        // Without a caller and a tenant nothing of the call was understood. Such calls cost whoever makes them little: their lines
        // are paced.
        let is_known = record.caller.get().is_some() || record.tenant.get().is_some();
        self.record.within(|| {
            if is_known {
                line!("otpd::rpc", summary, peer);
            } else {
                line!("otpd::wire", summary, peer);
            }
        });
        self.observer.call_ended(&summary);
        if !self.span.is_disabled() {
            describe(&self.span, &summary);
        }
    }
}

/// Tells the span how its call ended, and whom it was about. A server's span has failed where the server has.
fn describe(span: &Span, call: &CallSummary<'_>) {
    span.record("rpc.response.status_code", call.code).record("otp.outcome", call.outcome);
    if call.code != status::code_name(Code::Ok) {
        span.record("error.type", call.outcome);
    }
    if SERVER_FAULTS.map(status::code_name).contains(&call.code) {
        span.record("otel.status_code", "ERROR");
    }
    let record = call.record;
    let texts = [
        ("request_id", record.request_id.get().map(RequestId::as_str)),
        ("caller", record.caller.get().map(CallerName::as_str)),
        ("tenant", record.tenant.get().map(Tenant::as_str)),
    ];
    for (name, text) in texts {
        span.record(name, text);
    }
    for (name, tag) in [("challenge", &record.challenge), ("account", &record.account), ("contact", &record.contact)] {
        span.record(name, tag.get().map(tracing::field::display));
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        if !self.ended {
            self.report(Code::Cancelled, "CANCELLED");
        }
    }
}

/// Where a call came from, in the log.
struct ShownPeer(Option<IpAddr>);

impl fmt::Display for ShownPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

/// The reason that a status names; the code's name for a status of the framework, which names none.
fn reason_of(failure: &Status) -> &'static str {
    let info = failure.get_details_error_info();
    let known = info.and_then(|info| reason::parse(&info.reason));
    known.map_or(status::code_name(failure.code()), reason::name)
}

/// Tells the operator, once, why a use case failed for a reason that is ours. What is the caller's stays in the call's
/// line.
pub(crate) fn cause(method: &'static str, error: &Error) {
    match error {
        Error::Internal(_) => tracing::error!(target: "otpd::rpc", { rpc.method = method, %error }, "use case failed"),
        Error::Store(_) | Error::Gate(_) | Error::Audit(_) => {
            tracing::warn!(target: "otpd::rpc", { rpc.method = method, %error }, "use case failed");
        }
        Error::InvalidIdentifier
        | Error::IdempotencyViolation
        | Error::RequestInProgress { .. }
        | Error::Contention
        | Error::ProviderUnavailable { .. }
        | Error::Invalid(_)
        | Error::LockInThePast
        | Error::VerificationOutcomeUnknown
        | Error::Precondition(_)
        | Error::Forbidden
        | Error::ProviderRefused => {}
    }
}
