//! The use cases, one a file: each loads, lets the rules decide, commits, and only then answers. Knows no gRPC type and no
//! adapter.
//!
//! Rooms that several use cases share: [`States`] (challenges and lockouts), [`Quotas`], [`Deliveries`], [`Asks`]. All time
//! comes from the [`Gate`], which refuses to tell it while this replica must not serve.
//!
//! A use case that has begun must be driven to its end: the caller runs it in a task of its own, so that a client that
//! hangs up leaves nothing half recorded.

mod asks;
pub mod canaries;
mod cancel;
mod challenge_ref;
mod context;
mod create;
mod decisions;
mod deliveries;
pub mod error;
mod fingerprint;
pub mod gate;
mod get;
pub mod key_usage;
mod lockouts;
mod memory;
mod operate;
mod quotas;
mod records;
mod refunds;
pub mod request;
pub mod route;
mod send;
mod send_permits;
mod states;
mod tags;
mod timing;
mod verify;
pub mod witness;

use std::sync::Arc;

use asks::Asks;
use decisions::Decisions;
use deliveries::Deliveries;
use error::Error;
use gate::Gate;
use quotas::Quotas;
use records::Records;
use route::Routes;
use send_permits::SendPermits;
use states::States;
use tokio_util::task::TaskTracker;

use crate::{
    domain::{policy::Tenants, time::Timestamp},
    keys::ring::KeyRing,
    messages::Messages,
    ports::{decisions::DecisionObserver, entropy::Entropy, store::Store},
};

/// What the use cases need from outside.
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub keys: Arc<KeyRing>,
    /// Tells the time, while this replica may serve.
    pub gate: Arc<Gate>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    pub routes: Routes,
    pub messages: Messages,
    /// Who is told of every decision.
    pub observers: Vec<Arc<dyn DecisionObserver>>,
    /// Runs what is done after an answer.
    pub tasks: TaskTracker,
}

/// The use cases of otpd.
pub struct Otp {
    states: Arc<States>,
    decisions: Decisions,
    quotas: Quotas,
    deliveries: Deliveries,
    asks: Asks,
    send_permits: SendPermits,
    routes: Routes,
    keys: Arc<KeyRing>,
}

impl Otp {
    /// The use cases over these ports, for these tenants.
    pub fn new(ports: Ports, tenants: Tenants) -> Self {
        let Ports { store, keys, gate, entropy, routes, messages, observers, tasks } = ports;
        let records = Records::new(Arc::clone(&keys), entropy);
        let decisions = Decisions::new(observers, Arc::clone(&gate));
        let states = States::new(Arc::clone(&store), records, Arc::clone(&gate), decisions.clone(), tenants);
        let states = Arc::new(states);
        let quotas = Quotas::new(store, Arc::clone(&keys), gate, &tasks);
        let deliveries =
            Deliveries::new(Arc::clone(&states), quotas.clone(), routes.clone(), messages, Arc::clone(&keys));
        let asks = Asks::new(Arc::clone(&states), routes.clone());
        Self { states, decisions, quotas, deliveries, asks, send_permits: SendPermits::default(), routes, keys }
    }

    /// The time by which a call is judged.
    ///
    /// # Errors
    /// This replica must not serve now.
    pub fn now(&self) -> Result<Timestamp, Error> {
        self.states.now()
    }
}
