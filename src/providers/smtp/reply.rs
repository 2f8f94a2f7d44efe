//! What a failure means, by the command that it came after and the server's reply (RFC 5321, 4.2; RFC 3463 for the enhanced
//! codes; RFC 4954, 6 for those of AUTH).

use std::error::Error as _;

use lettre::transport::smtp::Error;

use crate::{
    ports::provider::{Delivered, Failure},
    providers::{
        adapter::Alarm,
        breaker::Fault,
        guard::{Attempted, Exchange},
    },
};

/// What was asked when a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Connecting, the greeting, EHLO and STARTTLS.
    Connect,
    /// AUTH.
    Login,
    /// MAIL.
    Sender,
    /// RCPT.
    Destination,
    /// DATA.
    Data,
    /// The mail itself.
    Message,
}

/// How a delivery failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No reply in time.
    Late,
    /// No connection, a connection that broke, or something that is no reply to what was asked.
    Broken,
    /// A refusal, for now (4xx) or for good (5xx), with its text in lower case.
    Reply { code: u16, text: String },
    /// Encryption is required, and the server offers none.
    NotEncrypted,
    /// The server offers no way to log in that otpd knows.
    NoMechanism,
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Self {
        let text = || error.source().map(|source| source.to_string().to_ascii_lowercase()).unwrap_or_default();
        error.status().map_or(Self::Broken, |code| Self::Reply { code: u16::from(code), text: text() })
    }
}

/// What is to be done about a failure.
pub(super) fn judged(stage: Stage, trouble: &Trouble) -> Attempted<Delivered> {
    let unavailable = Delivered::Failed(Failure::Unavailable { retry_after: None });
    let refused = Delivered::Failed(Failure::Refused);
    let failing = Some(Fault::Failing);
    match trouble {
        // Before the last line of the mail the server has nothing to deliver; after it, anything may have happened.
        Trouble::Late | Trouble::Broken if stage == Stage::Message => {
            let reason = if *trouble == Trouble::Late { "no reply in time" } else { "the connection broke" };
            attempted(Delivered::Unknown, Exchange::Unknown(reason), 0, failing, None)
        }
        Trouble::Late => attempted(unavailable, Exchange::NothingSent("no reply in time"), 0, failing, None),
        Trouble::Broken => attempted(unavailable, Exchange::NothingSent(broken(stage)), 0, failing, None),
        Trouble::NotEncrypted => {
            let reason = "the mail server offers no encryption";
            attempted(refused, Exchange::NothingSent(reason), 0, Some(Fault::Refusing), Some(Alarm::Request(reason)))
        }
        Trouble::NoMechanism => {
            let reason = "the mail server offers no way to log in";
            attempted(
                refused,
                Exchange::NothingSent(reason),
                0,
                Some(Fault::Refusing),
                Some(Alarm::Credentials(reason)),
            )
        }
        Trouble::Reply { code, text } => {
            let (decision, fault, alarm) = replied(stage, *code, Enhanced::of(text), text);
            // Of the text the log gets the enhanced code alone: the rest may repeat the address.
            let remark = enhanced_code(text).unwrap_or_default().to_owned();
            Attempted { remark, ..attempted(decision, Exchange::Answered, *code, fault, alarm) }
        }
    }
}

fn broken(stage: Stage) -> &'static str {
    if stage == Stage::Connect { "no connection" } else { "the connection broke" }
}

fn attempted(
    decision: Delivered,
    exchange: Exchange,
    status: u16,
    fault: Option<Fault>,
    alarm: Option<Alarm>,
) -> Attempted<Delivered> {
    Attempted { decision, exchange, status, fault, rest: None, alarm, remark: String::new() }
}

/// What the reply is about by its enhanced code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enhanced {
    /// The destination: 5.1.x but for the sender's, 5.2.x.
    Destination,
    /// Something else.
    Other,
    /// There is none.
    None,
}

impl Enhanced {
    fn of(text: &str) -> Self {
        let numbers: Vec<&str> = enhanced_code(text).unwrap_or_default().split('.').collect();
        match numbers.as_slice() {
            // 1.7 and 1.8 are about the sender's address.
            [_, "1", "7" | "8"] => Self::Other,
            [_, "1" | "2", _] => Self::Destination,
            [_, _, _] => Self::Other,
            _ => Self::None,
        }
    }
}

/// The enhanced code that a text begins with, such as `5.1.1`.
fn enhanced_code(text: &str) -> Option<&str> {
    let first = text.split_whitespace().next()?;
    let is_number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    Some(first).filter(|first| first.split('.').count() == 3 && first.split('.').all(is_number))
}

fn replied(stage: Stage, code: u16, enhanced: Enhanced, text: &str) -> (Delivered, Option<Fault>, Option<Alarm>) {
    let unavailable = Delivered::Failed(Failure::Unavailable { retry_after: None });
    let refused = Delivered::Failed(Failure::Refused);
    let credentials = "the mail server refuses user and password";
    match (stage, code) {
        (_, 421) => (unavailable, Some(Fault::Failing), None),
        // A greylisting of one destination says nothing of the server.
        (Stage::Destination | Stage::Message, 400..=499) => (unavailable, None, None),
        (_, 400..=499) => (unavailable, Some(Fault::Failing), None),
        (Stage::Login, _) | (_, 530 | 534 | 535 | 538) => {
            (refused, Some(Fault::Refusing), Some(Alarm::Credentials(credentials)))
        }
        (Stage::Connect, _) => {
            (refused, Some(Fault::Refusing), Some(Alarm::Credentials("the mail server does not serve otpd")))
        }
        // The sender is the same for every mail.
        (Stage::Sender, _) => {
            (refused, Some(Fault::Refusing), Some(Alarm::Account("the mail server refuses the sender")))
        }
        (Stage::Destination, 550..=553) if is_about_destination(enhanced, text) => (Delivered::Rejected, None, None),
        (Stage::Message, 550..=554) if enhanced == Enhanced::Destination => (Delivered::Rejected, None, None),
        _ => (refused, None, Some(Alarm::Request("the mail server refuses the mail"))),
    }
}

/// Whether a refusal of RCPT is about the destination: the enhanced code says so, or there is none and the text does not speak
/// of relaying or policy.
fn is_about_destination(enhanced: Enhanced, text: &str) -> bool {
    match enhanced {
        Enhanced::Destination => true,
        Enhanced::Other => false,
        Enhanced::None => !["relay", "policy", "denied", "blocked", "spam"].iter().any(|word| text.contains(word)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNAVAILABLE: Delivered = Delivered::Failed(Failure::Unavailable { retry_after: None });
    const REFUSED: Delivered = Delivered::Failed(Failure::Refused);

    #[test]
    fn replies_are_judged_by_command_code_and_text() {
        for (stage, code, text, expected, fault) in [
            (Stage::Connect, 421, "too busy", UNAVAILABLE, Some(Fault::Failing)),
            (Stage::Connect, 554, "no service for you", REFUSED, Some(Fault::Refusing)),
            (Stage::Login, 535, "5.7.8 authentication credentials invalid", REFUSED, Some(Fault::Refusing)),
            (Stage::Login, 454, "4.7.0 temporary authentication failure", UNAVAILABLE, Some(Fault::Failing)),
            (Stage::Sender, 530, "5.7.0 authentication required", REFUSED, Some(Fault::Refusing)),
            (Stage::Sender, 550, "5.1.8 sender not allowed", REFUSED, Some(Fault::Refusing)),
            (Stage::Sender, 451, "4.3.2 try again", UNAVAILABLE, Some(Fault::Failing)),
            (Stage::Destination, 450, "4.7.1 greylisted", UNAVAILABLE, None),
            (Stage::Destination, 421, "4.3.2 closing", UNAVAILABLE, Some(Fault::Failing)),
            (Stage::Destination, 550, "5.1.1 no such user", Delivered::Rejected, None),
            (Stage::Destination, 550, "no such user", Delivered::Rejected, None),
            (Stage::Destination, 551, "user not local", Delivered::Rejected, None),
            (Stage::Destination, 552, "5.2.2 mailbox full", Delivered::Rejected, None),
            (Stage::Destination, 553, "mailbox name not allowed", Delivered::Rejected, None),
            (Stage::Destination, 550, "relay access denied", REFUSED, None),
            (Stage::Destination, 550, "5.7.1 relaying denied", REFUSED, None),
            (Stage::Destination, 554, "5.7.1 relay access denied", REFUSED, None),
            (Stage::Data, 503, "bad sequence", REFUSED, None),
            (Stage::Data, 451, "later", UNAVAILABLE, Some(Fault::Failing)),
            (Stage::Message, 451, "4.3.0 later", UNAVAILABLE, None),
            (Stage::Message, 552, "5.3.4 too large", REFUSED, None),
            (Stage::Message, 554, "5.7.1 spam", REFUSED, None),
            (Stage::Message, 550, "5.1.1 no such user", Delivered::Rejected, None),
        ] {
            let judged = judged(stage, &Trouble::Reply { code, text: text.to_owned() });
            assert_eq!((judged.decision, judged.fault), (expected, fault), "{stage:?} {code} {text}");
        }
    }

    #[test]
    fn of_a_text_the_enhanced_code_is_told() {
        for (text, expected) in [
            ("5.1.1 <jane@example.org> unknown", "5.1.1"),
            ("jane@example.org unknown", ""),
            ("5.1.1.2 x", ""),
            ("", ""),
        ] {
            let trouble = Trouble::Reply { code: 550, text: text.to_owned() };
            assert_eq!(judged(Stage::Destination, &trouble).remark, expected, "{text}");
        }
    }

    #[test]
    fn only_after_the_mail_was_sent_is_silence_unknown() {
        for stage in [Stage::Connect, Stage::Login, Stage::Sender, Stage::Destination, Stage::Data] {
            assert_eq!(judged(stage, &Trouble::Late).decision, UNAVAILABLE, "{stage:?}");
            assert_eq!(judged(stage, &Trouble::Broken).decision, UNAVAILABLE, "{stage:?}");
        }
        assert_eq!(judged(Stage::Message, &Trouble::Late).decision, Delivered::Unknown);
        assert_eq!(judged(Stage::Message, &Trouble::Broken).decision, Delivered::Unknown);
    }
}
