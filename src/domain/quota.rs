//! Quotas: how many sends and creations are allowed within sliding windows of time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// At most `max` uses within any span of `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// How many uses. 1 to [`Window::MAX_USES`].
    pub max: u32,
    /// The span. 1 s to [`Window::MAX_SPAN`].
    pub per: Duration,
}

impl Window {
    /// The most uses of a window: the stores keep each of them.
    pub const MAX_USES: u32 = 10_000;
    /// The longest window.
    pub const MAX_SPAN: Duration = Duration::from_secs(31 * 86_400);
}

/// The windows of one tenant. Each list may be empty (no limit) and holds at most [`QuotaPolicy::MAX_WINDOWS`]. Uses are
/// counted per tenant, over all purposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Sends to one destination, whatever the account or challenge.
    pub destination_sends: Vec<Window>,
    /// Sends of one account.
    pub account_sends: Vec<Window>,
    /// Sends of the tenant.
    pub tenant_sends: Vec<Window>,
    /// Challenges opened for one account.
    pub account_creations: Vec<Window>,
    /// Challenges opened by the tenant.
    pub tenant_creations: Vec<Window>,
}

impl QuotaPolicy {
    /// The longest list.
    pub const MAX_WINDOWS: usize = 4;
}
