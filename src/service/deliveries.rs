//! Delivering a reserved send over its route, provider by provider, until one accepts it, or may have; and settling it.

use std::{sync::Arc, time::Duration};

use super::{
    challenge_ref::ChallengeRef,
    context::{CallContext, challenge_context, upstream_id},
    decisions::{error_name, sent_name},
    error::Error,
    quotas::Quotas,
    request::Caller,
    route::{Route, Routes, milder},
    states::States,
    timing::{FINISH, GRACE, provider_deadline, within_lease},
};
use crate::{
    domain::{
        challenge::Challenge,
        code::CodeOwner,
        ids::{IdempotencyKey, OptionId, Token},
        lockout::Lockout,
        outcome::Sent,
        route::Goal,
        rules::{NextProvider, Reserved, SettleSend, SettleStep, Settlement},
        time::to_whole_seconds,
    },
    keys::ring::KeyRing,
    messages::{Content, Messages},
    ports::{
        clock::Deadline,
        provider::{ChallengeContext, Delivered, Delivery, Failure, Message, Provider, RequestError},
        store::Name,
    },
    secret::Secret,
};

/// Delivers reserved sends.
pub(super) struct Deliveries {
    states: Arc<States>,
    quotas: Quotas,
    routes: Routes,
    messages: Messages,
    keys: Arc<KeyRing>,
}

/// A send, as both RPCs that can ask for one put it.
#[derive(Clone, Debug)]
pub(super) struct SendRequest {
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
    pub(super) lockout: Arc<Lockout>,
    pub(super) route: Route,
    pub(super) uses: Vec<(Name, Token)>,
}

/// What became of a send over its route.
struct RouteOutcome {
    settlement: Settlement,
    /// The provider that was tried last, or empty.
    provider: String,
    /// Whether any provider may have been asked.
    asked: bool,
    /// The failures of providers, of which the one that waiting may help is told.
    failure: Option<Failure>,
    /// What of the caller's a provider could not be asked with, or did not take.
    request_error: Option<RequestError>,
    /// Whether no time was left for the next provider.
    is_late: bool,
    /// What otpd itself failed at: then nothing was sent, for all providers that were tried before had failed for certain.
    error: Option<Error>,
}

impl Deliveries {
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
    pub(super) async fn deliver(
        &self,
        caller: &Caller,
        send: &SendRequest,
        reservation: Reservation,
    ) -> Result<Sent, Error> {
        let outcome = self.over_the_route(send, &reservation, provider_deadline(caller)).await;
        let settlement = &outcome.settlement;
        let (key, token, provider) = (send.key, reservation.token, &outcome.provider);
        let settle = |_: &_| Ok(SettleSend { key, token, provider: provider.clone(), settlement: settlement.clone() });
        let settled = self.states.change(&send.target, Deadline::after(FINISH), settle).await;
        let has_ended = settled.as_ref().is_ok_and(|settled| settled.after.challenge.open().is_none());
        if let Ok(settled) = &settled {
            self.states.decisions.tell_settled(&send.target, settled, outcome.unsent_name(has_ended));
        }
        let step = settled.map(|settled| settled.outcome);
        if let Ok(SettleStep::Refunded) = step {
            self.quotas.refund(reservation.uses).await;
        }
        match step {
            Ok(SettleStep::Answer(answer)) if outcome.error.is_none() => Ok(answer),
            Err(error) if outcome.error.is_none() => Err(error),
            // Spent, and on record: a repetition is answered the same.
            Ok(SettleStep::Failed) => Err(Error::ProviderUnavailable { retry_after: None }),
            // Nothing was sent, and no repetition can: the challenge was cancelled, or its time ran out.
            Ok(_) if has_ended && outcome.error.is_none() => Ok(Sent::ChallengeOptionExpired),
            _ => Err(outcome.into_error()),
        }
    }

    async fn over_the_route(&self, send: &SendRequest, reservation: &Reservation, deadline: Deadline) -> RouteOutcome {
        let mut outcome = RouteOutcome {
            settlement: Settlement::Failed,
            provider: String::new(),
            asked: false,
            failure: None,
            request_error: None,
            is_late: false,
            error: None,
        };
        let tried = self.try_providers(send, reservation, deadline, &mut outcome).await;
        outcome.error = tried.err();
        // Where no request left this machine, nothing is counted. What a provider has answered is: its answer may say whether
        // a card exists, and without a bound one challenge would try any number of cards.
        if outcome.settlement == Settlement::Failed && !outcome.asked {
            outcome.settlement = Settlement::Withdrawn;
        }
        outcome
    }

    /// Asks one provider after the other, until one has accepted the message, or may have.
    async fn try_providers(
        &self,
        send: &SendRequest,
        reservation: &Reservation,
        deadline: Deadline,
        outcome: &mut RouteOutcome,
    ) -> Result<(), Error> {
        let (mut challenge, mut lockout) = (Arc::clone(&reservation.challenge), Arc::clone(&reservation.lockout));
        let mut providers = reservation.route.iter().enumerate().peekable();
        while let Some((index, provider)) = providers.next() {
            let in_time =
                || Ok::<_, Error>(within_lease(deadline, reservation.reserved.lease_until, self.states.now()?));
            if index > 0 && in_time()?.is_some() {
                let plan = self.routes.plan(provider.as_ref(), self.keys.active_id());
                let next = |_: &_| Ok(NextProvider { token: reservation.token, plan: plan.clone() });
                let pinned = self.states.change(&send.target, Deadline::after(FINISH), next).await?;
                if !pinned.outcome {
                    break;
                }
                (challenge, lockout) = (pinned.after.challenge, pinned.after.lockout);
            }
            // A pin may have taken its time.
            let Some(deadline) = in_time()? else {
                outcome.is_late = true;
                break;
            };
            let Some(delivery) = self.delivery(send, &challenge, &lockout, reservation.reserved.number)? else { break };
            let deadline = share(deadline, providers.peek().map(|(_, next)| next.capabilities().timeout));
            provider.name().clone_into(&mut outcome.provider);
            let delivered = deliver_by(provider.as_ref(), delivery, deadline).await;
            outcome.asked |= !matches!(delivered, Delivered::Unaskable(_));
            outcome.settlement = match delivered {
                Delivered::Accepted(receipt) => Settlement::Accepted(receipt),
                Delivered::Rejected => Settlement::Rejected,
                Delivered::Declined(decline) => Settlement::Declined(decline),
                Delivered::Unknown => Settlement::Unknown,
                // A second provider that needs more parameters than the first is no mistake of the caller's.
                Delivered::Unaskable(error) | Delivered::Invalid(error) => {
                    outcome.request_error = outcome.request_error.or(Some(error));
                    continue;
                }
                Delivered::Failed(failure) => {
                    tracing::warn!(provider = provider.name(), "the provider failed; nothing was sent");
                    outcome.failure = Some(milder(outcome.failure, failure));
                    continue;
                }
            };
            break;
        }
        Ok(())
    }

    /// What the provider is given. `None` where the challenge or the code ended meanwhile, for then there is nothing to send.
    fn delivery(
        &self,
        send: &SendRequest,
        challenge: &Challenge,
        lockout: &Lockout,
        number: u32,
    ) -> Result<Option<Delivery>, Error> {
        let now = self.states.now()?;
        let Some(code) = challenge.live_code().filter(|code| code.send == number) else { return Ok(None) };
        let Some(context) = challenge_context(&self.keys, &send.target, challenge, code.option, &send.call, now) else {
            return Ok(None);
        };
        let code_life = to_whole_seconds(code.expires_at.since(now));
        if code_life.is_zero() {
            return Ok(None);
        }
        let message = match code.owner {
            CodeOwner::Otpd => {
                let made = self.keys.code(challenge, code).map_err(|missing| Error::Internal(missing.to_string()))?;
                made.map(|made| self.message(&context, made, code_life)).transpose()?
            }
            CodeOwner::Provider { .. } => None,
        };
        let number = challenge.asked_sends();
        let idempotency_key = upstream_id(&send.call, challenge, "send", &send.key);
        let previous = challenge.sending.as_ref().and_then(|sending| sending.previous.as_ref());
        let previous_reference = previous.filter(|previous| previous.provider == code.provider);
        let previous_reference = previous_reference.map(|previous| previous.reference.clone()).unwrap_or_default();
        let running = lockout.running(&challenge.account, &code.provider, now);
        Ok(Some(Delivery { context, message, code_life, idempotency_key, number, previous_reference, running }))
    }

    /// The code with the words around it.
    fn message(&self, context: &ChallengeContext, code: Secret<String>, code_life: Duration) -> Result<Message, Error> {
        let (tenant, destination) = (&context.tenant, &context.destination);
        let (purpose, channel) = (context.purpose, context.channel);
        let currency = context.transaction.as_ref().map(|transaction| transaction.amount.currency.as_str());
        let goal = Goal { tenant, purpose, channel, destination, currency };
        let values = Content { code: &code, code_life, transaction: context.transaction.as_ref() };
        let text = self.messages.text(&goal, &context.locale, &values);
        let text = text.map_err(|unrendered| Error::Internal(unrendered.to_string()))?;
        Ok(Message { code, text })
    }
}

/// Until when one provider of a route may take its time: at most half of it is kept for the next one.
fn share(deadline: Deadline, next_timeout: Option<Duration>) -> Deadline {
    let left = deadline.remaining();
    next_timeout.map_or(deadline, |timeout| Deadline::after(left.saturating_sub(timeout.min(left / 2))))
}

async fn deliver_by(provider: &dyn Provider, delivery: Delivery, deadline: Deadline) -> Delivered {
    let deadline = deadline.at_most(provider.capabilities().timeout);
    let guard = Deadline::after(deadline.remaining() + GRACE);
    let delivered = tokio::time::timeout_at(guard.instant(), provider.deliver(delivery, deadline)).await;
    delivered.unwrap_or(Delivered::Unknown)
}

impl RouteOutcome {
    /// Why nothing was sent, for events and metrics: `failed` where a provider has failed, else what the caller is told.
    fn unsent_name(&self, has_ended: bool) -> &'static str {
        match (&self.error, self.failure, self.request_error) {
            (Some(error), ..) => error_name(error),
            (None, Some(_), _) => "failed",
            (None, None, _) if has_ended => sent_name(&Sent::ChallengeOptionExpired),
            (None, None, Some(error)) => error_name(&Error::Invalid(error)),
            (None, None, None) if self.is_late => "deadline_exceeded",
            (None, None, None) => error_name(&Error::ProviderUnavailable { retry_after: None }),
        }
    }

    /// What the caller is told where nothing was sent.
    fn into_error(self) -> Error {
        match (self.error, self.failure, self.request_error) {
            (Some(error), ..) => error,
            (None, None, Some(error)) => Error::Invalid(error),
            (None, Some(failure), _) => failure.into(),
            (None, None, None) => Error::ProviderUnavailable { retry_after: None },
        }
    }
}
