//! Any store, with every operation observed: how long it took, and what came of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    domain::{ids::Token, quota::Window, time::Timestamp},
    ports::{
        call::CallRecord,
        clock::{Deadline, Stopwatch},
        observer::{StoreCall, StoreCallObserver},
        store::{
            Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store, StoreError,
        },
    },
    spans,
};

/// Where an operation went as it should.
const OK: &str = "ok";

/// A store that is observed.
pub(super) struct Measured {
    inner: Arc<dyn Store>,
    /// What stores it, in the words of OpenTelemetry.
    system: &'static str,
    observer: Arc<dyn StoreCallObserver>,
}

impl Measured {
    pub(super) fn new(inner: Arc<dyn Store>, system: &'static str, observer: Arc<dyn StoreCallObserver>) -> Self {
        Self { inner, system, observer }
    }

    /// The span of a trip that a call makes. What happens in the background belongs to no trace.
    fn span(&self, operation: &'static str) -> Span {
        if CallRecord::current().is_none() {
            return Span::none();
        }
        tracing::info_span!(
            target: spans::TARGET,
            "store",
            otel.name = operation,
            otel.kind = "client",
            otel.status_code = Empty,
            db.system.name = self.system,
            db.operation.name = operation,
            otp.outcome = Empty,
            error.type = Empty,
        )
    }

    /// Waits for an operation. `outcome` tells what an answer is.
    async fn measure<T>(
        &self,
        operation: &'static str,
        asked: impl Future<Output = Result<T, StoreError>>,
        outcome: impl FnOnce(&T) -> &'static str,
    ) -> Result<T, StoreError> {
        let watch = Stopwatch::start();
        let span = self.span(operation);
        let answer = asked.instrument(span.clone()).await;
        let outcome = answer.as_ref().map_or_else(|error| error.fault.word(), outcome);
        span.record("otp.outcome", outcome);
        if answer.is_err() {
            span.record("error.type", outcome).record("otel.status_code", "ERROR");
        }
        self.observer.store_asked(&StoreCall { operation, outcome, duration: watch.elapsed() });
        answer
    }
}

#[async_trait]
impl Store for Measured {
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        self.measure("locate", self.inner.locate(index, names, deadline), |_| OK).await
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        let outcome = |claimed: &Claimed| if *claimed == Claimed::Elsewhere { "conflict" } else { OK };
        self.measure("claim", self.inner.claim(index, partition, life, deadline), outcome).await
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        self.measure("read", self.inner.read(partition, names, deadline), |_| OK).await
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        let outcome = |committed: &Committed| if *committed == Committed::Done { OK } else { "conflict" };
        self.measure("commit", self.inner.commit(partition, changes, deadline), outcome).await
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        let outcome = |acquired: &Acquired| if *acquired == Acquired::Refused { "refused" } else { OK };
        self.measure("acquire", self.inner.acquire(quota, usage, windows, now, deadline), outcome).await
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        self.measure("refund", self.inner.refund(uses, deadline), |()| OK).await
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        self.measure("usage", self.inner.usage(quota, windows, now, deadline), |_| OK).await
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        self.measure("clear", self.inner.clear(quota, deadline), |()| OK).await
    }

    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        self.measure("probe", self.inner.check(deadline), |_| OK).await
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        self.inner.scan(from, deadline).await
    }

    async fn failed(&self) -> StoreError {
        self.inner.failed().await
    }

    async fn close(&self, deadline: Deadline) {
        self.inner.close(deadline).await;
    }
}
