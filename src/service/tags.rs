//! What a call is told of whom it is about: keyed tags of the account and the contact, for logs, traces and events.

use super::{challenge_ref::ChallengeRef, request::LockoutOwner};
use crate::{
    domain::{
        challenge::Challenge,
        destination::Destination,
        ids::{AccountId, Tenant},
        purpose::Purpose,
    },
    keys::ring::KeyRing,
    ports::call::CallRecord,
};

/// Whose challenge a call names.
pub(super) fn note_owner(keys: &KeyRing, target: &ChallengeRef, challenge: &Challenge) {
    note_account(keys, &target.call, &target.tenant, &challenge.account);
    if challenge.purpose == Purpose::Registration {
        // Of a challenge that has ended the contact is not kept.
        let known = challenge.options.first().and_then(|option| option.target.known());
        if let Some(contact) = known.and_then(Destination::canonical) {
            note_contact(keys, &target.call, &target.tenant, &contact);
        }
    }
}

/// Whom an operator means.
pub(super) fn note_lockout_owner(keys: &KeyRing, call: &CallRecord, tenant: &Tenant, owner: &LockoutOwner) {
    match owner {
        LockoutOwner::Account(account) => note_account(keys, call, tenant, account),
        LockoutOwner::Contact(contact) => {
            if let Some(contact) = contact.canonical() {
                note_contact(keys, call, tenant, &contact);
            }
        }
    }
}

/// The account that a call is about.
pub(super) fn note_account(keys: &KeyRing, call: &CallRecord, tenant: &Tenant, account: &AccountId) {
    call.account.get_or_init(|| keys.account_tag(tenant, account));
}

/// The contact, in canonical form, that a call is about.
pub(super) fn note_contact(keys: &KeyRing, call: &CallRecord, tenant: &Tenant, contact: &str) {
    call.contact.get_or_init(|| keys.contact_tag(tenant, contact));
}
