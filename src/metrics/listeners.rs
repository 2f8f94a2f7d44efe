//! Connections and certificates of the listeners.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Known, counters, register},
    names,
};
use crate::{
    domain::time::Timestamp,
    ports::observer::{ListenerName, ListenerObserver},
};

pub(super) struct ListenerMetrics {
    connections: Family<Known<1>, Gauge>,
    refused: Family<Known<1>, Counter>,
    expiry: Family<Known<1>, Gauge<f64, AtomicU64>>,
    reloads: Family<Known<1>, Counter>,
}

fn labels(listener: ListenerName) -> Known<1> {
    [("listener", listener.word())]
}

impl ListenerMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (connections, expiry) = (Family::<Known<1>, Gauge>::default(), Family::default());
        register(registry, &names::CONNECTIONS, &connections);
        for listener in ListenerName::ALL {
            drop(connections.get_or_create(&labels(listener)));
        }
        let refused = counters(registry, &names::CONNECTIONS_REFUSED, ListenerName::ALL.map(labels));
        register(registry, &names::CERTIFICATE_EXPIRY, &expiry);
        let outcomes = ["loaded", "failed"].map(|outcome| [("outcome", outcome)]);
        let reloads = counters(registry, &names::CERTIFICATE_RELOADS, outcomes);
        Self { connections, refused, expiry, reloads }
    }
}

impl ListenerObserver for Metrics {
    fn connection_opened(&self, listener: ListenerName) {
        self.listeners.connections.get_or_create(&labels(listener)).inc();
    }

    fn connection_closed(&self, listener: ListenerName) {
        self.listeners.connections.get_or_create(&labels(listener)).dec();
    }

    fn connection_refused(&self, listener: ListenerName) {
        self.listeners.refused.get_or_create(&labels(listener)).inc();
    }

    fn certificate_expires(&self, listener: ListenerName, at: Timestamp) {
        let seconds = std::time::Duration::from_millis(at.as_millis()).as_secs_f64();
        self.listeners.expiry.get_or_create(&labels(listener)).set(seconds);
    }

    fn certificates_reloaded(&self, is_loaded: bool) {
        let outcome = if is_loaded { "loaded" } else { "failed" };
        self.listeners.reloads.get_or_create(&[("outcome", outcome)]).inc();
    }
}
