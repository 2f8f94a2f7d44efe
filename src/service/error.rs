//! Why a call could not be decided. Business outcomes are not errors; they are in `domain::outcome`.

use std::time::Duration;

use super::gate::GateClosed;
use crate::ports::{
    decisions::NotKept,
    entropy::NoEntropy,
    provider::{Failure, RequestError},
    store::StoreError,
};

/// A call that could not be decided. The variant is the decision; its text and cause are for the operator's log and never
/// leave the process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such challenge or option, or it is another tenant's, or not what the caller says it is.
    #[error("no such challenge or option")]
    InvalidIdentifier,
    /// The request id was used for other content. Nothing was counted.
    #[error("the request id was used for other content")]
    IdempotencyViolation,
    /// The same request, or one that must end first, is being worked on.
    #[error("the request is being worked on")]
    RequestInProgress { retry_after: Duration },
    #[error("too many others changed the record at the same time")]
    Contention,
    /// Every provider definitely failed; what the call had used up is refunded.
    #[error("every provider of the route failed")]
    ProviderUnavailable {
        /// When to come again, where that is known.
        retry_after: Option<Duration>,
    },
    /// The same, where waiting cannot help: an operator must act.
    #[error("every provider of the route refused; see its credentials, templates and permissions")]
    ProviderRefused,
    /// An operator's lock would end before it begins.
    #[error("a lock would end before it begins")]
    LockInThePast,
    /// No provider of the route can be asked with what the caller gave, or takes it. Nothing was sent.
    #[error("a provider cannot be called like this: {0:?}")]
    Invalid(RequestError),
    /// A verifying provider did not answer.
    #[error("the provider did not answer")]
    VerificationOutcomeUnknown,
    /// The call does not fit what has happened so far.
    #[error("{0}")]
    Precondition(Precondition),
    /// The tenant is not accepted, or is not the caller's; or the purpose is not.
    #[error("the tenant or purpose is not the caller's")]
    Forbidden,
    /// The store failed. Nothing may be revealed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This replica must not serve now. Nothing was dated, and nothing may be revealed.
    #[error(transparent)]
    Gate(#[from] GateClosed),
    /// What was decided is recorded, but not kept by the audit as it must be; or nothing was decided, because it could not be kept.
    /// Nothing may be revealed.
    #[error(transparent)]
    Audit(#[from] NotKept),
    /// An invariant is broken: a record that cannot be opened, a task that died.
    #[error("internal: {0}")]
    Internal(String),
}

/// Which condition is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Precondition {
    /// A channel of the request has no provider.
    #[error("no provider serves one of the destinations")]
    NoProvider,
    #[error("no code has been sent")]
    NothingSent,
    #[error("the challenge has been verified")]
    Verified,
}

impl From<NoEntropy> for Error {
    fn from(error: NoEntropy) -> Self {
        Self::Internal(error.to_string())
    }
}

/// What the caller is told of a provider that definitely did nothing.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable { retry_after } => Self::ProviderUnavailable { retry_after },
            Failure::Refused => Self::ProviderRefused,
        }
    }
}
