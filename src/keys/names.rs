//! Names and MACs: keyed hashes, so that the store reveals no account, destination or challenge id.

use super::ring::KeyRing;
use crate::{
    domain::{
        canonical::Canonical,
        destination::{Channel, Destination},
        ids::{AccountId, Contact, Fingerprint, IdempotencyKey, OptionId, RequestId, SupportTag, Tag, Tenant, Token},
        quota::QuotaKind,
    },
    ports::store::{Name, Partition},
};

impl KeyRing {
    /// The name of a challenge: of its index entry, and of its record within its partition.
    pub fn challenge_name(&self, tenant: &Tenant, request: &RequestId) -> Name {
        Name(self.hash(Canonical::new("challenge").text(tenant.as_str()).text(request.as_str())))
    }

    /// The partition of an account: its lockout and its challenges.
    pub fn account_partition(&self, tenant: &Tenant, account: &AccountId) -> Partition {
        Partition(self.hash(Canonical::new("account").text(tenant.as_str()).text(account.as_str())))
    }

    /// The partition of a contact, in canonical form, that registrations prove.
    pub fn contact_partition(&self, tenant: &Tenant, contact: &str) -> Partition {
        Partition(self.hash(Canonical::new("contact").text(tenant.as_str()).text(contact)))
    }

    /// The contact behind an option. Of contacts on file otpd knows no more than the channel.
    pub fn contact(&self, tenant: &Tenant, channel: Channel, destination: &Destination) -> Contact {
        let start = Canonical::new("contact of a lockout").text(tenant.as_str());
        Contact(self.hash(match destination.canonical() {
            Some(canonical) => start.text(&canonical),
            None => start.text("on file").text(channel.name()),
        }))
    }

    /// The name of a quota.
    pub fn quota_name(&self, tenant: &Tenant, kind: QuotaKind<'_>) -> Name {
        let start = Canonical::new(kind.name()).text(tenant.as_str());
        Name(self.hash(match kind {
            QuotaKind::DestinationSends(destination) => start.text(destination),
            QuotaKind::AccountSends(account) | QuotaKind::AccountCreations(account) => start.text(account.as_str()),
            QuotaKind::TenantSends | QuotaKind::TenantCreations => start,
        }))
    }

    /// Names the uses of quotas by a creation: the same for each repetition of one CreateChallenge, and for no other.
    pub fn creation_use(&self, challenge: Name, partition: Partition, fingerprint: Fingerprint) -> Token {
        let input = Canonical::new("creation use").bytes(&challenge.0).bytes(&partition.0).bytes(&fingerprint.0);
        Token(self.hash(input))
    }

    /// A challenge, as people who support callers see it.
    pub fn challenge_tag(&self, tenant: &Tenant, request: &RequestId) -> SupportTag {
        SupportTag(self.hash(Canonical::new("tag of a challenge").text(tenant.as_str()).text(request.as_str())))
    }

    /// An account, likewise.
    pub fn account_tag(&self, tenant: &Tenant, account: &AccountId) -> SupportTag {
        SupportTag(self.hash(Canonical::new("tag of an account").text(tenant.as_str()).text(account.as_str())))
    }

    /// A contact in canonical form, likewise.
    pub fn contact_tag(&self, tenant: &Tenant, contact: &str) -> SupportTag {
        self.tag_of_contact_partition(self.contact_partition(tenant, contact))
    }

    /// The same, by the partition of its registrations: an ended challenge knows its contact no more, but its partition.
    pub fn tag_of_contact_partition(&self, partition: Partition) -> SupportTag {
        SupportTag(self.hash(Canonical::new("tag of a contact").bytes(&partition.0)))
    }

    /// A request as a challenge remembers it.
    pub fn request_key(&self, challenge: Name, request: &RequestId, content: Canonical) -> IdempotencyKey {
        self.key_within(&challenge.0, request, content)
    }

    /// An operator's request as a lockout remembers it.
    pub fn operation_key(&self, partition: Partition, request: &RequestId, content: Canonical) -> IdempotencyKey {
        self.key_within(&partition.0, request, content)
    }

    fn key_within(&self, scope: &[u8], request: &RequestId, content: Canonical) -> IdempotencyKey {
        let id = Canonical::new("request id").bytes(scope).text(request.as_str());
        IdempotencyKey {
            id: Tag(self.requests().tag(&id.finish())),
            fingerprint: Fingerprint(self.requests().tag(&content.finish())),
        }
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

    fn hash<const LENGTH: usize>(&self, input: Canonical) -> [u8; LENGTH] {
        self.names().tag(&input.finish())
    }
}
