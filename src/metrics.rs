//! Metrics for Prometheus, one file for each part of otpd. No label holds a tenant, a destination or an id.

mod audit;
mod calls;
mod decisions;
mod family;
mod listeners;
pub(crate) mod names;
mod process;
mod providers;
mod sources;
mod store;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{encoding::text::encode, registry::Registry};

use audit::AuditMetrics;
use calls::CallMetrics;
use decisions::DecisionMetrics;
use listeners::ListenerMetrics;
use providers::ProviderMetrics;
use sources::Scrape;
use store::StoreMetrics;

pub use sources::{MasterKeyUse, Sources};

/// All metrics.
pub struct Metrics {
    calls: CallMetrics,
    listeners: ListenerMetrics,
    store: StoreMetrics,
    providers: ProviderMetrics,
    decisions: DecisionMetrics,
    audit: AuditMetrics,
    /// What is read when the metrics are asked for.
    pub sources: Arc<Sources>,
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let sources = Arc::<Sources>::default();
        registry.register_collector(Box::new(Scrape(Arc::clone(&sources))));
        Self {
            calls: CallMetrics::register(&mut registry),
            listeners: ListenerMetrics::register(&mut registry),
            store: StoreMetrics::register(&mut registry),
            providers: ProviderMetrics::register(&mut registry),
            decisions: DecisionMetrics::register(&mut registry),
            audit: AuditMetrics::register(&mut registry),
            sources,
            registry: Mutex::new(registry),
        }
    }
}

impl Metrics {
    /// All metrics in the text form of OpenMetrics.
    ///
    /// # Errors
    /// None that is known: writing to a text does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

#[cfg(test)]
pub(crate) mod tests;
