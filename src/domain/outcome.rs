//! What the rules answer: the business outcomes of the contract, before they are rendered.

use super::{
    destination::Channel,
    ids::{AccountId, OptionId},
    purpose::Purpose,
    quota::Window,
    time::Timestamp,
    transaction::Transaction,
};

/// A lock, as told to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked {
    /// When it ends; `None`: not by itself.
    pub until: Option<Timestamp>,
}

impl Locked {
    /// Of two locks the one that ends last.
    pub fn later(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(Self { until: Some(one) }), Some(Self { until: Some(other) })) => {
                Some(Self { until: Some(one.max(other)) })
            }
            (Some(_), Some(_)) => Some(Self { until: None }),
            (lock, None) | (None, lock) => lock,
        }
    }

    /// Of two locks the one that ends first.
    pub fn earlier(one: Self, other: Self) -> Self {
        Self { until: one.until.into_iter().chain(other.until).min() }
    }
}

/// One option of a challenge, as told to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionView {
    /// Its id.
    pub id: OptionId,
    /// How it reaches the person.
    pub channel: Channel,
    /// The masked destination; empty for a contact on file.
    pub masked: String,
}

/// What became of a CreateChallenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// The challenge is open.
    Success {
        /// In the order of the request.
        options: Vec<OptionView>,
        /// When it ends at the latest.
        expires_at: Timestamp,
        /// What became of the send, where one was asked for.
        send: Option<Sent>,
    },
    /// The account is locked; nothing was created.
    AccountLocked(Locked),
    /// A quota refused; nothing was created.
    RiskDeclined,
}

/// What became of a SendOtp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// On its way.
    Success(Dispatch),
    /// The challenge has ended.
    ChallengeOptionExpired,
    /// The option has no sends left.
    SendLimitExceeded,
    /// The account is locked.
    AccountLocked(Locked),
    /// A quota refused.
    RiskDeclined,
    /// The last send was too recent.
    ResendTooSoon {
        /// When the next is accepted.
        next_send_at: Timestamp,
    },
    /// The provider rejected the destination.
    DestinationRejected,
}

/// A send on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Codes ever compared in the challenge.
    pub max_verification_attempts: u32,
    /// Sends of an option.
    pub max_send_attempts: u32,
    /// When the code expires.
    pub expires_at: Timestamp,
    /// Sends that the option has left.
    pub remaining_sends: u32,
    /// When the next send is accepted.
    pub next_send_at: Timestamp,
    /// Whether the provider said that it took the message.
    pub confirmed: bool,
    /// How long the code is; 0 where that is not known.
    pub code_length: u8,
}

/// What became of a VerifyOtp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The code matched.
    Success(Box<Proof>),
    /// It did not.
    NotMatched {
        /// How many more codes will be compared.
        remaining: u32,
    },
    /// The challenge was verified by another request.
    AlreadyUsed,
    /// The code or the challenge is past its time, or was cancelled.
    Expired,
    /// The challenge compares no more codes.
    AttemptsExceeded,
    /// The account is locked.
    AccountLocked(Locked),
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The account.
    pub account: AccountId,
    /// The purpose.
    pub purpose: Purpose,
    /// The transaction.
    pub transaction: Option<Transaction>,
    /// The contact that the code went to.
    pub option: Option<OptionView>,
    /// When.
    pub at: Timestamp,
    /// What the provider adds.
    pub evidence: Evidence,
}

/// What a provider adds to a match. Each at most 100 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Electronic Commerce Indicator, or empty.
    pub eci: String,
    /// The provider's id of the verification, or empty.
    pub verification_id: String,
}

/// What an operator sees of an account, or of a contact that registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutView {
    /// Consecutive failures.
    pub failures: u32,
    /// The lock, if there is one.
    pub locked: Option<Locked>,
    /// The use of its quotas.
    pub quotas: Vec<QuotaUsage>,
}

/// The use of one window of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The name of the quota in the configuration.
    pub quota: &'static str,
    /// Uses that count now.
    pub uses: u32,
    /// The window.
    pub window: Window,
}

/// What a caller sees of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeView {
    /// The status.
    pub state: ChallengeState,
    /// The account.
    pub account: AccountId,
    /// The purpose.
    pub purpose: Purpose,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it ends at the latest.
    pub expires_at: Timestamp,
    /// When the live code expires.
    pub code_expires_at: Option<Timestamp>,
    /// When a send is accepted; `None` once it has ended.
    pub next_send_at: Option<Timestamp>,
    /// Codes ever compared.
    pub max_verification_attempts: u32,
    /// Codes compared so far.
    pub attempts: u32,
    /// Sends of an option.
    pub max_send_attempts: u32,
    /// The options, with the sends used up of each.
    pub options: Vec<(OptionView, u32)>,
    /// The last events, oldest first.
    pub timeline: Vec<EventView>,
}

/// The status of a challenge, as told to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeState {
    /// Opened.
    Created,
    /// A code is or was on its way.
    Sent,
    /// Verified.
    Verified,
    /// Cancelled.
    Cancelled,
    /// Past its time.
    Expired,
    /// Out of attempts.
    AttemptsExceeded,
}

/// One thing that happened, as told to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: super::challenge::EventKind,
    /// With which option.
    pub option: Option<OptionId>,
    /// By which provider; empty where none was involved.
    pub provider: String,
}
