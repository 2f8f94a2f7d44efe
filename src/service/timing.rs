//! Spans and bounds that several use cases share.

use std::time::Duration;

use super::request::Caller;
use crate::{domain::time::Timestamp, ports::clock::Deadline};

/// Conflicts that a request loses before it gives up.
pub(super) const MAX_CONFLICTS: usize = 64;
/// How long a commit may take that must not be abandoned when the caller's time runs out.
pub(super) const FINISH: Duration = Duration::from_secs(5);
/// A provider ends by its deadline itself, and then knows whether anything was sent. This is for one that does not.
pub(super) const GRACE: Duration = Duration::from_millis(500);
/// The index entry of a challenge outlives it by this, so that no two challenges are ever known by one id.
pub(super) const INDEX_MARGIN: Duration = Duration::from_secs(3600);
/// What a lease adds to the time-outs of its route: for the store, and [`CLOCKS`].
pub(super) const LEASE_MARGIN: Duration = Duration::from_secs(5);
/// A provider is asked no later than this before the end of a lease: another replica's clock may see the end earlier.
const CLOCKS: Duration = Duration::from_secs(2);
/// With less time than this a provider is not asked: it would hardly be reached, and the outcome be unknown.
const SHORTEST_CALL: Duration = Duration::from_millis(10);
/// How much of the caller's time is kept back for settling and answering after a provider's call; of a short time, a quarter.
const SETTLE_MARGIN: Duration = Duration::from_millis(150);

/// Until when a provider may take its time: what is left of the caller's, less a margin for the answer.
pub(super) fn provider_deadline(caller: &Caller) -> Deadline {
    let left = caller.deadline.remaining();
    Deadline::after(left.saturating_sub(SETTLE_MARGIN.min(left / 4)))
}

/// The time for asking providers within a lease; `None` where too little is left.
pub(super) fn within_lease(deadline: Deadline, lease_until: Timestamp, now: Timestamp) -> Option<Deadline> {
    let deadline = deadline.at_most(lease_until.since(now).saturating_sub(CLOCKS));
    (deadline.remaining() >= SHORTEST_CALL).then_some(deadline)
}

/// When to come again after a pause, which may just have ended.
pub(super) fn after_pause(left: Duration) -> Duration {
    left.max(Duration::from_millis(100))
}

/// When to ask again about a reservation: most end long before their lease.
pub(super) fn retry_after(lease_left: Duration) -> Duration {
    lease_left.clamp(Duration::from_millis(100), Duration::from_secs(1))
}
