//! The rules, once: `decide(state, command, now, policy) -> (state', outcome)`, where the state is a challenge and its
//! lockout together, as the store commits them.
//!
//! Each command is a type with its own outcome; its file holds its order of answers. What a status of the challenge means
//! for each call is one table, in `status`. [`decide`] does what all commands need: it keeps time from running backwards,
//! settles reservations whose lease has ended, and ends the challenge when its time is over.

mod ask;
mod cancel;
mod create;
mod idempotency;
mod judgement;
mod resume;
mod send;
mod settle_send;
mod status;
mod verify;
mod view;

pub use ask::{AskResult, AskStep, Asked, SettleAsk};
pub use cancel::{Cancel, CancelStep};
pub use create::{NewChallenge, OptionSpec, created, open};
pub use idempotency::{Seen, seen};
pub use send::{Plan, QuotaState, ReserveSend, Reserved, SendStep};
pub use settle_send::{NextProvider, SettleSend, SettleStep, Settlement};
pub use status::{CancelRefusal, Status, VerifyRefusal};
pub use verify::{Comparison, Expectation, Verify, VerifyStep};
pub use view::view;

use std::{sync::Arc, time::Duration};

use super::{
    challenge::{Answer, Attempt, Challenge, ContactAddress, Ended, Event, EventKind, MAX_EVENTS, Phase, Reply},
    ids::{IdempotencyKey, Token},
    lockout::Lockout,
    outcome::Locked,
    policy::LockPolicy,
    time::{Timestamp, millis},
};

/// What a decision rests on and changes.
///
/// The records are shared with the replica's memory and copied when a command changes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub challenge: Arc<Challenge>,
    /// The failures and locks of its account, or of the contact that it registers.
    pub lockout: Arc<Lockout>,
    /// For a registration, whose lockout is the contact's: an operator's lock of the account.
    pub account_lock: Option<Locked>,
}

/// Refunds that a challenge makes at once; each further one is followed by a pause.
const PROMPT_REFUNDS: u32 = 5;
/// The first pause; each next one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

/// Something that is asked of a challenge.
pub trait Command {
    type Outcome;

    /// Applies the rules. No overdue reservation is left, and `at` is not before anything recorded.
    fn apply(&self, state: &mut State, at: &Judged<'_>) -> Self::Outcome;

    /// The reservation that this command settles: even when its lease has ended, it is not settled as unknown first.
    fn settles(&self) -> Option<Token> {
        None
    }

    /// Whether an outcome that changes nothing may rest on a remembered state. True for recorded answers, and for what is told
    /// to nobody.
    fn may_rest_on_memory(_outcome: &Self::Outcome) -> bool {
        false
    }
}

/// The times and the policy that a decision is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// The replica's clock: judges and dates locks.
    pub now: Timestamp,
    /// The later of the clock and the challenge's latest time: judges the challenge, so that its times never run backwards.
    pub time: Timestamp,
    /// The ladder of locks, as it is today.
    pub policy: &'a LockPolicy,
}

/// What the rules decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// The state after it. Where it differs from the one before, it is committed before the outcome is told.
    pub state: State,
    pub outcome: T,
}

/// Decides a command.
pub fn decide<C: Command>(before: &State, command: &C, now: Timestamp, policy: &LockPolicy) -> Decision<C::Outcome> {
    let mut state = before.clone();
    let judged = Judged { now, time: now.max(state.challenge.latest_at), policy };
    settle_overdue(&mut state, command.settles(), &judged);
    let without_overdue = Arc::clone(&state.lockout);
    let outcome = command.apply(&mut state, &judged);
    if state.challenge.is_overdue(judged.time) {
        state.challenge_mut().end(Ended::Expired);
    }
    if state.challenge != before.challenge {
        state.challenge_mut().latest_at = judged.time;
    } else if state.lockout == without_overdue {
        // Overdue failures of other challenges are no reason to write: the next commit drops them.
        state.lockout = Arc::clone(&before.lockout);
    }
    Decision { state, outcome }
}

/// A reservation whose lease has ended is settled as unknown by the next worker who sees it.
fn settle_overdue(state: &mut State, except: Option<Token>, at: &Judged<'_>) {
    if state.lockout.has_overdue(except, at.now) {
        state.lockout_mut().drop_overdue(except, at.now);
    }
    if let Some(sending) = &state.challenge.sending
        && at.time >= sending.lease_until
        && except != Some(sending.token)
    {
        settle_send::settle_as_unknown(state.challenge_mut(), at.time);
    }
    if let Some(asking) = state.challenge.asking()
        && at.time >= asking.lease_until
        && except != Some(asking.token)
    {
        let token = asking.token;
        ask::settle_as_unknown(state.challenge_mut(), at.time);
        if state.lockout.has_pending(token) {
            state.lockout_mut().remove_pending(token);
        }
    }
}

/// How long a challenge leaves its provider alone after so many refunds. Without pauses a minute's outage would use up the
/// refunds, and then what the person has: replicas have a breaker each, and see only their own failures.
fn pause_after(refunds: u32) -> Duration {
    let Some(doublings) = refunds.checked_sub(PROMPT_REFUNDS + 1) else { return Duration::ZERO };
    FIRST_PAUSE.saturating_mul(1 << doublings.min(16)).min(LONGEST_PAUSE)
}

impl State {
    fn challenge_mut(&mut self) -> &mut Challenge {
        Arc::make_mut(&mut self.challenge)
    }

    fn lockout_mut(&mut self) -> &mut Lockout {
        Arc::make_mut(&mut self.lockout)
    }

    /// The lock that stops attempts and sends for an option; without an option, the lock that stops everything.
    fn locked(&self, option: Option<u8>, now: Timestamp) -> Option<Locked> {
        let lock = match option {
            Some(index) => self.lockout.locked(self.challenge.contact(index), now),
            None => self.lockout.account_locked(now),
        };
        Locked::later(lock, self.account_lock)
    }
}

impl Challenge {
    /// Whether it counts as never having been: its retention has passed.
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        now >= self.forgotten_at()
    }

    /// Ends it, and drops all but ids, answers, masks and what an open reservation needs. An attempt that a provider is judging
    /// stays on record without an outcome, so that a failure that is told later counts once.
    fn end(&mut self, how: Ended) {
        if let Some(asking) = self.asking().copied()
            && !self.answers.iter().any(|answer| answer.key.id == asking.attempt.key.id)
        {
            let attempt = Attempt { judged: true, ..asking.attempt };
            self.answer(attempt.key, Reply::Unknown(attempt));
        }
        self.phase = Phase::Ended(how);
        for option in &mut self.options {
            option.target = ContactAddress::Masked(option.target.masked());
        }
        if let Some(sending) = &mut self.sending {
            sending.previous = None;
        }
    }

    /// Whether it ends because its time has run out. While a provider judges a code that was typed in time, it does not.
    fn is_overdue(&self, time: Timestamp) -> bool {
        self.open().is_some_and(|open| open.asking.is_none()) && time >= self.expires_at()
    }

    /// From when on a send is accepted: not before the gap has passed and the send in flight is settled.
    fn accepts_send_at(&self) -> Timestamp {
        let in_flight = self.sending.as_ref().map(|sending| sending.lease_until);
        in_flight.unwrap_or_default().max(self.next_send_at)
    }

    /// Ends it with its last attempt, unless an attempt is still without an outcome: that one may be the right one.
    fn end_if_exhausted(&mut self, code_expires_at: Timestamp) {
        let undecided = self.unknown_attempts().next().is_some() || self.asking().is_some();
        if self.open().is_some() && self.attempts_left() == 0 && !undecided {
            self.end(Ended::Exhausted { code_expires_at });
        }
    }

    /// Records an answer, in place of an earlier one that had no outcome.
    fn answer(&mut self, key: IdempotencyKey, reply: Reply) {
        self.answers.retain(|answer| answer.key.id != key.id);
        self.answers.push(Answer { key, reply });
    }

    fn log(&mut self, time: Timestamp, kind: EventKind, option: Option<u8>, provider: &str) {
        if self.timeline.len() >= MAX_EVENTS {
            self.timeline.remove(0);
        }
        let after_ms = millis(time.since(self.created_at));
        self.timeline.push(Event { after_ms, kind, option, provider: provider.to_owned() });
    }
}
