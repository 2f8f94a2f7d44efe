//! Events of the audit.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Known, counters, register},
    names,
};
use crate::ports::observer::{AuditObserver, AuditOutcome, AuditSink};

pub(super) struct AuditMetrics {
    events: Family<Known<2>, Counter>,
    waiting: Family<Known<1>, Gauge>,
}

fn labels(sink: AuditSink, outcome: AuditOutcome) -> Known<2> {
    [("sink", sink.word()), ("outcome", outcome.word())]
}

impl AuditMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = AuditSink::ALL.into_iter().flat_map(|sink| AuditOutcome::ALL.map(|outcome| labels(sink, outcome)));
        let (events, waiting) = (counters(registry, &names::AUDIT_EVENTS, all), Family::<Known<1>, Gauge>::default());
        register(registry, &names::AUDIT_WAITING, &waiting);
        for sink in AuditSink::ALL {
            drop(waiting.get_or_create(&[("sink", sink.word())]));
        }
        Self { events, waiting }
    }
}

impl AuditObserver for Metrics {
    fn audited(&self, sink: AuditSink, outcome: AuditOutcome, events: u64) {
        self.audit.events.get_or_create(&labels(sink, outcome)).inc_by(events);
    }

    fn audit_waiting(&self, sink: AuditSink, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.audit.waiting.get_or_create(&[("sink", sink.word())]).set(events);
    }
}
