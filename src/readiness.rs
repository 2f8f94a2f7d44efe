//! Whether otpd should get calls: follows the store, and ends with the drain.
//!
//! The state is told in three places: gRPC health checks by way of [`Health`], `/readyz` by way of the channel, and the log.
//! The process itself (`""`) serves as long as it does not drain; a store in trouble is no reason to restart it.

use std::time::Duration;

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::ports::{clock::Deadline, store::Store};

/// The services whose health follows the store.
pub(crate) const SERVICES: [&str; 2] = ["otp.v1.OtpService", "otp.v1.OtpAdminService"];

/// The process in health checks.
pub(crate) const PROCESS: &str = "";

/// How often the store is asked, and how long it may take.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the store may be in trouble before otpd is not ready: longer than a failover usually takes. All replicas share
/// the store, and a mesh that turns away from all of them at once serves no caller.
const MAX_TROUBLE: Duration = Duration::from_secs(5);

/// Whether otpd should get calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServingState {
    /// The store has not answered yet.
    Starting,
    /// Yes.
    Serving,
    /// The store has been in trouble for too long.
    StoreTrouble,
    /// The process is about to end. Never turns into another state.
    Draining,
}

impl ServingState {
    /// One word for probes.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::StoreTrouble => "store",
            Self::Draining => "draining",
        }
    }
}

/// Where health checks get their answers from.
#[async_trait]
pub(crate) trait Health: Send + Sync {
    /// From now on the service serves, or does not.
    async fn set(&self, service: &'static str, serving: bool);

    /// Ends the streams of those who watch the service. It is unknown from then on.
    async fn end(&self, service: &'static str);
}

/// Holds the state and tells it.
pub(crate) struct Readiness {
    state: watch::Sender<ServingState>,
    health: Box<dyn Health>,
    /// Health statuses are set one after the other: whole changes must not interleave.
    change: Mutex<()>,
}

impl Readiness {
    /// Begins as [`ServingState::Starting`].
    pub(crate) async fn new(health: impl Health + 'static) -> Self {
        let health = Box::new(health);
        let readiness = Self { state: watch::Sender::new(ServingState::Starting), health, change: Mutex::new(()) };
        readiness.report(ServingState::Starting).await;
        readiness
    }

    /// Follows the state.
    pub(crate) fn subscribe(&self) -> watch::Receiver<ServingState> {
        self.state.subscribe()
    }

    /// From now on, and for good, no new calls are wanted.
    pub(crate) async fn drain(&self) {
        self.enter(ServingState::Draining).await;
    }

    /// Ends the streams of those who watch health: they stay open for as long as a client lives, and a server that lets
    /// all calls end would wait for them.
    pub(crate) async fn end_watches(&self) {
        for service in SERVICES.into_iter().chain([PROCESS]) {
            self.health.end(service).await;
        }
    }

    /// Asks the store again and again. Ends with the drain.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        let mut draining = self.subscribe();
        tokio::select! {
            _ = draining.wait_for(|state| *state == ServingState::Draining) => {}
            () = self.ask_again_and_again(store) => {}
        }
    }

    async fn ask_again_and_again(&self, store: &dyn Store) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble: Option<Deadline> = None;
        loop {
            ticks.tick().await;
            let too_long = Deadline::after(MAX_TROUBLE);
            let asked = timeout(INTERVAL, store.check(Deadline::after(INTERVAL))).await;
            let cause = match asked {
                Ok(Ok(_)) => {
                    trouble = None;
                    self.enter(ServingState::Serving).await;
                    continue;
                }
                Ok(Err(error)) => error.cause,
                Err(_) => "it does not answer".to_owned(),
            };
            if trouble.is_none() {
                tracing::warn!(cause, "the store is in trouble");
            }
            let until = *trouble.get_or_insert(too_long);
            // Before the first answer of the store the state is not `Serving`, and does not change.
            if until.remaining().is_zero() && self.is(ServingState::Serving) {
                self.enter(ServingState::StoreTrouble).await;
            }
        }
    }

    fn is(&self, state: ServingState) -> bool {
        *self.state.borrow() == state
    }

    async fn enter(&self, state: ServingState) {
        let _whole = self.change.lock().await;
        let before = *self.state.borrow();
        if before != state && before != ServingState::Draining {
            self.state.send_replace(state);
            tracing::info!(from = before.word(), to = state.word(), "readiness");
            self.report(state).await;
        }
    }

    async fn report(&self, state: ServingState) {
        for service in SERVICES {
            self.health.set(service, state == ServingState::Serving).await;
        }
        self.health.set(PROCESS, state != ServingState::Draining).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
