//! Spans: where a call is in a trace, and how a trace goes on. They cost nothing unless `telemetry` exports them.

pub(crate) mod w3c;

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt, TraceFlags, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::ports::call::{CallRecord, TraceParent};

/// The target of all spans that are exported. The log shows none of them: its lines name their call anyway.
pub(crate) const TARGET: &str = "otpd::span";

/// Makes a new span the child of one elsewhere.
pub(crate) fn continue_trace(span: &Span, parent: TraceParent, state: &str) {
    if span.is_disabled() {
        return;
    }
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let state = state.parse().unwrap_or(TraceState::NONE);
    let parent = SpanContext::new(parent.trace_id.into(), parent.span_id.into(), flags, true, state);
    // Fails where spans are not exported.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

/// Where a span is in its trace; `None`: it is not exported.
pub(crate) fn position(span: &Span) -> Option<TraceParent> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let position = context.span().span_context().clone();
    position.is_valid().then(|| TraceParent {
        trace_id: u128::from_be_bytes(position.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(position.span_id().to_bytes()),
        is_sampled: position.is_sampled(),
    })
}

/// The headers by which a request from within a span goes on with the trace: `traceparent` and, where there is one, `tracestate`.
pub(crate) fn propagated(span: &Span) -> Vec<(&'static str, String)> {
    let call = CallRecord::current();
    let origin = call.as_ref().and_then(|call| call.origin.get());
    let Some(parent) = position(span).or(origin.and_then(|origin| origin.trace)) else { return Vec::new() };
    let state = origin.map(|origin| origin.trace_state.to_string()).filter(|state| !state.is_empty());
    let parent = ("traceparent", w3c::parent(parent));
    [parent].into_iter().chain(state.map(|state| ("tracestate", state))).collect()
}
