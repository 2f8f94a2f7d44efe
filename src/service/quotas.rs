//! Quotas: acquired before what they limit is committed, all at once; refunded where it was not, or proved no abuse.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{error::Error, gate::Gate, refunds::Refunds, timing::FINISH};
use crate::{
    domain::{
        challenge::{Challenge, SendUse},
        destination::Destination,
        ids::{Tenant, Token},
        outcome::QuotaUsage,
        quota::{QuotaKind, QuotaPolicy, Window},
    },
    keys::ring::KeyRing,
    ports::{
        clock::Deadline,
        store::{Acquired, Name, Partition, Store},
    },
};

/// The quotas that one send or creation uses, at most three, with their windows.
#[derive(Debug)]
pub(super) struct Uses<'a> {
    token: Token,
    limited: Vec<Limited<'a>>,
}

/// The name of a quota in the configuration, its own, and its windows.
type Limited<'a> = (&'static str, Name, &'a [Window]);

/// What came of acquiring all quotas of a send or a creation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acquisition {
    /// All have room. Lists what counts by this call, and did not count before.
    Acquired(Vec<(Name, Token)>),
    /// The one of that name is full, and what this call had acquired is refunded.
    Refused(&'static str),
}

/// Acquires, refunds, shows and clears quotas.
#[derive(Clone)]
pub(super) struct Quotas {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    gate: Arc<Gate>,
    refunds: Refunds,
}

impl Quotas {
    pub(super) fn new(store: Arc<dyn Store>, keys: Arc<KeyRing>, gate: Arc<Gate>, tasks: &TaskTracker) -> Self {
        let refunds = Refunds::start(Arc::clone(&store), tasks);
        Self { store, keys, gate, refunds }
    }

    /// What a send to a destination uses. The token of its reservation names the uses.
    pub(super) fn of_send<'a>(
        &self,
        tenant: &Tenant,
        policy: &'a QuotaPolicy,
        challenge: &Challenge,
        destination: &Destination,
        token: Token,
    ) -> Uses<'a> {
        let canonical = destination.canonical();
        let destination = canonical.as_deref().map(QuotaKind::DestinationSends);
        let others = [QuotaKind::AccountSends(&challenge.account), QuotaKind::TenantSends];
        self.uses(tenant, policy, token, destination.into_iter().chain(others))
    }

    pub(super) fn of_creation<'a>(
        &self,
        tenant: &Tenant,
        policy: &'a QuotaPolicy,
        challenge: &Challenge,
        token: Token,
    ) -> Uses<'a> {
        let kinds = [QuotaKind::AccountCreations(&challenge.account), QuotaKind::TenantCreations];
        self.uses(tenant, policy, token, kinds.into_iter())
    }

    fn uses<'a, 'k>(
        &self,
        tenant: &Tenant,
        policy: &'a QuotaPolicy,
        token: Token,
        kinds: impl Iterator<Item = QuotaKind<'k>>,
    ) -> Uses<'a> {
        let limited = kinds.filter_map(|kind| {
            let windows = policy.windows(kind);
            (!windows.is_empty()).then(|| (kind.name(), self.keys.quota_name(tenant, kind), windows))
        });
        Uses { token, limited: limited.collect() }
    }

    /// Acquires all, in one trip. Where one refuses, what this call acquired is refunded; where the store did not answer, it
    /// is not known what counts, and all of it stays.
    pub(super) async fn acquire(&self, uses: &Uses<'_>, deadline: Deadline) -> Result<Acquisition, Error> {
        let mut limited = uses.limited.iter();
        let mut next = || self.acquire_one(limited.next(), uses.token, deadline);
        let (first, second, third) = tokio::join!(next(), next(), next());
        let answers = [first?, second?, third?];
        let answered = |wanted| uses.limited.iter().zip(&answers).filter(move |(_, answer)| **answer == wanted);
        let by_this_call = answered(Acquired::Now).map(|((_, quota, _), _)| (*quota, uses.token)).collect();
        if let Some(((name, ..), _)) = answered(Acquired::Refused).next() {
            self.refund(by_this_call).await;
            return Ok(Acquisition::Refused(name));
        }
        Ok(Acquisition::Acquired(by_this_call))
    }

    async fn acquire_one(
        &self,
        limited: Option<&Limited<'_>>,
        token: Token,
        deadline: Deadline,
    ) -> Result<Acquired, Error> {
        let Some((_, quota, windows)) = limited else { return Ok(Acquired::Before) };
        Ok(self.store.acquire(*quota, token, windows, self.gate.now()?, deadline).await?)
    }

    /// Refunds what a call acquired for something that is not there.
    pub(super) async fn refund(&self, uses: Vec<(Name, Token)>) {
        if uses.is_empty() {
            return;
        }
        // A use that stays by mistake counts too much, for as long as its window.
        if let Err(error) = self.store.refund(&uses, Deadline::after(FINISH)).await {
            tracing::warn!(%error, "quotas could not be refunded");
        }
    }

    /// Refunds what a verified challenge used, after the answer: what is verified is no abuse.
    pub(super) fn refund_verified(
        &self,
        tenant: &Tenant,
        policy: &QuotaPolicy,
        (name, partition): (Name, Partition),
        challenge: &Challenge,
    ) {
        let creation = self.keys.creation_use(name, partition, challenge.creation.fingerprint);
        self.refund_later(&self.of_creation(tenant, policy, challenge, creation));
        let sends = challenge.open().map(|open| open.uses.as_slice()).unwrap_or_default();
        for SendUse { token, option } in sends {
            let option = challenge.option_at(*option);
            if let Some(destination) = option.and_then(|option| option.target.known()) {
                self.refund_later(&self.of_send(tenant, policy, challenge, destination, *token));
            }
        }
    }

    fn refund_later(&self, uses: &Uses<'_>) {
        for (_, quota, _) in &uses.limited {
            self.refunds.push(*quota, uses.token);
        }
    }

    /// What the quotas of an owner count now.
    pub(super) async fn usage(
        &self,
        tenant: &Tenant,
        policy: &QuotaPolicy,
        kinds: &[QuotaKind<'_>],
        deadline: Deadline,
    ) -> Result<Vec<QuotaUsage>, Error> {
        let mut usage = Vec::new();
        for kind in kinds {
            let windows = policy.windows(*kind);
            if windows.is_empty() {
                continue;
            }
            let quota = self.keys.quota_name(tenant, *kind);
            let uses = self.store.usage(quota, windows, self.gate.now()?, deadline).await?;
            let counted = uses.into_iter().zip(windows);
            usage.extend(counted.map(|(uses, window)| QuotaUsage { quota: kind.name(), uses, window: *window }));
        }
        Ok(usage)
    }

    /// Clears the quotas of an owner. Tells which are cleared, also where one cannot be.
    pub(super) async fn clear(
        &self,
        tenant: &Tenant,
        kinds: &[QuotaKind<'_>],
        deadline: Deadline,
    ) -> (Vec<&'static str>, Result<(), Error>) {
        let mut cleared = Vec::with_capacity(kinds.len());
        for kind in kinds {
            if let Err(error) = self.store.clear(self.keys.quota_name(tenant, *kind), deadline).await {
                return (cleared, Err(error.into()));
            }
            cleared.push(kind.name());
        }
        (cleared, Ok(()))
    }
}

/// What applies to the sandbox.
pub(super) static NO_QUOTAS: QuotaPolicy = QuotaPolicy {
    destination_sends: Vec::new(),
    account_sends: Vec::new(),
    tenant_sends: Vec::new(),
    account_creations: Vec::new(),
    tenant_creations: Vec::new(),
};
