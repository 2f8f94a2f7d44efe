//! Names and MACs: keyed hashes, so that a reader of the store learns neither who nor where nor which.

use super::ring::KeyRing;
use crate::{
    domain::{
        canonical::Canonical,
        ids::{AccountId, Fingerprint, OptionId, RequestId, Tag, Tenant},
        time::Timestamp,
    },
    ports::store::{Name, TakeId},
};

/// What a quota is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted<'a> {
    /// Sends to a destination, in canonical form.
    DestinationSends(&'a str),
    /// Sends of an account.
    AccountSends(&'a AccountId),
    /// Sends of the tenant.
    TenantSends,
    /// Creations of an account.
    AccountCreations(&'a AccountId),
    /// Creations of the tenant.
    TenantCreations,
}

impl KeyRing {
    /// The name of a challenge.
    pub fn challenge_name(&self, tenant: &Tenant, request: &RequestId) -> Name {
        self.name(Canonical::new("challenge").text(tenant.as_str()).text(request.as_str()))
    }

    /// The name of an account as a subject of failures.
    pub fn account_name(&self, tenant: &Tenant, account: &AccountId) -> Name {
        self.name(Canonical::new("account").text(tenant.as_str()).text(account.as_str()))
    }

    /// The name of a destination, in canonical form, as a subject of failures.
    pub fn destination_tag(&self, tenant: &Tenant, destination: &str) -> Tag {
        Tag(self.name(Canonical::new("destination").text(tenant.as_str()).text(destination)).0)
    }

    /// The name of a quota.
    pub fn quota_name(&self, tenant: &Tenant, counted: Counted<'_>) -> Name {
        let start = |kind| Canonical::new(kind).text(tenant.as_str());
        self.name(match counted {
            Counted::DestinationSends(destination) => start("destination sends").text(destination),
            Counted::AccountSends(account) => start("account sends").text(account.as_str()),
            Counted::TenantSends => start("tenant sends"),
            Counted::AccountCreations(account) => start("account creations").text(account.as_str()),
            Counted::TenantCreations => start("tenant creations"),
        })
    }

    /// Names one challenge among all that its id has ever named: after retention an id can be used again, and what was
    /// counted for the old challenge is not taken for the new one's.
    pub fn challenge_tag(&self, challenge: Name, created_at: Timestamp) -> Tag {
        let input = Canonical::new("one challenge").bytes(&challenge.0).number(created_at.as_millis());
        Tag(self.names().tag(&input.finish()))
    }

    /// Names the take of a quota by the creation of a challenge.
    pub fn creation_take_id(&self, challenge: Name) -> TakeId {
        let input = Canonical::new("creation take").bytes(&challenge.0);
        TakeId(self.names().tag(&input.finish()))
    }

    /// Names the take of a quota by a send of a challenge.
    pub fn send_take_id(&self, challenge: Tag, send_number: u32) -> TakeId {
        let input = Canonical::new("send take").bytes(&challenge.0).number(u64::from(send_number));
        TakeId(self.names().tag(&input.finish()))
    }

    /// The tag of a request id within its challenge.
    pub fn request_tag(&self, challenge: Name, request: &RequestId) -> Tag {
        let input = Canonical::new("request id").bytes(&challenge.0).text(request.as_str());
        Tag(self.requests().tag(&input.finish()))
    }

    /// The MAC of a request's content.
    pub fn fingerprint(&self, content: Canonical) -> Fingerprint {
        Fingerprint(self.requests().tag(&content.finish()))
    }

    /// An option id for an option that the caller gave none: the same for the same place in the same challenge, and not to
    /// be guessed for another.
    pub fn option_id(&self, challenge: Name, index: usize) -> OptionId {
        let input = Canonical::new("option id").bytes(&challenge.0).number(u64::try_from(index).unwrap_or(u64::MAX));
        let tag = u128::from_be_bytes(self.requests().tag(&input.finish()));
        // 60 bits in Crockford's base 32: unique among the ten of a challenge, short enough to be typed.
        let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digit = |place: u32| {
            let index = usize::try_from((tag >> (5 * place)) & 31).unwrap_or(0);
            char::from(alphabet.get(index).copied().unwrap_or(b'0'))
        };
        let text: String = (0..12).map(digit).collect();
        OptionId::made(text)
    }

    fn name(&self, input: Canonical) -> Name {
        Name(self.names().tag(&input.finish()))
    }
}
