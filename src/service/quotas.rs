//! Quotas: taken after a reservation, in order from the cheapest to refuse, and given back together.

use super::{FINISH, Otp, error::Error};
use crate::{
    domain::{
        ids::{AccountId, Tenant},
        quota::{QuotaPolicy, Window},
    },
    keys::names::Counted,
    ports::{
        clock::Deadline,
        store::{Name, TakeId, Taken},
    },
};

/// What applies to the sandbox.
pub(super) const NO_QUOTAS: QuotaPolicy = QuotaPolicy {
    destination_sends: Vec::new(),
    account_sends: Vec::new(),
    tenant_sends: Vec::new(),
    account_creations: Vec::new(),
    tenant_creations: Vec::new(),
};

/// Quotas that one send or creation takes.
#[derive(Clone, Debug)]
pub(super) struct Quotas {
    take: TakeId,
    counted: Vec<(Name, Vec<Window>)>,
}

impl Otp {
    /// What a send takes: of destination, account and tenant.
    pub(super) fn send_quotas(
        &self,
        tenant: &Tenant,
        account: &AccountId,
        destination: Option<&str>,
        policy: &QuotaPolicy,
        take: TakeId,
    ) -> Quotas {
        let destination =
            destination.map(|canonical| (Counted::DestinationSends(canonical), &policy.destination_sends));
        let others =
            [(Counted::AccountSends(account), &policy.account_sends), (Counted::TenantSends, &policy.tenant_sends)];
        self.quotas(tenant, take, destination.into_iter().chain(others))
    }

    /// What a creation takes: of account and tenant.
    pub(super) fn creation_quotas(
        &self,
        tenant: &Tenant,
        account: &AccountId,
        policy: &QuotaPolicy,
        take: TakeId,
    ) -> Quotas {
        let all = [
            (Counted::AccountCreations(account), &policy.account_creations),
            (Counted::TenantCreations, &policy.tenant_creations),
        ];
        self.quotas(tenant, take, all.into_iter())
    }

    fn quotas<'a>(
        &self,
        tenant: &Tenant,
        take: TakeId,
        all: impl Iterator<Item = (Counted<'a>, &'a Vec<Window>)>,
    ) -> Quotas {
        let limited = all.filter(|(_, windows)| !windows.is_empty());
        let counted = limited.map(|(counted, windows)| (self.keys.quota_name(tenant, counted), windows.clone()));
        Quotas { take, counted: counted.collect() }
    }

    /// Takes all, or none: where one refuses, or the store fails, what was taken is given back.
    pub(super) async fn take(&self, quotas: &Quotas, deadline: Deadline) -> Result<Taken, Error> {
        for (index, (name, windows)) in quotas.counted.iter().enumerate() {
            match self.store.take(*name, quotas.take, windows, self.now(), deadline).await {
                Ok(Taken::Done) => {}
                Ok(Taken::Refused) => {
                    self.give_back_first(quotas, index).await;
                    return Ok(Taken::Refused);
                }
                Err(error) => {
                    // Whether this one was taken is not known; giving back what was not taken changes nothing.
                    self.give_back_first(quotas, index + 1).await;
                    return Err(error.into());
                }
            }
        }
        Ok(Taken::Done)
    }

    /// Gives all back.
    pub(super) async fn give_back(&self, quotas: &Quotas) {
        self.give_back_first(quotas, quotas.counted.len()).await;
    }

    async fn give_back_first(&self, quotas: &Quotas, count: usize) {
        for (name, _) in quotas.counted.iter().take(count) {
            // A take that stays by mistake only counts too much, for as long as its window.
            if let Err(error) = self.store.give_back(*name, quotas.take, Deadline::after(FINISH)).await {
                tracing::warn!(%error, "a quota could not be given back");
            }
        }
    }
}
