//! The sandbox: destinations for callers' own tests. Nothing is sent to them, and each accepts a configured code.
//!
//! The service sees a provider that checks its own codes and is chosen before any route, so all rules but the quotas apply:
//! attempts, gaps, expiry, locks.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::{
        code,
        destination::{Channel, Destination},
        ids::Tenant,
    },
    ports::{
        clock::Deadline,
        provider::{Capabilities, Check, Checked, Delivered, Delivery, Evidence, Provider, Receipt},
    },
    secret::Secret,
};

/// The name that records and logs show.
pub(crate) const NAME: &str = "sandbox";

/// The codes of destinations, in canonical form.
pub(crate) type KnownCodes = BTreeMap<String, Secret<String>>;

/// Accepts known codes and sends nothing.
pub(crate) struct Sandbox {
    capabilities: Capabilities,
    common: KnownCodes,
    by_tenant: BTreeMap<Tenant, KnownCodes>,
}

impl Sandbox {
    /// A sandbox of these destinations: of all tenants, and of single ones.
    pub(crate) fn new(common: KnownCodes, by_tenant: BTreeMap<Tenant, KnownCodes>) -> Self {
        let capabilities =
            Capabilities { timeout: Duration::from_secs(1), ..Capabilities::manages(Channel::ALL.to_vec(), true) };
        Self { capabilities, common, by_tenant }
    }

    fn code(&self, tenant: &Tenant, destination: &Destination) -> Option<&Secret<String>> {
        let destination = destination.canonical()?;
        let own = self.by_tenant.get(tenant).and_then(|codes| codes.get(&destination));
        own.or_else(|| self.common.get(&destination))
    }
}

#[async_trait]
impl Provider for Sandbox {
    fn name(&self) -> &str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn is_sandbox_for(&self, tenant: &Tenant, destination: &Destination) -> bool {
        self.code(tenant, destination).is_some()
    }

    async fn deliver(&self, delivery: Delivery, _deadline: Deadline) -> Delivered {
        match self.code(&delivery.context.tenant, &delivery.context.destination) {
            Some(code) => Delivered::Accepted(Receipt {
                code_length: u8::try_from(code.expose().len()).ok(),
                ..Receipt::default()
            }),
            None => Delivered::Rejected,
        }
    }

    async fn check(&self, check: Check, _deadline: Deadline) -> Checked {
        match self.code(&check.context.tenant, &check.context.destination) {
            Some(known) if code::matches(known, &check.otp) => Checked::Matched(Evidence::default()),
            Some(_) => Checked::NotMatched { left: None },
            // The destination has left the configuration.
            None => Checked::Gone,
        }
    }
}
