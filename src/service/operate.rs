//! What operators do with the lockout of an account or a contact: GetAccount, LockAccount, UnlockAccount.

use super::{
    Otp,
    error::Error,
    request::{Caller, LockAccount, LockoutOwner, UnlockAccount},
    tags,
};
use crate::{
    domain::{
        canonical::Canonical,
        lockout::{Lockout, Operated, Operation},
        outcome::LockoutView,
        quota::QuotaKind,
    },
    ports::store::Partition,
};

impl Otp {
    /// Shows a lockout and its quotas.
    pub async fn get_account(&self, caller: Caller, owner: LockoutOwner) -> Result<LockoutView, Error> {
        let partition = self.lockout_partition(&caller, &owner)?;
        let lockout = self.states.lockout(partition, caller.deadline).await?;
        self.lockout_view(&caller, &owner, &lockout).await
    }

    /// Locks until a time, or until it is unlocked. A lock never shortens a longer one.
    pub async fn lock_account(&self, caller: Caller, request: LockAccount) -> Result<LockoutView, Error> {
        let partition = self.lockout_partition(&caller, &request.owner)?;
        let key = self.keys.operation_key(partition, &caller.request_id, request.content());
        // A lock that ends before it begins is a mistake, but no repetition of a lock that has ended since.
        let now = self.states.now()?;
        if request.until.is_some_and(|until| until <= now)
            && !self.states.lockout(partition, caller.deadline).await?.has_operated(key)
        {
            return Err(Error::LockInThePast);
        }
        let operation = Operation::Lock(request.until);
        let lockout = self.operate(&caller, &request.owner, request.content(), operation).await?;
        tracing::info!(reason = request.reason, "an operator locked an account");
        self.lockout_view(&caller, &request.owner, &lockout).await
    }

    /// Lifts every lock, resets all failures, and clears the quotas.
    pub async fn unlock_account(&self, caller: Caller, request: UnlockAccount) -> Result<LockoutView, Error> {
        let owner = &request.owner;
        let partition = self.lockout_partition(&caller, owner)?;
        let key = self.keys.operation_key(partition, &caller.request_id, request.content());
        // The quotas come first: were they cleared after the commit, a failure in between would leave them for good.
        let known = match self.states.lockout(partition, caller.deadline).await {
            Ok(lockout) => lockout.has_operated(key),
            // It cannot be opened, and is about to be replaced.
            Err(Error::Internal(_)) => false,
            Err(error) => return Err(error),
        };
        if !known {
            let canonical = canonical(owner);
            self.quotas.clear(&caller.tenant, &kinds(owner, canonical.as_deref()), caller.deadline).await?;
        }
        let lockout = self.operate(&caller, owner, request.content(), Operation::Unlock).await?;
        tracing::info!(reason = request.reason, "an operator unlocked an account");
        self.lockout_view(&caller, owner, &lockout).await
    }

    async fn operate(
        &self,
        caller: &Caller,
        owner: &LockoutOwner,
        content: Canonical,
        operation: Operation,
    ) -> Result<Lockout, Error> {
        let partition = self.lockout_partition(caller, owner)?;
        let key = self.keys.operation_key(partition, &caller.request_id, content);
        let (lockout, operated) = self.states.operate(partition, key, operation, caller.deadline).await?;
        if operated == Operated::Conflict { Err(Error::IdempotencyViolation) } else { Ok(lockout) }
    }

    fn lockout_partition(&self, caller: &Caller, owner: &LockoutOwner) -> Result<Partition, Error> {
        self.states.admit(caller)?;
        tags::note_lockout_owner(&self.keys, &caller.record, &caller.tenant, owner);
        Ok(match owner {
            LockoutOwner::Account(account) => self.keys.account_partition(&caller.tenant, account),
            LockoutOwner::Contact(contact) => {
                self.keys.contact_partition(&caller.tenant, &contact.canonical().unwrap_or_default())
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
