//! What the rules answer: the business outcomes of the contract, before they are rendered.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    destination::Channel,
    ids::{AccountId, OptionId},
    purpose::Purpose,
    quota::Window,
    time::Timestamp,
    transaction::Transaction,
};
use crate::secret::Secret;

/// A lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Of the locks that have not ended, the one that ends last.
    pub(super) fn open(locks: impl IntoIterator<Item = Option<Self>>, now: Timestamp) -> Option<Self> {
        let open = locks.into_iter().flatten().filter(|lock| lock.until.is_none_or(|until| now < until));
        open.map(Some).fold(None, Self::later)
    }

    /// Of two locks the one that ends first.
    pub fn earlier(one: Self, other: Self) -> Self {
        Self { until: one.until.into_iter().chain(other.until).min() }
    }
}

/// One option of a challenge, as told to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionView {
    pub id: OptionId,
    pub channel: Channel,
    /// The masked destination; empty for a contact on file.
    pub masked: String,
}

/// What became of a CreateChallenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    Success {
        options: Vec<OptionView>,
        expires_at: Timestamp,
        send: Option<Sent>,
    },
    /// The account is locked; nothing was created.
    AccountLocked(Locked),
    /// A quota refused; nothing was created.
    RiskDeclined,
}

/// What became of a SendOtp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Success(Dispatch),
    ChallengeOptionExpired,
    SendLimitExceeded,
    AccountLocked(Locked),
    RiskDeclined,
    ResendTooSoon { next_send_at: Timestamp },
    DestinationRejected,
}

/// What a provider answers beyond its decision, for the caller to use. It may repeat the caller's own parameters, so it is neither
/// recorded nor printed: only the call that asked the provider is told.
pub type ProviderValues = BTreeMap<String, Secret<String>>;

/// A send on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    pub max_verification_attempts: u32,
    pub max_send_attempts: u32,
    pub expires_at: Timestamp,
    pub remaining_sends: u32,
    pub next_send_at: Timestamp,
    pub confirmed: bool,
    /// How long the code is; 0 where that is not known.
    pub code_length: u8,
    /// Empty in a recorded answer.
    pub provider_values: ProviderValues,
}

/// What a provider says of a delivery that it accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Names the delivery in later checks. At most 200 characters.
    pub reference: String,
    /// How long the provider's own code is valid, where it says so.
    pub code_life: Option<Duration>,
    /// How long the provider's own code is, where it says so.
    pub code_length: Option<u8>,
    /// How many codes the provider compares at most, where it says so.
    pub max_checks: Option<u32>,
    /// How often the provider sends to this option at most, where it says so.
    pub max_sends: Option<u32>,
    /// How long the provider refuses another start for the destination, unless this one is cancelled there first.
    pub running_for: Option<Duration>,
    /// What it says for the caller.
    pub values: ProviderValues,
}

/// What became of a VerifyOtp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    Success(Box<Proof>),
    NotMatched { remaining: u32 },
    AlreadyUsed,
    Expired,
    AttemptsExceeded,
    AccountLocked(Locked),
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    pub account: AccountId,
    pub purpose: Purpose,
    pub transaction: Option<Transaction>,
    /// The contact that the code went to.
    pub option: Option<OptionView>,
    pub at: Timestamp,
    pub evidence: Evidence,
}

/// What a provider adds to a match. Indicator and id have at most 100 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Electronic Commerce Indicator, or empty.
    pub eci: String,
    /// The provider's id of the verification, or empty.
    pub verification_id: String,
    /// What it says for the caller. Empty in a recorded answer.
    pub values: ProviderValues,
}

/// What an operator sees of an account, or of a contact that registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockoutView {
    pub failures: u32,
    pub locked: Option<Locked>,
    /// Contacts that are locked by failures of their own.
    pub locked_contacts: usize,
    pub quotas: Vec<QuotaUsage>,
}

/// The use of one window of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaUsage {
    /// The name of the quota in the configuration.
    pub quota: &'static str,
    pub uses: u32,
    pub window: Window,
}

/// What a caller sees of a challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeView {
    pub state: ChallengeState,
    pub account: AccountId,
    pub purpose: Purpose,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub code_expires_at: Option<Timestamp>,
    /// When a send is accepted; `None` once it has ended.
    pub next_send_at: Option<Timestamp>,
    pub max_verification_attempts: u32,
    pub attempts: u32,
    pub max_send_attempts: u32,
    pub options: Vec<(OptionView, u32)>,
    pub timeline: Vec<EventView>,
}

/// The status of a challenge, as told to callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeState {
    Created,
    Sent,
    Verified,
    Cancelled,
    Expired,
    AttemptsExceeded,
}

/// One thing that happened, as told to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventView {
    pub at: Timestamp,
    pub kind: super::challenge::EventKind,
    pub option: Option<OptionId>,
    /// By which provider; empty where none was involved.
    pub provider: String,
}
