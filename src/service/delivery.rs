//! Delivering a reserved send over its route, provider by provider, until one accepts it, or may have; and settling it.

use std::{sync::Arc, time::Duration};

use super::{
    asks::error_of,
    context::{CallContext, challenge_context, upstream_id},
    error::Error,
    quotas::{Quotas, Uses},
    request::Caller,
    route::{Route, Routes},
    states::{ChallengeRef, States},
    timing::{FINISH, GRACE, RETRY_AFTER, provider_deadline},
};
use crate::{
    domain::{
        challenge::Challenge,
        code::CodeOwner,
        ids::{IdempotencyKey, OptionId, Token},
        outcome::Sent,
        route::Goal,
        rules::{NextProvider, Reserved, SettleSend, SettleStep, Settlement},
    },
    keys::ring::KeyRing,
    messages::{Content, Messages},
    ports::{
        clock::Deadline,
        provider::{
            ChallengeContext, Delivered, Delivery as Request, Failure, Message, Provider, Receipt, RequestError,
        },
    },
    secret::Secret,
};

/// With less time than this a provider is not called any more: it would hardly be reached, and the outcome be unknown.
const SHORTEST_CALL: Duration = Duration::from_millis(10);

/// Delivers reserved sends.
pub(super) struct Delivery {
    states: Arc<States>,
    quotas: Quotas,
    routes: Routes,
    messages: Messages,
    keys: Arc<KeyRing>,
}

/// A send, as both RPCs that can ask for one put it.
#[derive(Clone, Debug)]
pub(super) struct Send {
    pub(super) target: ChallengeRef,
    pub(super) key: IdempotencyKey,
    pub(super) option: OptionId,
    pub(super) call: CallContext,
}

/// A send that is reserved by this worker, and all that delivering it takes.
pub(super) struct Reservation {
    pub(super) token: Token,
    pub(super) reserved: Reserved,
    pub(super) challenge: Arc<Challenge>,
    pub(super) route: Route,
    pub(super) uses: Uses,
    /// The end of the lease, by the monotonic clock.
    pub(super) deadline: Deadline,
}

/// What became of a send over its route.
struct RouteOutcome {
    settlement: Settlement,
    /// The failures of providers, of which the one that waiting may help is told.
    failure: Option<Failure>,
    /// Why a provider could not be called with what the caller gave.
    request_error: Option<RequestError>,
}

impl Delivery {
    pub(super) fn new(
        states: Arc<States>,
        quotas: Quotas,
        routes: Routes,
        messages: Messages,
        keys: Arc<KeyRing>,
    ) -> Self {
        Self { states, quotas, routes, messages, keys }
    }

    /// Delivers and settles. Ends with what is on record, by whichever settle was first.
    pub(super) async fn deliver(&self, caller: &Caller, send: &Send, reservation: Reservation) -> Result<Sent, Error> {
        let deadline = reservation.deadline.min(provider_deadline(caller));
        let (outcome, error) = match self.over_the_route(send, &reservation, deadline).await {
            Ok(outcome) => (outcome, None),
            // All providers that were tried before had failed for certain, so that nothing was sent.
            Err(error) => (RouteOutcome::of(Settlement::Withdrawn), Some(error)),
        };
        let settlement = &outcome.settlement;
        let settle = |_: &_| Ok(SettleSend { key: send.key, token: reservation.token, settlement: settlement.clone() });
        let settled = self.states.change(&send.target, Deadline::after(FINISH), settle).await;
        let step = match (settled, error) {
            (Ok(settled), None) => settled.outcome,
            (settled, Some(error)) => {
                if settled.is_ok_and(|settled| settled.outcome == SettleStep::Refunded) {
                    self.quotas.refund(reservation.uses).await;
                }
                return Err(error);
            }
            (Err(error), None) => return Err(error),
        };
        match step {
            SettleStep::Answer(sent) => Ok(sent),
            SettleStep::Failed | SettleStep::Gone => Err(outcome.error()),
            SettleStep::Refunded => {
                self.quotas.refund(reservation.uses).await;
                Err(outcome.error())
            }
        }
    }

    async fn over_the_route(
        &self,
        send: &Send,
        reservation: &Reservation,
        deadline: Deadline,
    ) -> Result<RouteOutcome, Error> {
        let mut challenge = Arc::clone(&reservation.challenge);
        let mut outcome = RouteOutcome::of(Settlement::Failed);
        for (index, provider) in reservation.route.iter().enumerate() {
            if self.states.now() >= reservation.reserved.lease_until || deadline.remaining() < SHORTEST_CALL {
                break;
            }
            if index > 0 {
                let plan = self.routes.plan(provider.as_ref(), self.keys.active_id());
                let next = |_: &_| Ok(NextProvider { token: reservation.token, plan: plan.clone() });
                let pinned = self.states.change(&send.target, Deadline::after(FINISH), next).await?;
                if !pinned.outcome {
                    break;
                }
                challenge = pinned.after.challenge;
            }
            let Some(request) = self.request(send, &challenge, reservation.reserved.number)? else { break };
            match deliver_by(provider.as_ref(), request, deadline).await {
                Delivered::Accepted(Receipt { reference, code_life, code_length }) => {
                    return Ok(RouteOutcome::of(Settlement::Accepted { reference, code_life, code_length }));
                }
                Delivered::Rejected => return Ok(RouteOutcome::of(Settlement::Rejected)),
                Delivered::Declined(decline) => return Ok(RouteOutcome::of(Settlement::Declined(decline))),
                Delivered::Unknown => return Ok(RouteOutcome::of(Settlement::Unknown)),
                Delivered::Invalid(error) => outcome.request_error = outcome.request_error.or(Some(error)),
                Delivered::Failed(failure) => {
                    tracing::warn!(provider = provider.name(), "the provider failed; nothing was sent");
                    outcome.failure = Some(milder(outcome.failure, failure));
                }
            }
        }
        if outcome.is_callers_mistake() {
            outcome.settlement = Settlement::Withdrawn;
        }
        Ok(outcome)
    }

    /// What the provider is given. `None` where the challenge ended meanwhile, for then there is nothing to send.
    fn request(&self, send: &Send, challenge: &Challenge, number: u32) -> Result<Option<Request>, Error> {
        let now = self.states.now();
        let Some(code) = challenge.live_code().filter(|code| code.send == number) else { return Ok(None) };
        let Some(context) = challenge_context(&send.target, challenge, code.option, &send.call, now) else {
            return Ok(None);
        };
        let code_life = code.expires_at.since(now);
        let message = match code.owner {
            CodeOwner::Otpd => {
                let made = self.keys.code(challenge, code).map_err(|missing| Error::Internal(missing.to_string()))?;
                made.map(|made| self.message(&context, made, code_life)).transpose()?
            }
            CodeOwner::Provider { .. } => None,
        };
        let idempotency_key = upstream_id(&send.call, challenge, "send", &send.key);
        Ok(Some(Request { context, message, code_life, idempotency_key }))
    }

    /// The code with the words around it.
    fn message(&self, context: &ChallengeContext, code: Secret<String>, code_life: Duration) -> Result<Message, Error> {
        let (tenant, destination) = (&context.tenant, &context.destination);
        let goal = Goal { tenant, purpose: context.purpose, channel: context.channel, destination };
        let content = Content { code: &code, code_life, transaction: context.transaction.as_ref() };
        let text = self.messages.text(&goal, &context.locale, &content);
        let text = text.map_err(|unrendered| Error::Internal(unrendered.to_string()))?;
        Ok(Message { code, text })
    }
}

async fn deliver_by(provider: &dyn Provider, request: Request, deadline: Deadline) -> Delivered {
    let deadline = deadline.at_most(provider.capabilities().timeout);
    let guard = Deadline::after(deadline.remaining() + GRACE);
    let delivered = tokio::time::timeout_at(guard.instant(), provider.deliver(request, deadline)).await;
    delivered.unwrap_or(Delivered::Unknown)
}

impl RouteOutcome {
    fn of(settlement: Settlement) -> Self {
        Self { settlement, failure: None, request_error: None }
    }

    /// Whether nothing but the caller's parameters was in the way: then nothing is counted. A second provider that needs more
    /// than the first is no mistake of the caller's.
    fn is_callers_mistake(&self) -> bool {
        self.settlement == Settlement::Failed && self.request_error.is_some() && self.failure.is_none()
    }

    /// What the caller is told where nothing was sent.
    fn error(&self) -> Error {
        match (self.failure, self.request_error) {
            (None, Some(error)) => Error::Invalid(error),
            (Some(failure), _) => error_of(failure),
            (None, None) => Error::ProviderUnavailable { retry_after: RETRY_AFTER },
        }
    }
}

/// Of the failures over a route, the one that promises most: an early retry, rather than a late one, rather than an operator.
fn milder(one: Option<Failure>, other: Failure) -> Failure {
    match (one, other) {
        (Some(Failure::Unavailable { retry_after: one }), Failure::Unavailable { retry_after: other }) => {
            Failure::Unavailable { retry_after: one.into_iter().chain(other).min() }
        }
        (Some(unavailable @ Failure::Unavailable { .. }), Failure::Refused) => unavailable,
        (_, other) => other,
    }
}
