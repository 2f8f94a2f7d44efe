//! SendOtp: reserve, take quotas, deliver, settle.

use std::{sync::Arc, time::Duration};

use super::{
    Otp,
    challenges::ChallengeRef,
    error::{Error, Precondition},
    quotas::NO_QUOTAS,
    request::{Caller, SendOtp},
    route::{plan, send_lease},
};
use crate::{
    domain::{
        challenge::{Challenge, ChallengeOption, Target},
        destination::Destination,
        ids::{OptionId, Request, RequestId},
        outcome::{Locked, Sent},
        route::Goal,
        rules::{Dispatched, GiveBackSend, ReserveSend, SendStep},
        time::Timestamp,
    },
    ports::{
        clock::Deadline,
        provider::{ClientContext, Parameters, Provider},
        store::Taken,
    },
};

/// The first wait for a send in flight; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long a request waits for a send in flight, whatever its caller's patience.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// What is left of the caller's time when waiting stops, for the answer to arrive.
const ANSWER_MARGIN: Duration = Duration::from_millis(100);

/// A send, as both RPCs that can ask for one put it.
#[derive(Clone, Debug)]
pub(super) struct SendAsk {
    pub(super) target: ChallengeRef,
    pub(super) challenge: RequestId,
    pub(super) request: Request,
    pub(super) option: OptionId,
    pub(super) parameters: Parameters,
    pub(super) client: ClientContext,
}

/// A send that has been reserved, and all that delivering it takes.
pub(super) struct Reserved {
    pub(super) challenge: Challenge,
    pub(super) dispatched: Dispatched,
    pub(super) route: Vec<Arc<dyn Provider>>,
    pub(super) lease: Duration,
}

impl Otp {
    /// Sends a code to an option of a challenge.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn send_otp(&self, caller: Caller, request: SendOtp) -> Result<Sent, Error> {
        let target = self.challenge_ref(&caller, &request.challenge)?;
        let identity = self.request(&caller, &target, request.content());
        let ask = SendAsk {
            target,
            challenge: request.challenge,
            request: identity,
            option: request.option,
            parameters: request.parameters,
            client: ClientContext::default(),
        };
        self.send(&caller, ask).await
    }

    pub(super) async fn send(&self, caller: &Caller, ask: SendAsk) -> Result<Sent, Error> {
        let patience = caller.deadline.at_most(LONGEST_WAIT);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.reserve(&ask, caller.deadline).await? {
                Reservation::Answer(sent) => return Ok(sent),
                Reservation::Reserved(reserved) => return self.fulfil(caller, ask, *reserved).await,
                Reservation::Busy(until) => {
                    if patience.remaining() < pause + ANSWER_MARGIN {
                        return Err(Error::RequestInProgress { retry_after: retry_after(until.since(self.now())) });
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn reserve(&self, ask: &SendAsk, deadline: Deadline) -> Result<Reservation, Error> {
        let mut held = self.hold(ask.target.name, deadline).await?;
        if !held.fresh && held.value.option(&ask.option).is_none() {
            held = self.reload(ask.target.name, deadline).await?;
        }
        let Some((index, option)) = held.value.option(&ask.option) else { return Err(Error::InvalidIdentifier) };
        let locked = self.lock_of(&ask.target, &held.value, option, deadline).await?;
        let route = match &option.target {
            Target::Known(destination) => {
                let (tenant, purpose, channel) = (&ask.target.tenant, held.value.purpose, option.channel);
                let last =
                    held.value.live_code().filter(|code| code.option == index).map(|code| code.provider.as_str());
                self.routes.to(&Goal { tenant, purpose, channel, destination }, last)
            }
            Target::Masked(_) => Vec::new(),
        };
        let lease = send_lease(&route);
        let first = route.first().map(|provider| plan(provider.as_ref(), self.keys.active_id()));
        let command = ReserveSend { request: ask.request, option: ask.option.clone(), locked, plan: first, lease };
        let (challenge, step) = self.change(&ask.target, &command, deadline).await?;
        match step {
            SendStep::UnknownOption => Err(Error::InvalidIdentifier),
            SendStep::Conflict => Err(Error::IdempotencyViolation),
            SendStep::NoProvider => Err(Error::Precondition(Precondition::NoProvider)),
            SendStep::Replay(sent) | SendStep::Refused(sent) => Ok(Reservation::Answer(sent)),
            SendStep::Busy { until } => Ok(Reservation::Busy(until)),
            SendStep::Deliver(dispatched) => {
                Ok(Reservation::Reserved(Box::new(Reserved { challenge, dispatched, route, lease })))
            }
        }
    }

    async fn lock_of(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        option: &ChallengeOption,
        deadline: Deadline,
    ) -> Result<Option<Locked>, Error> {
        let subject = self.subject_of(target, challenge, option);
        Ok(self.standing(subject, self.lock_policy(target)?, deadline).await?.locked)
    }

    /// From the reservation on the work has its own time: the lease.
    async fn fulfil(&self, caller: &Caller, ask: SendAsk, reserved: Reserved) -> Result<Sent, Error> {
        let deadline = Deadline::after(reserved.lease);
        let number = reserved.dispatched.number;
        let policy = self.tenants.of(&ask.target.tenant).ok_or(Error::Forbidden)?;
        let destination = destination_of(&reserved.challenge, &ask.option);
        let sandboxed = destination.is_some_and(|known| self.routes.is_sandboxed(&ask.target.tenant, known));
        let limits = if sandboxed { &NO_QUOTAS } else { &policy.quotas };
        let destination = destination.and_then(Destination::canonical);
        let one = self.keys.challenge_tag(ask.target.name, reserved.challenge.created_at);
        let take = self.keys.send_take_id(one, number);
        let account = &reserved.challenge.account;
        let quotas = self.send_quotas(&ask.target.tenant, account, destination.as_deref(), limits, take);
        match self.take(&quotas, deadline).await {
            Ok(Taken::Done) => self.deliver(caller, ask, reserved, &quotas, deadline).await,
            Ok(Taken::Refused) => match self.change(&ask.target, &GiveBackSend { number }, deadline).await? {
                (_, true) => Ok(Sent::RiskDeclined),
                // It took so long that somebody has settled the send as unconfirmed: that is its answer.
                (_, false) => Err(Error::RequestInProgress { retry_after: retry_after(Duration::ZERO) }),
            },
            Err(error) => {
                // Nothing was sent. Where the store is gone for longer, the lease settles it as unconfirmed.
                if let Err(error) = self.change(&ask.target, &GiveBackSend { number }, deadline).await {
                    tracing::warn!(%error, "a send could not be given back");
                }
                Err(error)
            }
        }
    }
}

/// What came of trying to reserve.
enum Reservation {
    Answer(Sent),
    Busy(Timestamp),
    Reserved(Box<Reserved>),
}

fn destination_of<'a>(challenge: &'a Challenge, option: &OptionId) -> Option<&'a Destination> {
    match &challenge.option(option)?.1.target {
        Target::Known(destination) => Some(destination),
        Target::Masked(_) => None,
    }
}

/// When to ask again about a send in flight: most end long before their lease.
pub(super) fn retry_after(lease_left: Duration) -> Duration {
    lease_left.clamp(Duration::from_millis(100), Duration::from_secs(1))
}
