//! Sliding windows: at most so many within a span.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// The longest window.
    pub const MAX_SPAN: Duration = Duration::from_secs(31 * 86_400);
}

/// The windows of one tenant and purpose. Each list may be empty (no limit) and holds at most
/// [`QuotaPolicy::MAX_WINDOWS`]. Quotas are counted per tenant.
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
