//! Who sees each call to otpd at its end, and what is found out about the store. `ports/provider.rs` has the same for calls to
//! providers.

use std::time::Duration;

use super::call::CallRecord;

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct CallSummary<'a> {
    /// The fully qualified method, `_OTHER` for one that does not exist.
    pub method: &'static str,
    /// What is known of it.
    pub record: &'a CallRecord,
    /// The name of the result member of an answer, or the reason of a status.
    pub outcome: &'static str,
    /// The name of the status code.
    pub code: &'static str,
    /// From the arrival of the headers to the answer.
    pub duration: Duration,
}

/// Sees every call to the contract at its end.
pub trait CallObserver: Send + Sync {
    /// A call has ended. Must not wait.
    fn call_ended(&self, call: &CallSummary<'_>);
}

/// What a store has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreLoss {
    /// Some of its records.
    Part,
    /// All of them.
    All,
    /// It is another store than before, or was emptied and is in use again.
    Replaced,
}

impl StoreLoss {
    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::All => "all",
            Self::Replaced => "replaced",
        }
    }
}

/// Sees what the examinations of the store find out.
pub trait StoreObserver: Send + Sync {
    /// The clock of this machine is ahead of the store's by so many milliseconds, at least.
    fn clock_compared(&self, skew_ms: i64);

    /// The store has lost records.
    fn store_lost(&self, loss: StoreLoss);
}

/// Where the audit keeps events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// The file.
    File,
    /// The stream.
    Stream,
}

/// What became of events of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// The sink has them.
    Written,
    /// Too many were waiting: they are lost, and a later event says how many.
    Dropped,
    /// They could not be written now, and are tried again.
    Failed,
}

impl AuditSink {
    /// All sinks.
    pub const ALL: [Self; 2] = [Self::File, Self::Stream];

    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Stream => "stream",
        }
    }
}

impl AuditOutcome {
    /// All outcomes.
    pub const ALL: [Self; 3] = [Self::Written, Self::Dropped, Self::Failed];

    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// Sees how the audit fares.
pub trait AuditObserver: Send + Sync {
    /// So many events have come to that. Must not wait.
    fn audited(&self, sink: AuditSink, outcome: AuditOutcome, events: u64);

    /// So many events wait to be written.
    fn audit_waiting(&self, sink: AuditSink, events: u64);
}
