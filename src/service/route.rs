//! Routes: which providers may deliver to a destination, in which order.

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        challenge::Maker,
        destination::{Channel, Destination},
        rules::Plan,
    },
    ports::provider::{Codes, Provider},
};

/// What a lease adds to the time-outs of its route: for the store, and for clocks that differ.
const LEASE_MARGIN: Duration = Duration::from_secs(5);

/// The providers that there are, in order of preference.
#[derive(Clone)]
pub struct Routes(Vec<Arc<dyn Provider>>);

impl Routes {
    /// Providers in order of preference.
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self(providers)
    }

    /// The providers that can deliver to a destination, in order of preference. Those that are not worth a call now come
    /// last: they are only tried where no other is left.
    pub fn to(&self, channel: Channel, destination: &Destination) -> Vec<Arc<dyn Provider>> {
        let serves = |provider: &&Arc<dyn Provider>| provider.capabilities().serves(channel, destination);
        let mut route: Vec<_> = self.0.iter().filter(serves).cloned().collect();
        route.sort_by_key(|provider| !provider.is_ready());
        route
    }

    /// The provider of a name.
    pub fn named(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.0.iter().find(|provider| provider.name() == name).cloned()
    }
}

/// How long a send over a route may take.
pub(super) fn send_lease(route: &[Arc<dyn Provider>]) -> Duration {
    let timeouts = route.iter().map(|provider| provider.capabilities().timeout);
    timeouts.fold(LEASE_MARGIN, Duration::saturating_add)
}

/// How long one question to a provider may take.
pub(super) fn check_lease(provider: &dyn Provider) -> Duration {
    provider.capabilities().timeout.saturating_add(LEASE_MARGIN)
}

/// What a provider means for the code that it delivers.
pub(super) fn plan(provider: &dyn Provider, key_id: u32) -> Plan {
    let capabilities = provider.capabilities();
    let maker = match capabilities.codes {
        Codes::Ours => Maker::Us,
        Codes::Managed { check_repeatable } => Maker::Provider { reference: String::new(), check_repeatable },
    };
    Plan { provider: provider.name().to_owned(), maker, code_life: capabilities.code_life, key_id }
}
