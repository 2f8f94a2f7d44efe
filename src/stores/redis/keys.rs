//! Every key in Redis. Names are keyed hashes already, so a key tells nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::ports::store::Name;

/// What [`check`](crate::ports::store::Store::check) writes.
pub(super) const CHECK: &str = "otp:check";

/// A record: a string.
pub(super) fn record(name: Name) -> String {
    key("otp:r:", name)
}

/// A quota: a sorted set.
pub(super) fn quota(name: Name) -> String {
    key("otp:q:", name)
}

fn key(prefix: &str, name: Name) -> String {
    let mut key = String::with_capacity(28);
    key.push_str(prefix);
    URL_SAFE_NO_PAD.encode_string(name.0, &mut key);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of two releases share the keys, so they never change.
    #[test]
    fn keys_are_pinned() {
        assert_eq!(record(Name([0xFB; 16])), "otp:r:-_v7-_v7-_v7-_v7-_v7-w");
        assert_eq!(quota(Name([0; 16])), "otp:q:AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(CHECK, "otp:check");
    }
}
