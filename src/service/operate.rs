//! What operators do with the lockout of an account or a contact: GetAccount, LockAccount, UnlockAccount.

use super::{
    Otp,
    error::Error,
    request::{Caller, LockAccount, LockoutOwner, UnlockAccount},
    tags,
};
use crate::{
    domain::{
        ids::IdempotencyKey,
        lockout::{Lockout, Operated, Operation},
        outcome::{Locked, LockoutView},
        quota::QuotaKind,
    },
    ports::{
        decisions::{DecisionKind, LockScope},
        store::Partition,
    },
};

impl Otp {
    /// Shows a lockout and its quotas.
    pub async fn get_account(&self, caller: Caller, owner: LockoutOwner) -> Result<LockoutView, Error> {
        let shown = self.look(&caller, &owner).await;
        self.decisions.conclude(&caller, "get_account", shown).await
    }

    /// Locks until a time, or until it is unlocked. A lock never shortens a longer one.
    pub async fn lock_account(&self, caller: Caller, request: LockAccount) -> Result<LockoutView, Error> {
        let locked = self.lock(&caller, &request).await;
        self.decisions.conclude(&caller, "lock_account", locked).await
    }

    /// Lifts every lock, resets all failures, and clears the quotas.
    pub async fn unlock_account(&self, caller: Caller, request: UnlockAccount) -> Result<LockoutView, Error> {
        let unlocked = self.unlock(&caller, &request).await;
        self.decisions.conclude(&caller, "unlock_account", unlocked).await
    }

    async fn look(&self, caller: &Caller, owner: &LockoutOwner) -> Result<LockoutView, Error> {
        let partition = self.lockout_partition(caller, owner)?;
        let lockout = self.states.lockout(partition, caller.deadline).await?;
        let shown = self.lockout_view(caller, owner, &lockout).await?;
        self.decisions.tell(&caller.record, DecisionKind::Look { scope: scope(owner) });
        Ok(shown)
    }

    async fn lock(&self, caller: &Caller, request: &LockAccount) -> Result<LockoutView, Error> {
        let partition = self.lockout_partition(caller, &request.owner)?;
        let key = self.keys.operation_key(partition, &caller.request_id, request.content());
        // A lock that ends before it begins is a mistake, but no repetition of a lock that has ended since.
        let now = self.states.now()?;
        if request.until.is_some_and(|until| until <= now)
            && !self.states.lockout(partition, caller.deadline).await?.has_operated(key)
        {
            return Err(Error::LockInThePast);
        }
        let operation = Operation::Lock(request.until);
        let (lockout, is_new) = self.operate(caller, partition, key, operation).await?;
        if is_new {
            let locked = lockout.operator_locked(now).unwrap_or(Locked { until: request.until });
            let (scope, reason) = (scope(&request.owner), Some(request.reason.as_str()));
            self.decisions.tell(&caller.record, DecisionKind::Lock { scope, locked, reason });
            tracing::info!(reason = request.reason, "an operator locked an account");
        }
        self.lockout_view(caller, &request.owner, &lockout).await
    }

    async fn unlock(&self, caller: &Caller, request: &UnlockAccount) -> Result<LockoutView, Error> {
        let owner = &request.owner;
        let partition = self.lockout_partition(caller, owner)?;
        let key = self.keys.operation_key(partition, &caller.request_id, request.content());
        // The quotas come first: were they cleared after the commit, a failure in between would leave them for good.
        let known = match self.states.lockout(partition, caller.deadline).await {
            Ok(lockout) => lockout.has_operated(key),
            // It cannot be opened, and is about to be replaced.
            Err(Error::Internal(_)) => false,
            Err(error) => return Err(error),
        };
        let (scope, reason) = (scope(owner), request.reason.as_str());
        if !known {
            let canonical = canonical(owner);
            let kinds = kinds(owner, canonical.as_deref());
            let (quotas, all) = self.quotas.clear(&caller.tenant, &kinds, caller.deadline).await;
            if !quotas.is_empty() {
                self.decisions.tell(&caller.record, DecisionKind::QuotaClear { scope, quotas: &quotas, reason });
            }
            all?;
        }
        let (lockout, is_new) = self.operate(caller, partition, key, Operation::Unlock).await?;
        if is_new {
            self.decisions.tell(&caller.record, DecisionKind::Unlock { scope, reason });
            tracing::info!(reason, "an operator unlocked an account");
        }
        self.lockout_view(caller, owner, &lockout).await
    }

    /// The lockout after it, and whether it was done now.
    async fn operate(
        &self,
        caller: &Caller,
        partition: Partition,
        key: IdempotencyKey,
        operation: Operation,
    ) -> Result<(Lockout, bool), Error> {
        let (lockout, operated) = self.states.operate(partition, key, operation, caller.deadline).await?;
        match operated {
            Operated::Conflict => Err(Error::IdempotencyViolation),
            Operated::Now => Ok((lockout, true)),
            Operated::Before => Ok((lockout, false)),
        }
    }

    fn lockout_partition(&self, caller: &Caller, owner: &LockoutOwner) -> Result<Partition, Error> {
        self.states.admit(caller)?;
        let Caller { tenant, record, .. } = caller;
        Ok(match owner {
            LockoutOwner::Account(account) => {
                tags::note_account(&self.keys, record, tenant, account);
                self.keys.account_partition(tenant, account)
            }
            LockoutOwner::Contact(contact) => {
                let partition = self.keys.contact_partition(tenant, &contact.canonical().unwrap_or_default());
                tags::note_contact(&self.keys, record, partition);
                partition
            }
        })
    }

    async fn lockout_view(
        &self,
        caller: &Caller,
        owner: &LockoutOwner,
        lockout: &Lockout,
    ) -> Result<LockoutView, Error> {
        let policy = &self.states.policy(&caller.tenant)?.quotas;
        let canonical = canonical(owner);
        let kinds = kinds(owner, canonical.as_deref());
        let quotas = self.quotas.usage(&caller.tenant, policy, &kinds, caller.deadline).await?;
        let now = self.states.now()?;
        let (locked, locked_contacts) = (lockout.account_locked(now), lockout.locked_contacts(now));
        Ok(LockoutView { failures: lockout.failures(), locked, locked_contacts, quotas })
    }
}

fn scope(owner: &LockoutOwner) -> LockScope {
    match owner {
        LockoutOwner::Account(_) => LockScope::Account,
        LockoutOwner::Contact(_) => LockScope::Contact,
    }
}

fn canonical(owner: &LockoutOwner) -> Option<String> {
    match owner {
        LockoutOwner::Account(_) => None,
        LockoutOwner::Contact(contact) => contact.canonical(),
    }
}

/// The quotas that belong to an owner.
fn kinds<'a>(owner: &'a LockoutOwner, canonical: Option<&'a str>) -> Vec<QuotaKind<'a>> {
    match owner {
        LockoutOwner::Account(account) => vec![QuotaKind::AccountSends(account), QuotaKind::AccountCreations(account)],
        LockoutOwner::Contact(_) => canonical.map(QuotaKind::DestinationSends).into_iter().collect(),
    }
}
