//! One call, as its line in the log, its span, its audit events and the provider calls that it causes name it.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use crate::domain::{
    caller::CallerName,
    ids::{RequestId, SupportTag, Tenant},
};

tokio::task_local! {
    /// The call that the present task works for.
    static CURRENT: Arc<CallRecord>;
}

/// Where a call comes from. Fixed when it arrives.
#[derive(Clone, Debug, Default)]
pub struct CallOrigin {
    /// The machine that it came from; `None`: over a Unix socket.
    pub peer: Option<IpAddr>,
    /// The `x-request-id` of the call, as a proxy gave it, or one that otpd made. At most 100 characters of `[a-zA-Z0-9:_-]`.
    pub x_request_id: Arc<str>,
    /// The trace that the call belongs to (W3C Trace Context, `traceparent`), or that otpd began for it.
    pub trace: Option<TraceParent>,
    /// What other participants of the trace tell each other (`tracestate`), as it came. Empty where nothing came.
    pub trace_state: Arc<str>,
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
    /// The caller's name in the configuration. Not set on a server that knows no callers, and of a caller that is not known.
    pub caller: OnceLock<CallerName>,
    /// The tenant of its header, where that is well formed.
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
    /// Set where a decision of the call must be kept, and is not: then its answer is not told.
    pub unkept: OnceLock<()>,
}

impl CallRecord {
    /// Of a call that has arrived.
    pub fn arrived(origin: CallOrigin, caller: Option<CallerName>) -> Arc<Self> {
        let caller = caller.map(OnceLock::from).unwrap_or_default();
        Arc::new(Self { origin: origin.into(), caller, ..Self::default() })
    }

    /// The call that the present task works for. Lines of the log name it, and metrics its trace.
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Works for this call: whatever is awaited finds it as the current one.
    pub async fn scope<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }

    /// The same, without waiting.
    pub fn within<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Arc::clone(self), work)
    }

    /// The trace that it belongs to.
    pub fn trace(&self) -> Option<TraceParent> {
        self.origin.get()?.trace
    }

    /// The trace, where somebody may have recorded it: then a metric may point to it.
    pub fn sampled_trace(&self) -> Option<TraceId> {
        self.trace().filter(|trace| trace.is_sampled).map(TraceParent::id)
    }
}

impl TraceParent {
    /// The name of the trace.
    pub fn id(self) -> TraceId {
        TraceId(self.trace_id)
    }
}

/// The name of a trace, in the form of `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
