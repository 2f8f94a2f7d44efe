//! Lockouts by themselves, as operators see and change them.

use std::sync::Arc;

use super::{
    error::Error,
    records::{Versioned, is_own},
    states::States,
    timing::{FINISH, MAX_CONFLICTS},
};
use crate::{
    domain::{
        ids::{AccountId, IdempotencyKey, Tenant},
        lockout::{Lockout, Operated, Operation},
        outcome::Locked,
    },
    ports::{
        clock::Deadline,
        store::{Change, Committed, Name, Partition, Sealed, Version, Write},
    },
};

impl States {
    /// The lock that an operator has set on an account, read afresh.
    pub(super) async fn operator_lock(
        &self,
        tenant: &Tenant,
        account: &AccountId,
        deadline: Deadline,
    ) -> Result<Option<Locked>, Error> {
        let partition = self.records.keys().account_partition(tenant, account);
        Ok(self.lockout(partition, deadline).await?.operator_locked(self.now()?))
    }

    pub(super) async fn lockout(&self, partition: Partition, deadline: Deadline) -> Result<Arc<Lockout>, Error> {
        let record = self.store.read(partition, &[Name::LOCKOUT], deadline).await?.into_iter().next().flatten();
        let lockout = record.map(|sealed| self.open_lockout(partition, &sealed)).transpose()?;
        Ok(lockout.map(|lockout| lockout.value).unwrap_or_default())
    }

    /// Applies an operator's request to the lockout of a partition. Unlocking replaces a lockout that cannot be opened: its key
    /// may have left the ring, and nothing else could lift its locks.
    pub(super) async fn operate(
        &self,
        partition: Partition,
        key: IdempotencyKey,
        operation: Operation,
        deadline: Deadline,
    ) -> Result<(Lockout, Operated), Error> {
        let read = self.store.read(partition, &[Name::LOCKOUT], deadline).await?;
        let mut record = read.into_iter().next().flatten();
        for _ in 0..MAX_CONFLICTS {
            let mut lockout = match record.as_ref().map(|sealed| self.open_lockout(partition, sealed)) {
                None => Lockout::default(),
                Some(Ok(lockout)) => Arc::unwrap_or_clone(lockout.value),
                Some(Err(error)) if operation == Operation::Unlock => {
                    tracing::warn!(%error, "a lockout that cannot be opened is replaced");
                    Lockout::default()
                }
                Some(Err(error)) => return Err(error),
            };
            let operated = lockout.operate(key, operation);
            if operated != Operated::Now {
                return Ok((lockout, operated));
            }
            match self.commit_lockout(partition, record.as_ref().map(Sealed::version), &lockout).await? {
                None => return Ok((lockout, operated)),
                Some(conflict) => record = conflict,
            }
        }
        Err(Error::Contention)
    }

    /// What is there instead, on a conflict.
    async fn commit_lockout(
        &self,
        partition: Partition,
        expected: Option<Version>,
        lockout: &Lockout,
    ) -> Result<Option<Option<Sealed>>, Error> {
        let record = self.records.seal(partition, Name::LOCKOUT, lockout)?;
        let write = Write { record, ttl: lockout.kept_for(self.now()?) };
        let changes = [Change { name: Name::LOCKOUT, expected, write: Some(write) }];
        let committed = self.store.commit(partition, &changes, Deadline::after(FINISH)).await;
        self.memory.forget_lockout(partition);
        match committed? {
            Committed::Conflict(records) if !is_own(&changes, &records) => {
                Ok(Some(records.into_iter().next().flatten()))
            }
            Committed::Done | Committed::Conflict(_) => Ok(None),
        }
    }

    fn open_lockout(&self, partition: Partition, sealed: &Sealed) -> Result<Versioned<Lockout>, Error> {
        self.records.open(partition, Name::LOCKOUT, sealed)
    }
}
