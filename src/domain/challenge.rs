//! The record of a challenge: what the store keeps of it, sealed. The rules that change it are in `domain::rules`.

mod answers;
mod open;

use std::{fmt, time::Duration};

pub use answers::{Answer, Decline, Event, EventKind, Reply};
pub use open::{Asking, Attempt, LiveCode, Open, SendUse, Sending};
use serde::{Deserialize, Serialize};

use super::{
    canonical::Canonical,
    code,
    destination::{Channel, Destination},
    ids::{AccountId, Contact, IdempotencyKey, OptionId},
    policy::Limits,
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// A challenge refunds at most so many sends that definitely failed, and as many attempts that nothing judged.
pub const MAX_REFUNDS: u32 = 10;
/// A challenge has its providers asked again about unconfirmed sends so many times at most.
pub const MAX_RESUMES: u32 = 10;
/// The timeline keeps the last so many events.
pub const MAX_EVENTS: usize = 32;
/// A challenge has at most so many options.
pub const MAX_OPTIONS: usize = 10;
/// How long a challenge that never sent is kept past its end.
pub const UNSENT_RETENTION: Duration = Duration::from_secs(3600);

/// A challenge. Its identity, `(tenant, request_id)`, is the name that it is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    pub created_at: Timestamp,
    /// The latest time at which anything was recorded. The rules never judge it by an earlier one.
    pub latest_at: Timestamp,
    pub creation: IdempotencyKey,
    /// The person's account at the caller.
    pub account: AccountId,
    pub purpose: Purpose,
    pub transaction: Option<Transaction>,
    /// The limits that apply, whatever the policy says by now.
    pub limits: Limits,
    /// The ways to reach the person.
    pub options: Vec<ChallengeOption>,
    /// Open with all it needs to make and compare codes, or ended without.
    pub phase: Phase,
    /// The send being delivered. Outlives the end: its outcome is recorded all the same.
    pub sending: Option<Sending>,
    /// The number of the last reserved send. Never used twice, not even after a refund.
    pub last_send: u32,
    /// The number of the last ask of a provider. Never used twice either.
    pub last_ask: u32,
    /// Sends refunded, at most [`MAX_REFUNDS`].
    pub refunded_sends: u32,
    /// Attempts refunded, at most [`MAX_REFUNDS`].
    pub refunded_attempts: u32,
    /// When the next send is accepted.
    pub next_send_at: Timestamp,
    /// Attempts used up: codes compared, or asked of a provider.
    pub attempts: u32,
    /// Answers that used something up. Bounded by the attempts and sends that there are.
    pub answers: Vec<Answer>,
    /// What happened, oldest first, at most [`MAX_EVENTS`].
    pub timeline: Vec<Event>,
}

/// One way to reach the person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeOption {
    pub id: OptionId,
    pub channel: Channel,
    /// Where; after the end only what may be shown.
    pub target: ContactAddress,
    /// Whose failures are counted apart from those of other options.
    pub contact: Contact,
    pub sends: u32,
}

/// A destination, or its mask once the challenge has ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContactAddress {
    Known(Destination),
    Masked(String),
}

/// Whether a challenge can still be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It can, until its time runs out.
    Open(Box<Open>),
    Ended(Ended),
}

/// How a challenge ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    Verified,
    /// Cancelled by the caller, or voided because a provider no longer knew of it.
    Cancelled,
    Exhausted {
        /// When the last code expired: from then on the answer is "expired".
        code_expires_at: Timestamp,
    },
    Expired,
}

impl Challenge {
    /// When it ends at the latest.
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.plus(self.limits.challenge_life)
    }

    /// When it counts as never having been: retention counts from the end of its life, an hour where nothing was ever sent.
    pub fn forgotten_at(&self) -> Timestamp {
        let kept = if self.last_send == 0 { UNSENT_RETENTION } else { self.limits.retention };
        self.expires_at().plus(kept)
    }

    pub fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            Phase::Ended(_) => None,
        }
    }

    /// The live code of an open challenge.
    pub fn live_code(&self) -> Option<&LiveCode> {
        self.open()?.code.as_ref()
    }

    /// The attempt that a provider is being asked about.
    pub fn asking(&self) -> Option<&Asking> {
        self.open()?.asking.as_ref()
    }

    /// The option of an id, with its index.
    pub fn option(&self, id: &OptionId) -> Option<(u8, &ChallengeOption)> {
        (0..).zip(&self.options).find(|(_, option)| option.id == *id)
    }

    pub fn option_at(&self, index: u8) -> Option<&ChallengeOption> {
        self.options.get(usize::from(index))
    }

    pub fn contact(&self, index: u8) -> Contact {
        self.option_at(index).map_or(Contact([0; 8]), |option| option.contact)
    }

    /// The option whose code an attempt would now be compared with: of the live code; after the end, of the last code that may
    /// have arrived.
    pub fn option_of_attempt(&self) -> Option<u8> {
        match &self.phase {
            Phase::Open(open) => open.code.as_ref().map(|code| code.option),
            Phase::Ended(_) => {
                self.timeline.iter().rev().filter(|event| event.kind.shows_a_code()).find_map(|event| event.option)
            }
        }
    }

    /// What the PRF of a code is applied to: the challenge's nonce, the option, the generation and the digest of the bound
    /// transaction. `None` once the challenge has ended, for then the nonce is gone.
    pub fn code_material(&self, live: &LiveCode) -> Option<Vec<u8>> {
        let open = self.open()?;
        let option = self.option_at(live.option)?;
        let bound = self.transaction.as_ref().map(code::digest);
        let material = Canonical::new("otpd code v1")
            .bytes(&open.nonce)
            .text(option.id.as_str())
            .number(u64::from(live.generation))
            .optional(bound.as_ref().map(<[u8; 32]>::as_slice));
        Some(material.finish())
    }

    pub fn attempts_left(&self) -> u32 {
        self.limits.max_verification_attempts.saturating_sub(self.attempts)
    }

    /// How many codes are compared at most: our limit, or its provider's of the live code where that is smaller.
    pub fn max_checks(&self) -> u32 {
        let limit = self.limits.max_verification_attempts;
        self.live_code().and_then(|code| code.max_checks).map_or(limit, |theirs| theirs.min(limit))
    }

    /// How often an option is sent to at most, likewise.
    pub fn max_sends(&self) -> u32 {
        let limit = self.limits.max_send_attempts;
        self.live_code().and_then(|code| code.max_sends).map_or(limit, |theirs| theirs.min(limit))
    }

    /// How many more codes are compared with the live code.
    pub fn checks_left(&self) -> u32 {
        let left = self.attempts_left();
        self.live_code().map_or(left, |code| {
            let theirs = code.max_checks.unwrap_or(u32::MAX);
            theirs.saturating_sub(self.attempts.saturating_sub(code.attempts_before)).min(left)
        })
    }

    /// Sends used up, over all options: decides the gap.
    pub fn sends(&self) -> u32 {
        self.options.iter().map(|option| option.sends).sum()
    }

    /// Sends that a provider was asked for, with the one in flight: those used up, and those refunded because they failed.
    pub fn asked_sends(&self) -> u32 {
        self.sends().saturating_add(self.refunded_sends)
    }

    /// The attempts of past asks that have no outcome.
    pub fn unknown_attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.answers.iter().filter_map(|answer| match &answer.reply {
            Reply::Unknown(attempt) => Some(attempt),
            _ => None,
        })
    }
}

impl ContactAddress {
    pub fn masked(&self) -> String {
        match self {
            Self::Known(destination) => destination.masked(),
            Self::Masked(mask) => mask.clone(),
        }
    }

    /// The destination of an open challenge.
    pub fn known(&self) -> Option<&Destination> {
        match self {
            Self::Known(destination) => Some(destination),
            Self::Masked(_) => None,
        }
    }
}

impl fmt::Debug for ContactAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContactAddress(..)")
    }
}
