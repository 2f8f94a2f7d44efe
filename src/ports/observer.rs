//! Who sees each call to otpd at its end, what the listeners and the store are in for, and how the audit fares.
//! `ports/provider.rs` has the same for calls to providers, `ports/decisions.rs` for decisions.

use std::time::Duration;

use super::call::CallRecord;
use crate::domain::time::Timestamp;

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

/// Why a call was shed before any work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShedCause {
    /// All permits are in use.
    Permits,
    /// The caller has as many calls at work as it may have.
    Caller,
    /// Calls wait too long for their first turn.
    WaitingTime,
    /// Too much has arrived in part.
    PartialMessages,
    /// The connection has too many open calls.
    OpenCalls,
}

/// The permits of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PermitPoolUse {
    /// `common` or `cancel`.
    pub pool: &'static str,
    /// How many there are.
    pub limit: usize,
    /// How many are in use.
    pub in_use: usize,
}

/// Tells how many permits are in use, whenever it is asked.
pub type PermitUsage = Box<dyn Fn() -> Vec<PermitPoolUse> + Send + Sync>;

/// Sees every call to the contract at its end. Must not wait.
pub trait CallObserver: Send + Sync {
    /// A call has ended.
    fn call_ended(&self, call: &CallSummary<'_>);

    /// A call is shed; that it has ended is told as well, where anything of it was looked at.
    fn call_shed(&self, _cause: ShedCause) {}

    /// These methods are served.
    fn methods_served(&self, _methods: &[&'static str]) {}

    /// These are the permits of the server.
    fn permits_made(&self, _usage: PermitUsage) {}
}

/// One of the listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerName {
    /// `server.listen`.
    Server,
    /// `admin.listen`.
    Admin,
    /// `operations.listen`.
    Operations,
}

/// Sees the connections and certificates of listeners. Must not wait.
pub trait ListenerObserver: Send + Sync {
    /// A connection is accepted.
    fn connection_opened(&self, listener: ListenerName);

    /// An accepted connection has closed.
    fn connection_closed(&self, listener: ListenerName);

    /// A connection is closed at once, for too many are open.
    fn connection_refused(&self, listener: ListenerName);

    /// A listener shows a certificate that is valid until then.
    fn certificate_expires(&self, listener: ListenerName, at: Timestamp);

    /// The certificates were read again; where that failed, those from before serve on.
    fn certificates_reloaded(&self, is_loaded: bool);
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

/// Sees what the examinations of the store find out.
pub trait StoreObserver: Send + Sync {
    /// The store was examined, and has answered or not.
    fn store_examined(&self, answered: bool);

    /// The clock of this machine is ahead of the store's by so many milliseconds, at least.
    fn clock_compared(&self, skew_ms: i64);

    /// The store has lost records.
    fn store_lost(&self, loss: StoreLoss);
}

/// An operation of the store that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCall {
    /// Its name in the port; `probe` for an examination.
    pub operation: &'static str,
    /// `ok`, `conflict`, `refused` (a quota), `timeout`, `unreachable` or `failed`.
    pub outcome: &'static str,
    /// How long it took.
    pub duration: Duration,
}

/// Sees every operation of the store at its end. Must not wait.
pub trait StoreCallObserver: Send + Sync {
    /// An operation has ended.
    fn store_asked(&self, call: &StoreCall);
}

impl ShedCause {
    /// All causes.
    pub const ALL: [Self; 5] = [Self::Permits, Self::Caller, Self::WaitingTime, Self::PartialMessages, Self::OpenCalls];

    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Permits => "permits",
            Self::Caller => "caller",
            Self::WaitingTime => "waiting_time",
            Self::PartialMessages => "partial_messages",
            Self::OpenCalls => "open_calls",
        }
    }
}

impl ListenerName {
    /// All listeners.
    pub const ALL: [Self; 3] = [Self::Server, Self::Admin, Self::Operations];

    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Admin => "admin",
            Self::Operations => "operations",
        }
    }
}

impl StoreLoss {
    /// All losses.
    pub const ALL: [Self; 3] = [Self::Part, Self::All, Self::Replaced];

    /// One word for metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Part => "part",
            Self::All => "all",
            Self::Replaced => "replaced",
        }
    }
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

/// How a sink of the audit fares now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditSinkState {
    /// How many events wait to be written.
    pub waiting: u64,
    /// Whether the last try to write has failed.
    pub is_failing: bool,
}

/// Tells how a sink fares, whenever it is asked.
pub type AuditSinkReading = Box<dyn Fn() -> AuditSinkState + Send + Sync>;

/// Sees how the audit fares.
pub trait AuditObserver: Send + Sync {
    /// So many events have come to that: where they cannot be written, at each try. Must not wait.
    fn audited(&self, sink: AuditSink, outcome: AuditOutcome, events: u64);

    /// There is such a sink.
    fn sink_made(&self, _sink: AuditSink, _reading: AuditSinkReading) {}
}
