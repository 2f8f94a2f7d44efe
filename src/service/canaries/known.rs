//! What a process has seen of the canaries, and what it concludes from what it sees now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Found;
use crate::{domain::time::Timestamp, ports::store::Version};

/// A canary that is missing so soon after the store was first used may be on its way.
const FIRST_START: Duration = Duration::from_secs(60);

/// A canary's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Canary {
    pub(super) store: StoreIdentity,
    /// When that identity was drawn, by the store's time.
    pub(super) drawn_at: Timestamp,
}

/// Which store it is: random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoreIdentity(pub(super) [u8; 16]);

/// What this process has seen.
#[derive(Default)]
pub(super) struct KnownCanaries {
    pub(super) store: Option<StoreIdentity>,
    pub(super) versions: Found<Version>,
}

/// What the canaries show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The store that was there before, with all that was there.
    Same,
    /// There is no canary, and there never was one for this process.
    New,
    /// So many canaries are gone, or were written anew by a replica that missed them.
    Lost(usize),
    /// All canaries are gone.
    Emptied,
    /// Another store, or the same one emptied and marked anew by another replica.
    Replaced,
}

impl KnownCanaries {
    pub(super) fn judge(&self, opened: &Found<(Canary, Version)>, time: Timestamp) -> Finding {
        let first = opened.iter().flatten().next().map(|(canary, _)| *canary);
        let missing = opened.iter().filter(|there| there.is_none()).count();
        let is_gone = |(known, there): &(&Option<Version>, &Option<(Canary, Version)>)| {
            known.is_some() && **known != there.map(|(_, version)| version)
        };
        let gone = self.versions.iter().zip(opened).filter(is_gone).count();
        match (self.store, first) {
            (_, None) if gone > 0 => Finding::Emptied,
            (_, None) => Finding::New,
            (Some(known), Some(first)) if known != first.store => Finding::Replaced,
            (Some(_), Some(_)) if gone > 0 => Finding::Lost(gone),
            (None, Some(first)) if missing > 0 && time.since(first.drawn_at) > FIRST_START => Finding::Lost(missing),
            _ => Finding::Same,
        }
    }

    /// Remembers what is there, and forgets what is not, so that it is told once.
    pub(super) fn note(&mut self, opened: &Found<(Canary, Version)>) {
        self.store = opened.iter().flatten().next().map(|(canary, _)| canary.store);
        self.versions = opened.map(|there| there.map(|(_, version)| version));
    }
}
