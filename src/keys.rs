//! Keys: the ring of master keys and what is derived from it.
//!
//! From the active key: the sealing of records and the PRF of codes; both record the key's id, so that it can rotate. From
//! the lowest-numbered key, which does not rotate: the names under which records are kept, and the MACs of requests.

pub mod generate;
pub mod names;
pub mod ring;
pub mod seal;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A keyed function: HMAC-SHA-256.
#[derive(Clone)]
struct Prf(Hmac<Sha256>);

impl Prf {
    fn new(key: &[u8; 32]) -> Self {
        // HMAC takes a key of any length; the fallback is unreachable and keyed with nothing that anyone relies on.
        Self(Hmac::new_from_slice(key).unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default())))
    }

    fn output(&self, input: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(input);
        mac.finalize().into_bytes().into()
    }

    /// The first bytes of the output, up to 32.
    fn tag<const LENGTH: usize>(&self, input: &[u8]) -> [u8; LENGTH] {
        let output = self.output(input);
        let mut tag = [0; LENGTH];
        tag.iter_mut().zip(output).for_each(|(to, from)| *to = from);
        tag
    }
}

#[cfg(test)]
mod tests;
