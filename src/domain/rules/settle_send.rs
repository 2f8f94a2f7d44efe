//! Settling a send: what became of the delivery. The first settle wins.

use std::time::Duration;

use super::{
    Command, Judged, State, Status, pause_after,
    send::{Plan, code_expiry, digits, recorded},
};
use crate::domain::{
    challenge::{Challenge, Decline, EventKind, MAX_REFUNDS, Phase, Reply, Sending},
    code::CodeOwner,
    ids::{IdempotencyKey, Token},
    lockout::Running,
    outcome::{Receipt, Sent},
    time::Timestamp,
};

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    Accepted(Receipt),
    Rejected,
    /// The provider judged, and sends nothing.
    Declined(Decline),
    /// Definitely nothing was sent, by any provider of the route.
    Failed,
    /// No request left this machine: the reservation is undone, and no refund counted.
    Withdrawn,
    Unknown,
}

/// Settle a send.
#[derive(Clone, Debug)]
pub struct SettleSend {
    /// The request that asked for it.
    pub key: IdempotencyKey,
    pub token: Token,
    /// The provider that was asked last, or empty.
    pub provider: String,
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
        self.enter_running(state, at);
        if state.challenge.sending.as_ref().is_some_and(|sending| sending.token == self.token) {
            let challenge = state.challenge_mut();
            let Some(sending) = challenge.sending.take() else { return SettleStep::Gone };
            return settle(challenge, sending, &self.settlement, at.time);
        }
        // What is on record, also while the provider is asked again.
        let mut answers = state.challenge.answers.iter();
        match answers.find(|answer| answer.key == self.key).map(|answer| &answer.reply) {
            Some(Reply::SendFailed) => SettleStep::Failed,
            Some(reply) => recorded(reply).map_or(SettleStep::Gone, SettleStep::Answer),
            None => SettleStep::Gone,
        }
    }
}

impl SettleSend {
    /// Enters a verification beside which its provider starts no other: a later send must know it, to have it cancelled, also
    /// where this challenge has ended meanwhile, or the lease has.
    fn enter_running(&self, state: &mut State, at: &Judged<'_>) {
        let Settlement::Accepted(receipt) = &self.settlement else { return };
        let Some(span) = receipt.running_for.filter(|_| !receipt.reference.is_empty()) else { return };
        let running = Running {
            account: state.challenge.account.clone(),
            provider: self.provider.clone(),
            reference: receipt.reference.clone(),
            until: at.now.plus(span),
        };
        state.lockout_mut().add_running(running, at.now);
    }
}

fn settle(challenge: &mut Challenge, sending: Sending, settlement: &Settlement, time: Timestamp) -> SettleStep {
    let option = Some(sending.option);
    // That a repetition failed says nothing of the request before.
    let settlement = match settlement {
        Settlement::Failed | Settlement::Withdrawn if sending.resumed => &Settlement::Unknown,
        settlement => settlement,
    };
    let provider = challenge.live_code().map(|code| code.provider.clone()).unwrap_or_default();
    match settlement {
        Settlement::Accepted(receipt) => {
            apply_receipt(challenge, &sending, receipt, time);
            pause_sends(challenge, Duration::ZERO, time);
            challenge.log(time, EventKind::SendAccepted, option, &provider);
            let mut step = record_sent(challenge, &sending, true);
            if let SettleStep::Answer(Sent::Success(dispatch)) = &mut step {
                dispatch.provider_values.clone_from(&receipt.values);
            }
            step
        }
        Settlement::Unknown => {
            challenge.log(time, EventKind::SendUnconfirmed, option, &provider);
            let step = record_sent(challenge, &sending, false);
            if let Phase::Open(open) = &mut challenge.phase {
                open.unconfirmed = Some(Box::new(sending)).filter(|sending| sending.repeatable);
                open.resumes_from = time.plus(pause_after(open.resumes));
            }
            step
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
            pause_sends(challenge, pause_after(challenge.refunded_sends), time);
            record(challenge, sending, Reply::SendFailed);
            SettleStep::Failed
        }
        Settlement::Failed => {
            challenge.log(time, EventKind::SendFailed, option, &provider);
            challenge.refunded_sends += 1;
            pause_sends(challenge, pause_after(challenge.refunded_sends), time);
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
    let answer = recorded(&reply);
    challenge.answer(sending.key, reply);
    restore_code(challenge, sending);
    answer.map_or(SettleStep::Gone, SettleStep::Answer)
}

fn pause_sends(challenge: &mut Challenge, pause: Duration, time: Timestamp) {
    if let Phase::Open(open) = &mut challenge.phase {
        open.sends_from = if pause.is_zero() { Timestamp::default() } else { time.plus(pause) };
    }
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

/// Restores the previous code when a send is known not to have reached anyone. What a provider is being asked about stays.
fn restore_code(challenge: &mut Challenge, sending: Sending) {
    if let Phase::Open(open) = &mut challenge.phase
        && open.asking.is_none()
        && open.code.as_ref().is_some_and(|code| code.send == sending.number)
    {
        open.code = sending.previous;
    }
}

fn apply_receipt(challenge: &mut Challenge, sending: &Sending, receipt: &Receipt, time: Timestamp) {
    let expires_at = code_expiry(challenge, receipt.code_life, time);
    let Phase::Open(open) = &mut challenge.phase else { return };
    let Some(code) = open.code.as_mut().filter(|code| code.send == sending.number) else { return };
    if code.owner != CodeOwner::Otpd {
        receipt.reference.clone_into(&mut code.reference);
        code.digits = receipt.code_length.unwrap_or(code.digits);
        code.expires_at = code.expires_at.min(expires_at);
        (code.max_checks, code.max_sends) = (receipt.max_checks, receipt.max_sends);
        // The provider works again.
        open.asks_from = Timestamp::default();
    }
}

fn record_sent(challenge: &mut Challenge, sending: &Sending, confirmed: bool) -> SettleStep {
    let code = challenge.live_code().filter(|code| code.send == sending.number);
    let sends = challenge.option_at(sending.option).map_or(0, |option| option.sends);
    let is_live = code.is_some();
    let limits = &challenge.limits;
    let (max_verification_attempts, max_send_attempts) = if is_live {
        (challenge.max_checks(), challenge.max_sends())
    } else {
        (limits.max_verification_attempts, limits.max_send_attempts)
    };
    let reply = Reply::Sent {
        max_verification_attempts,
        max_send_attempts,
        expires_at: code.map_or(sending.code_expires_at, |code| code.expires_at),
        remaining_sends: max_send_attempts.saturating_sub(sends),
        next_send_at: challenge.next_send_at,
        confirmed,
        code_length: code.map_or(sending.code_digits, |code| code.digits),
    };
    let answer = recorded(&reply);
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
        sending.repeatable = self.plan.send_repeatable;
        self.plan.provider.clone_into(&mut code.provider);
        code.owner = self.plan.owner;
        code.sandbox = self.plan.sandbox;
        let option = code.option;
        challenge.log(at.time, EventKind::SendReserved, Some(option), &self.plan.provider);
        true
    }
}
