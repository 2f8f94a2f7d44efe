//! A store in front of another that counts its operations, can make each take a while, and tells when one has ended.
//! Included with `#[path]`.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use otpd::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        clock::Deadline,
        store::{
            Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store, StoreError,
        },
    },
};
use tokio::sync::Notify;

/// The store in front.
pub(crate) struct ObservedStore {
    inner: Arc<dyn Store>,
    /// How long each operation takes, by the clock of the runtime.
    trip: Duration,
    log: Mutex<Vec<&'static str>>,
    ended: Notify,
}

impl ObservedStore {
    /// Passes everything on at once.
    pub(crate) fn new(inner: Arc<dyn Store>) -> Arc<Self> {
        Self::with_trips(inner, Duration::ZERO)
    }

    /// Passes everything on, each operation after this time. With the runtime's clock paused, the time that a request takes
    /// is its number of trips that follow one another.
    pub(crate) fn with_trips(inner: Arc<dyn Store>, trip: Duration) -> Arc<Self> {
        Arc::new(Self { inner, trip, log: Mutex::default(), ended: Notify::new() })
    }

    /// The operations since the last call of this, in the order of their beginning.
    pub(crate) fn drain_log(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.log())
    }

    /// Waits until something is so. It is looked at after each operation.
    pub(crate) async fn until(&self, is_so: impl Fn() -> bool) {
        loop {
            let ended = self.ended.notified();
            if is_so() {
                return;
            }
            ended.await;
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run<T>(&self, name: &'static str, operation: impl Future<Output = T>) -> T {
        self.log().push(name);
        if !self.trip.is_zero() {
            tokio::time::sleep(self.trip).await;
        }
        let answer = operation.await;
        self.ended.notify_waiters();
        answer
    }
}

#[async_trait]
impl Store for ObservedStore {
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        self.run("locate", self.inner.locate(index, names, deadline)).await
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        self.run("claim", self.inner.claim(index, partition, life, deadline)).await
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        self.run("read", self.inner.read(partition, names, deadline)).await
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        self.run("commit", self.inner.commit(partition, changes, deadline)).await
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        self.run("acquire", self.inner.acquire(quota, usage, windows, now, deadline)).await
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        self.run("refund", self.inner.refund(uses, deadline)).await
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        self.run("usage", self.inner.usage(quota, windows, now, deadline)).await
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        self.run("clear", self.inner.clear(quota, deadline)).await
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        self.inner.scan(from, deadline).await
    }

    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        self.inner.check(deadline).await
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
