//! Calls to otpd: how long they took, who made them, which were shed.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Durations, Known, counters},
    names,
};
use crate::{
    domain::caller::CallerName,
    ports::observer::{CallObserver, CallSummary, PermitUsage, ShedCause},
};

/// A caller that was not known. No name in the configuration looks so.
const UNKNOWN: &str = "_UNKNOWN";
/// The code, and the reason, of calls that otpd fails at itself.
const INTERNAL: &str = "INTERNAL";
/// The code of its calls.
const UNAUTHENTICATED: &str = "UNAUTHENTICATED";

pub(super) struct CallMetrics {
    calls: Durations<Known<5>>,
    by_caller: Family<CallerLabels, Counter>,
    shed: Family<Known<1>, Counter>,
}

/// The labels of calls by caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct CallerLabels {
    /// `None` on a server that knows no callers.
    caller: Option<CallerName>,
    code: &'static str,
}

impl EncodeLabelSet for CallerLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let nobody = if self.code == UNAUTHENTICATED { UNKNOWN } else { "" };
        let caller = self.caller.as_ref().map_or(nobody, CallerName::as_str);
        ("caller", caller).encode(encoder.encode_label())?;
        ("rpc_response_status_code", self.code).encode(encoder.encode_label())
    }
}

fn labels(method: &'static str, code: &'static str, outcome: &'static str) -> Known<5> {
    let error_type = if code == "OK" { "" } else { outcome };
    [
        ("rpc_system_name", "grpc"),
        ("rpc_method", method),
        ("rpc_response_status_code", code),
        ("error_type", error_type),
        ("outcome", outcome),
    ]
}

impl CallMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        Self {
            calls: Durations::register(registry, &names::CALLS),
            by_caller: counters(registry, &names::CALLER_CALLS, []),
            shed: counters(registry, &names::SHED, ShedCause::ALL.map(|cause| [("cause", cause.word())])),
        }
    }
}

impl CallObserver for Metrics {
    fn call_ended(&self, call: &CallSummary<'_>) {
        let labels = labels(call.method, call.code, call.outcome);
        self.calls.calls.observe(&labels, call.duration, call.record.sampled_trace());
        let labels = CallerLabels { caller: call.record.caller.get().cloned(), code: call.code };
        self.calls.by_caller.get_or_create(&labels).inc();
    }

    fn call_shed(&self, cause: ShedCause) {
        self.calls.shed.get_or_create(&[("cause", cause.word())]).inc();
    }

    fn methods_served(&self, methods: &[&'static str]) {
        for method in methods {
            self.calls.calls.begin(&labels(method, INTERNAL, INTERNAL));
        }
    }

    fn permits_made(&self, usage: PermitUsage) {
        self.sources.permits(usage);
    }
}
