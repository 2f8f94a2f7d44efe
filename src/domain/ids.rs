//! Names that callers give: tenants, requests, options, accounts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest id, in bytes and characters alike.
pub const MAX_ID_LENGTH: usize = 100;

/// An id is malformed: empty, too long, or with a character that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to 100 of {0}")]
pub struct MalformedId(&'static str);

fn check(text: &str, allowed: impl Fn(u8) -> bool, description: &'static str) -> Result<(), MalformedId> {
    let fits = (1..=MAX_ID_LENGTH).contains(&text.len()) && text.bytes().all(allowed);
    if fits { Ok(()) } else { Err(MalformedId(description)) }
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-')
}

/// Whether a text has the form of an id: 1 to 100 of `[a-zA-Z0-9:_-]`.
pub(crate) fn is_id(text: &str) -> bool {
    check(text, is_id_byte, "").is_ok()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $allowed:expr, $description:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub struct $name(String);

        impl $name {
            /// Takes an id.
            /// Fails: it is empty, longer than 100 characters, or holds a character that is not allowed.
            pub fn parse(text: &str) -> Result<Self, MalformedId> {
                check(text, $allowed, $description).map(|()| Self(text.to_owned()))
            }

            /// The id as the caller wrote it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// The tenant: Google's payment integrator account id.
    Tenant, is_id_byte, "[a-zA-Z0-9:_-]"
);
id!(
    /// The id of one request; of a CreateChallenge also the name of its challenge.
    RequestId, is_id_byte, "[a-zA-Z0-9:_-]"
);
id!(
    /// The id of one option of a challenge.
    OptionId, is_id_byte, "[a-zA-Z0-9:_-]"
);
id!(
    /// The person's account at the caller. Opaque, so more is allowed than in our own ids; never printed.
    AccountId, |byte: u8| byte.is_ascii_graphic(), "printable ASCII without spaces"
);

impl OptionId {
    /// Takes an id that otpd has made itself.
    pub(crate) fn made(text: String) -> Self {
        debug_assert!(check(&text, is_id_byte, "").is_ok(), "a made id is an id");
        Self(text)
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({})", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestId(..)")
    }
}

impl fmt::Debug for OptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OptionId(..)")
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountId(..)")
    }
}

/// A keyed hash of a request id, as records keep it: of one size, and telling nothing. Only compared within one challenge or
/// lockout, so that 64 bits are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tag(pub [u8; 8]);

/// A keyed hash of a challenge, an account or a contact, the same everywhere: logs, spans and audit events show it, so that one
/// can be followed without telling who it is. 64 bits tell those of an installation apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SupportTag(pub [u8; 8]);

impl fmt::Display for SupportTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// A keyed hash of a contact, by which a lockout tells the failures of one from those of another. Only compared within one
/// lockout, so that 64 bits are enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contact(pub [u8; 8]);

/// A keyed MAC over the canonical encoding of a request, as records keep it to tell a repetition from other content: 64 bits,
/// of which a caller has one try for each request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 8]);

/// A request as the rules see it: the same key means the same request, one id with two fingerprints is a mistake of the
/// caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// The tag of the request id.
    pub id: Tag,
    pub fingerprint: Fingerprint,
}

/// Random, of one reservation: its worker recognises it by nothing else. Also names the uses of quotas that the
/// reservation acquired. 64 bits tell the reservations of one challenge apart, and the uses of one quota.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Token(pub [u8; 8]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
