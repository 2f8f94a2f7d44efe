//! What otpd decides, one event for each decision: metrics count them, the audit keeps them.

use super::call::CallRecord;
use crate::domain::{destination::Channel, ids::SupportTag, outcome::Locked, purpose::Purpose, time::Timestamp};

/// A decision that is committed, or a refusal. Repeated answers are none.
#[derive(Clone, Copy, Debug)]
pub struct DecisionEvent<'a> {
    /// When it was decided.
    pub at: Timestamp,
    /// The call that asked for it, with the caller, the tenant and the tags.
    pub call: &'a CallRecord,
    /// What was decided.
    pub decision: DecisionKind<'a>,
}

/// Whose failures were counted, or who was locked.
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
        /// `accepted`, `unconfirmed`, `destination_rejected`, `failed`, or the member of a refusal.
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
        /// `success`, `otp_not_matched`, …, or `unknown`.
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
    /// An operator unlocked an account or a contact; its quotas are cleared with it.
    Unlock {
        /// Which of both.
        scope: LockScope,
        /// Why.
        reason: &'a str,
    },
    /// An operator looked at an account or a contact.
    Look {
        /// Which of both.
        scope: LockScope,
    },
}

/// Sees every decision.
pub trait DecisionObserver: Send + Sync {
    /// Something was decided. Must not wait.
    fn decided(&self, event: &DecisionEvent<'_>);
}

impl DecisionEvent<'_> {
    /// The challenge that it is about.
    pub fn challenge(&self) -> Option<SupportTag> {
        self.call.challenge.get().copied()
    }
}
