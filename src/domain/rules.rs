//! The rules of a challenge, once: `decide(record, command, now) -> (record', outcome)`.
//!
//! Each command is a type with its own outcome; its file holds its precedence. [`decide`] does what all of them need: it
//! keeps time from running backwards, settles what a dead replica left open, and ends what is past its time.

mod cancel;
mod check;
mod create;
mod recall;
mod send;
mod settle;
mod verify;
mod view;

pub use cancel::{Cancel, CancelStep};
pub use check::{CheckResult, CheckStep, SettleCheck};
pub use create::{NewChallenge, OptionSpec, created, open};
pub use recall::{Recall, recall};
pub use send::{Dispatched, Plan, ReserveSend, SendStep};
pub use settle::{GiveBackSend, NextProvider, SettleSend, SettleStep, Settlement};
pub use verify::{Asked, Comparison, Expectation, Verify, VerifyStep};
pub use view::view;

use super::{
    challenge::{
        Answer, Challenge, Ended, Event, EventKind, MAX_EVENTS, MAX_GIVEN_BACK, PendingSend, Phase, Reply, Target,
    },
    time::{Timestamp, millis},
};

/// Something that is asked of a challenge.
pub trait Command {
    /// What it can come to.
    type Outcome;

    /// Applies the rules. `now` is not before anything recorded, and nothing overdue is left open.
    fn apply(&self, challenge: &mut Challenge, now: Timestamp) -> Self::Outcome;

    /// The send whose true outcome this command brings: it is not settled as unconfirmed first.
    fn settles_send(&self) -> Option<u32> {
        None
    }

    /// Whether this command brings the true answer to the attempt that a provider was asked about.
    fn settles_check(&self) -> bool {
        false
    }
}

/// What the rules decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// The record after it. Where it differs from the one before, it must be stored before the outcome is told.
    pub record: Challenge,
    /// What it came to.
    pub outcome: T,
    /// An attempt that a provider never answered and whose lease has run out: its subject gets the failure back, once the
    /// record is stored. Not where the provider is asked about it again at once, for then the failure is still relied on.
    pub abandoned_attempt: Option<u32>,
}

/// Decides a command.
pub fn decide<C: Command>(record: &Challenge, command: &C, now: Timestamp) -> Decision<C::Outcome> {
    let now = now.max(record.latest_at);
    let mut next = record.clone();
    if next.pending_send.as_ref().is_some_and(|send| command.settles_send() != Some(send.number)) {
        settle::settle_overdue(&mut next, now);
    }
    let abandoned_attempt = if command.settles_check() { None } else { check::settle_overdue(&mut next, now) };
    let outcome = command.apply(&mut next, now);
    next.end_if_expired(now);
    let asked_again = verify::asked(&next);
    let abandoned_attempt = abandoned_attempt.filter(|attempt| asked_again != Some(*attempt));
    if next != *record {
        next.latest_at = now;
    }
    Decision { record: next, outcome, abandoned_attempt }
}

impl Challenge {
    /// Whether it can be neither sent nor verified any more.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let ended = matches!(self.phase, Phase::Ended(_));
        ended || now >= self.expires_at() || self.attempts >= self.limits.max_verification_attempts
    }

    /// Whether it counts as never having been: its retention has passed.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        now >= self.forgotten_at()
    }

    /// Ends it, and drops all but ids, answers and masks.
    fn end(&mut self, how: Ended) {
        self.phase = Phase::Ended(how);
        for option in &mut self.options {
            option.target = Target::Masked(option.target.masked());
        }
        if let Some(send) = &mut self.pending_send {
            send.previous = None;
        }
    }

    /// Ends it once its time has run out, unless a provider is being asked about a code that was typed in time.
    fn end_if_expired(&mut self, now: Timestamp) {
        let open = matches!(&self.phase, Phase::Open(open) if open.pending_check.is_none());
        if open && now >= self.expires_at() {
            self.end(Ended::Expired);
        }
    }

    fn log(&mut self, now: Timestamp, kind: EventKind, option: Option<u8>, provider: &str) {
        if self.timeline.len() >= MAX_EVENTS {
            self.timeline.remove(0);
        }
        let after_ms = millis(now.since(self.created_at));
        self.timeline.push(Event { after_ms, kind, option, provider: provider.to_owned() });
    }

    fn answer(&mut self, request: super::ids::Request, reply: Reply) {
        self.answers.push(Answer { request, reply });
    }

    /// How many attempts are left.
    fn attempts_left(&self) -> u32 {
        self.limits.max_verification_attempts.saturating_sub(self.attempts)
    }

    /// Takes the send back: the option's count, the gap, and the code that lived before.
    fn undo_send(&mut self, send: PendingSend) {
        if let Some(option) = self.options.get_mut(usize::from(send.option)) {
            option.sends = option.sends.saturating_sub(1);
        }
        self.sends_spent = self.sends_spent.saturating_sub(1);
        self.next_send_at = send.previous_next_send_at;
        self.restore_code(send);
    }

    /// Lets the code live again that lived before a send of which nothing arrives.
    fn restore_code(&mut self, send: PendingSend) {
        if let Phase::Open(open) = &mut self.phase
            && open.code.as_ref().is_some_and(|code| code.send_number == send.number)
        {
            open.code = send.previous;
        }
    }

    fn may_give_back(&self) -> bool {
        self.given_back < MAX_GIVEN_BACK
    }
}
