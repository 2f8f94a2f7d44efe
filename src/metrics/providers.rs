//! Calls to providers, and their breakers.

use std::borrow::Cow;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Durations, counters, register},
    names,
};
use crate::ports::{
    call::CallRecord,
    provider::{ProviderCall, ProviderObserver},
};

/// With the name of a provider, which is not known when the program is compiled.
type Labels<const COUNT: usize> = [(&'static str, Cow<'static, str>); COUNT];

pub(super) struct ProviderMetrics {
    calls: Durations<Labels<3>>,
    breaker_open: Family<Labels<1>, Gauge>,
    breaker_openings: Family<Labels<1>, Counter>,
}

fn labels(provider: &str) -> Labels<1> {
    [("provider", provider.to_owned().into())]
}

impl ProviderMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let (calls, breaker_open) = (Durations::register(registry, &names::PROVIDER_CALLS), Family::default());
        register(registry, &names::BREAKER_OPEN, &breaker_open);
        Self { calls, breaker_open, breaker_openings: counters(registry, &names::BREAKER_OPENINGS, []) }
    }
}

impl ProviderObserver for Metrics {
    fn provider_called(&self, call: &ProviderCall<'_>) {
        let [provider] = labels(call.provider);
        let labels = [provider, ("operation", call.operation.into()), ("outcome", call.outcome.into())];
        let trace = CallRecord::current().and_then(|record| record.sampled_trace());
        self.providers.calls.observe(&labels, call.duration, trace);
    }

    fn provider_made(&self, provider: &str) {
        let labels = labels(provider);
        self.providers.breaker_open.get_or_create(&labels).set(0);
        drop(self.providers.breaker_openings.get_or_create(&labels));
    }

    fn breaker_moved(&self, provider: &str, is_open: bool) {
        let labels = labels(provider);
        self.providers.breaker_open.get_or_create(&labels).set(is_open.into());
        if is_open {
            self.providers.breaker_openings.get_or_create(&labels).inc();
        }
    }
}
