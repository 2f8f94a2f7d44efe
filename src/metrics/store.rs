//! The store: its operations, and what its examinations find out.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Durations, Known, counters, register},
    names,
};
use crate::ports::{
    call::CallRecord,
    observer::{StoreCall, StoreCallObserver, StoreLoss, StoreObserver},
};

pub(super) struct StoreMetrics {
    calls: Durations<Known<2>>,
    connected: Gauge,
    clock_skew: Gauge<f64, AtomicU64>,
    losses: Family<Known<1>, Counter>,
}

impl StoreMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (connected, clock_skew) = (Gauge::default(), Gauge::default());
        let calls = Durations::register(registry, &names::STORE_CALLS);
        register(registry, &names::STORE_CONNECTED, &connected);
        register(registry, &names::CLOCK_SKEW, &clock_skew);
        let losses = counters(registry, &names::STORE_LOSSES, StoreLoss::ALL.map(|loss| [("loss", loss.word())]));
        Self { calls, connected, clock_skew, losses }
    }
}

impl StoreCallObserver for Metrics {
    fn store_asked(&self, call: &StoreCall) {
        let labels = [("operation", call.operation), ("outcome", call.outcome)];
        let trace = CallRecord::current().and_then(|record| record.sampled_trace());
        self.store.calls.observe(&labels, call.duration, trace);
    }
}

impl StoreObserver for Metrics {
    fn store_examined(&self, answered: bool) {
        self.store.connected.set(answered.into());
    }

    fn clock_compared(&self, skew_ms: i64) {
        // Exact below three days; a clock that is off by more is off.
        let skew_ms = i32::try_from(skew_ms).unwrap_or(if skew_ms < 0 { i32::MIN } else { i32::MAX });
        self.store.clock_skew.set(f64::from(skew_ms) / 1_000.0);
    }

    fn store_lost(&self, loss: StoreLoss) {
        self.store.losses.get_or_create(&[("loss", loss.word())]).inc();
    }
}
