//! Mailboxes.

use std::fmt;

use email_address::{EmailAddress, Options};
use serde::{Deserialize, Serialize};

use super::MalformedDestination;

/// One mailbox.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mailbox(String);

impl Mailbox {
    /// The longest address that is taken, in characters.
    pub const MAX_LENGTH: usize = 100;

    /// Takes an address. A quoted local part that needs no quotes is taken without them: both name the same mailbox (RFC 5321,
    /// 4.1.2). Comments, a dot at the end of the domain and an IP address instead of it are other texts for the same mailbox
    /// that no mail server needs, and are refused.
    /// Fails: it is too long, has a display name, or is not an address.
    pub fn parse(text: &str) -> Result<Self, MalformedDestination> {
        let plain = text.len() <= Self::MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        if plain && is_address(text) && !text.ends_with('.') {
            Ok(Self(unquoted(text).unwrap_or_else(|| text.to_owned())))
        } else {
            Err(MalformedDestination::EmailAddress)
        }
    }

    /// The address, for the provider that delivers to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn is_address(text: &str) -> bool {
    let options = Options::default().with_no_minimum_sub_domains().without_domain_literal().without_display_text();
    EmailAddress::parse_with_options(text, options).is_ok()
}

/// An address whose local part was quoted, in its shortest form. `None`: it was not, or cannot be unquoted.
fn unquoted(text: &str) -> Option<String> {
    let (local, domain) = text.rsplit_once('@')?;
    let mut quoted = local.strip_prefix('"')?.strip_suffix('"')?.chars();
    let mut plain = String::new();
    while let Some(c) = quoted.next() {
        // A backslash stands for the character after it.
        plain.push(if c == '\\' { quoted.next()? } else { c });
    }
    let address = format!("{plain}@{domain}");
    if is_address(&address) {
        return Some(address);
    }
    let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("\"{escaped}\"@{domain}"))
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox(..)")
    }
}
