//! A store whose commits ignore the condition that they are made under.

use std::{sync::Arc, time::Duration};

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

use crate::memory::MemoryStore;

/// What its commits do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Commits {
    /// Each is a conflict.
    Never,
    /// Each writes, whatever is there.
    Always,
}

/// The store.
pub(crate) struct BrokenStore {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) commits: Commits,
}

#[async_trait]
impl Store for BrokenStore {
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        self.inner.locate(index, names, deadline).await
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        self.inner.claim(index, partition, life, deadline).await
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        self.inner.read(partition, names, deadline).await
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        let names: Vec<Name> = changes.iter().map(|change| change.name).collect();
        let present = self.inner.read(partition, &names, deadline).await?;
        match self.commits {
            Commits::Never => Ok(Committed::Conflict(present)),
            Commits::Always => {
                let versions = present.iter().map(|record| record.as_ref().map(Sealed::version));
                let forced: Vec<Change> = changes
                    .iter()
                    .zip(versions)
                    .map(|(change, expected)| Change { expected, ..change.clone() })
                    .collect();
                self.inner.commit(partition, &forced, deadline).await
            }
        }
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        self.inner.acquire(quota, usage, windows, now, deadline).await
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        self.inner.refund(uses, deadline).await
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        self.inner.usage(quota, windows, now, deadline).await
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        self.inner.clear(quota, deadline).await
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        self.inner.scan(from, deadline).await
    }

    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        self.inner.check(deadline).await
    }
}
