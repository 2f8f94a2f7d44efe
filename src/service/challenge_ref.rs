//! Which challenge a request names, and whether it is the caller's at all.

use std::sync::Arc;

use super::{error::Error, request::Caller, states::States};
use crate::{
    domain::{
        caller::CallerRights,
        challenge::Challenge,
        ids::{RequestId, Tenant},
    },
    ports::{call::CallRecord, store::Name},
};

/// Which challenge, and whose.
#[derive(Clone, Debug)]
pub(super) struct ChallengeRef {
    pub(super) name: Name,
    pub(super) tenant: Tenant,
    /// The call that names it.
    pub(super) call: Arc<CallRecord>,
    /// What its caller may do.
    rights: Arc<CallerRights>,
}

impl ChallengeRef {
    /// Whether the challenge of this name is one for the caller. One of another purpose is not, and is answered as if there were
    /// none.
    pub(super) fn is_own(&self, challenge: &Challenge) -> bool {
        self.rights.has_purpose(challenge.purpose)
    }
}

impl States {
    /// The challenge that a request names. Refuses what [`Self::admit`] refuses.
    pub(super) fn challenge(&self, caller: &Caller, challenge: &RequestId) -> Result<ChallengeRef, Error> {
        self.admit(caller)?;
        let keys = self.records.keys();
        caller.record.challenge.get_or_init(|| keys.challenge_tag(&caller.tenant, challenge));
        let name = keys.challenge_name(&caller.tenant, challenge);
        let (call, rights) = (Arc::clone(&caller.record), Arc::clone(&caller.rights));
        Ok(ChallengeRef { name, tenant: caller.tenant.clone(), call, rights })
    }

    /// Refuses all while this replica must not serve, tenants that are not accepted, and those that are not the caller's: before
    /// anything is looked up, so that the refusal says nothing of what is there.
    pub(super) fn admit(&self, caller: &Caller) -> Result<(), Error> {
        self.now()?;
        self.policy(&caller.tenant)?;
        if !caller.rights.has_tenant(&caller.tenant) {
            return Err(Error::Forbidden);
        }
        self.decisions.check()
    }
}
