//! One call, as its line in the log, its span, its audit events and the provider calls that it causes name it.

use std::sync::{Arc, OnceLock};

use crate::domain::{
    caller::CallerName,
    ids::{RequestId, SupportTag, Tenant},
};

/// Where a call comes from. Fixed when it arrives.
#[derive(Clone, Debug, Default)]
pub struct CallOrigin {
    /// The caller; `None` on a server that knows no callers.
    pub caller: Option<CallerName>,
    /// The `x-request-id` of the call, as a proxy gave it, or one that otpd made. At most 100 characters of `[a-zA-Z0-9:_-]`.
    pub x_request_id: Arc<str>,
    /// The trace that the call belongs to (W3C Trace Context, `traceparent`).
    pub trace: Option<TraceParent>,
}

/// A position in a trace: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Names the trace; never zero.
    pub trace_id: u128,
    /// Names the span that is the parent of what comes next; never zero.
    pub span_id: u64,
    /// Whether the caller may have recorded it.
    pub is_sampled: bool,
}

/// What is known of a call. Each part is set once, by whoever finds it out, and read at the end of the call.
#[derive(Debug, Default)]
pub struct CallRecord {
    /// Where it comes from.
    pub origin: OnceLock<CallOrigin>,
    /// The tenant, once the request was found to be well formed.
    pub tenant: OnceLock<Tenant>,
    /// The `request_id` of its header.
    pub request_id: OnceLock<RequestId>,
    /// The challenge that it names.
    pub challenge: OnceLock<SupportTag>,
    /// The account, of the challenge or of an operator's call.
    pub account: OnceLock<SupportTag>,
    /// The contact of a registration, or of an operator's call.
    pub contact: OnceLock<SupportTag>,
    /// The name of the result member of the answer.
    pub outcome: OnceLock<&'static str>,
}
