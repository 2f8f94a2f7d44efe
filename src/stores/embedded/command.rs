//! What the writer is asked, and how it answers.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::{
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::Deadline,
        store::{Inserted, Name, Sealed, StoreError, Swapped, TakeId, Taken, Version},
    },
};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// One operation, with the time by which it is of no use any more.
pub(super) struct Command {
    pub(super) deadline: Deadline,
    pub(super) ask: Ask,
}

/// The operations of the writer.
pub(super) enum Ask {
    Insert { name: Name, record: Sealed, ttl: Duration, reply: Reply<Inserted> },
    Swap { name: Name, read: Version, record: Sealed, ttl: Duration, reply: Reply<Swapped> },
    Take { quota: Name, take: TakeId, windows: Vec<Window>, now: Timestamp, reply: Reply<Taken> },
    GiveBack { quota: Name, take: TakeId, reply: Reply<()> },
    Check { reply: Reply<()> },
    Census { reply: Reply<Census> },
    Sweep,
    Close,
}

/// How many keys of each kind are on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Records, expired ones too as long as they are not removed.
    pub records: u64,
    /// Entries of the expiry index: one per record.
    pub expiries: u64,
    /// Takes.
    pub takes: u64,
}

/// An answer that waits for the commit.
pub(super) enum Pending {
    Insert(Reply<Inserted>, Result<Inserted, StoreError>),
    Swap(Reply<Swapped>, Result<Swapped, StoreError>),
    Take(Reply<Taken>, Result<Taken, StoreError>),
    GiveBack(Reply<()>, Result<(), StoreError>),
    Check(Reply<()>),
    Census(Reply<Census>, Result<Census, StoreError>),
}

impl Pending {
    /// Answers. `failure` is why the commit failed, if it did: then nothing that was worked out may be told.
    pub(super) fn send(self, failure: Option<&str>) {
        fn send<T>(operation: &'static str, reply: Reply<T>, answer: Result<T, StoreError>, failure: Option<&str>) {
            // Whoever asked may have stopped waiting.
            drop(reply.send(failure.map_or(answer, |cause| Err(StoreError::new(operation, cause)))));
        }
        match self {
            Self::Insert(reply, answer) => send("insert", reply, answer, failure),
            Self::Swap(reply, answer) => send("swap", reply, answer, failure),
            Self::Take(reply, answer) => send("take", reply, answer, failure),
            Self::GiveBack(reply, answer) => send("give back", reply, answer, failure),
            Self::Check(reply) => send("check", reply, Ok(()), failure),
            Self::Census(reply, answer) => send("census", reply, answer, failure),
        }
    }
}
