//! Routes: which providers may deliver to a destination, in which order.

use std::{sync::Arc, time::Duration};

use super::timing::LEASE_MARGIN;
use crate::{
    domain::{
        destination::Destination,
        ids::Tenant,
        route::{Goal, Scope, best},
        rules::Plan,
    },
    ports::provider::{Failure, Provider},
};

/// Ways to providers, in order of preference.
pub type Route = Vec<Arc<dyn Provider>>;

/// Which providers there are, and which route each send takes.
#[derive(Clone, Default)]
pub struct Routes {
    providers: Route,
    by_scope: Vec<(Scope, Route)>,
    sandbox: Option<Arc<dyn Provider>>,
    resend_elsewhere: bool,
}

impl Routes {
    /// Routes by scope, over all providers that there are.
    pub fn new(providers: Route, by_scope: Vec<(Scope, Route)>) -> Self {
        Self { providers, by_scope, ..Self::default() }
    }

    /// A sandbox, asked before any route.
    #[must_use]
    pub fn with_sandbox(self, sandbox: Arc<dyn Provider>) -> Self {
        Self { sandbox: Some(sandbox), ..self }
    }

    /// Whether a resend prefers another provider than the one whose message did not arrive.
    #[must_use]
    pub fn resend_elsewhere(self, resend_elsewhere: bool) -> Self {
        Self { resend_elsewhere, ..self }
    }

    /// The providers that can deliver, in order of preference. Those that are not worth a call now come last: they are only
    /// tried where no other is left. `last` has delivered to this destination before.
    pub fn to(&self, goal: &Goal<'_>, last: Option<&str>) -> Route {
        if let Some(sandbox) = self.sandbox_for(goal.tenant, goal.destination) {
            return vec![Arc::clone(sandbox)];
        }
        let route = best(&self.by_scope, goal).into_iter().flatten();
        let mut route: Route = route.filter(|provider| provider.capabilities().serves(goal)).cloned().collect();
        let last = last.filter(|_| self.resend_elsewhere);
        route.sort_by_key(|provider| (!provider.is_ready(), provider.is_resting(), last == Some(provider.name())));
        route
    }

    /// Whether nothing is ever sent to a destination.
    pub fn is_sandboxed(&self, tenant: &Tenant, destination: &Destination) -> bool {
        self.sandbox_for(tenant, destination).is_some()
    }

    /// Whether a provider of that name is the sandbox.
    fn is_sandbox(&self, name: &str) -> bool {
        self.sandbox.as_ref().is_some_and(|sandbox| sandbox.name() == name)
    }

    pub fn named(&self, name: &str) -> Option<Arc<dyn Provider>> {
        let all = self.providers.iter().chain(&self.sandbox);
        all.into_iter().find(|provider| provider.name() == name).cloned()
    }

    fn sandbox_for(&self, tenant: &Tenant, destination: &Destination) -> Option<&Arc<dyn Provider>> {
        self.sandbox.as_ref().filter(|sandbox| sandbox.is_sandbox_for(tenant, destination))
    }
}

/// Why no provider of a route can be called now; `None` where one can.
pub(super) fn refusal(route: &[Arc<dyn Provider>]) -> Option<Failure> {
    let refusals: Option<Vec<Failure>> = route.iter().map(|provider| provider.refusal()).collect();
    refusals?.into_iter().fold(None, |one, other| Some(milder(one, other)))
}

/// Of the failures over a route, the one that promises most: an early retry, rather than a late one, rather than an operator.
pub(super) fn milder(one: Option<Failure>, other: Failure) -> Failure {
    match (one, other) {
        (Some(Failure::Unavailable { retry_after: one }), Failure::Unavailable { retry_after: other }) => {
            Failure::Unavailable { retry_after: one.into_iter().chain(other).min() }
        }
        (Some(unavailable @ Failure::Unavailable { .. }), Failure::Refused) => unavailable,
        (_, other) => other,
    }
}

/// How long a send over a route may take.
pub(super) fn send_lease(route: &[Arc<dyn Provider>]) -> Duration {
    let timeouts = route.iter().map(|provider| provider.capabilities().timeout);
    timeouts.fold(LEASE_MARGIN, Duration::saturating_add)
}

impl Routes {
    /// What a provider means for the code that it delivers.
    pub(super) fn plan(&self, provider: &dyn Provider, key_id: u32) -> Plan {
        let capabilities = provider.capabilities();
        Plan {
            provider: provider.name().to_owned(),
            owner: capabilities.code_owner,
            code_life: capabilities.code_life,
            send_repeatable: capabilities.send_repeatable,
            key_id,
            sandbox: self.is_sandbox(provider.name()),
        }
    }
}
