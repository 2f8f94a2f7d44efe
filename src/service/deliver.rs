//! Delivering a reserved send: over the route, provider by provider, until one of them has it or may have it.

use std::time::Duration;

use super::{
    FINISH, Otp,
    challenges::ChallengeRef,
    error::Error,
    quotas::Quotas,
    request::Caller,
    route::plan,
    send::{Reserved, SendAsk},
};
use crate::{
    domain::{
        challenge::{Challenge, LiveCode, Phase, Target},
        code::CodeOwner,
        outcome::Sent,
        route::Goal,
        rules::{GiveBackSend, NextProvider, SettleSend, SettleStep, Settlement},
        time::Timestamp,
    },
    messages::Content,
    ports::{
        clock::Deadline,
        provider::{ChallengeContext, Delivered, Delivery, Failure, Message, Provider, Receipt, RequestError},
    },
    secret::Secret,
};

/// What a caller is told to wait where no provider says when it might do better.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How much of the caller's time is kept back for recording and answering; of a short time, a quarter.
const ANSWER_MARGIN: Duration = Duration::from_millis(150);
/// With less time than this a provider is not called any more: it would hardly be reached, and nobody would know.
const SHORTEST_CALL: Duration = Duration::from_millis(10);
/// A provider ends by its deadline itself, and then knows whether anything was sent; this is for one that does not.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Until when a provider may take its time: what is left of the caller's, less a margin for the answer.
pub(super) fn provider_deadline(caller: &Caller) -> Deadline {
    let patience = caller.deadline.remaining();
    Deadline::after(patience.saturating_sub(ANSWER_MARGIN.min(patience / 4)))
}

/// What became of the way over the route.
struct Journey {
    settlement: Settlement,
    /// Whether a provider failed that may do better later.
    failed: bool,
    /// When it might.
    retry_after: Option<Duration>,
    /// Why a provider could not be called with what the caller gave.
    unfit: Option<RequestError>,
}

impl Journey {
    fn ended(settlement: Settlement) -> Self {
        Self { settlement, failed: false, retry_after: None, unfit: None }
    }

    /// Whether nothing but the caller's parameters stood in the way: then nothing is counted.
    fn is_mistake(&self) -> bool {
        self.settlement == Settlement::Failed && self.unfit.is_some() && !self.failed
    }

    /// What the caller is told where nothing was sent. It is only to blame where waiting would not help: a stand-in that
    /// needs more than the provider it stands in for is no mistake of the caller's.
    fn error(&self) -> Error {
        match self.unfit {
            Some(unfit) if !self.failed => Error::Unfit(unfit),
            _ => Error::ProviderUnavailable { retry_after: self.retry_after.unwrap_or(RETRY_AFTER) },
        }
    }
}

impl Otp {
    /// Delivers and settles. Ends with what is on record, whoever settled first.
    pub(super) async fn deliver(
        &self,
        caller: &Caller,
        ask: SendAsk,
        reserved: Reserved,
        quotas: &Quotas,
        deadline: Deadline,
    ) -> Result<Sent, Error> {
        let deadline = deadline.min(provider_deadline(caller));
        let (request, number) = (ask.request, reserved.dispatched.number);
        let journey = match self.over_the_route(&ask, &reserved, deadline).await {
            Ok(journey) if journey.is_mistake() => {
                self.undo(&ask, number, quotas).await;
                return Err(journey.error());
            }
            Ok(journey) => journey,
            Err(error) => {
                // Whatever was tried before had failed for certain.
                self.undo(&ask, number, quotas).await;
                return Err(error);
            }
        };
        let settle = SettleSend { request, number, settlement: journey.settlement.clone() };
        let (_, step) = self.change(&ask.target, &settle, Deadline::after(FINISH)).await?;
        match step {
            SettleStep::Answer(sent) => Ok(sent),
            SettleStep::Gone => Err(journey.error()),
            SettleStep::Failed { given_back } => {
                if given_back {
                    self.give_back(quotas).await;
                }
                Err(journey.error())
            }
        }
    }

    /// Takes a reservation back of which nothing has left. Where the store is gone, the lease settles it as unconfirmed.
    async fn undo(&self, ask: &SendAsk, number: u32, quotas: &Quotas) {
        match self.change(&ask.target, &GiveBackSend { number }, Deadline::after(FINISH)).await {
            Ok((_, true)) => self.give_back(quotas).await,
            Ok((_, false)) => {}
            Err(error) => tracing::warn!(%error, "a send could not be given back"),
        }
    }

    async fn over_the_route(&self, ask: &SendAsk, reserved: &Reserved, deadline: Deadline) -> Result<Journey, Error> {
        let number = reserved.dispatched.number;
        let mut challenge = reserved.challenge.clone();
        let mut journey = Journey::ended(Settlement::Failed);
        for (index, provider) in reserved.route.iter().enumerate() {
            if self.now() >= reserved.dispatched.lease_until || deadline.remaining() < SHORTEST_CALL {
                break;
            }
            if index > 0 {
                let next = NextProvider { number, plan: plan(provider.as_ref(), self.keys.active_id()) };
                let (record, ours) = self.change(&ask.target, &next, Deadline::after(FINISH)).await?;
                if !ours {
                    break;
                }
                challenge = record;
            }
            let Some(delivery) = self.delivery(ask, &challenge, number)? else { break };
            match self.deliver_by(provider.as_ref(), delivery, deadline).await {
                Delivered::Accepted(Receipt { reference, code_life, code_length }) => {
                    return Ok(Journey::ended(Settlement::Accepted { reference, code_life, code_length }));
                }
                Delivered::Rejected => return Ok(Journey::ended(Settlement::Rejected)),
                Delivered::Declined(decline) => return Ok(Journey::ended(Settlement::Declined(decline))),
                Delivered::Unknown => return Ok(Journey::ended(Settlement::Unknown)),
                Delivered::Invalid(unfit) => journey.unfit = journey.unfit.or(Some(unfit)),
                Delivered::Failed(failure) => {
                    let retry_after = match failure {
                        Failure::Unavailable { retry_after } => retry_after,
                        Failure::Refused => None,
                    };
                    tracing::warn!(provider = provider.name(), "the provider failed; nothing was sent");
                    journey.failed = true;
                    journey.retry_after = [journey.retry_after, retry_after].into_iter().flatten().min();
                }
            }
        }
        Ok(journey)
    }

    async fn deliver_by(&self, provider: &dyn Provider, delivery: Delivery, deadline: Deadline) -> Delivered {
        let deadline = deadline.at_most(provider.capabilities().timeout);
        let guard = Deadline::after(deadline.remaining() + GRACE);
        let delivered = tokio::time::timeout_at(guard.instant(), provider.deliver(delivery, deadline)).await;
        delivered.unwrap_or(Delivered::Unknown)
    }

    /// What the provider is given. `None` where the challenge ended meanwhile, for then there is nothing to send.
    fn delivery(&self, ask: &SendAsk, challenge: &Challenge, number: u32) -> Result<Option<Delivery>, Error> {
        let Some(code) = challenge.live_code().filter(|code| code.send_number == number) else { return Ok(None) };
        let Some(context) = challenge_context(&ask.target, challenge, code, ask, self.now()) else { return Ok(None) };
        let code_life = code.expires_at.since(self.now());
        let message = match code.owner {
            CodeOwner::Otpd => {
                let made = self.keys.code(challenge, code).map_err(|missing| Error::Internal(missing.to_string()))?;
                made.map(|made| self.message(&context, made, code_life)).transpose()?
            }
            CodeOwner::Provider { .. } => None,
        };
        // The time tells it from an earlier challenge of the same id, which a provider may remember for longer than we do.
        let opened = challenge.created_at.as_millis();
        let idempotency_key = format!("{}-{opened:x}-send-{number}", ask.challenge.as_str());
        Ok(Some(Delivery { context, message, code_life, idempotency_key }))
    }

    /// The code with the words around it.
    fn message(&self, context: &ChallengeContext, code: Secret<String>, code_life: Duration) -> Result<Message, Error> {
        let (tenant, destination) = (&context.tenant, &context.destination);
        let goal = Goal { tenant, purpose: context.purpose, channel: context.channel, destination };
        let words = Content { code: &code, code_life, transaction: context.transaction.as_ref() };
        let text = self.messages.text(&goal, &context.locale, &words);
        let text = text.map_err(|unrendered| Error::Internal(unrendered.to_string()))?;
        Ok(Message { code, text })
    }
}

fn challenge_context(
    target: &ChallengeRef,
    challenge: &Challenge,
    code: &LiveCode,
    ask: &SendAsk,
    now: Timestamp,
) -> Option<ChallengeContext> {
    let option = challenge.option_at(code.option)?;
    let Target::Known(destination) = &option.target else { return None };
    let Phase::Open(open) = &challenge.phase else { return None };
    Some(ChallengeContext {
        now,
        tenant: target.tenant.clone(),
        challenge: ask.challenge.clone(),
        account: challenge.account.clone(),
        purpose: challenge.purpose,
        transaction: challenge.transaction.clone(),
        channel: option.channel,
        destination: destination.clone(),
        locale: open.locale.clone(),
        parameters: ask.parameters.clone(),
        client: ask.client.clone(),
    })
}
