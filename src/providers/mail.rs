//! The envelope of mails: settings that the kinds for mail share.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::adapter::{by_locale::ByLocale, settings};
use crate::{domain::destination::Mailbox, settings::Section};

/// The longest line of a header that RFC 5322, 2.1.1 recommends.
const MAX_LINE: usize = 78;

/// Sender and subjects. A subject does not hold the code, because subjects are shown on locked screens.
#[derive(Clone)]
pub(super) struct Envelope {
    /// The sender's mailbox.
    pub(super) from: Mailbox,
    /// The sender's name; may be empty.
    pub(super) from_name: String,
    subjects: ByLocale<String>,
}

impl Envelope {
    /// Reads `from`, `from_name`, `subject` and `subjects`.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let mailbox = |text: &str| Mailbox::parse(text).map_err(|error| error.to_string());
        let from = settings::required(section, "from", "the mailbox that the provider may send from", mailbox);
        let from_name = section.optional_text("from_name", name).unwrap_or_default();
        let subject = section.text("subject", line).unwrap_or_else(|| "Your verification code".to_owned());
        let subjects = ByLocale::read(section, "subjects", subject, line);
        Some(Self { from: from?, from_name, subjects })
    }

    /// The subject for a reader.
    pub(super) fn subject(&self, locale: &str) -> &str {
        self.subjects.of(locale)
    }

    /// As [`Envelope::sender`], with a name beyond ASCII in encoded words (RFC 2047), for interfaces that take headers as they are.
    pub(super) fn encoded_sender(&self) -> String {
        if self.from_name.is_ascii() {
            return self.sender();
        }
        // At most 75 characters a word (RFC 2047, 2): 12 of markup, and 4 for each 3 bytes.
        let mut words: Vec<String> = vec![String::new()];
        for character in self.from_name.chars() {
            match words.last_mut() {
                Some(word) if word.len() + character.len_utf8() <= 45 => word.push(character),
                _ => words.push(character.to_string()),
            }
        }
        let words: Vec<String> = words.iter().map(|word| format!("=?UTF-8?B?{}?=", STANDARD.encode(word))).collect();
        format!("{} <{}>", words.join(" "), self.from.expose())
    }

    /// The sender as a header has it (RFC 5322, 3.4): `"Name" <mailbox>`, or the mailbox alone.
    pub(super) fn sender(&self) -> String {
        let from = self.from.expose();
        if self.from_name.is_empty() { from.to_owned() } else { format!("\"{}\" <{from}>", self.from_name) }
    }
}

/// One line of a header.
fn line(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_LINE).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(format!("must be one line of 1 to {MAX_LINE} characters")) }
}

/// A name that can stand between quotes without escapes.
fn name(text: &str) -> Result<String, String> {
    if text.contains(['"', '\\']) { Err("must be without quotes and backslashes".to_owned()) } else { line(text) }
}
