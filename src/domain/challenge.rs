//! The record of a challenge: what the store keeps of it, sealed. The rules that change it are in `domain::rules`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    code::CodeOwner,
    destination::{Channel, Destination},
    ids::{AccountId, OptionId, Request, Tag},
    policy::{Limits, OnResend},
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// A challenge gives back at most so many sends whose delivery definitely failed.
pub const MAX_GIVEN_BACK: u32 = 10;
/// The timeline keeps the last so many events.
pub const MAX_EVENTS: usize = 32;
/// A challenge has at most so many options.
pub const MAX_OPTIONS: usize = 10;
/// How long a challenge that never sent is kept past its end.
pub const UNSENT_RETENTION: Duration = Duration::from_secs(3600);

/// A challenge. Its identity, `(tenant, request_id)`, is the name that it is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// When it was opened.
    pub created_at: Timestamp,
    /// The latest time at which anything was recorded. The rules never judge by an earlier one.
    pub latest_at: Timestamp,
    /// The CreateChallenge that opened it.
    pub creation: Request,
    /// The person's account at the caller.
    pub account: AccountId,
    /// What is proven.
    pub purpose: Purpose,
    /// What the person agrees to.
    pub transaction: Option<Transaction>,
    /// The limits that apply, whatever the policy says by now.
    pub limits: Limits,
    /// The ways to reach the person.
    pub options: Vec<ChallengeOption>,
    /// Open with all it needs to make and compare codes, or ended without.
    pub phase: Phase,
    /// The send being delivered. Outlives the end: its outcome is recorded all the same.
    pub pending_send: Option<PendingSend>,
    /// Counts reserved sends, given back or not; each has its own number.
    pub send_number: u32,
    /// Sends used up, over all options: decides the gap.
    pub sends_spent: u32,
    /// Sends given back.
    pub given_back: u32,
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
    /// Its id.
    pub id: OptionId,
    /// How.
    pub channel: Channel,
    /// Where; after the end only what may be shown.
    pub target: Target,
    /// For a registration: the keyed hash of the destination, to which failures belong.
    pub subject: Option<Tag>,
    /// Sends used up.
    pub sends: u32,
}

/// A destination, or its mask once the challenge has ended.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The challenge is open.
    Known(Destination),
    /// The challenge has ended.
    Masked(String),
}

impl Target {
    /// What may be shown.
    pub fn masked(&self) -> String {
        match self {
            Self::Known(destination) => destination.masked(),
            Self::Masked(mask) => mask.clone(),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(..)")
    }
}

/// Whether a challenge can still be verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It can, until its time runs out.
    Open(Open),
    /// It cannot.
    Ended(Ended),
}

/// What an open challenge needs, and drops at its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Random; all codes of the challenge are made from it.
    pub nonce: [u8; 16],
    /// BCP 47, or empty.
    pub locale: String,
    /// The one live code.
    pub code: Option<LiveCode>,
    /// The attempt that a provider is being asked about.
    pub pending_check: Option<PendingCheck>,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("code", &self.code)
            .field("pending_check", &self.pending_check)
            .finish_non_exhaustive()
    }
}

/// How a challenge ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// Verified by the attempt of that number.
    Verified {
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// Cancelled by the caller, or voided because a provider no longer knew of it.
    Cancelled,
    /// Out of attempts.
    AttemptsExceeded {
        /// When the last code expired: from then on the answer is "expired".
        code_expires_at: Timestamp,
    },
    /// Past its time.
    Expired,
}

/// The live code: all that is needed to make it again, never the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCode {
    /// The index of the option that it was sent to.
    pub option: u8,
    /// Part of what the code is made from; a new one voids all older codes.
    pub generation: u32,
    /// The number of the send that made it.
    pub send_number: u32,
    /// How many digits it has; of a provider's own code as far as known, else 0.
    pub digits: u8,
    /// The master key that it is made with.
    pub key_id: u32,
    /// When it expires.
    pub expires_at: Timestamp,
    /// What a resend does to it.
    pub on_resend: OnResend,
    /// The provider that delivers it.
    pub provider: String,
    /// Who makes and checks it.
    pub owner: CodeOwner,
    /// The provider's name for the delivery of a code of its own; empty until it has answered.
    pub reference: String,
}

/// A send between its reservation and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingSend {
    /// The request that asked for it.
    pub request: Request,
    /// Its number.
    pub number: u32,
    /// The index of the option.
    pub option: u8,
    /// From then on it counts as unconfirmed.
    pub lease_until: Timestamp,
    /// When its code expires, for the answer to a send that outlives its challenge.
    pub code_expires_at: Timestamp,
    /// How long its code is, or 0; likewise.
    pub code_digits: u8,
    /// The code that lives again if nothing was sent.
    pub previous: Option<LiveCode>,
    /// When the next send would be accepted if nothing was sent.
    pub previous_next_send_at: Timestamp,
}

/// An attempt between the question to the provider and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingCheck {
    /// The request that asked for it.
    pub request: Request,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The send whose code is checked.
    pub send_number: u32,
    /// From then on it counts as unanswered.
    pub lease_until: Timestamp,
    /// Whether the provider may have been asked before.
    pub repeated: bool,
}

/// A recorded answer: the same request is given it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request.
    pub request: Request,
    /// What it was answered.
    pub reply: Reply,
}

/// An answer that used something up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// A send, accepted or unconfirmed.
    Sent {
        /// When its code expires.
        expires_at: Timestamp,
        /// Sends that the option had left.
        remaining_sends: u32,
        /// When the next send is accepted.
        next_send_at: Timestamp,
        /// Whether the provider took it.
        confirmed: bool,
        /// How long the code is, or 0.
        code_length: u8,
    },
    /// A send to a destination that the provider rejected.
    DestinationRejected,
    /// A code that did not match.
    NotMatched {
        /// Attempts left.
        remaining: u32,
    },
    /// The code that matched.
    Matched {
        /// The subject's failures when it matched: those, and no later ones, are forgiven.
        forgives_through: u64,
        /// Whose failures those are, for a registration.
        subject: Option<Tag>,
        /// Electronic Commerce Indicator, or empty.
        eci: String,
        /// The provider's id of the verification, or empty.
        verification_id: String,
    },
    /// A provider said that its code was past its time.
    CodeExpired,
    /// A provider compares no more codes.
    AttemptsExceeded,
    /// A provider said that its code was used before.
    AlreadyUsed,
    /// A provider did not answer; the same request asks it again.
    CheckUnanswered {
        /// The number of the attempt.
        attempt: u32,
        /// The send whose code was checked.
        send_number: u32,
    },
    /// A send that definitely failed, but was not given back any more; the same request tries again and is not charged.
    SendFailed {
        /// The number of the send.
        number: u32,
    },
    /// A send that the provider declined.
    Declined(Decline),
}

/// Why a provider that judges for itself sends nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decline {
    /// It knows of no such option any more.
    OptionExpired,
    /// It sends no more for this challenge.
    SendLimitExceeded,
    /// It has locked the person's account.
    AccountLocked,
    /// It declines for its own reasons.
    Risk,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Milliseconds after the creation.
    pub after_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The index of the option.
    pub option: Option<u8>,
    /// The provider, or empty.
    pub provider: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The challenge was opened.
    Created,
    /// A send was reserved.
    SendReserved,
    /// The provider took the message.
    SendAccepted,
    /// The provider rejected the destination.
    SendRejected,
    /// The provider failed.
    SendFailed,
    /// The provider did not answer.
    SendUnconfirmed,
    /// A quota refused the send.
    SendDeclined,
    /// A code did not match.
    NotMatched,
    /// A code matched.
    Verified,
    /// A provider was asked about a code.
    CheckAsked,
    /// The provider did not answer.
    CheckUnconfirmed,
    /// The caller cancelled.
    Cancelled,
    /// The provider says that its code is past its time.
    CodeExpired,
}

impl Challenge {
    /// When it ends at the latest.
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.plus(self.limits.challenge_life)
    }

    /// When it is forgotten: retention counts from the end of its life, an hour where nothing was ever sent.
    pub fn forgotten_at(&self) -> Timestamp {
        let kept = if self.send_number == 0 { UNSENT_RETENTION } else { self.limits.retention };
        self.expires_at().plus(kept)
    }

    /// The live code of an open challenge.
    pub fn live_code(&self) -> Option<&LiveCode> {
        match &self.phase {
            Phase::Open(open) => open.code.as_ref(),
            Phase::Ended(_) => None,
        }
    }

    /// The option of an id, with its index.
    pub fn option(&self, id: &OptionId) -> Option<(u8, &ChallengeOption)> {
        (0..).zip(&self.options).find(|(_, option)| option.id == *id)
    }

    /// The option of an index.
    pub fn option_at(&self, index: u8) -> Option<&ChallengeOption> {
        self.options.get(usize::from(index))
    }
}
