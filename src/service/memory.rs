//! What a replica remembers of the store, so that a decision needs no read: the last known challenges and lockouts.
//!
//! What is remembered may be out of date. A commit names the versions that it rests on, so that a decision by an old state is
//! never committed.

use quick_cache::sync::Cache;

use super::records::Versioned;
use crate::{
    domain::{challenge::Challenge, lockout::Lockout},
    ports::{
        clock::Deadline,
        store::{Name, Partition},
    },
};

/// Challenges, and as many lockouts, that a replica remembers.
const REMEMBERED: usize = 8192;

/// The records of a challenge and its lockout, as the store held them at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) partition: Partition,
    /// `None`: there is no such challenge in the partition.
    pub(super) challenge: Option<Versioned<Challenge>>,
    /// `None`: the partition has no lockout.
    pub(super) lockout: Option<Versioned<Lockout>>,
    /// When the index entry ends, by the monotonic clock: from then on the id may name a challenge in another partition.
    pub(super) located_until: Deadline,
}

/// The last known records.
pub(super) struct Memory {
    challenges: Cache<Name, KnownChallenge>,
    /// `None`: the partition has no lockout.
    lockouts: Cache<Partition, Option<Versioned<Lockout>>>,
}

#[derive(Clone)]
struct KnownChallenge {
    partition: Partition,
    challenge: Versioned<Challenge>,
    located_until: Deadline,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self { challenges: Cache::new(REMEMBERED), lockouts: Cache::new(REMEMBERED) }
    }

    /// The challenge and its lockout, if both are remembered.
    pub(super) fn get(&self, name: Name) -> Option<Snapshot> {
        let KnownChallenge { partition, challenge, located_until } = self.known(name)?;
        let lockout = self.lockouts.get(&partition)?;
        Some(Snapshot { partition, challenge: Some(challenge), lockout, located_until })
    }

    /// The partition of a challenge, and until when that is known.
    pub(super) fn partition(&self, name: Name) -> Option<(Partition, Deadline)> {
        self.known(name).map(|known| (known.partition, known.located_until))
    }

    /// Remembers what the store holds. A challenge that has ended makes room for others.
    pub(super) fn remember(&self, name: Name, snapshot: &Snapshot) {
        let Snapshot { partition, challenge, lockout, located_until } = snapshot.clone();
        self.lockouts.insert(partition, lockout);
        match challenge {
            Some(challenge) if challenge.value.open().is_some() || challenge.value.sending.is_some() => {
                self.challenges.insert(name, KnownChallenge { partition, challenge, located_until });
            }
            _ => drop(self.challenges.remove(&name)),
        }
    }

    /// Forgets what a commit without an answer may have changed.
    pub(super) fn forget(&self, name: Name, partition: Partition) {
        self.challenges.remove(&name);
        self.lockouts.remove(&partition);
    }

    /// Forgets a lockout that an operator may have changed.
    pub(super) fn forget_lockout(&self, partition: Partition) {
        self.lockouts.remove(&partition);
    }

    fn known(&self, name: Name) -> Option<KnownChallenge> {
        self.challenges.get(&name).filter(|known| !known.located_until.remaining().is_zero())
    }
}
