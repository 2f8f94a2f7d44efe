//! What the embedded store does when its writer does not come back.

use std::{
    sync::{Arc, mpsc as blocking},
    time::Duration,
};

use super::*;
use crate::ports::{clock::SystemClock, store::Write};

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
    let (tell, told) = tokio::sync::oneshot::channel();
    let stuck = move |_: &mut Batch<'_>| {
        let _ = tell.send(());
        let _ = stuck.recv();
        Ok(())
    };
    let (first, second) = (Arc::clone(&store), Arc::clone(&store));
    let tasks = TaskTracker::new();
    let first = tasks.spawn(async move { first.write("stick", Deadline::after(LONG), stuck).await });
    told.await.unwrap();
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

/// What is kept in memory becomes tables, however much is written while the engine is busy with others.
#[tokio::test]
async fn what_is_kept_in_memory_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let tables = store.tables.read().unwrap().clone().unwrap();
    let record = Sealed::from_bytes(vec![1; 60_000]).unwrap();
    for n in 0..200 {
        let write = Write { record: record.clone(), ttl: LONG };
        let change = Change { name: Name([n; 16]), expected: None, write: Some(write) };
        assert_eq!(store.commit(Partition([n; 15]), &[change], Deadline::after(LONG)).await.unwrap(), Committed::Done);
        let kept = tables.kept_in_memory();
        assert!(kept.iter().zip(disk::MEMTABLES).all(|(kept, limit)| *kept < limit), "{kept:?}");
    }
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

/// What another version has written, or a fault: the sweeper goes on, and so does everything else.
#[tokio::test]
async fn what_cannot_be_decoded_does_not_end_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let index = layout::index_key(Name::LOCKOUT);
    let write = {
        let index = index.clone();
        move |batch: &mut Batch<'_>| {
            let at = Timestamp::from_millis(1);
            batch.writes.insert(index.clone(), Some(vec![1]));
            batch.writes.insert(layout::expiry_key(at, 1), Some(vec![9]));
            batch.writes.insert(layout::expiry_key(at, 2), Some(layout::encode_expiring(&[index])));
            Ok(())
        }
    };
    store.write("write", Deadline::after(LONG), write).await.unwrap();
    let swept = store.write("sweep", Deadline::after(LONG), |batch| batch.sweep(256)).await;
    assert!(!swept.unwrap());
    store.check(Deadline::after(LONG)).await.unwrap_err();
    let left = store.write("look", Deadline::after(LONG), move |batch| {
        let expiries = batch.state.disk.tables.range(layout::expiry_range(Timestamp::default(), batch.time)).count();
        Ok((expiries, batch.state.disk.get("look", &index)?.is_some()))
    });
    assert_eq!(left.await.unwrap(), (0, true));
    assert!(store.locate(Name([7; 16]), &[], Deadline::after(LONG)).await.unwrap().is_none());
}

/// A quota of which a page cannot be read is cleared all the same.
#[tokio::test]
async fn clearing_needs_the_first_page_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let quota = Name([7; 16]);
    let write = move |batch: &mut Batch<'_>| {
        let page = || quotas::QuotaPage { uses: Vec::new(), changed: false };
        let present = quotas::Quota { pages: vec![page(), page()], ..quotas::Quota::default() };
        batch.put(layout::quota_key(quota), None, LONG, &layout::encode_quota(&present));
        Ok(())
    };
    store.write("write", Deadline::after(LONG), write).await.unwrap();
    store.clear(quota, Deadline::after(LONG)).await.unwrap();
    assert!(store.usage(quota, &[], Timestamp::default(), Deadline::after(LONG)).await.unwrap().is_empty());
}
