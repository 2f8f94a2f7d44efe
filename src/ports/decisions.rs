//! What otpd decides, one event for each decision: metrics count them, the audit keeps them.

use std::{future::Future, pin::Pin};

use super::call::CallRecord;
use crate::domain::{destination::Channel, outcome::Locked, purpose::Purpose, time::Timestamp};

/// A decision that is committed, or a refusal. Repeated answers are none.
#[derive(Clone, Copy, Debug)]
pub struct DecisionEvent<'a> {
    /// When it was decided.
    pub at: Timestamp,
    /// The call that asked for it, with the caller, the tenant and the tags.
    pub call: &'a CallRecord,
    /// Whether a later call has settled what an earlier one left open. Then `call` names the challenge, and neither of them.
    pub is_overdue: bool,
    /// What was decided.
    pub decision: DecisionKind<'a>,
}

/// Who was locked or unlocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockScope {
    /// An account.
    Account,
    /// A contact: of one account, or of registrations.
    Contact,
}

/// What was decided. Outcomes are names of result members of the contract, or reasons of statuses in lower case.
#[derive(Clone, Copy, Debug)]
pub enum DecisionKind<'a> {
    /// A challenge was opened or refused.
    Challenge {
        /// Of what purpose.
        purpose: Purpose,
        /// `success`, `account_locked`, `risk_declined`.
        outcome: &'static str,
        /// The quota that refused.
        quota: Option<&'static str>,
    },
    /// A send was settled or refused.
    Send {
        /// Of the challenge.
        purpose: Purpose,
        /// To which channel.
        channel: Channel,
        /// By which provider; empty where none was asked.
        provider: &'a str,
        /// `accepted`, `unconfirmed`, `confirmed_later`, `destination_rejected`, `failed` (by providers), or the member or reason of
        /// a refusal.
        outcome: &'static str,
        /// The quota that refused.
        quota: Option<&'static str>,
    },
    /// An attempt was judged or refused.
    Attempt {
        /// Of the challenge.
        purpose: Purpose,
        /// How the code was sent.
        channel: Option<Channel>,
        /// By which provider; empty where none sent a code.
        provider: &'a str,
        /// `success`, `otp_not_matched`, …, `unknown`, or the reason of a refusal.
        outcome: &'static str,
    },
    /// A challenge was cancelled.
    Cancel {
        /// Of what purpose.
        purpose: Purpose,
    },
    /// Failures, or an operator, locked an account or a contact.
    Lock {
        /// Which of both.
        scope: LockScope,
        /// Until when.
        locked: Locked,
        /// The operator's reason; `None`: failures.
        reason: Option<&'a str>,
    },
    /// An operator unlocked an account or a contact.
    Unlock {
        /// Which of both.
        scope: LockScope,
        /// Why.
        reason: &'a str,
    },
    /// An operator cleared the quotas of an account or a contact.
    QuotaClear {
        /// Which of both.
        scope: LockScope,
        /// The names of the quotas.
        quotas: &'a [&'static str],
        /// Why.
        reason: &'a str,
    },
    /// An operator looked at an account or a contact.
    Look {
        /// Which of both.
        scope: LockScope,
    },
    /// The store did not say whether it has the commit of a decision: the decision may be in force.
    InDoubt {
        /// The use case, as `verify_otp`.
        operation: &'static str,
    },
    /// A process has started, and decides by this configuration from now on.
    Configuration(ConfigurationStart<'a>),
}

/// By what a process decides. No secret is in it.
#[derive(Clone, Copy, Debug)]
pub struct ConfigurationStart<'a> {
    /// The version of otpd.
    pub version: &'a str,
    /// `development` or `production`.
    pub profile: &'a str,
    /// Of what decisions are made by: the profile, tenants with their policies, providers and routes. 64 hexadecimal digits, of
    /// which each event has the first 16.
    pub policy_digest: &'a str,
    /// The names of the providers.
    pub providers: &'a [&'a str],
    /// The names of the callers.
    pub callers: &'a [&'a str],
    /// The ids of the master keys, the active one first.
    pub key_ids: &'a [u32],
}

/// What was decided so far will not be kept in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit does not take what is decided")]
pub struct NotKept;

/// Ends when what was decided before is kept.
pub type Keeping = Pin<Box<dyn Future<Output = Result<(), NotKept>> + Send>>;

/// Sees every decision.
pub trait DecisionObserver: Send + Sync {
    /// Something was decided. Must not wait.
    fn decided(&self, event: &DecisionEvent<'_>);

    /// Whether decisions may be made now. `false` while they must be kept, and cannot be.
    fn accepts(&self) -> bool {
        true
    }

    /// What an answer waits for that tells of decisions. `None`: for nothing.
    fn keeping(&self) -> Option<Keeping> {
        None
    }
}

impl LockScope {
    /// One word for metrics and events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Contact => "contact",
        }
    }
}

impl DecisionKind<'_> {
    /// The name of the event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Challenge { .. } => "challenge",
            Self::Send { .. } => "send",
            Self::Attempt { .. } => "attempt",
            Self::Cancel { .. } => "cancel",
            Self::Lock { .. } => "lock",
            Self::Unlock { .. } => "unlock",
            Self::QuotaClear { .. } => "quota_clear",
            Self::Look { .. } => "look",
            Self::InDoubt { .. } => "in_doubt",
            Self::Configuration(_) => "configuration",
        }
    }
}
