//! What a caller is known by: the name in its certificate, or a token that it keeps secret.

use std::{collections::BTreeSet, fmt, sync::Arc};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// The longest SPIFFE id, in bytes (SPIFFE-ID, 2.3).
const MAX_SPIFFE: usize = 2048;
/// The longest trust domain, in bytes (SPIFFE-ID, 2.1).
const MAX_TRUST_DOMAIN: usize = 255;
/// The longest name and label of DNS (RFC 1035, 2.3.4).
const MAX_DNS_NAME: usize = 253;
const MAX_DNS_LABEL: usize = 63;

/// One identity of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A SPIFFE id, `spiffe://trust-domain/path`, of a certificate: <https://spiffe.io/docs/latest/spiffe-specs/spiffe-id>.
    Spiffe(Arc<str>),
    /// A DNS name of a certificate, in lower case.
    Dns(Arc<str>),
    /// The hash of a bearer token.
    Token(TokenHash),
}

/// An identity is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedIdentity {
    /// It is none of the forms.
    #[error("must be spiffe://TRUST-DOMAIN/PATH, dns:NAME, or token-sha256: and 64 hexadecimal digits")]
    Form,
    /// What a shell makes of a variable that is not set.
    #[error("is the SHA-256 of nothing: the token was empty when it was hashed")]
    EmptyToken,
}

impl Identity {
    /// Takes an identity as the configuration writes it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, MalformedIdentity> {
        let parsed = if let Some(name) = text.strip_prefix("dns:") {
            Self::dns(name)
        } else if let Some(hash) = text.strip_prefix("token-sha256:") {
            let hash = TokenHash::from_hex(hash);
            if hash == Some(TokenHash::of(b"")) {
                return Err(MalformedIdentity::EmptyToken);
            }
            hash.map(Self::Token)
        } else {
            Self::spiffe(text)
        };
        parsed.ok_or(MalformedIdentity::Form)
    }

    /// A SPIFFE id of a workload: it has a path. `None`: it is malformed. Ids are compared byte by byte, and have one form.
    pub fn spiffe(uri: &str) -> Option<Self> {
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let domain_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
        let segment_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let is_segment =
            |segment: &str| !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(segment_byte);
        let fits = uri.len() <= MAX_SPIFFE && (1..=MAX_TRUST_DOMAIN).contains(&domain.len());
        let is_valid = fits && domain.bytes().all(domain_byte) && path.split('/').all(is_segment);
        is_valid.then(|| Self::Spiffe(uri.into()))
    }

    /// A DNS name of one machine or service; one with a wildcard is none. `None`: it is malformed.
    pub fn dns(name: &str) -> Option<Self> {
        let label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label = |label: &str| (1..=MAX_DNS_LABEL).contains(&label.len()) && label.bytes().all(label_byte);
        let is_valid = name.len() <= MAX_DNS_NAME && name.split('.').all(is_label);
        is_valid.then(|| Self::Dns(name.to_ascii_lowercase().into()))
    }
}

/// The SHA-256 of a bearer token. It is no secret where the token is random, but whoever has it may try tokens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of a token as it is sent.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether they are equal, found out in the same time whether they are or not.
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    fn from_hex(text: &str) -> Option<Self> {
        let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
        let bytes = digits.chunks(2).map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        });
        let bytes: Option<Vec<u8>> = bytes.collect();
        bytes?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// Which headers of a sidecar are believed. They come over loopback or a Unix socket only; from elsewhere they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SidecarTrust {
    /// `x-forwarded-client-cert`, where its `By` is one of these: the SPIFFE ids of our own sidecar. Empty: it is ignored.
    pub xfcc_by: BTreeSet<Identity>,
    /// `l5d-client-id`, which the proxy of Linkerd sets, and removes from what it passes on of a caller without identity.
    pub l5d_client_id: bool,
}

impl SidecarTrust {
    /// Whether any header is believed.
    pub fn is_any(&self) -> bool {
        self.l5d_client_id || !self.xfcc_by.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_have_one_form() {
        let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let upper = hash.to_ascii_uppercase();
        for (text, expected) in [
            ("spiffe://td.example/ns/web/sa/shop", Some(Identity::Spiffe("spiffe://td.example/ns/web/sa/shop".into()))),
            ("spiffe://td/A.b-c_d", Some(Identity::Spiffe("spiffe://td/A.b-c_d".into()))),
            ("dns:Shop.Example", Some(Identity::Dns("shop.example".into()))),
            (&format!("token-sha256:{hash}"), Some(Identity::Token(TokenHash::of(b"test")))),
            (&format!("token-sha256:{upper}"), Some(Identity::Token(TokenHash::of(b"test")))),
            ("", None),
            ("shop", None),
            ("spiffe://td", None),
            ("spiffe://td/", None),
            ("spiffe:///path", None),
            ("spiffe://TD/path", None),
            ("SPIFFE://td/path", None),
            ("spiffe://td:443/path", None),
            ("spiffe://user@td/path", None),
            ("spiffe://td//path", None),
            ("spiffe://td/path/", None),
            ("spiffe://td/../path", None),
            ("spiffe://td/./path", None),
            ("spiffe://td/pa%74h", None),
            ("spiffe://td/path?x", None),
            ("spiffe://td/path#x", None),
            ("spiffe://td/path\0", None),
            (&format!("spiffe://td/{}", "a".repeat(MAX_SPIFFE)), None),
            ("https://td/path", None),
            ("dns:", None),
            ("dns:*.example", None),
            ("dns:shop.example.", None),
            ("dns:shop..example", None),
            ("dns:shop example", None),
            ("dns:spiffe://td/path", None),
            (&format!("dns:{}", "a".repeat(64)), None),
            (&format!("dns:{}", "a.".repeat(127) + "a"), None),
            ("token-sha256:", None),
            (&format!("token-sha256:{}", &hash[1..]), None),
            (&format!("token-sha256:{}", &hash[2..]), None),
            (&format!("token-sha256:{hash}00"), None),
            (&format!("token-sha256:+{}", &hash[1..]), None),
        ] {
            assert_eq!(Identity::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_hash_of_nothing_is_refused() {
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for hash in [nothing, &nothing.to_ascii_uppercase()] {
            let parsed = Identity::parse(&format!("token-sha256:{hash}"));
            assert_eq!(parsed, Err(MalformedIdentity::EmptyToken), "{hash}");
        }
    }

    #[test]
    fn hashes_are_compared_and_not_shown() {
        let hash = TokenHash::of(b"test");
        assert!(
            bool::from(hash.matches(&TokenHash::of(b"test"))) && !bool::from(hash.matches(&TokenHash::of(b"Test")))
        );
        assert_eq!(format!("{:?}", Identity::Token(hash)), "Token(TokenHash(..))");
    }
}
