//! Reserving a send: the send is spent, and the new code live, before anything leaves.

use std::time::Duration;

use super::{Command, Judged, Seen, State, Status, resume, seen};
use crate::domain::{
    challenge::{Challenge, Decline, EventKind, LiveCode, Phase, Reply, SendUse, Sending},
    code::CodeOwner,
    ids::{IdempotencyKey, OptionId, Token},
    outcome::{Dispatch, Locked, ProviderValues, Sent},
    policy::OnResend,
    time::Timestamp,
};

/// A code with less than this to live is not repeated by a resend: it would arrive too late to be typed.
const SHORTEST_REPEAT: Duration = Duration::from_secs(30);

/// Reserve a send.
#[derive(Clone, Debug)]
pub struct ReserveSend {
    pub key: IdempotencyKey,
    /// Of the reservation. Also names its uses of quotas.
    pub token: Token,
    pub option: OptionId,
    pub quotas: QuotaState,
    /// Through which provider; `None` where none serves the option.
    pub plan: Option<Plan>,
    /// How long the delivery may take, over the whole route.
    pub lease: Duration,
    /// Whether any provider of the route can be called now.
    pub can_call: bool,
    /// How long the provider of the live code may take; `None` where it cannot be called now.
    pub resume_lease: Option<Duration>,
}

/// What the quotas of a send have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaState {
    Unasked,
    Acquired,
    Refused,
}

/// The provider that is to deliver, and what that means for the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub provider: String,
    /// Who makes and checks the code.
    pub owner: CodeOwner,
    /// How long the provider's own codes are valid.
    pub code_life: Option<Duration>,
    /// Whether it answers a repeated request as the first, so that an unconfirmed send can be asked about again.
    pub send_repeatable: bool,
    /// The key that a code of ours is made with.
    pub key_id: u32,
    /// Whether nothing is really sent, and everybody knows the code.
    pub sandbox: bool,
}

/// What a reservation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendStep {
    /// The challenge has no such option.
    UnknownOption,
    /// The request id was used for other content.
    Conflict,
    Recorded(Sent),
    /// The recorded failure: no more sends of this challenge are refunded.
    FailedBefore,
    Refused(Sent),
    /// This request's send is being delivered, or a provider is judging the live code, until then at the latest.
    InProgress {
        until: Timestamp,
    },
    /// No provider serves the option any more.
    NoProvider,
    /// No provider of the route can be called now. Nothing was used up.
    CannotCall,
    /// The providers have failed so often that they are left alone until then. Nothing was used up.
    Paused {
        until: Timestamp,
    },
    /// Nothing is in the way but the quotas, which are to be acquired first.
    AcquireQuotas,
    Reserved(Reserved),
    /// The send is unconfirmed, and its provider is to be asked again under the same id. Its quotas were acquired before.
    Resumed(Reserved),
}

/// A reserved send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    pub number: u32,
    pub lease_until: Timestamp,
}

impl Command for ReserveSend {
    type Outcome = SendStep;

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> SendStep {
        let challenge = &state.challenge;
        let Some((index, option)) = challenge.option(&self.option) else { return SendStep::UnknownOption };
        match seen(challenge, &self.key) {
            Seen::New | Seen::Created => {}
            Seen::Conflict | Seen::Asking(_) => return SendStep::Conflict,
            Seen::Sending(sending) if sending.token == self.token && sending.resumed => {
                return SendStep::Resumed(sending.into());
            }
            Seen::Sending(sending) if sending.token == self.token => return SendStep::Reserved(sending.into()),
            Seen::Sending(sending) => return SendStep::InProgress { until: sending.lease_until },
            Seen::Answered(Reply::SendFailed) => return SendStep::FailedBefore,
            Seen::Answered(reply) => {
                let lease = self.resume_lease.filter(|_| resume::is_possible(state, &self.key, index, at));
                if let Some(lease) = lease {
                    return resume::resume(self, state.challenge_mut(), lease, at.time);
                }
                return recorded(reply).map_or(SendStep::Conflict, SendStep::Recorded);
            }
        }
        if let Some(locked) = state.locked(Some(index), at.now) {
            return SendStep::Refused(Sent::AccountLocked(locked));
        }
        if let Some(refusal) = refusal(challenge, option.sends, at.time) {
            return SendStep::Refused(refusal);
        }
        // What the provider will say is about the code that is live now, so that the code stays until then.
        if let Some(asking) = challenge.asking() {
            return SendStep::InProgress { until: asking.lease_until };
        }
        if let Some(until) = challenge.open().map(|open| open.sends_from).filter(|until| at.time < *until) {
            return SendStep::Paused { until };
        }
        match (&self.plan, self.quotas) {
            (None, _) => SendStep::NoProvider,
            (Some(_), _) if !self.can_call => SendStep::CannotCall,
            (Some(_), QuotaState::Unasked) => SendStep::AcquireQuotas,
            (Some(_), QuotaState::Refused) => SendStep::Refused(Sent::RiskDeclined),
            (Some(plan), QuotaState::Acquired) => {
                SendStep::Reserved(self.reserve(state.challenge_mut(), index, plan, at.time))
            }
        }
    }

    fn may_rest_on_memory(outcome: &SendStep) -> bool {
        matches!(outcome, SendStep::Recorded(_) | SendStep::FailedBefore | SendStep::AcquireQuotas)
    }
}

/// Why the challenge accepts no send, in order of precedence.
fn refusal(challenge: &Challenge, sends: u32, time: Timestamp) -> Option<Sent> {
    if let Some(refusal) = Status::of(challenge, time).refuses_send() {
        return Some(refusal);
    }
    // The attempt that a provider is judging may be refunded.
    if challenge.attempts_left() == 0 && challenge.asking().is_none() {
        return Some(Sent::ChallengeOptionExpired);
    }
    if sends >= challenge.limits.max_send_attempts {
        return Some(Sent::SendLimitExceeded);
    }
    let next_send_at = challenge.accepts_send_at();
    (time < next_send_at).then_some(Sent::ResendTooSoon { next_send_at })
}

impl ReserveSend {
    fn reserve(&self, challenge: &mut Challenge, index: u8, plan: &Plan, time: Timestamp) -> Reserved {
        challenge.last_send += 1;
        let number = challenge.last_send;
        let code = next_code(challenge, plan, index, time);
        let (code_expires_at, code_digits) = (code.expires_at, code.digits);
        let mut previous = None;
        if let Phase::Open(open) = &mut challenge.phase {
            previous = open.code.replace(code);
            open.unconfirmed = None;
            open.uses.push(SendUse { token: self.token, option: index });
        }
        let sending = Sending {
            key: self.key,
            token: self.token,
            number,
            option: index,
            lease_until: time.plus(self.lease),
            code_expires_at,
            code_digits,
            previous,
            previous_next_send_at: challenge.next_send_at,
            repeatable: plan.send_repeatable,
            resumed: false,
        };
        let reserved = Reserved::from(&sending);
        challenge.sending = Some(sending);
        challenge.next_send_at = time.plus(gap(challenge));
        if let Some(option) = challenge.options.get_mut(usize::from(index)) {
            option.sends += 1;
        }
        challenge.log(time, EventKind::SendReserved, Some(index), &plan.provider);
        reserved
    }
}

impl From<&Sending> for Reserved {
    fn from(sending: &Sending) -> Self {
        Self { number: sending.number, lease_until: sending.lease_until }
    }
}

/// The code of the send that was just numbered.
fn next_code(challenge: &Challenge, plan: &Plan, index: u8, time: Timestamp) -> LiveCode {
    let (send, provider) = (challenge.last_send, plan.provider.clone());
    if let Some(code) = repeatable(challenge, index, plan, time) {
        return LiveCode { send, provider, ..code.clone() };
    }
    LiveCode {
        option: index,
        generation: send,
        send,
        digits: digits(challenge, plan),
        key_id: plan.key_id,
        expires_at: code_expiry(challenge, plan.code_life, time),
        on_resend: challenge.limits.on_resend,
        provider,
        owner: plan.owner,
        reference: String::new(),
        sandbox: plan.sandbox,
        attempts_before: challenge.attempts,
        max_checks: None,
        max_sends: None,
    }
}

/// How long the code is as far as that is known: a provider says so of its own once it has delivered.
pub(super) fn digits(challenge: &Challenge, plan: &Plan) -> u8 {
    if plan.owner == CodeOwner::Otpd { challenge.limits.code_digits } else { 0 }
}

/// The code that a resend to the same option repeats.
fn repeatable<'a>(challenge: &'a Challenge, index: u8, plan: &Plan, time: Timestamp) -> Option<&'a LiveCode> {
    challenge.live_code().filter(|code| {
        let ours = code.owner == CodeOwner::Otpd && plan.owner == CodeOwner::Otpd && code.sandbox == plan.sandbox;
        let repeats = ours && code.on_resend == OnResend::Repeat && code.option == index;
        repeats && code.expires_at.since(time) >= SHORTEST_REPEAT
    })
}

/// Never past the challenge, nor past what the provider keeps.
pub(super) fn code_expiry(challenge: &Challenge, provider_life: Option<Duration>, time: Timestamp) -> Timestamp {
    let life = provider_life.map_or(challenge.limits.code_life, |life| life.min(challenge.limits.code_life));
    time.plus(life).min(challenge.expires_at())
}

/// The wait after the send that is being reserved.
fn gap(challenge: &Challenge) -> Duration {
    let gaps = &challenge.limits.resend_gaps;
    let index = usize::try_from(challenge.sends()).unwrap_or(usize::MAX);
    gaps.get(index).or(gaps.last()).copied().unwrap_or_default()
}

/// A recorded answer of a send, as it was given. `None` for the answer of another RPC.
pub(super) fn recorded(reply: &Reply) -> Option<Sent> {
    match reply {
        Reply::Sent {
            max_verification_attempts,
            max_send_attempts,
            expires_at,
            remaining_sends,
            next_send_at,
            confirmed,
            code_length,
        } => Some(Sent::Success(Dispatch {
            max_verification_attempts: *max_verification_attempts,
            max_send_attempts: *max_send_attempts,
            expires_at: *expires_at,
            remaining_sends: *remaining_sends,
            next_send_at: *next_send_at,
            confirmed: *confirmed,
            code_length: *code_length,
            provider_values: ProviderValues::new(),
        })),
        Reply::DestinationRejected => Some(Sent::DestinationRejected),
        Reply::Declined(decline) => Some(match decline {
            Decline::OptionExpired => Sent::ChallengeOptionExpired,
            Decline::SendLimitExceeded => Sent::SendLimitExceeded,
            Decline::AccountLocked => Sent::AccountLocked(Locked { until: None }),
            Decline::Risk => Sent::RiskDeclined,
        }),
        Reply::NotMatched { .. }
        | Reply::Matched { .. }
        | Reply::CodeExpired
        | Reply::AttemptsExceeded
        | Reply::AlreadyUsed
        | Reply::Unknown(_)
        | Reply::SendFailed => None,
    }
}
