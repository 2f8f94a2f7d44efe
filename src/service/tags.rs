//! What a call is told of whom it is about: keyed tags of the account and the contact, for logs, traces and events.

use super::challenge_ref::ChallengeRef;
use crate::{
    domain::{
        challenge::Challenge,
        ids::{AccountId, Tenant},
        purpose::Purpose,
    },
    keys::ring::KeyRing,
    ports::{call::CallRecord, store::Partition},
};

/// Whose challenge a call names. Of one that has ended the contact is not kept, but its partition is that of the contact.
pub(super) fn note_owner(keys: &KeyRing, target: &ChallengeRef, challenge: &Challenge, partition: Partition) {
    note_account(keys, &target.call, &target.tenant, &challenge.account);
    // A registration of a contact that only the provider knows is in the partition of its account.
    if challenge.purpose == Purpose::Registration
        && target.call.contact.get().is_none()
        && partition != keys.account_partition(&target.tenant, &challenge.account)
    {
        note_contact(keys, &target.call, partition);
    }
}

/// The account that a call is about.
pub(super) fn note_account(keys: &KeyRing, call: &CallRecord, tenant: &Tenant, account: &AccountId) {
    call.account.get_or_init(|| keys.account_tag(tenant, account));
}

/// The contact that a call is about, by the partition of its registrations.
pub(super) fn note_contact(keys: &KeyRing, call: &CallRecord, partition: Partition) {
    call.contact.get_or_init(|| keys.tag_of_contact_partition(partition));
}
