//! What the embedded store does when its writer does not come back.

use std::{
    sync::{Arc, mpsc as blocking},
    time::Duration,
};

use super::*;
use crate::ports::clock::SystemClock;

const SHORT: Duration = Duration::from_millis(200);
/// Only passes when something hangs.
const LONG: Duration = Duration::from_secs(60);

async fn open(folder: &Path) -> Embedded {
    let options = EmbeddedOptions { batch_timeout: SHORT, ..EmbeddedOptions::default() };
    let time = StoreTime::starting_at(Arc::new(SystemClock));
    Embedded::open_with(folder, time, &TaskTracker::new(), options).await.unwrap()
}

/// One write does not end: the store says so, and everything that waits or comes later is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_stuck_fails_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()).await);
    store.check(Deadline::after(LONG)).await.unwrap();
    let (end, stuck) = blocking::channel::<()>();
    let stuck = move |_: &mut Batch<'_>| {
        let _ = stuck.recv();
        Ok(())
    };
    let (first, second) = (Arc::clone(&store), Arc::clone(&store));
    let tasks = TaskTracker::new();
    let first = tasks.spawn(async move { first.write("stick", Deadline::after(LONG), stuck).await });
    let second = tasks.spawn(async move { second.write("wait", Deadline::after(LONG), |_| Ok(())).await });
    let failed = store.failed().await;
    assert!(failed.is_final && failed.cause.starts_with("one write has lasted"), "{failed}");
    assert!(first.await.unwrap().unwrap_err().is_final);
    assert!(second.await.unwrap().unwrap_err().is_final);
    assert!(store.census(Deadline::after(LONG)).await.unwrap_err().is_final);
    let read = store.read(Partition([1; 15]), &[Name::LOCKOUT], Deadline::after(LONG)).await;
    assert_eq!(read.unwrap_err().cause, failed.cause);
    assert_eq!(store.check(Deadline::after(LONG)).await.unwrap_err().cause, failed.cause);
    // Does not wait for the writer.
    store.close(Deadline::after(LONG)).await;
    drop(end);
}

#[tokio::test]
async fn a_writer_that_panics_fails_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let asked =
        store.write("panic", Deadline::after(LONG), |_| -> Result<(), StoreError> { panic!("on purpose") }).await;
    asked.unwrap_err();
    assert_eq!(store.failed().await.cause, "the writer ended in a panic");
}

/// Only a batch that is under way counts: a store that has nothing to do is well.
#[tokio::test]
async fn a_store_that_rests_does_not_fail() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    assert!(tokio::time::timeout(SHORT * 3, store.failed()).await.is_err());
    store.check(Deadline::after(LONG)).await.unwrap();
}

/// An error of the engine while reading is never an answer, and ends the store.
#[tokio::test]
async fn an_error_of_the_engine_fails_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let looked = store.look("look", Deadline::after(LONG), |_| -> Result<(), StoreError> {
        Err(disk::engine_error("look", "ChecksumMismatch"))
    });
    assert!(looked.await.unwrap_err().is_final);
    assert_eq!(store.failed().await.cause, "ChecksumMismatch");
}
