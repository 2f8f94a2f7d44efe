//! Events of the audit.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Known, counters},
    names,
};
use crate::ports::observer::{AuditObserver, AuditOutcome, AuditSink, AuditSinkReading};

pub(super) struct AuditMetrics {
    events: Family<Known<2>, Counter>,
}

fn labels(sink: AuditSink, outcome: AuditOutcome) -> Known<2> {
    [("sink", sink.word()), ("outcome", outcome.word())]
}

impl AuditMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = AuditSink::ALL.into_iter().flat_map(|sink| AuditOutcome::ALL.map(|outcome| labels(sink, outcome)));
        Self { events: counters(registry, &names::AUDIT_EVENTS, all) }
    }
}

impl AuditObserver for Metrics {
    fn audited(&self, sink: AuditSink, outcome: AuditOutcome, events: u64) {
        self.audit.events.get_or_create(&labels(sink, outcome)).inc_by(events);
    }

    fn sink_made(&self, sink: AuditSink, reading: AuditSinkReading) {
        self.sources.audit_sink(sink, reading);
    }
}
