//! The executor: every call to a provider goes through here, whatever the adapter.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{
    HttpSettings, Inbound, Outbound,
    breaker::{Breaker, Fault, Permit, Transition},
    client::{Client, NoAnswer, Prepared},
};
use crate::{
    domain::time::millis,
    ports::{
        clock::{Clock, Deadline, Stopwatch},
        provider::{
            Capabilities, Check, Checked, Delivered, Delivery, Failure, Provider, ProviderCall, ProviderObserver,
            RequestError,
        },
    },
    providers::adapter::{Adapter, Alarm},
};

/// What a caller is told to wait when all permits of a provider are in use.
const CROWDED: Duration = Duration::from_millis(500);

/// A provider that has had this much time, or its own time-out where that is shorter, and has not answered, has failed.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// A provider over HTTP: an adapter, and the one way to call it.
pub struct HttpProvider {
    name: String,
    adapter: Box<dyn Adapter>,
    capabilities: Capabilities,
    client: Client,
    permits: Semaphore,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn ProviderObserver>>,
}

/// What deliveries and checks have in common: the decisions that do not depend on the adapter.
trait Decision {
    /// The provider may have done what it was asked.
    const UNKNOWN: Self;

    /// The provider certainly did nothing.
    fn failed(failure: Failure) -> Self;

    /// The failure, where this is one.
    fn failure(&self) -> Option<Failure>;
}

impl Decision for Delivered {
    const UNKNOWN: Self = Self::Unknown;

    fn failed(failure: Failure) -> Self {
        Self::Failed(failure)
    }

    fn failure(&self) -> Option<Failure> {
        if let Self::Failed(failure) = self { Some(*failure) } else { None }
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
}

/// A call that has ended.
struct Ended<'a> {
    operation: &'static str,
    exchanged: &'a Result<Inbound, NoAnswer>,
    failure: Option<Failure>,
    took: Duration,
}

impl Ended<'_> {
    fn status(&self) -> u16 {
        self.exchanged.as_ref().map_or(0, |answer| answer.status)
    }

    /// Whether the provider is to be left alone if this goes on. The statuses are those that no caller's data can cause.
    fn fault(&self, alarm: Option<Alarm>) -> Option<Fault> {
        let refused = self.failure == Some(Failure::Refused);
        match self.exchanged {
            Err(_) => Some(Fault::Failing),
            Ok(answer) if answer.status >= 500 || answer.status == 429 => Some(Fault::Failing),
            Ok(answer) if refused && matches!(answer.status, 401 | 407) => Some(Fault::Refusing),
            Ok(_) if refused && matches!(alarm, Some(Alarm::Credentials(_))) => Some(Fault::Refusing),
            Ok(_) => None,
        }
    }

    /// The label of the metric.
    fn outcome(&self, fault: Option<Fault>) -> &'static str {
        match (self.exchanged, self.failure) {
            (Err(NoAnswer::NothingSent(_)), _) => "nothing_sent",
            (Err(NoAnswer::Unknown(_)), _) => "unknown",
            (Ok(_), Some(Failure::Refused)) => "refused",
            (Ok(_), Some(Failure::Unavailable { .. })) => "failed",
            (Ok(_), None) if fault.is_some() => "failed",
            (Ok(_), None) => "answered",
        }
    }
}

impl HttpProvider {
    /// A provider of this name.
    ///
    /// # Errors
    /// A file of the TLS settings cannot be read.
    pub fn new(
        name: &str,
        adapter: Box<dyn Adapter>,
        settings: &HttpSettings,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let abilities = adapter.abilities();
        let capabilities = Capabilities {
            code_owner: abilities.code_owner,
            channels: abilities.channels,
            contact_on_file: abilities.contact_on_file,
            purposes: abilities.purposes,
            send_repeatable: abilities.send_repeatable,
            timeout: settings.timeout,
            code_life: abilities.code_life,
        };
        Ok(Self {
            name: name.to_owned(),
            adapter,
            capabilities,
            client: Client::new(settings.tls()?, settings.connect_timeout, settings.max_in_flight),
            permits: Semaphore::new(settings.max_in_flight),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_pause),
            clock,
            observer: None,
        })
    }

    /// The same provider, with an observer of its calls.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn ProviderObserver>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Sends a request if the provider is to be called now, and has its answer judged.
    async fn call<D: Decision>(
        &self,
        operation: &'static str,
        request: &Outbound,
        deadline: Deadline,
        clearing: impl FnOnce(&Inbound) -> Option<Outbound>,
        judge: impl FnOnce(&Inbound) -> D,
    ) -> D {
        let Some(prepared) = Prepared::new(request) else {
            // Values from the caller can cause this, so it does not count in the breaker, which would open for others too.
            tracing::error!(provider = self.name, operation, "the request cannot be sent: malformed URL or header");
            return D::failed(Failure::Refused);
        };
        // A time-out caused by a short deadline of the caller does not count against the provider.
        let is_short = deadline.remaining() < self.capabilities.timeout.min(FAIR_TIME);
        let deadline = deadline.at_most(self.capabilities.timeout);
        if deadline.remaining().is_zero() {
            tracing::warn!(provider = self.name, operation, "no time is left to call the provider");
            return D::failed(Failure::Unavailable { retry_after: None });
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            tracing::warn!(provider = self.name, operation, "all permits of the provider are in use");
            return D::failed(Failure::Unavailable { retry_after: Some(CROWDED) });
        };
        let permit = match self.breaker.admit(self.clock.monotonic()) {
            Ok(permit) => permit,
            Err(failure) => return D::failed(failure),
        };
        let watch = Stopwatch::start();
        let exchanged = self.exchange(request, prepared, deadline, clearing).await;
        let permit = Some(permit).filter(|_| !(is_short && deadline.remaining().is_zero()));
        let decision = match &exchanged {
            Ok(answer) => judge(answer),
            Err(NoAnswer::NothingSent(_)) => D::failed(Failure::Unavailable { retry_after: None }),
            Err(NoAnswer::Unknown(_)) => D::UNKNOWN,
        };
        let failure = decision.failure();
        self.record(permit, &Ended { operation, exchanged: &exchanged, failure, took: watch.elapsed() });
        decision
    }

    /// The answer to a request. Where the adapter knows what stands in its way, that is cleared first, and the request repeated
    /// once, all within the same time and permit.
    async fn exchange(
        &self,
        request: &Outbound,
        prepared: Prepared,
        deadline: Deadline,
        clearing: impl FnOnce(&Inbound) -> Option<Outbound>,
    ) -> Result<Inbound, NoAnswer> {
        let answer = self.client.exchange(prepared, deadline).await?;
        let Some(first) = clearing(&answer).as_ref().and_then(Prepared::new) else { return Ok(answer) };
        let (Ok(cleared), Some(again)) = (self.client.exchange(first, deadline).await, Prepared::new(request)) else {
            return Ok(answer);
        };
        tracing::info!(provider = self.name, status = cleared.status, "what stood in the way is cleared: asking again");
        self.client.exchange(again, deadline).await
    }

    /// Tells the breaker, the observer and the log. Of the request nothing is told, of the answer only its status.
    fn record(&self, permit: Option<Permit>, ended: &Ended<'_>) {
        let alarm = ended.exchanged.as_ref().ok().and_then(|answer| self.adapter.alarm(answer));
        let fault = ended.fault(alarm);
        let transition = match (permit, fault) {
            (None, _) => Transition::None,
            (Some(permit), Some(fault)) => self.breaker.failed(permit, fault, self.clock.monotonic()),
            (Some(permit), None) => self.breaker.succeeded(permit),
        };
        let (provider, operation, duration) = (self.name.as_str(), ended.operation, ended.took);
        let outcome = ended.outcome(fault);
        if let Some(observer) = &self.observer {
            observer.provider_called(&ProviderCall { provider, operation, outcome, duration });
        }
        self.log(ended, outcome, alarm);
        match transition {
            Transition::None => {}
            Transition::Opened => {
                tracing::error!(provider, "the breaker opens: the provider is left alone for a while");
            }
            Transition::Closed => tracing::info!(provider, "the breaker closes"),
        }
    }

    fn log(&self, ended: &Ended<'_>, outcome: &'static str, alarm: Option<Alarm>) {
        let (provider, operation, duration_ms) = (self.name.as_str(), ended.operation, millis(ended.took));
        let status = ended.status();
        let by_status = ended.failure.filter(|failure| *failure == Failure::Refused).and(Alarm::by_status(status));
        match (alarm.or(by_status), outcome) {
            (Some(Alarm::Credentials(alarm)), _) => {
                tracing::error!(provider, operation, status, alarm, "the provider refuses otpd's credentials");
            }
            (Some(Alarm::Request(alarm)), _) => {
                tracing::error!(provider, operation, status, alarm, "the provider refuses the request");
            }
            (None, "refused") => tracing::error!(provider, operation, status, "the provider refuses the request"),
            (None, "answered") => tracing::info!(provider, operation, status, duration_ms, "the provider answered"),
            (None, _) => {
                let failure = match ended.exchanged {
                    Ok(_) => "",
                    Err(NoAnswer::NothingSent(reason) | NoAnswer::Unknown(reason)) => *reason,
                };
                tracing::warn!(provider, operation, status, failure, duration_ms, "the provider failed");
            }
        }
    }
}

#[async_trait]
impl Provider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn is_ready(&self) -> bool {
        self.breaker.would_admit(self.clock.monotonic())
    }

    fn refusal(&self) -> Option<Failure> {
        self.breaker.refusal(self.clock.monotonic())
    }

    fn check_error(&self, check: &Check) -> Option<RequestError> {
        self.adapter.check(check).err()
    }

    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered {
        match self.adapter.deliver(&delivery) {
            Ok(request) => {
                let clearing = |answer: &Inbound| self.adapter.clearing(&delivery, answer);
                let judge = |answer: &Inbound| self.adapter.delivered(&delivery, answer);
                self.call("deliver", &request, deadline, clearing, judge).await
            }
            Err(error) => Delivered::Invalid(error),
        }
    }

    async fn check(&self, check: Check, deadline: Deadline) -> Checked {
        match self.adapter.check(&check) {
            Ok(request) => {
                self.call("check", &request, deadline, |_| None, |answer| self.adapter.checked(&check, answer)).await
            }
            Err(error) => Checked::Invalid(error),
        }
    }
}
