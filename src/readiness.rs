//! Whether otpd should get calls: follows the store and the clock, and ends with the drain.
//!
//! The state is told in three places: gRPC health checks by way of [`Health`], `/readyz` by way of the channel, and the log.
//! The process itself (`""`) serves as long as it does not drain; a store in trouble is no reason to restart it.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval, timeout},
};

use crate::ports::{clock::Deadline, store::StoreError};

/// The services whose health follows the store.
pub(crate) const SERVICES: [&str; 2] = ["otp.v1.OtpService", "otp.v1.OtpAdminService"];

/// The process in health checks.
pub(crate) const PROCESS: &str = "";

/// How often the store is examined, and how long it may take.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the store may be in trouble before otpd is not ready: longer than a failover usually takes. All replicas share
/// the store, and a mesh that turns away from all of them at once serves no caller.
const MAX_TROUBLE: Duration = Duration::from_secs(5);

/// Why otpd should get no calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unready {
    /// The store has not answered yet.
    Starting,
    /// The store has been in trouble for too long.
    Store,
    /// The clock of this machine is off.
    Clock,
    /// The store belongs to other master keys.
    Keys,
    /// Decisions must be kept, and cannot be.
    Audit,
    /// The process is about to end. Lasts.
    Draining,
}

impl Unready {
    const ALL: [Self; 5] = [Self::Starting, Self::Store, Self::Clock, Self::Keys, Self::Draining];

    fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Store => "store",
            Self::Clock => "clock",
            Self::Keys => "keys",
            Self::Audit => "audit",
            Self::Draining => "draining",
        }
    }
}

/// Whether otpd should get calls: while there is no reason why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServingState(BTreeSet<Unready>);

impl ServingState {
    /// For these reasons not.
    pub(crate) fn unready(reasons: impl IntoIterator<Item = Unready>) -> Self {
        Self(reasons.into_iter().collect())
    }

    /// Whether there is no reason against it.
    pub(crate) fn is_serving(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is a reason.
    pub(crate) fn is(&self, reason: Unready) -> bool {
        self.0.contains(&reason)
    }

    /// For metrics: all reasons that there are, in a word each, and which of them apply.
    pub(crate) fn reasons(&self) -> Vec<(&'static str, bool)> {
        Unready::ALL.map(|reason| (reason.word(), self.is(reason))).to_vec()
    }

    /// For probes: each reason in a word.
    pub(crate) fn words(&self) -> Vec<&'static str> {
        if self.is_serving() { vec!["serving"] } else { self.0.iter().map(|reason| reason.word()).collect() }
    }

    fn set(&mut self, reason: Unready, applies: bool) {
        if applies {
            self.0.insert(reason);
        } else {
            self.0.remove(&reason);
        }
    }
}

/// What was found while the store had never been ready: waiting does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreRefused {
    /// A setting is wrong, or the store is not what the settings say.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys are not those of the store.
    #[error("{0}")]
    Keys(String),
}

/// What was found out about a store that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Whether the clock of this machine may date nothing.
    pub(crate) is_clock_off: bool,
    /// Why the keys are not those of the store.
    pub(crate) wrong_keys: Option<String>,
}

/// Examines the store, and the clock by it.
#[async_trait]
pub(crate) trait Examiner: Send + Sync {
    /// Whether what is decided is kept as it must be.
    fn keeps_decisions(&self) -> bool {
        true
    }

    /// Once, until the deadline.
    async fn examine(&self, deadline: Deadline) -> Result<Findings, StoreError>;
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
    /// Begins as [`Unready::Starting`].
    pub(crate) async fn new(health: impl Health + 'static) -> Self {
        let state = ServingState::unready([Unready::Starting]);
        let readiness =
            Self { state: watch::Sender::new(state.clone()), health: Box::new(health), change: Mutex::new(()) };
        readiness.report(&state).await;
        readiness
    }

    /// Follows the state.
    pub(crate) fn subscribe(&self) -> watch::Receiver<ServingState> {
        self.state.subscribe()
    }

    /// From now on, and for good, no new calls are wanted.
    pub(crate) async fn drain(&self) {
        self.change(|state| state.set(Unready::Draining, true)).await;
    }

    /// Ends the streams of those who watch health: they stay open for as long as a client lives, and a server that lets
    /// all calls end would wait for them.
    pub(crate) async fn end_watches(&self) {
        for service in SERVICES.into_iter().chain([PROCESS]) {
            self.health.end(service).await;
        }
    }

    /// Has the store examined once. One that cannot be used yet is no error.
    ///
    /// # Errors
    /// Waiting does not help.
    pub(crate) async fn begin(&self, examiner: &dyn Examiner) -> Result<(), StoreRefused> {
        self.examine(examiner, &mut None).await
    }

    /// Has the store examined again and again. Ends with the drain.
    ///
    /// # Errors
    /// The store was never ready, and waiting does not help.
    pub(crate) async fn follow(&self, examiner: &dyn Examiner) -> Result<(), StoreRefused> {
        let mut draining = self.subscribe();
        tokio::select! {
            _ = draining.wait_for(|state| state.is(Unready::Draining)) => Ok(()),
            refused = self.examine_again_and_again(examiner) => refused,
        }
    }

    async fn examine_again_and_again(&self, examiner: &dyn Examiner) -> Result<(), StoreRefused> {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trouble = None;
        loop {
            ticks.tick().await;
            self.examine(examiner, &mut trouble).await?;
        }
    }

    /// `trouble` is until when the store may go on as it does since the last good answer.
    async fn examine(&self, examiner: &dyn Examiner, trouble: &mut Option<Deadline>) -> Result<(), StoreRefused> {
        let is_kept = examiner.keeps_decisions();
        self.change(|state| state.set(Unready::Audit, !is_kept)).await;
        let too_long = Deadline::after(MAX_TROUBLE);
        let answer = timeout(INTERVAL, examiner.examine(Deadline::after(INTERVAL))).await;
        let is_starting = self.state.borrow().is(Unready::Starting);
        match answer.unwrap_or_else(|_| Err(StoreError::new("examine", "it does not answer"))) {
            Ok(Findings { wrong_keys: Some(wrong), .. }) if is_starting => return Err(StoreRefused::Keys(wrong)),
            Ok(findings) => {
                *trouble = None;
                self.answered(&findings).await;
            }
            Err(error) if is_starting && error.is_final => return Err(error.into()),
            // Before its first answer the state does not change.
            Err(error) if is_starting => tracing::warn!(cause = error.cause, "the store cannot be used yet"),
            Err(error) => {
                if trouble.is_none() {
                    tracing::warn!(cause = error.cause, "the store is in trouble");
                }
                if trouble.get_or_insert(too_long).remaining().is_zero() {
                    self.change(|state| state.set(Unready::Store, true)).await;
                }
            }
        }
        Ok(())
    }

    async fn answered(&self, findings: &Findings) {
        self.change(|state| {
            state.set(Unready::Starting, false);
            state.set(Unready::Store, false);
            state.set(Unready::Clock, findings.is_clock_off);
            state.set(Unready::Keys, findings.wrong_keys.is_some());
        })
        .await;
    }

    async fn change(&self, change: impl FnOnce(&mut ServingState)) {
        let _whole = self.change.lock().await;
        let before = self.state.borrow().clone();
        let mut after = before.clone();
        change(&mut after);
        if before != after && !before.is(Unready::Draining) {
            tracing::info!(from = before.words().join(" "), to = after.words().join(" "), "readiness");
            self.state.send_replace(after.clone());
            self.report(&after).await;
        }
    }

    async fn report(&self, state: &ServingState) {
        for service in SERVICES {
            self.health.set(service, state.is_serving()).await;
        }
        self.health.set(PROCESS, !state.is(Unready::Draining)).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
