//! Where a code goes: phone numbers and mailboxes in canonical form, and how they are shown.

use std::{fmt, str::FromStr};

use email_address::EmailAddress;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat};
use serde::{Deserialize, Serialize};

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
    #[error("must be an E.164 number with its leading plus, such as +14155550100")]
    PhoneNumber,
    #[error("must be one e-mail address of at most 100 characters, without a display name")]
    EmailAddress,
}

/// A phone number in E.164 (ITU-T E.164: a plus and up to 15 digits).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Takes a number in its own E.164 form. A trunk or carrier prefix after the country code, which networks would drop, makes
    /// it another text for the same phone, and is refused.
    ///
    /// The country code must exist and the length be possible there. Whether the number is assigned is the provider's to
    /// say: numbering plans change faster than any library.
    /// Fails: it is not E.164.
    pub fn parse(text: &str) -> Result<Self, MalformedDestination> {
        let digits = text.strip_prefix('+').ok_or(MalformedDestination::PhoneNumber)?;
        let shape = (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !shape {
            return Err(MalformedDestination::PhoneNumber);
        }
        let number = PHONE_NUMBER_UTIL.parse(text, None).map_err(|_| MalformedDestination::PhoneNumber)?;
        let is_own_form = PHONE_NUMBER_UTIL.format(&number, PhoneNumberFormat::E164) == text;
        if is_own_form && PHONE_NUMBER_UTIL.is_possible_number(&number) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MalformedDestination::PhoneNumber)
        }
    }

    /// The number as it is since its country renumbered.
    fn renumbered(&self) -> String {
        match self.0.strip_prefix(BENIN) {
            Some(old) if old.len() == 8 => format!("{BENIN}01{old}"),
            _ => self.0.clone(),
        }
    }

    /// The number, for the provider that delivers to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Has had ten digits since November 2024: an old number of eight digits names the phone of the same digits after 01. The
/// library takes both.
const BENIN: &str = "+229";

/// One mailbox.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mailbox(String);

impl Mailbox {
    /// The longest address that is taken, in characters.
    pub const MAX_LENGTH: usize = 100;

    /// Takes an address. A quoted local part that needs no quotes is taken without them: both name the same mailbox (RFC 5321,
    /// 4.1.2).
    /// Fails: it is too long, has a display name, or is not an address.
    pub fn parse(text: &str) -> Result<Self, MalformedDestination> {
        let plain = text.len() <= Self::MAX_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic());
        let address = EmailAddress::from_str(text).ok().filter(|_| plain);
        match address {
            Some(address) if address.email() == text => Ok(Self(unquoted(text).unwrap_or_else(|| text.to_owned()))),
            _ => Err(MalformedDestination::EmailAddress),
        }
    }

    /// The address, for the provider that delivers to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
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
    if EmailAddress::is_valid(&address) {
        return Some(address);
    }
    let escaped = plain.replace('\\', "\\\\").replace('"', "\\\"");
    Some(format!("\"{escaped}\"@{domain}"))
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneNumber(..)")
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailbox(..)")
    }
}

/// Where a code goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Destination {
    Phone(PhoneNumber),
    Email(Mailbox),
    OnFile,
}

impl Destination {
    /// What counts as the same destination for quotas and locks: mailboxes are compared without case and numbers as they are
    /// since their country renumbered, so that spelling buys no guesses. `None` for a contact on file, which otpd does not
    /// know.
    pub fn canonical(&self) -> Option<String> {
        match self {
            Self::Phone(number) => Some(number.renumbered()),
            Self::Email(mailbox) => Some(mailbox.0.to_ascii_lowercase()),
            Self::OnFile => None,
        }
    }

    /// Enough for the person to recognise it, too little to learn it: the country code's start and the last two digits, or
    /// the first letter of the mailbox and of its domain with the last label. Empty for a contact on file.
    pub fn masked(&self) -> String {
        match self {
            Self::Phone(number) => mask_middle(&number.0, 3, 2),
            Self::Email(mailbox) => mask_mailbox(&mailbox.0),
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
