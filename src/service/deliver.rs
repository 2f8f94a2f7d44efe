//! Delivering a reserved send: over the route, provider by provider, until one of them has it or may have it.

use std::time::Duration;

use super::{
    FINISH, Otp,
    challenges::ChallengeRef,
    error::Error,
    quotas::Quotas,
    route::plan,
    send::{Reserved, SendAsk},
};
use crate::{
    domain::{
        challenge::{Challenge, LiveCode, Maker, Phase, Target},
        message,
        outcome::Sent,
        rules::{NextProvider, SettleSend, SettleStep, Settlement},
        time::Timestamp,
    },
    ports::{
        clock::Deadline,
        provider::{Delivered, Delivery, Message, Occasion, Provider},
    },
};

/// What a caller is told to wait where no provider says when it might do better.
const RETRY_AFTER: Duration = Duration::from_secs(2);

impl Otp {
    /// Delivers and settles. Ends with what is on record, whoever settled first.
    pub(super) async fn deliver(
        &self,
        ask: SendAsk,
        reserved: Reserved,
        quotas: &Quotas,
        deadline: Deadline,
    ) -> Result<Sent, Error> {
        let (settlement, retry_after) = self.over_the_route(&ask, &reserved, deadline).await?;
        let settle = SettleSend { request: ask.request, number: reserved.dispatched.number, settlement };
        let (_, step) = self.change(&ask.target, &settle, Deadline::after(FINISH)).await?;
        match step {
            SettleStep::Answer(sent) => Ok(sent),
            SettleStep::Gone => Err(Error::ProviderUnavailable { retry_after }),
            SettleStep::Failed { given_back } => {
                if given_back {
                    self.give_back(quotas).await;
                }
                Err(Error::ProviderUnavailable { retry_after })
            }
        }
    }

    async fn over_the_route(
        &self,
        ask: &SendAsk,
        reserved: &Reserved,
        deadline: Deadline,
    ) -> Result<(Settlement, Duration), Error> {
        let number = reserved.dispatched.number;
        let mut challenge = reserved.challenge.clone();
        let mut retry_after = None;
        for (index, provider) in reserved.route.iter().enumerate() {
            if index > 0 {
                let next = NextProvider { number, plan: plan(provider.as_ref(), self.keys.active_id()) };
                let (record, ours) = self.change(&ask.target, &next, deadline).await?;
                if !ours {
                    break;
                }
                challenge = record;
            }
            if self.now() >= reserved.dispatched.lease_until {
                break;
            }
            let Some(delivery) = self.delivery(ask, &challenge, number)? else { break };
            match self.deliver_by(provider.as_ref(), delivery, deadline).await {
                Delivered::Accepted(receipt) => {
                    let (reference, code_length) = (receipt.reference, receipt.code_length);
                    let accepted = Settlement::Accepted { reference, code_life: receipt.code_life, code_length };
                    return Ok((accepted, RETRY_AFTER));
                }
                Delivered::Rejected => return Ok((Settlement::Rejected, RETRY_AFTER)),
                Delivered::Declined(decline) => return Ok((Settlement::Declined(decline), RETRY_AFTER)),
                Delivered::Unfit(_) => {}
                Delivered::Unknown => return Ok((Settlement::Unknown, RETRY_AFTER)),
                Delivered::Failed { retry_after: after } => {
                    tracing::warn!(provider = provider.name(), "the provider failed; nothing was sent");
                    retry_after = retry_after.min(after).or(after);
                }
            }
        }
        Ok((Settlement::Failed, retry_after.unwrap_or(RETRY_AFTER)))
    }

    /// A provider keeps its deadline; where it does not, nobody knows what it has sent.
    async fn deliver_by(&self, provider: &dyn Provider, delivery: Delivery, deadline: Deadline) -> Delivered {
        let deadline = deadline.at_most(provider.capabilities().timeout);
        let delivered = tokio::time::timeout_at(deadline.instant(), provider.deliver(delivery, deadline)).await;
        delivered.unwrap_or(Delivered::Unknown)
    }

    /// What the provider is given. `None` where the challenge ended meanwhile, for then there is nothing to send.
    fn delivery(&self, ask: &SendAsk, challenge: &Challenge, number: u32) -> Result<Option<Delivery>, Error> {
        let Some(code) = challenge.live_code().filter(|code| code.send_number == number) else { return Ok(None) };
        let Some(occasion) = occasion(&ask.target, challenge, code, ask, self.now()) else { return Ok(None) };
        let code_life = code.expires_at.since(self.now());
        let message = match code.maker {
            Maker::Us => {
                let made = self.keys.code(challenge, code).map_err(|missing| Error::Internal(missing.to_string()))?;
                made.map(|made| {
                    let text = message::text(&made, code_life, challenge.transaction.as_ref());
                    Message { code: made, text }
                })
            }
            Maker::Provider { .. } => None,
        };
        let idempotency_key = format!("{}-{number}", ask.challenge.as_str());
        Ok(Some(Delivery { occasion, message, code_life, idempotency_key }))
    }
}

fn occasion(
    target: &ChallengeRef,
    challenge: &Challenge,
    code: &LiveCode,
    ask: &SendAsk,
    now: Timestamp,
) -> Option<Occasion> {
    let option = challenge.option_at(code.option)?;
    let Target::Known(destination) = &option.target else { return None };
    let Phase::Open(open) = &challenge.phase else { return None };
    Some(Occasion {
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
