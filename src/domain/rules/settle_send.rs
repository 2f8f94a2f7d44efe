//! Settling a send: what became of the delivery. The first settle wins.

use std::time::Duration;

use super::{
    Command, Judged, Seen, State, Status, seen,
    send::{Plan, code_expiry, digits, recorded},
};
use crate::domain::{
    challenge::{Challenge, Decline, EventKind, MAX_REFUNDS, Phase, Reply, Sending},
    code::CodeOwner,
    ids::{IdempotencyKey, Token},
    outcome::Sent,
    time::Timestamp,
};

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    Accepted {
        /// Names the delivery in later checks.
        reference: String,
        /// How long the provider's own code is valid.
        code_life: Option<Duration>,
        /// How long the provider's own code is.
        code_length: Option<u8>,
    },
    Rejected,
    /// The provider judged, and sends nothing.
    Declined(Decline),
    /// Definitely nothing was sent, by any provider of the route.
    Failed,
    /// No provider could be called with what the caller gave: the reservation is undone, and no refund counted.
    Withdrawn,
    Unknown,
}

/// Settle a send.
#[derive(Clone, Debug)]
pub struct SettleSend {
    /// The request that asked for it.
    pub key: IdempotencyKey,
    pub token: Token,
    pub settlement: Settlement,
}

/// What settling comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleStep {
    /// The answer that is now recorded, by this settle or an earlier one.
    Answer(Sent),
    /// Nothing was sent, and no more is refunded: the send stays spent.
    Failed,
    /// Nothing was sent; the send and its gap are refunded, so that its quotas are to be as well.
    Refunded,
    /// The reservation is gone and nothing of it is recorded: it was refunded before.
    Gone,
}

impl Command for SettleSend {
    type Outcome = SettleStep;

    fn settles(&self) -> Option<Token> {
        Some(self.token)
    }

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> SettleStep {
        if state.challenge.sending.as_ref().is_some_and(|sending| sending.token == self.token) {
            let challenge = state.challenge_mut();
            let Some(sending) = challenge.sending.take() else { return SettleStep::Gone };
            return settle(challenge, sending, &self.settlement, at.time);
        }
        match seen(&state.challenge, &self.key) {
            Seen::Answered(Reply::SendFailed) => SettleStep::Failed,
            Seen::Answered(reply) => recorded(&state.challenge, reply).map_or(SettleStep::Gone, SettleStep::Answer),
            _ => SettleStep::Gone,
        }
    }
}

fn settle(challenge: &mut Challenge, sending: Sending, settlement: &Settlement, time: Timestamp) -> SettleStep {
    let option = Some(sending.option);
    let provider = challenge.live_code().map(|code| code.provider.clone()).unwrap_or_default();
    match settlement {
        Settlement::Accepted { reference, code_life, code_length } => {
            apply_receipt(challenge, &sending, reference, *code_life, *code_length, time);
            challenge.log(time, EventKind::SendAccepted, option, &provider);
            record_sent(challenge, &sending, true)
        }
        Settlement::Unknown => {
            challenge.log(time, EventKind::SendUnconfirmed, option, &provider);
            record_sent(challenge, &sending, false)
        }
        Settlement::Rejected => {
            challenge.log(time, EventKind::SendRejected, option, &provider);
            record(challenge, sending, Reply::DestinationRejected)
        }
        Settlement::Declined(decline) => {
            challenge.log(time, EventKind::SendDeclined, option, &provider);
            record(challenge, sending, Reply::Declined(*decline))
        }
        Settlement::Failed if challenge.refunded_sends >= MAX_REFUNDS => {
            challenge.log(time, EventKind::SendFailed, option, &provider);
            record(challenge, sending, Reply::SendFailed);
            SettleStep::Failed
        }
        Settlement::Failed => {
            challenge.log(time, EventKind::SendFailed, option, &provider);
            challenge.refunded_sends += 1;
            refund(challenge, sending);
            SettleStep::Refunded
        }
        Settlement::Withdrawn => {
            challenge.log(time, EventKind::SendDeclined, option, &provider);
            refund(challenge, sending);
            SettleStep::Refunded
        }
    }
}

/// Settles a send whose lease has ended: its message may have arrived.
pub(super) fn settle_as_unknown(challenge: &mut Challenge, time: Timestamp) {
    if let Some(sending) = challenge.sending.take() {
        settle(challenge, sending, &Settlement::Unknown, time);
    }
}

/// Records the answer of a send of which nothing arrives: it stays spent, and the code before lives again.
fn record(challenge: &mut Challenge, sending: Sending, reply: Reply) -> SettleStep {
    let answer = recorded(challenge, &reply);
    challenge.answer(sending.key, reply);
    restore_code(challenge, sending);
    answer.map_or(SettleStep::Gone, SettleStep::Answer)
}

/// Undoes the reservation: the option's count, the gap, the code and the uses of quotas.
fn refund(challenge: &mut Challenge, sending: Sending) {
    if let Some(option) = challenge.options.get_mut(usize::from(sending.option)) {
        option.sends = option.sends.saturating_sub(1);
    }
    challenge.next_send_at = sending.previous_next_send_at;
    if let Phase::Open(open) = &mut challenge.phase {
        open.uses.retain(|send| send.token != sending.token);
    }
    restore_code(challenge, sending);
}

/// Restores the previous code when a send is known not to have reached anyone.
fn restore_code(challenge: &mut Challenge, sending: Sending) {
    if let Phase::Open(open) = &mut challenge.phase
        && open.code.as_ref().is_some_and(|code| code.send == sending.number)
    {
        open.code = sending.previous;
    }
}

fn apply_receipt(
    challenge: &mut Challenge,
    sending: &Sending,
    reference: &str,
    code_life: Option<Duration>,
    code_length: Option<u8>,
    time: Timestamp,
) {
    let expires_at = code_expiry(challenge, code_life, time);
    let Phase::Open(open) = &mut challenge.phase else { return };
    let Some(code) = open.code.as_mut().filter(|code| code.send == sending.number) else { return };
    if code.owner != CodeOwner::Otpd {
        reference.clone_into(&mut code.reference);
        code.digits = code_length.unwrap_or(code.digits);
        code.expires_at = code.expires_at.min(expires_at);
    }
}

fn record_sent(challenge: &mut Challenge, sending: &Sending, confirmed: bool) -> SettleStep {
    let code = challenge.live_code().filter(|code| code.send == sending.number);
    let sends = challenge.option_at(sending.option).map_or(0, |option| option.sends);
    let reply = Reply::Sent {
        expires_at: code.map_or(sending.code_expires_at, |code| code.expires_at),
        remaining_sends: challenge.limits.max_send_attempts.saturating_sub(sends),
        next_send_at: challenge.next_send_at,
        confirmed,
        code_length: code.map_or(sending.code_digits, |code| code.digits),
    };
    let answer = recorded(challenge, &reply);
    challenge.answer(sending.key, reply);
    answer.map_or(SettleStep::Gone, SettleStep::Answer)
}

/// A provider definitely failed: pin the next one of the route before it is asked.
#[derive(Clone, Debug)]
pub struct NextProvider {
    pub token: Token,
    pub plan: Plan,
}

impl Command for NextProvider {
    /// Whether the send is still this worker's to deliver.
    type Outcome = bool;

    fn apply(&self, state: &mut State, at: &Judged<'_>) -> bool {
        if state.challenge.sending.as_ref().is_none_or(|sending| sending.token != self.token) {
            return false;
        }
        if Status::of(&state.challenge, at.time).refuses_send().is_some() {
            return false;
        }
        let challenge = state.challenge_mut();
        let (digits, expires_at) =
            (digits(challenge, &self.plan), code_expiry(challenge, self.plan.code_life, at.time));
        let Phase::Open(open) = &mut challenge.phase else { return false };
        let Some(sending) = &mut challenge.sending else { return false };
        let Some(code) = open.code.as_mut().filter(|code| code.send == sending.number) else { return false };
        if code.owner != CodeOwner::Otpd || self.plan.owner != CodeOwner::Otpd {
            code.digits = digits;
            code.expires_at = expires_at;
            code.key_id = self.plan.key_id;
            // With a life of its own it is a code of its own, also where the send began by repeating one.
            code.generation = sending.number;
            (sending.code_expires_at, sending.code_digits) = (code.expires_at, code.digits);
        }
        self.plan.provider.clone_into(&mut code.provider);
        code.owner = self.plan.owner;
        code.sandbox = self.plan.sandbox;
        let option = code.option;
        challenge.log(at.time, EventKind::SendReserved, Some(option), &self.plan.provider);
        true
    }
}
