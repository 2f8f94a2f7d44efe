//! One permit a challenge for acquiring quotas and reserving a send, within this replica.
//!
//! Without it, requests at once for one challenge would all acquire quotas for the one send that can be reserved, and be
//! declined by what the others are about to refund. Replicas do not know of each other's permits: this spares work, and no
//! rule rests on it.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::ports::store::Name;

/// The challenges whose permit is in use: at most one for each call in flight.
#[derive(Debug, Default)]
pub(super) struct SendPermits(Mutex<HashSet<Name>>);

/// The permit of one challenge, until it is dropped.
#[derive(Debug)]
pub(super) struct SendPermit<'a> {
    permits: &'a SendPermits,
    challenge: Name,
}

impl SendPermits {
    /// The permit of a challenge; `None` while another request has it.
    pub(super) fn of(&self, challenge: Name) -> Option<SendPermit<'_>> {
        let is_free = self.in_use().insert(challenge);
        is_free.then(|| SendPermit { permits: self, challenge })
    }

    fn in_use(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SendPermit<'_> {
    fn drop(&mut self) {
        self.permits.in_use().remove(&self.challenge);
    }
}
