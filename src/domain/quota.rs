//! Sliding windows: at most so many within a span.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::AccountId;

/// At most `max` uses within any span of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How many. 1 to [`Window::MAX_USES`].
    pub max: u32,
    /// The span. 1 s to [`Window::MAX_SPAN`].
    pub per: Duration,
}

impl Window {
    /// The stores keep each use of a window, so their number is bounded.
    pub const MAX_USES: u32 = 10_000;
    pub const MAX_SPAN: Duration = Duration::from_secs(31 * 86_400);
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind<'a> {
    /// Sends to a destination, in canonical form.
    DestinationSends(&'a str),
    AccountSends(&'a AccountId),
    TenantSends,
    AccountCreations(&'a AccountId),
    TenantCreations,
}

impl QuotaKind<'_> {
    pub fn name(self) -> &'static str {
        match self {
            Self::DestinationSends(_) => "destination_sends",
            Self::AccountSends(_) => "account_sends",
            Self::TenantSends => "tenant_sends",
            Self::AccountCreations(_) => "account_creations",
            Self::TenantCreations => "tenant_creations",
        }
    }
}

/// The windows of one tenant, over all purposes. Each list may be empty (no limit) and holds at most
/// [`QuotaPolicy::MAX_WINDOWS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Sends to one destination, whatever the account or challenge.
    pub destination_sends: Vec<Window>,
    pub account_sends: Vec<Window>,
    pub tenant_sends: Vec<Window>,
    pub account_creations: Vec<Window>,
    pub tenant_creations: Vec<Window>,
}

impl QuotaPolicy {
    pub fn windows(&self, kind: QuotaKind<'_>) -> &[Window] {
        match kind {
            QuotaKind::DestinationSends(_) => &self.destination_sends,
            QuotaKind::AccountSends(_) => &self.account_sends,
            QuotaKind::TenantSends => &self.tenant_sends,
            QuotaKind::AccountCreations(_) => &self.account_creations,
            QuotaKind::TenantCreations => &self.tenant_creations,
        }
    }

    pub const MAX_WINDOWS: usize = 4;
}
