//! What stands around every call to a provider, whatever protocol it speaks: a bound of calls in flight, the breaker, the wait
//! that the provider has asked for, the metric and the log.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tracing::{Instrument, field::Empty};

use super::{
    adapter::Alarm,
    breaker::{Breaker, Fault, Permit, Transition},
};
use crate::{
    domain::time::millis,
    ports::{
        clock::{Clock, Deadline, Stopwatch},
        provider::{Capabilities, Checked, Delivered, Failure, ProviderCall, ProviderObserver},
    },
    settings::{Section, values},
    spans,
};

/// A provider that has had this much time, or its own time-out where that is shorter, and has not answered, has failed.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// The outcome of a call that the provider has answered, and not with a failure.
const ANSWERED: &str = "answered";

/// The longest that a provider is passed over because it asked for a wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The bounds of the calls to one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// How long one call may take, from the first byte out to the last byte in.
    pub timeout: Duration,
    /// How many calls may be in flight; more go to the next provider of the route.
    pub max_in_flight: usize,
    /// How many consecutive failures open the breaker.
    pub breaker_failures: u32,
    /// How long the breaker stays open at first.
    pub breaker_pause: Duration,
}

impl GuardSettings {
    /// Reads them from a provider's section; `max_in_flight` is the default of that setting.
    pub(super) fn read(section: &mut Section<'_>, max_in_flight: usize) -> Self {
        let span = |most| values::span(Duration::from_millis(10)..=Duration::from_secs(most));
        Self {
            timeout: section.text("timeout", span(30)).unwrap_or(Duration::from_secs(5)),
            max_in_flight: section.integer("max_in_flight", 1..=10_000).unwrap_or(max_in_flight),
            breaker_failures: section.integer("breaker_failures", 1..=1000).unwrap_or(5),
            breaker_pause: section.text("breaker_pause", span(60)).unwrap_or(Duration::from_secs(5)),
        }
    }
}

/// Stands around the calls to one provider.
pub(super) struct Guard {
    name: String,
    timeout: Duration,
    permits: Semaphore,
    breaker: Breaker,
    /// Until when the provider wants to be left alone, in milliseconds of the monotonic clock.
    rests_until: AtomicU64,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn ProviderObserver>>,
}

/// What deliveries and checks have in common: the decisions that do not depend on the provider.
pub(super) trait Decision {
    /// The provider may have done what it was asked.
    const UNKNOWN: Self;

    /// The provider certainly did nothing.
    fn failed(failure: Failure) -> Self;

    /// The failure, where this is one.
    fn failure(&self) -> Option<Failure>;

    /// Whether the provider may have done what it was asked.
    fn is_unknown(&self) -> bool;

    /// Whether everything went as it should, so that the provider's own words are of no interest.
    fn is_plain(&self) -> bool;
}

impl Decision for Delivered {
    const UNKNOWN: Self = Self::Unknown;

    fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }

    fn failure(&self) -> Option<Failure> {
        if let Self::Failed(failure) = self { Some(*failure) } else { None }
    }

    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }
}

impl Decision for Checked {
    const UNKNOWN: Self = Self::Unknown;

    fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }

    fn failure(&self) -> Option<Failure> {
        if let Self::Failed(failure) = self { Some(*failure) } else { None }
    }

    fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    fn is_plain(&self) -> bool {
        matches!(self, Self::Matched(_))
    }
}

/// How far an exchange with a provider got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// The provider has answered.
    Answered,
    /// Certainly nothing was sent, for this reason.
    NothingSent(&'static str),
    /// What was sent may have arrived; no answer came, for this reason.
    Unknown(&'static str),
}

/// How one call ended, as the protocol of the provider tells it.
pub(super) struct Attempted<D> {
    /// What is to be done now.
    pub(super) decision: D,
    /// How far it got.
    pub(super) exchange: Exchange,
    /// The status of the answer; 0 where there was none.
    pub(super) status: u16,
    /// Whether the provider is to be left alone if this goes on.
    pub(super) fault: Option<Fault>,
    /// How long the provider wants to be left alone, by everybody.
    pub(super) rest: Option<Duration>,
    /// What the operator must mend.
    pub(super) alarm: Option<Alarm>,
    /// The provider's own words, bounded and without what the caller sent. May be empty.
    pub(super) remark: String,
}

impl<D: Decision> Attempted<D> {
    /// The label of the metric.
    fn outcome(&self) -> &'static str {
        match (self.exchange, self.decision.failure()) {
            // Also where a token server refuses, and the provider itself was not asked: waiting does not help.
            (_, Some(Failure::Refused)) => "refused",
            (Exchange::NothingSent(_), _) => "nothing_sent",
            (Exchange::Unknown(_), _) => "unknown",
            (Exchange::Answered, Some(Failure::Unavailable { .. })) => "failed",
            (Exchange::Answered, None) if self.fault.is_some() => "failed",
            (Exchange::Answered, None) => ANSWERED,
        }
    }
}

impl Guard {
    /// For the provider of this name.
    pub(super) fn new(name: &str, settings: &GuardSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.to_owned(),
            timeout: settings.timeout,
            permits: Semaphore::new(settings.max_in_flight),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_pause),
            rests_until: AtomicU64::new(0),
            clock,
            observer: None,
        }
    }

    /// The same, with an observer of the calls to what can do this.
    pub(super) fn observed(self, observer: Arc<dyn ProviderObserver>, capabilities: &Capabilities) -> Self {
        observer.provider_made(&self.name, capabilities);
        Self { observer: Some(observer), ..self }
    }

    /// The provider's name in the configuration.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the breaker would let a call through.
    pub(super) fn is_ready(&self) -> bool {
        self.breaker.would_admit(self.clock.monotonic())
    }

    /// Why the breaker would not let a call through.
    pub(super) fn refusal(&self) -> Option<Failure> {
        self.breaker.refusal(self.clock.monotonic())
    }

    /// Whether the provider has asked for a wait that is not over.
    pub(super) fn is_resting(&self) -> bool {
        millis(self.clock.monotonic()) < self.rests_until.load(Ordering::Relaxed)
    }

    /// Makes a call if the provider is to be called now. The call ends by the deadline that it is handed.
    pub(super) async fn call<D: Decision, F: Future<Output = Attempted<D>>>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        exchange: impl FnOnce(Deadline) -> F,
    ) -> D {
        // A time-out caused by a short deadline of the caller does not count against the provider.
        let is_short = deadline.remaining() < self.timeout.min(FAIR_TIME);
        let deadline = deadline.at_most(self.timeout);
        if deadline.remaining().is_zero() {
            tracing::warn!(provider = self.name, operation, "no time is left to call the provider");
            return D::failed(Failure::Unavailable { retry_after: None });
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            tracing::warn!(provider = self.name, operation, "all permits of the provider are in use");
            return D::failed(Failure::Unavailable { retry_after: None });
        };
        let permit = match self.breaker.admit(self.clock.monotonic()) {
            Ok(permit) => permit,
            Err(failure) => return D::failed(failure),
        };
        let watch = Stopwatch::start();
        let span = tracing::info_span!(
            target: spans::TARGET,
            "provider",
            otel.name = operation,
            otel.status_code = Empty,
            otp.provider = self.name,
            otp.operation = operation,
            otp.outcome = Empty,
            error.type = Empty,
        );
        let attempted = exchange(deadline).instrument(span.clone()).await;
        let outcome = attempted.outcome();
        span.record("otp.outcome", outcome);
        if outcome != ANSWERED {
            span.record("error.type", outcome).record("otel.status_code", "ERROR");
        }
        let permit = Some(permit).filter(|_| !(is_short && deadline.remaining().is_zero()));
        self.record(permit, operation, &attempted, watch.elapsed());
        attempted.decision
    }

    /// Tells the breaker, the observer and the log. Of the request nothing is told.
    fn record<D: Decision>(
        &self,
        permit: Option<Permit>,
        operation: &'static str,
        attempted: &Attempted<D>,
        duration: Duration,
    ) {
        let now = self.clock.monotonic();
        let transition = match (permit, attempted.fault) {
            (None, _) => Transition::None,
            (Some(permit), Some(fault)) => self.breaker.failed(permit, fault, now),
            (Some(permit), None) => self.breaker.succeeded(permit),
        };
        if let Some(rest) = attempted.rest {
            let until = millis(now.saturating_add(rest.min(LONGEST_WAIT)));
            self.rests_until.fetch_max(until, Ordering::Relaxed);
        }
        let outcome = attempted.outcome();
        if let Some(observer) = &self.observer {
            observer.provider_called(&ProviderCall { provider: &self.name, operation, outcome, duration });
        }
        self.log(operation, attempted, outcome, duration);
        let provider = self.name.as_str();
        let is_open = match transition {
            Transition::None => return,
            Transition::Opened => {
                tracing::error!(provider, "the breaker opens: the provider is left alone for a while");
                true
            }
            Transition::Closed => {
                tracing::info!(provider, "the breaker closes");
                false
            }
        };
        if let Some(observer) = &self.observer {
            observer.breaker_moved(provider, is_open);
        }
    }

    fn log<D: Decision>(
        &self,
        operation: &'static str,
        attempted: &Attempted<D>,
        outcome: &'static str,
        duration: Duration,
    ) {
        let (provider, status, says) = (self.name.as_str(), attempted.status, attempted.remark.as_str());
        let duration_ms = millis(duration);
        match (attempted.alarm, outcome) {
            (Some(Alarm::Credentials(alarm)), _) => {
                tracing::error!(provider, operation, status, alarm, says, "the provider refuses otpd's credentials");
            }
            (Some(Alarm::Account(alarm)), _) => {
                tracing::error!(provider, operation, status, alarm, says, "the provider refuses all requests");
            }
            (Some(Alarm::Request(alarm)), _) => {
                tracing::error!(provider, operation, status, alarm, says, "the provider refuses the request");
            }
            (None, "refused") => tracing::error!(provider, operation, status, says, "the provider refuses the request"),
            (None, ANSWERED) => {
                tracing::info!(provider, operation, status, duration_ms, says, "the provider answered");
            }
            (None, _) => {
                let failure = match attempted.exchange {
                    Exchange::Answered => "",
                    Exchange::NothingSent(reason) | Exchange::Unknown(reason) => reason,
                };
                tracing::warn!(provider, operation, status, failure, duration_ms, says, "the provider failed");
            }
        }
    }
}
