//! SendOtp: acquire quotas, reserve, deliver, settle.

use std::{sync::Arc, time::Duration};

use super::{
    Otp,
    context::CallContext,
    decisions::{error_name, sent_name},
    deliveries::{Reservation, SendRequest},
    error::{Error, Precondition},
    quotas::{Acquisition, NO_QUOTAS, Uses},
    request::{Caller, SendOtp},
    route::{Route, refusal, send_lease},
    states::Changed,
    timing::{after_pause, retry_after},
};
use crate::{
    domain::{
        challenge::Challenge,
        ids::Token,
        outcome::Sent,
        route::Goal,
        rules::{QuotaState, ReserveSend, SendStep, State},
        time::Timestamp,
    },
    ports::store::Name,
};

/// The first wait for a send in flight; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How long a request waits for a send in flight, however much time its caller has.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// What is left of the caller's time when waiting stops, for the answer to arrive.
const WAIT_MARGIN: Duration = Duration::from_millis(100);

/// What came of trying to reserve.
enum Reserving {
    Answer(Sent),
    InProgress(Timestamp),
    Reserved(Reservation),
}

impl Otp {
    /// Sends a code to an option of a challenge.
    pub async fn send_otp(&self, caller: Caller, request: SendOtp) -> Result<Sent, Error> {
        let sent = self.send_asked(&caller, request).await;
        self.decisions.conclude(&caller, "send_otp", sent).await
    }

    async fn send_asked(&self, caller: &Caller, request: SendOtp) -> Result<Sent, Error> {
        let target = self.states.challenge(caller, &request.challenge)?;
        let key = self.states.key(&target, caller, request.content());
        let SendOtp { challenge, option, parameters, client } = request;
        let call = CallContext { challenge, parameters, client };
        self.send(caller, SendRequest { target, key, option, call }).await
    }

    pub(super) async fn send(&self, caller: &Caller, send: SendRequest) -> Result<Sent, Error> {
        let waits_until = caller.deadline.at_most(LONGEST_WAIT);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.reserve(caller, &send).await? {
                Reserving::Answer(answer) => return Ok(answer),
                Reserving::Reserved(reservation) => {
                    return Box::pin(self.deliveries.deliver(caller, &send, reservation)).await;
                }
                Reserving::InProgress(until) => {
                    if waits_until.remaining() < pause + WAIT_MARGIN {
                        let lease_left = until.since(self.states.now()?);
                        return Err(Error::RequestInProgress { retry_after: retry_after(lease_left) });
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Asks the rules, acquires the quotas that they want, and reserves. Quotas of a reservation that was not committed are
    /// refunded; where the store did not say, they stay.
    async fn reserve(&self, caller: &Caller, send: &SendRequest) -> Result<Reserving, Error> {
        let token = Token(self.states.records.random()?);
        let first = self.try_to_reserve(caller, send, token, QuotaState::Unasked).await?;
        if first.outcome != SendStep::AcquireQuotas {
            return self.reserving(first, send, None, None);
        }
        let Some(_permit) = self.send_permits.of(send.target.name) else {
            return Ok(Reserving::InProgress(self.states.now()?));
        };
        let uses = self.uses(send, &first.after.challenge, token)?;
        let (quotas, mut acquired, refused_by) = match self.quotas.acquire(&uses, caller.deadline).await? {
            Acquisition::Acquired(acquired) => (QuotaState::Acquired, acquired, None),
            Acquisition::Refused(quota) => (QuotaState::Refused, Vec::new(), Some(quota)),
        };
        let second = self.try_to_reserve(caller, send, token, quotas).await;
        let is_reserved = second.as_ref().is_ok_and(|changed| matches!(changed.outcome, SendStep::Reserved(_)));
        let in_doubt = matches!(second, Err(Error::Store(_)));
        if !is_reserved && !in_doubt {
            self.quotas.refund(std::mem::take(&mut acquired)).await;
        }
        self.reserving(second?, send, Some(acquired), refused_by)
    }

    async fn try_to_reserve(
        &self,
        caller: &Caller,
        send: &SendRequest,
        token: Token,
        quotas: QuotaState,
    ) -> Result<Changed<ReserveSend>, Error> {
        let (key, option) = (send.key, &send.option);
        let reserve = |state: &State| {
            let route = self.route(send, &state.challenge);
            let can_call = refusal(&route).is_none();
            let last = state.challenge.live_code().and_then(|code| self.routes.named(&code.provider));
            let resume_lease =
                last.filter(|provider| provider.refusal().is_none()).map(|provider| send_lease(&[provider]));
            let plan = route.first().map(|provider| self.routes.plan(provider.as_ref(), self.keys.active_id()));
            let (option, lease) = (option.clone(), send_lease(&route));
            Ok(ReserveSend { key, token, option, quotas, plan, lease, can_call, resume_lease })
        };
        self.states.change(&send.target, caller.deadline, reserve).await
    }

    fn reserving(
        &self,
        changed: Changed<ReserveSend>,
        send: &SendRequest,
        uses: Option<Vec<(Name, Token)>>,
        refused_by: Option<&'static str>,
    ) -> Result<Reserving, Error> {
        let reserving = self.reserved(&changed, send, uses);
        let refusal = match (&changed.outcome, &reserving) {
            (SendStep::Refused(Sent::RiskDeclined), _) => Some((sent_name(&Sent::RiskDeclined), refused_by)),
            (SendStep::Refused(refusal), _) => Some((sent_name(refusal), None)),
            (SendStep::NoProvider | SendStep::CannotCall | SendStep::Paused { .. }, Err(error)) => {
                Some((error_name(error), None))
            }
            _ => None,
        };
        if let Some((outcome, quota)) = refusal {
            self.decisions.tell_send_refused(&send.target, &changed, outcome, quota);
        }
        reserving
    }

    fn reserved(
        &self,
        changed: &Changed<ReserveSend>,
        send: &SendRequest,
        uses: Option<Vec<(Name, Token)>>,
    ) -> Result<Reserving, Error> {
        let Changed { before, after, command, outcome, .. } = changed;
        let (token, challenge, lockout) = (command.token, Arc::clone(&after.challenge), Arc::clone(&after.lockout));
        match (outcome, uses) {
            (SendStep::UnknownOption, _) => Err(Error::InvalidIdentifier),
            (SendStep::Conflict, _) => Err(Error::IdempotencyViolation),
            (SendStep::NoProvider, _) => Err(Error::Precondition(Precondition::NoProvider)),
            (SendStep::CannotCall, _) => {
                let failure = refusal(&self.route(send, &before.challenge));
                Err(failure.map_or(Error::ProviderUnavailable { retry_after: None }, Error::from))
            }
            (SendStep::Paused { until }, _) => {
                Err(Error::ProviderUnavailable { retry_after: Some(after_pause(until.since(self.states.now()?))) })
            }
            (SendStep::FailedBefore, _) => Err(Error::ProviderUnavailable { retry_after: None }),
            (SendStep::Recorded(answer) | SendStep::Refused(answer), _) => Ok(Reserving::Answer(answer.clone())),
            (SendStep::InProgress { until }, _) => Ok(Reserving::InProgress(*until)),
            (SendStep::Resumed(reserved), _) => {
                let last = challenge.live_code().and_then(|code| self.routes.named(&code.provider));
                let (reserved, route) = (*reserved, last.into_iter().collect());
                // The quotas are those of the first request, which stay acquired.
                Ok(Reserving::Reserved(Reservation { token, reserved, challenge, lockout, route, uses: Vec::new() }))
            }
            (SendStep::Reserved(reserved), Some(uses)) => {
                let (reserved, mut route) = (*reserved, self.route(send, &before.challenge));
                let pinned = command.plan.as_ref().map_or("", |plan| plan.provider.as_str());
                // Which providers are ready may have changed since the plan was made.
                route.sort_by_key(|provider| provider.name() != pinned);
                Ok(Reserving::Reserved(Reservation { token, reserved, challenge, lockout, route, uses }))
            }
            (SendStep::Reserved(_) | SendStep::AcquireQuotas, _) => {
                Err(Error::Internal("a send without its quotas".to_owned()))
            }
        }
    }

    /// The quotas of a send. The sandbox uses none.
    fn uses(&self, send: &SendRequest, challenge: &Challenge, token: Token) -> Result<Uses<'_>, Error> {
        let tenant = &send.target.tenant;
        let option = challenge.option(&send.option).and_then(|(_, option)| option.target.known());
        let destination = option.ok_or(Error::InvalidIdentifier)?;
        let is_sandboxed = self.routes.is_sandboxed(tenant, destination);
        let policy = if is_sandboxed { &NO_QUOTAS } else { &self.states.policy(tenant)?.quotas };
        Ok(self.quotas.of_send(tenant, policy, challenge, destination, token))
    }

    /// The providers that may deliver to the option.
    fn route(&self, send: &SendRequest, challenge: &Challenge) -> Route {
        let Some((index, option)) = challenge.option(&send.option) else { return Route::new() };
        let Some(destination) = option.target.known() else { return Route::new() };
        let (tenant, purpose, channel) = (&send.target.tenant, challenge.purpose, option.channel);
        let last = challenge.live_code().filter(|code| code.option == index).map(|code| code.provider.as_str());
        let currency = challenge.transaction.as_ref().map(|transaction| transaction.amount.currency.as_str());
        self.routes.to(&Goal { tenant, purpose, channel, destination, currency }, last)
    }
}
