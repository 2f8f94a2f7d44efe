//! What a process has seen of the canaries, and what it concludes from what it sees now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Found, LENGTH};
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

/// The canaries that are there, opened.
pub(super) type Opened = Found<(Canary, Version)>;

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
    /// Those that are silent are as they were.
    pub(super) fn judge(&self, opened: &Opened, is_silent: &[bool; LENGTH], time: Timestamp) -> Finding {
        let first = opened.iter().flatten().next().map(|(canary, _)| *canary);
        let missing = opened.iter().zip(is_silent).filter(|(there, silent)| there.is_none() && !**silent).count();
        let is_gone = |((known, there), silent): &((&Option<Version>, &Option<_>), &bool)| {
            !**silent && known.is_some() && **known != there.map(|(_, version): (Canary, Version)| version)
        };
        let gone = self.versions.iter().zip(opened).zip(is_silent).filter(is_gone).count();
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
    pub(super) fn note(&mut self, opened: &Opened, is_silent: &[bool; LENGTH]) {
        self.store = opened.iter().flatten().next().map(|(canary, _)| canary.store);
        for ((known, there), is_silent) in self.versions.iter_mut().zip(opened).zip(is_silent) {
            if !is_silent {
                *known = there.map(|(_, version)| version);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp::from_millis(1_893_456_000_000);

    fn all(version: u8) -> Opened {
        let canary = Canary { store: StoreIdentity([1; 16]), drawn_at: Timestamp::from_millis(0) };
        [Some((canary, Version([version; 24]))); LENGTH]
    }

    #[test]
    fn what_is_silent_is_neither_gone_nor_missing() {
        let (mut opened, mut is_silent) = (all(7), [false; LENGTH]);
        let mut known = KnownCanaries::default();
        known.note(&opened, &is_silent);
        opened[3] = None;
        assert_eq!(known.judge(&opened, &is_silent, TIME), Finding::Lost(1));
        is_silent[3] = true;
        assert_eq!(known.judge(&opened, &is_silent, TIME), Finding::Same);
        assert_eq!(
            KnownCanaries::default().judge(&opened, &is_silent, TIME),
            Finding::Same,
            "a process that starts now"
        );
        // It answers again, and is another one.
        known.note(&opened, &is_silent);
        opened[3] = all(8)[3];
        assert_eq!(known.judge(&opened, &[false; LENGTH], TIME), Finding::Lost(1));
    }
}
