//! Where a code goes: phone numbers and mailboxes in canonical form, and how they are shown.

mod mailbox;
mod phone;
mod renumbered;

use serde::{Deserialize, Serialize};

pub use mailbox::Mailbox;
pub use phone::PhoneNumber;

/// How a code travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Channel {
    Sms,
    /// A call that reads the code out.
    Voice,
    WhatsApp,
    Email,
}

impl Channel {
    pub const ALL: [Self; 4] = [Self::Sms, Self::Voice, Self::WhatsApp, Self::Email];

    /// The name in configuration, logs and the console provider's lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Voice => "voice",
            Self::WhatsApp => "whatsapp",
            Self::Email => "email",
        }
    }
}

/// Why a destination is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedDestination {
    /// Not E.164.
    #[error("must be an E.164 number with its leading plus and without a trunk prefix, such as +14155550100")]
    PhoneNumber,
    #[error("must be one e-mail address of at most 100 characters, without a display name")]
    EmailAddress,
}

/// Where a code goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    Phone(PhoneNumber),
    Email(Mailbox),
    OnFile,
}

impl Destination {
    /// What counts as the same destination for quotas and locks: mailboxes are compared without case, and the old and new
    /// number of one phone are its new number, so that spelling buys no guesses. `None` for a contact on file, which otpd
    /// does not know.
    pub fn canonical(&self) -> Option<String> {
        match self {
            Self::Phone(number) => Some(renumbered::current(number.expose())),
            Self::Email(mailbox) => Some(mailbox.expose().to_ascii_lowercase()),
            Self::OnFile => None,
        }
    }

    /// Enough for the person to recognise it, too little to learn it: the country code's start and the last two digits, or
    /// the first letter of the mailbox and of its domain with the last label. Empty for a contact on file.
    pub fn masked(&self) -> String {
        match self {
            Self::Phone(number) => mask_middle(number.expose(), 3, 2),
            Self::Email(mailbox) => mask_mailbox(mailbox.expose()),
            Self::OnFile => String::new(),
        }
    }
}

fn mask_middle(text: &str, first: usize, last: usize) -> String {
    let length = text.chars().count();
    let shown = |index: usize| index < first || index + last >= length;
    text.chars().enumerate().map(|(index, c)| if shown(index) { c } else { '*' }).collect()
}

fn mask_mailbox(text: &str) -> String {
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
    let first = local.chars().next().unwrap_or('*');
    let (host, top) = domain.rsplit_once('.').unwrap_or((domain, ""));
    let host_first = host.chars().next().unwrap_or('*');
    // The number of stars is fixed: the length of a mailbox tells it apart from others.
    format!("{first}***@{host_first}***.{top}")
}
