//! The use cases: each loads, lets the rules decide, swaps, and only then answers. Knows no gRPC type and no adapter.
//!
//! A use case that has begun must be driven to its end: the caller runs it in a task of its own, so that a client that
//! hangs up leaves nothing half recorded.

mod challenges;
mod check;
mod create;
mod deliver;
pub mod error;
mod fingerprint;
mod manage;
mod quotas;
mod records;
pub mod request;
pub mod route;
mod send;
mod subjects;
mod verify;

use std::{sync::Arc, time::Duration};

use challenges::ChallengeRef;
use error::Error;
use records::Records;
use request::Caller;
use route::Routes;

use crate::{
    domain::{
        canonical::Canonical,
        challenge::Challenge,
        ids::{Request, RequestId},
        policy::{TenantPolicy, Tenants},
        subject::Subject,
    },
    keys::ring::KeyRing,
    messages::Messages,
    ports::{clock::Clock, entropy::Entropy, store::Store},
};

/// Races that a request loses before it gives up. A challenge can only be changed a bounded number of times, so that even
/// a thousand parallel guesses lose a handful each.
const MAX_RACES: usize = 64;
/// How long a write may take that must not be abandoned half-way when the caller's time runs out.
const FINISH: Duration = Duration::from_secs(5);

/// What the use cases need from outside.
pub struct Ports {
    /// Keeps records and counts quotas.
    pub store: Arc<dyn Store>,
    /// The master keys.
    pub keys: Arc<KeyRing>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The providers.
    pub routes: Routes,
    /// The words around codes.
    pub messages: Messages,
}

/// The use cases of otpd.
pub struct Otp {
    store: Arc<dyn Store>,
    keys: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    routes: Routes,
    messages: Messages,
    tenants: Tenants,
    challenges: Records<Challenge>,
    subjects: Records<Subject>,
}

impl Otp {
    /// The use cases over these ports, for these tenants.
    pub fn new(ports: Ports, tenants: Tenants) -> Self {
        let Ports { store, keys, clock, entropy, routes, messages } = ports;
        let challenges = Records::new(store.clone(), keys.clone(), entropy.clone());
        let subjects = Records::new(store.clone(), keys.clone(), entropy.clone());
        Self { store, keys, clock, entropy, routes, messages, tenants, challenges, subjects }
    }

    fn policy(&self, caller: &Caller) -> Result<&TenantPolicy, Error> {
        self.tenants.of(&caller.tenant).ok_or(Error::Forbidden)
    }

    /// The challenge that a request names. Refuses tenants that are not accepted.
    fn challenge_ref(&self, caller: &Caller, challenge: &RequestId) -> Result<ChallengeRef, Error> {
        self.policy(caller)?;
        let name = self.keys.challenge_name(&caller.tenant, challenge);
        Ok(ChallengeRef { name, tenant: caller.tenant.clone() })
    }

    /// The request as the rules see it.
    fn request(&self, caller: &Caller, target: &ChallengeRef, content: Canonical) -> Request {
        let id = self.keys.request_tag(target.name, &caller.request_id);
        Request { id, content: self.keys.fingerprint(content) }
    }
}
