//! What a challenge remembers: the answers that used something up, and a timeline of events.

use serde::{Deserialize, Serialize};

use super::open::Attempt;
use crate::domain::{ids::IdempotencyKey, time::Timestamp};

/// A recorded answer: the same request is given it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub key: IdempotencyKey,
    pub reply: Reply,
}

/// An answer that used something up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Sent {
        /// The smaller of our limit and the provider's; likewise the next.
        max_verification_attempts: u32,
        max_send_attempts: u32,
        expires_at: Timestamp,
        /// Sends that the option had left.
        remaining_sends: u32,
        /// When the next send is accepted.
        next_send_at: Timestamp,
        confirmed: bool,
        /// How long the code is, or 0.
        code_length: u8,
    },
    /// A send to a destination that the provider rejected.
    DestinationRejected,
    /// A send that definitely failed when no more were refunded.
    SendFailed,
    /// A send that the provider declined.
    Declined(Decline),
    /// A code that did not match.
    NotMatched { remaining: u32 },
    Matched {
        /// The index of the option that the code went to.
        option: u8,
        at: Timestamp,
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
    /// An attempt without an outcome: the same request asks its provider again.
    Unknown(Attempt),
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
    pub after_ms: u64,
    pub kind: EventKind,
    pub option: Option<u8>,
    /// The provider, or empty.
    pub provider: String,
}

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    Created,
    SendReserved,
    SendAccepted,
    SendRejected,
    SendFailed,
    SendUnconfirmed,
    SendDeclined,
    NotMatched,
    Verified,
    CheckAsked,
    CheckUnconfirmed,
    Cancelled,
    CodeExpired,
}

impl EventKind {
    /// Whether a code may have reached its option by then.
    pub(super) fn shows_a_code(self) -> bool {
        match self {
            Self::SendAccepted
            | Self::SendUnconfirmed
            | Self::NotMatched
            | Self::Verified
            | Self::CheckAsked
            | Self::CheckUnconfirmed
            | Self::CodeExpired => true,
            Self::Created
            | Self::SendReserved
            | Self::SendRejected
            | Self::SendFailed
            | Self::SendDeclined
            | Self::Cancelled => false,
        }
    }
}
