//! The executor: every call over HTTP goes through here, whatever the adapter.

use std::{io, sync::Arc};

use async_trait::async_trait;

use super::{
    Authority, HttpSettings, Inbound, Outbound, authority,
    client::{Client, NoAnswer, Prepared},
    remark::Unsaid,
};
use crate::{
    ports::{
        clock::{Clock, Deadline},
        provider::{
            Capabilities, Check, Checked, Delivered, Delivery, Failure, Provider, ProviderObserver, RequestError,
        },
    },
    providers::{
        adapter::{Adapter, Alarm},
        breaker::Fault,
        guard::{Attempted, Decision, Exchange, Guard},
    },
};

/// A provider over HTTP: an adapter, and the one way to call it.
pub struct HttpProvider {
    adapter: Box<dyn Adapter>,
    authority: Option<Box<dyn Authority>>,
    capabilities: Capabilities,
    client: Client,
    guard: Guard,
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
        let capabilities = Capabilities { timeout: settings.guard.timeout, ..adapter.capabilities() };
        let client = Client::new(settings, Arc::clone(&clock))?;
        let guard = Guard::new(name, &settings.guard, clock);
        Ok(Self { authority: adapter.authority(), adapter, capabilities, client, guard })
    }

    /// The same provider, with an observer of its calls.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn ProviderObserver>) -> Self {
        Self { guard: self.guard.observed(observer, &self.capabilities), ..self }
    }

    /// Sends a request if the provider is to be called now, and has its answer judged.
    async fn call<D: Decision>(
        &self,
        operation: &'static str,
        request: &Outbound,
        unsaid: &Unsaid,
        deadline: Deadline,
        clearing: impl FnOnce(&Inbound) -> Option<Outbound>,
        judge: impl FnOnce(&Inbound) -> D,
    ) -> D {
        let Some(prepared) = Prepared::new(request) else {
            // Values from the caller can cause this, so it does not count in the breaker, which would open for others too.
            tracing::error!(provider = self.name(), operation, "the request cannot be sent: malformed URL or header");
            return D::failed(Failure::Refused);
        };
        let exchange = |deadline| async move {
            match self.exchange(request, prepared, deadline, clearing).await {
                Ok(answer) => self.answered(&answer, judge(&answer), unsaid),
                Err(no_answer) => unanswered(no_answer),
            }
        };
        self.guard.call(operation, deadline, exchange).await
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
        let ask = |request, prepared| {
            authority::exchange(self.authority.as_deref(), &self.client, request, prepared, deadline)
        };
        let answer = ask(request, prepared).await?;
        let Some(obstacle) = clearing(&answer) else { return Ok(answer) };
        let (Some(first), Some(again)) = (Prepared::new(&obstacle), Prepared::new(request)) else { return Ok(answer) };
        let Ok(cleared) = ask(&obstacle, first).await else { return Ok(answer) };
        tracing::info!(
            provider = self.name(),
            status = cleared.status,
            "what stood in the way is cleared: asking again"
        );
        ask(request, again).await
    }

    fn answered<D: Decision>(&self, answer: &Inbound, decision: D, unsaid: &Unsaid) -> Attempted<D> {
        let is_refused = decision.failure() == Some(Failure::Refused);
        let own = self.adapter.alarm(answer);
        let alarm = own.or_else(|| Alarm::by_status(answer.status).filter(|_| is_refused));
        let remark = if decision.is_plain() { String::new() } else { unsaid.remark(answer) };
        let is_failure = decision.failure().is_some();
        let concerns_all = !self.adapter.concerns_one(answer);
        // What is decided about one call, a bad destination for example, says nothing about other calls, whatever its status.
        let fault = match answer.status {
            401 | 407 if is_refused => Some(Fault::Refusing),
            _ if is_refused && matches!(own, Some(Alarm::Credentials(_) | Alarm::Account(_))) => Some(Fault::Refusing),
            429 if is_failure && concerns_all => Some(Fault::Failing),
            500.. if (is_failure || decision.is_unknown()) && concerns_all => Some(Fault::Failing),
            _ => None,
        };
        // Of the header alone: a wait that an adapter reads from its body may be that of one destination.
        let rest = answer.retry_after().filter(|_| matches!(answer.status, 429 | 503) && is_failure && concerns_all);
        Attempted { decision, exchange: Exchange::Answered, status: answer.status, fault, rest, alarm, remark }
    }
}

fn unanswered<D: Decision>(no_answer: NoAnswer) -> Attempted<D> {
    let (decision, exchange) = match no_answer {
        NoAnswer::Denied(reason) => {
            let (fault, alarm) = (Some(Fault::Refusing), Some(Alarm::Credentials(reason)));
            let (decision, exchange) = (D::failed(Failure::Refused), Exchange::NothingSent(reason));
            return Attempted { decision, exchange, status: 0, fault, rest: None, alarm, remark: String::new() };
        }
        NoAnswer::NothingSent(reason) => {
            (D::failed(Failure::Unavailable { retry_after: None }), Exchange::NothingSent(reason))
        }
        NoAnswer::Dropped => {
            (D::failed(Failure::Unavailable { retry_after: None }), Exchange::NothingSent("the connection broke"))
        }
        NoAnswer::Unknown(reason) => (D::UNKNOWN, Exchange::Unknown(reason)),
    };
    Attempted {
        decision,
        exchange,
        status: 0,
        fault: Some(Fault::Failing),
        rest: None,
        alarm: None,
        remark: String::new(),
    }
}

#[async_trait]
impl Provider for HttpProvider {
    fn name(&self) -> &str {
        self.guard.name()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn is_ready(&self) -> bool {
        self.guard.is_ready()
    }

    fn is_resting(&self) -> bool {
        self.guard.is_resting()
    }

    fn refusal(&self) -> Option<Failure> {
        self.guard.refusal()
    }

    fn check_error(&self, check: &Check) -> Option<RequestError> {
        self.adapter.check(check).err()
    }

    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered {
        match self.adapter.deliver(&delivery) {
            Ok(request) => {
                let clearing = |answer: &Inbound| self.adapter.clearing(&delivery, answer);
                let judge = |answer: &Inbound| self.adapter.delivered(&delivery, answer);
                self.call("deliver", &request, &Unsaid::of_delivery(&delivery), deadline, clearing, judge).await
            }
            Err(error) => Delivered::Unaskable(error),
        }
    }

    async fn check(&self, check: Check, deadline: Deadline) -> Checked {
        match self.adapter.check(&check) {
            Ok(request) => {
                let judge = |answer: &Inbound| self.adapter.checked(&check, answer);
                self.call("check", &request, &Unsaid::of_check(&check), deadline, |_| None, judge).await
            }
            Err(error) => Checked::Invalid(error),
        }
    }
}
