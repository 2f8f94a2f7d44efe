//! The suite over the store in memory that other tests use, bare and behind the store that fails when told to.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use otpd::ports::store::{Committed, Store};

use tokio::task::JoinSet;

use crate::{
    faulty::{Fault, FaultyStore, When},
    harness::{Easy, HOUR, Harness, ManualClock, Outcome, changes, partition, soon},
    memory_store::MemoryStore,
};

struct MemoryHarness {
    clock: Arc<ManualClock>,
    memory: Arc<MemoryStore>,
    store: Arc<dyn Store>,
}

async fn bare() -> MemoryHarness {
    let clock = ManualClock::starting();
    let memory = Arc::new(MemoryStore::new(clock.clone()));
    MemoryHarness { clock, store: memory.clone(), memory }
}

/// As a cluster, and through the store that could fail.
async fn wrapped() -> MemoryHarness {
    let clock = ManualClock::starting();
    let memory = Arc::new(MemoryStore::reading_apart(clock.clone()));
    MemoryHarness { clock, store: Arc::new(FaultyStore::new(memory.clone())), memory }
}

#[async_trait]
impl Harness for MemoryHarness {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    async fn pass(&self, span: Duration) {
        self.clock.pass(span);
    }

    async fn is_empty(&self) -> bool {
        self.store.check(soon()).await.unwrap();
        (self.memory.records(), self.memory.index_entries(), self.memory.uses()) == (0, 0, 0)
    }
}

mod alone {
    use super::bare;
    crate::conformance!(bare());
}

mod behind {
    use super::wrapped;
    crate::conformance!(wrapped());
}

fn faulty() -> Arc<FaultyStore> {
    Arc::new(FaultyStore::new(Arc::new(MemoryStore::new(ManualClock::starting()))))
}

/// Each fault does to the store, and tells the caller, what it says.
#[tokio::test]
async fn faults() {
    for (fault, answered, stored) in [
        (Fault::Before, false, None),
        (Fault::LostAnswer, false, Some(1)),
        (Fault::Late(0), false, Some(1)),
        (Fault::Late(1), false, None),
        (Fault::Twice, true, Some(1)),
    ] {
        let store = faulty();
        store.script(&[(0, fault)]);
        let answer = store.commit(partition(1), &changes(&[(1, None, Some(1))], HOUR), soon()).await;
        assert_eq!(answer.is_ok(), answered, "{fault:?}");
        assert_eq!(Easy(store.clone()).read(1, &[1]).await, [stored], "{fault:?}");
        assert_eq!(store.log(), ["commit", "read"]);
    }
}

/// A call waits at its pause, before or after it is applied, and goes on when it may.
#[tokio::test]
async fn pauses() {
    for (when, meanwhile) in [(When::Before, None), (When::After, Some(1))] {
        let store = faulty();
        let pause = store.pause_next("commit", when);
        let paused = Arc::clone(&store);
        let mut call = JoinSet::new();
        call.spawn(
            async move { paused.commit(partition(1), &changes(&[(1, None, Some(1))], HOUR), soon()).await.unwrap() },
        );
        pause.reached().await;
        assert_eq!(Easy(store.clone()).read(1, &[1]).await, [meanwhile], "{when:?}");
        assert!(call.try_join_next().is_none());
        pause.resume();
        assert_eq!(call.join_next().await.unwrap().unwrap(), Committed::Done);
        assert_eq!(Easy(store.clone()).commit(1, &[(1, Some(1), Some(2))]).await, Outcome::Done, "one call only");
    }
}
