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
use crate::{
    domain::code::CodeOwner,
    ports::{
        call::CallRecord,
        provider::{Capabilities, ProviderCall, ProviderObserver},
    },
};

/// With the name of a provider, which is not known when the program is compiled.
type Labels<const COUNT: usize> = [(&'static str, Cow<'static, str>); COUNT];

/// What may become of a call.
const OUTCOMES: [&str; 5] = ["answered", "failed", "refused", "nothing_sent", "unknown"];

pub(super) struct ProviderMetrics {
    calls: Durations<Labels<3>>,
    breaker_open: Family<Labels<1>, Gauge>,
    breaker_openings: Family<Labels<1>, Counter>,
}

fn labels(provider: &str) -> Labels<1> {
    [("provider", provider.to_owned().into())]
}

fn call_labels(provider: &str, operation: &'static str, outcome: &'static str) -> Labels<3> {
    let [provider] = labels(provider);
    [provider, ("operation", operation.into()), ("outcome", outcome.into())]
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
        let labels = call_labels(call.provider, call.operation, call.outcome);
        let trace = CallRecord::current().and_then(|record| record.sampled_trace());
        self.providers.calls.observe(&labels, call.duration, trace);
    }

    fn provider_made(&self, provider: &str, capabilities: &Capabilities) {
        let labels = labels(provider);
        self.providers.breaker_open.get_or_create(&labels).set(0);
        drop(self.providers.breaker_openings.get_or_create(&labels));
        let checks = capabilities.code_owner != CodeOwner::Otpd;
        for operation in ["deliver"].into_iter().chain(checks.then_some("check")) {
            for outcome in OUTCOMES {
                self.providers.calls.begin(&call_labels(provider, operation, outcome));
            }
        }
        self.decisions.begin(provider, capabilities);
    }

    fn breaker_moved(&self, provider: &str, is_open: bool) {
        let labels = labels(provider);
        self.providers.breaker_open.get_or_create(&labels).set(is_open.into());
        if is_open {
            self.providers.breaker_openings.get_or_create(&labels).inc();
        }
    }
}
