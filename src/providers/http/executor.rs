//! The executor: every outbound call goes through here, whatever the adapter.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::{
    HttpSettings, Inbound, Outbound,
    breaker::{Breaker, Pass, Turn},
    client::{Client, Failure, Prepared},
};
use crate::{
    domain::time::millis,
    ports::{
        clock::{Clock, Deadline, Stopwatch},
        provider::{
            Capabilities, Check, Checked, Delivered, Delivery, Provider, ProviderCall, ProviderObserver, Unfit,
        },
    },
    providers::adapter::Adapter,
};

/// When to come again where all places of a provider are taken.
const CROWDED: Duration = Duration::from_millis(500);

/// A provider that has had this much time, or its own time-out where that is shorter, and has not answered, has failed.
const FAIR_TIME: Duration = Duration::from_secs(1);

/// A provider over HTTP: an adapter, and the one way to call it.
pub struct HttpProvider {
    name: String,
    adapter: Box<dyn Adapter>,
    capabilities: Capabilities,
    client: Client,
    places: Semaphore,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
    observer: Option<Arc<dyn ProviderObserver>>,
}

/// What a call came to.
enum Called {
    /// The provider answered.
    Answered(Inbound),
    /// It was not called, or nothing was sent to it.
    NothingSent { retry_after: Option<Duration> },
    /// Nobody knows.
    Unknown,
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
            codes: abilities.codes,
            channels: abilities.channels,
            contact_on_file: abilities.contact_on_file,
            timeout: settings.timeout,
            code_life: abilities.code_life,
        };
        Ok(Self {
            name: name.to_owned(),
            adapter,
            capabilities,
            client: Client::new(settings.tls()?, settings.connect_timeout, settings.max_in_flight),
            places: Semaphore::new(settings.max_in_flight),
            breaker: Breaker::new(settings.breaker_failures, settings.breaker_pause),
            clock,
            observer: None,
        })
    }

    /// The same, seen by an observer.
    #[must_use]
    pub fn observed(self, observer: Arc<dyn ProviderObserver>) -> Self {
        Self { observer: Some(observer), ..self }
    }

    async fn call(&self, operation: &'static str, request: &Outbound, deadline: Deadline) -> Called {
        let Some(prepared) = Prepared::new(request) else {
            // What callers give us cannot make the breaker open for others.
            tracing::error!(provider = self.name, operation, "the request cannot be sent: malformed URL or header");
            return Called::NothingSent { retry_after: None };
        };
        // A caller in a hurry says nothing about the provider: its time-outs do not count.
        let hurried = deadline.remaining() < self.capabilities.timeout.min(FAIR_TIME);
        let deadline = deadline.at_most(self.capabilities.timeout);
        if deadline.remaining().is_zero() {
            tracing::warn!(provider = self.name, operation, "no time is left to ask the provider");
            return Called::NothingSent { retry_after: None };
        }
        let Ok(_place) = self.places.try_acquire() else {
            tracing::warn!(provider = self.name, operation, "all places of the provider are taken");
            return Called::NothingSent { retry_after: Some(CROWDED) };
        };
        let pass = match self.breaker.admit(self.clock.now()) {
            Ok(pass) => pass,
            Err(pause) => return Called::NothingSent { retry_after: Some(pause) },
        };
        let watch = Stopwatch::start();
        let exchanged = self.client.exchange(prepared, deadline).await;
        let pass = Some(pass).filter(|_| !(hurried && deadline.remaining().is_zero()));
        self.record(operation, pass, &exchanged, watch.elapsed());
        match exchanged {
            Ok(answer) => Called::Answered(answer),
            Err(Failure::NothingSent(_)) => Called::NothingSent { retry_after: None },
            Err(Failure::Unknown(_)) => Called::Unknown,
        }
    }

    /// Tells the breaker and the operator. Nothing of request or answer but the status is told.
    fn record(
        &self,
        operation: &'static str,
        pass: Option<Pass>,
        exchanged: &Result<Inbound, Failure>,
        took: Duration,
    ) {
        let (status, failure) = match exchanged {
            Ok(answer) => (answer.status, ""),
            Err(Failure::NothingSent(reason) | Failure::Unknown(reason)) => (0, *reason),
        };
        let failed = exchanged.as_ref().map_or(true, |answer| answer.status >= 500 || answer.status == 429);
        let turn = match pass {
            None => Turn::None,
            Some(pass) if failed => self.breaker.failed(pass, self.clock.now()),
            Some(pass) => self.breaker.succeeded(pass),
        };
        let (provider, duration_ms) = (self.name.as_str(), millis(took));
        if let Some(observer) = &self.observer {
            let outcome = match exchanged {
                Ok(_) if failed => "failed",
                Ok(_) => "answered",
                Err(Failure::NothingSent(_)) => "nothing_sent",
                Err(Failure::Unknown(_)) => "unknown",
            };
            observer.provider_called(&ProviderCall { provider, operation, outcome, duration: took });
        }
        if matches!(status, 401 | 403 | 407) {
            tracing::error!(provider, operation, status, "the provider refuses our credentials");
        } else if let Some(alarm) = exchanged.as_ref().ok().and_then(|answer| self.adapter.alarm(answer)) {
            tracing::error!(provider, operation, status, alarm, "the provider refuses what we are or what we ask");
        } else if failed {
            tracing::warn!(provider, operation, status, failure, duration_ms, "the provider failed");
        } else {
            tracing::info!(provider, operation, status, duration_ms, "the provider answered");
        }
        match turn {
            Turn::None => {}
            Turn::Opened => tracing::error!(provider, "the breaker opens: the provider is left alone for a while"),
            Turn::Closed => tracing::info!(provider, "the breaker closes"),
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
        self.breaker.would_admit(self.clock.now())
    }

    fn unfit_check(&self, check: &Check) -> Option<Unfit> {
        self.adapter.check(check).err()
    }

    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered {
        let request = match self.adapter.deliver(&delivery) {
            Ok(request) => request,
            Err(unfit) => return Delivered::Unfit(unfit),
        };
        match self.call("deliver", &request, deadline).await {
            Called::Answered(answer) => self.adapter.delivered(&delivery, &answer),
            Called::NothingSent { retry_after } => Delivered::Failed { retry_after },
            Called::Unknown => Delivered::Unknown,
        }
    }

    async fn check(&self, check: Check, deadline: Deadline) -> Checked {
        let Ok(request) = self.adapter.check(&check) else { return Checked::Unknown };
        match self.call("check", &request, deadline).await {
            Called::Answered(answer) => self.adapter.checked(&check, &answer),
            Called::NothingSent { .. } | Called::Unknown => Checked::Unknown,
        }
    }
}
