//! Reserving a send: the send is spent, and the new code live, before anything leaves.

use std::time::Duration;

use super::{
    Command,
    recall::{Recall, pending_check, recall},
};
use crate::domain::{
    challenge::{Challenge, Decline, EventKind, LiveCode, PendingSend, Phase, Reply},
    code::CodeOwner,
    ids::{OptionId, Request},
    outcome::{Dispatch, Locked, Sent},
    policy::OnResend,
    time::Timestamp,
};

/// Reserve a send.
#[derive(Clone, Debug)]
pub struct ReserveSend {
    /// Who asks.
    pub request: Request,
    /// For which option.
    pub option: OptionId,
    /// The subject's lock.
    pub locked: Option<Locked>,
    /// Through whom; `None` where no provider serves the option.
    pub plan: Option<Plan>,
    /// How long the delivery may take, over the whole route.
    pub lease: Duration,
}

/// The provider that is to deliver, and what that means for the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The provider's name.
    pub provider: String,
    /// Who makes and checks the code.
    pub owner: CodeOwner,
    /// How long the provider's own codes are valid.
    pub code_life: Option<Duration>,
    /// The key that a code of ours is made with.
    pub key_id: u32,
}

/// What a reservation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendStep {
    /// The challenge has no such option.
    UnknownOption,
    /// The request id was used for other content.
    Conflict,
    /// The recorded answer.
    Replay(Sent),
    /// A refusal that changes nothing.
    Refused(Sent),
    /// This request's send, or another one's, is being delivered, or a provider is being asked about the live code, until
    /// then at the latest.
    Busy {
        /// When the lease ends.
        until: Timestamp,
    },
    /// No provider serves the option any more.
    NoProvider,
    /// Reserved: deliver it.
    Deliver(Dispatched),
}

/// A reserved send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatched {
    /// Its number, by which it is settled.
    pub number: u32,
    /// Deliver only before this.
    pub lease_until: Timestamp,
}

impl Command for ReserveSend {
    type Outcome = SendStep;

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> SendStep {
        let Some((index, option)) = challenge.option(&self.option) else { return SendStep::UnknownOption };
        let sends = option.sends;
        let mut charged = None;
        match recall(challenge, &self.request) {
            Recall::New | Recall::Creation => {}
            Recall::Conflict | Recall::Checking(_) => return SendStep::Conflict,
            Recall::Sending(send) => return SendStep::Busy { until: send.lease_until },
            Recall::Reply(Reply::SendFailed { number }) => charged = Some(number),
            Recall::Reply(reply) => return replay(challenge, &reply).map_or(SendStep::Conflict, SendStep::Replay),
        }
        if let Some(refusal) = self.refusal(challenge, sends, charged, now) {
            return SendStep::Refused(refusal);
        }
        if let Some(send) = &challenge.pending_send {
            return SendStep::Busy { until: send.lease_until };
        }
        // What the provider will say is about the code that is live now, so that it stays until then.
        if let Some(check) = pending_check(challenge) {
            return SendStep::Busy { until: check.lease_until };
        }
        match &self.plan {
            Some(plan) => SendStep::Deliver(self.reserve(challenge, index, plan, charged, now)),
            None => SendStep::NoProvider,
        }
    }
}

impl ReserveSend {
    /// In order of precedence.
    fn refusal(&self, challenge: &Challenge, sends: u32, charged: Option<u32>, now: Timestamp) -> Option<Sent> {
        if let Some(locked) = self.locked {
            Some(Sent::AccountLocked(locked))
        } else if challenge.is_over(now) {
            Some(Sent::ChallengeOptionExpired)
        } else if charged.is_some() {
            // It has used up its send and waited its gap already.
            None
        } else if sends >= challenge.limits.max_send_attempts {
            Some(Sent::SendLimitExceeded)
        } else if now < challenge.next_send_at {
            Some(Sent::ResendTooSoon { next_send_at: challenge.next_send_at })
        } else {
            None
        }
    }

    fn reserve(
        &self,
        challenge: &mut Challenge,
        index: u8,
        plan: &Plan,
        charged: Option<u32>,
        now: Timestamp,
    ) -> Dispatched {
        let number = charged.unwrap_or(challenge.send_number + 1);
        let code = next_code(challenge, plan, index, number, now);
        let lease_until = now.plus(self.lease);
        let (code_expires_at, code_digits) = (code.expires_at, code.digits);
        let previous = match &mut challenge.phase {
            Phase::Open(open) => open.code.replace(code),
            Phase::Ended(_) => None,
        };
        challenge.pending_send = Some(PendingSend {
            request: self.request,
            number,
            option: index,
            lease_until,
            code_expires_at,
            code_digits,
            previous,
            previous_next_send_at: challenge.next_send_at,
        });
        if charged.is_some() {
            challenge.answers.retain(|answer| answer.request != self.request);
        } else {
            spend(challenge, index, number, now);
        }
        challenge.log(now, EventKind::SendReserved, Some(index), &plan.provider);
        Dispatched { number, lease_until }
    }
}

fn spend(challenge: &mut Challenge, index: u8, number: u32, now: Timestamp) {
    challenge.send_number = number;
    challenge.sends_spent += 1;
    challenge.next_send_at = now.plus(gap(challenge));
    if let Some(option) = challenge.options.get_mut(usize::from(index)) {
        option.sends += 1;
    }
}

fn next_code(challenge: &Challenge, plan: &Plan, index: u8, number: u32, now: Timestamp) -> LiveCode {
    let provider = plan.provider.clone();
    if let Some(code) = repeatable(challenge, index, now).filter(|_| plan.owner == CodeOwner::Otpd) {
        return LiveCode { send_number: number, provider, ..code.clone() };
    }
    LiveCode {
        option: index,
        generation: number,
        send_number: number,
        digits: if plan.owner == CodeOwner::Otpd { challenge.limits.code_digits } else { 0 },
        key_id: plan.key_id,
        expires_at: code_expiry(challenge, plan.code_life, now),
        on_resend: challenge.limits.on_resend,
        provider,
        owner: plan.owner,
        reference: String::new(),
    }
}

/// The code that a resend to the same option repeats.
fn repeatable(challenge: &Challenge, index: u8, now: Timestamp) -> Option<&LiveCode> {
    challenge.live_code().filter(|code| {
        let ours = code.owner == CodeOwner::Otpd && code.on_resend == OnResend::Repeat;
        ours && code.option == index && now < code.expires_at
    })
}

/// Never past the challenge, nor past what the provider keeps.
pub(super) fn code_expiry(challenge: &Challenge, provider_life: Option<Duration>, now: Timestamp) -> Timestamp {
    let life = provider_life.map_or(challenge.limits.code_life, |life| life.min(challenge.limits.code_life));
    now.plus(life).min(challenge.expires_at())
}

/// The wait after the send that was just spent.
fn gap(challenge: &Challenge) -> Duration {
    let gaps = &challenge.limits.resend_gaps;
    let index = usize::try_from(challenge.sends_spent.saturating_sub(1)).unwrap_or(usize::MAX);
    gaps.get(index).or(gaps.last()).copied().unwrap_or_default()
}

/// A recorded answer of a send, as it was given. `None` for the answer of another RPC.
pub(super) fn replay(challenge: &Challenge, reply: &Reply) -> Option<Sent> {
    match reply {
        Reply::Sent { expires_at, remaining_sends, next_send_at, confirmed, code_length } => {
            Some(Sent::Success(Dispatch {
                max_verification_attempts: challenge.limits.max_verification_attempts,
                max_send_attempts: challenge.limits.max_send_attempts,
                expires_at: *expires_at,
                remaining_sends: *remaining_sends,
                next_send_at: *next_send_at,
                confirmed: *confirmed,
                code_length: *code_length,
            }))
        }
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
        | Reply::CheckUnanswered { .. }
        | Reply::SendFailed { .. } => None,
    }
}
