//! Settling a send: what became of the delivery. The first settle wins.

use std::time::Duration;

use super::{
    Command,
    recall::{Recall, recall},
    send::{Plan, code_expiry, replay},
};
use crate::domain::{
    challenge::{Challenge, Decline, EventKind, PendingSend, Phase, Reply},
    code::CodeOwner,
    ids::Request,
    outcome::Sent,
    time::Timestamp,
};

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The provider took the message.
    Accepted {
        /// Names the delivery in later checks.
        reference: String,
        /// How long the provider's own code is valid.
        code_life: Option<Duration>,
        /// How long the provider's own code is.
        code_length: Option<u8>,
    },
    /// The provider rejected the destination.
    Rejected,
    /// The provider judged, and sends nothing.
    Declined(Decline),
    /// Definitely nothing was sent, by any provider of the route.
    Failed,
    /// It may have been sent.
    Unknown,
}

/// Settle a send.
#[derive(Clone, Debug)]
pub struct SettleSend {
    /// Who asked for it.
    pub request: Request,
    /// Its number.
    pub number: u32,
    /// What became of it.
    pub settlement: Settlement,
}

/// What settling comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleStep {
    /// The answer that is now recorded, by this settle or an earlier one.
    Answer(Sent),
    /// Nothing was sent; `given_back` says whether the send can be had again.
    Failed {
        /// Whether the send and its gap were given back, so that its quotas are to be as well.
        given_back: bool,
    },
    /// Another settle gave the send back, and nothing of it is recorded.
    Gone,
}

impl Command for SettleSend {
    type Outcome = SettleStep;

    fn settles_send(&self) -> Option<u32> {
        Some(self.number)
    }

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> SettleStep {
        let Some(send) = challenge.pending_send.take_if(|send| send.number == self.number) else {
            return match recall(challenge, &self.request) {
                Recall::Reply(reply) => replay(challenge, &reply).map_or(SettleStep::Gone, SettleStep::Answer),
                _ => SettleStep::Gone,
            };
        };
        settle(challenge, send, &self.settlement, now)
    }
}

fn settle(challenge: &mut Challenge, send: PendingSend, settlement: &Settlement, now: Timestamp) -> SettleStep {
    let option = Some(send.option);
    let provider = challenge.live_code().map(|code| code.provider.clone()).unwrap_or_default();
    match settlement {
        Settlement::Accepted { reference, code_life, code_length } => {
            take_receipt(challenge, &send, reference, *code_life, *code_length, now);
            challenge.log(now, EventKind::SendAccepted, option, &provider);
            record_sent(challenge, &send, true)
        }
        Settlement::Unknown => {
            challenge.log(now, EventKind::SendUnconfirmed, option, &provider);
            record_sent(challenge, &send, false)
        }
        Settlement::Rejected => {
            challenge.log(now, EventKind::SendRejected, option, &provider);
            challenge.answer(send.request, Reply::DestinationRejected);
            challenge.restore_code(send);
            SettleStep::Answer(Sent::DestinationRejected)
        }
        Settlement::Declined(decline) => {
            challenge.log(now, EventKind::SendDeclined, option, &provider);
            let reply = Reply::Declined(*decline);
            let answer = replay(challenge, &reply);
            challenge.answer(send.request, reply);
            challenge.restore_code(send);
            answer.map_or(SettleStep::Gone, SettleStep::Answer)
        }
        Settlement::Failed => {
            challenge.log(now, EventKind::SendFailed, option, &provider);
            let given_back = challenge.may_give_back();
            if given_back {
                challenge.given_back += 1;
                challenge.undo_send(send);
            } else {
                challenge.answer(send.request, Reply::SendFailed { number: send.number });
                challenge.restore_code(send);
            }
            SettleStep::Failed { given_back }
        }
    }
}

/// Settles a send whose lease has run out: nobody knows what became of it.
pub(super) fn settle_overdue(challenge: &mut Challenge, now: Timestamp) {
    if let Some(send) = challenge.pending_send.take_if(|send| now >= send.lease_until) {
        settle(challenge, send, &Settlement::Unknown, now);
    }
}

fn take_receipt(
    challenge: &mut Challenge,
    send: &PendingSend,
    reference: &str,
    code_life: Option<Duration>,
    code_length: Option<u8>,
    now: Timestamp,
) {
    let expires_at = code_expiry(challenge, code_life, now);
    let Phase::Open(open) = &mut challenge.phase else { return };
    let Some(code) = open.code.as_mut().filter(|code| code.send_number == send.number) else { return };
    if let CodeOwner::Provider { .. } = code.owner {
        reference.clone_into(&mut code.reference);
        code.digits = code_length.unwrap_or(code.digits);
        code.expires_at = code.expires_at.min(expires_at);
    }
}

fn record_sent(challenge: &mut Challenge, send: &PendingSend, confirmed: bool) -> SettleStep {
    let code = challenge.live_code().filter(|code| code.send_number == send.number);
    let sends = challenge.option_at(send.option).map_or(0, |option| option.sends);
    let reply = Reply::Sent {
        expires_at: code.map_or(send.code_expires_at, |code| code.expires_at),
        remaining_sends: challenge.limits.max_send_attempts.saturating_sub(sends),
        next_send_at: challenge.next_send_at,
        confirmed,
        code_length: code.map_or(send.code_digits, |code| code.digits),
    };
    let answer = replay(challenge, &reply);
    challenge.answer(send.request, reply);
    answer.map_or(SettleStep::Gone, SettleStep::Answer)
}

/// A quota refused: take the whole reservation back. Nothing was sent and no provider was called.
#[derive(Clone, Copy, Debug)]
pub struct GiveBackSend {
    /// The number of the send.
    pub number: u32,
}

impl Command for GiveBackSend {
    /// Whether it was still there to be given back.
    type Outcome = bool;

    fn settles_send(&self) -> Option<u32> {
        Some(self.number)
    }

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> bool {
        let Some(send) = challenge.pending_send.take_if(|send| send.number == self.number) else { return false };
        challenge.log(now, EventKind::SendDeclined, Some(send.option), "");
        challenge.undo_send(send);
        true
    }
}

/// A provider definitely failed: pin the next one of the route before it is asked.
#[derive(Clone, Debug)]
pub struct NextProvider {
    /// The number of the send.
    pub number: u32,
    /// The next provider.
    pub plan: Plan,
}

impl Command for NextProvider {
    /// Whether the send is still ours to deliver.
    type Outcome = bool;

    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> bool {
        let (digits, expires_at) = (challenge.limits.code_digits, code_expiry(challenge, self.plan.code_life, now));
        let Phase::Open(open) = &mut challenge.phase else { return false };
        let Some(code) = open.code.as_mut().filter(|code| code.send_number == self.number) else { return false };
        let Some(send) = challenge.pending_send.as_mut().filter(|send| send.number == self.number) else {
            return false;
        };
        let was_ours = code.owner == CodeOwner::Otpd;
        let is_ours = self.plan.owner == CodeOwner::Otpd;
        if !(was_ours && is_ours) {
            code.digits = if is_ours { digits } else { 0 };
            code.expires_at = expires_at;
            code.key_id = self.plan.key_id;
            // With a life of its own it is a code of its own, also where the send began by repeating one.
            code.generation = self.number;
            (send.code_expires_at, send.code_digits) = (code.expires_at, code.digits);
        }
        self.plan.provider.clone_into(&mut code.provider);
        code.owner = self.plan.owner;
        code.reference = String::new();
        let option = code.option;
        challenge.log(now, EventKind::SendReserved, Some(option), &self.plan.provider);
        true
    }
}
