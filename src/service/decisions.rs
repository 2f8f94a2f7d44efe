//! Telling what was decided: one event for each decision, after its commit or at the refusal, and none for repeated answers.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{challenge_ref::ChallengeRef, error::Error, gate::Gate, request::Caller, states::Changed};
use crate::{
    domain::{
        challenge::{Challenge, Ended, Phase, Reply},
        ids::{IdempotencyKey, Token},
        outcome::{Created, Locked, Sent, Verified},
        purpose::Purpose,
        rules::{AskStep, Cancel, ReserveSend, SettleAsk, SettleSend, SettleStep, State, Verify},
    },
    ports::{
        call::CallRecord,
        decisions::{DecisionEvent, DecisionKind, DecisionObserver, LockScope, NotKept},
        provider::RequestError,
        store::StoreFault,
    },
};

/// How long an answer waits for its decisions to be kept, however much time its caller has.
const LONGEST_KEEPING: Duration = Duration::from_secs(3);
const UNKNOWN: &str = "unknown";
const SUCCESS: &str = "success";
const ACCOUNT_LOCKED: &str = "account_locked";
const RISK_DECLINED: &str = "risk_declined";

/// Tells all observers. Dates by the clock as it is: what is committed is told, whatever the gate has become.
#[derive(Clone)]
pub(super) struct Decisions {
    observers: Arc<[Arc<dyn DecisionObserver>]>,
    gate: Arc<Gate>,
}

impl Decisions {
    pub(super) fn new(observers: Vec<Arc<dyn DecisionObserver>>, gate: Arc<Gate>) -> Self {
        Self { observers: observers.into(), gate }
    }

    /// Refuses new work while decisions must be kept, and cannot be.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.observers.iter().all(|observer| observer.accepts()) { Ok(()) } else { Err(Error::Audit(NotKept)) }
    }

    /// The end of a use case: its answer is told when the decisions that it rests on are kept.
    pub(super) async fn conclude<T>(
        &self,
        caller: &Caller,
        operation: &'static str,
        answer: Result<T, Error>,
    ) -> Result<T, Error> {
        if let Err(Error::Store(error)) = &answer
            && matches!(error.operation, "commit" | "clear")
            && error.fault != StoreFault::NotConnected
        {
            self.tell(&caller.record, DecisionKind::InDoubt { operation });
        }
        for keeping in self.observers.iter().filter_map(|observer| observer.keeping()) {
            let kept = timeout_at(caller.deadline.at_most(LONGEST_KEEPING).instant(), keeping).await;
            kept.unwrap_or(Err(NotKept))?;
        }
        if caller.record.unkept.get().is_some() { Err(Error::Audit(NotKept)) } else { answer }
    }

    pub(super) fn tell(&self, call: &CallRecord, decision: DecisionKind<'_>) {
        self.tell_event(call, decision, false);
    }

    fn tell_event(&self, call: &CallRecord, decision: DecisionKind<'_>, is_overdue: bool) {
        if self.observers.is_empty() {
            return;
        }
        let event = DecisionEvent { at: self.gate.read().time, call, is_overdue, decision };
        for observer in &*self.observers {
            observer.decided(&event);
        }
    }

    pub(super) fn tell_opened(&self, call: &CallRecord, purpose: Purpose) {
        self.tell(call, DecisionKind::Challenge { purpose, outcome: SUCCESS, quota: None });
    }

    /// A creation that was refused by a status.
    pub(super) fn tell_creation_refused(&self, call: &CallRecord, purpose: Purpose, error: &Error) {
        self.tell(call, DecisionKind::Challenge { purpose, outcome: error_name(error), quota: None });
    }

    pub(super) fn tell_not_opened(
        &self,
        call: &CallRecord,
        purpose: Purpose,
        refusal: &Created,
        quota: Option<&'static str>,
    ) {
        let outcome = match refusal {
            Created::Success { .. } => return,
            Created::AccountLocked(_) => ACCOUNT_LOCKED,
            Created::RiskDeclined => RISK_DECLINED,
        };
        self.tell(call, DecisionKind::Challenge { purpose, outcome, quota });
    }

    /// A send that was refused before anything left.
    pub(super) fn tell_send_refused(
        &self,
        target: &ChallengeRef,
        changed: &Changed<ReserveSend>,
        outcome: &'static str,
        quota: Option<&'static str>,
    ) {
        let challenge = &changed.before.challenge;
        let Some((_, option)) = challenge.option(&changed.command.option) else { return };
        let (purpose, channel) = (challenge.purpose, option.channel);
        self.tell(&target.call, DecisionKind::Send { purpose, channel, provider: "", outcome, quota });
    }

    /// A send that this worker has settled; `unsent` is why nothing was sent, where nothing was. The first settle wins, and only it
    /// is told. A repetition of an unconfirmed send tells what is new, so that each send counts once.
    pub(super) fn tell_settled(&self, target: &ChallengeRef, settled: &Changed<SettleSend>, unsent: &'static str) {
        let Changed { before, command, outcome, .. } = settled;
        let sending = before.challenge.sending.as_ref().filter(|sending| sending.token == command.token);
        let Some(sending) = sending else { return };
        let outcome = match outcome {
            SettleStep::Answer(Sent::Success(dispatch)) if sending.resumed && dispatch.confirmed => "confirmed_later",
            SettleStep::Answer(Sent::Success(_)) if sending.resumed => return,
            SettleStep::Answer(sent) => sent_name(sent),
            SettleStep::Failed | SettleStep::Refunded => unsent,
            SettleStep::Gone => return,
        };
        if let Some(send) = send(&before.challenge, sending.option, &command.provider, outcome) {
            self.tell(&target.call, send);
        }
    }

    /// An attempt that was judged, or refused, without a provider being asked.
    pub(super) fn tell_attempt(&self, target: &ChallengeRef, verified: &Changed<Verify>, outcome: &'static str) {
        let Changed { before, after, .. } = verified;
        let option = before.challenge.option_of_attempt();
        let provider = before.challenge.live_code().map_or("", |code| code.provider.as_str());
        self.tell(&target.call, attempt(&before.challenge, option, provider, outcome));
        self.tell_locks(target, before, after, option);
    }

    /// An attempt that a provider was asked about. What changes nothing that is recorded was told before.
    pub(super) fn tell_asked(
        &self,
        target: &ChallengeRef,
        settled: &Changed<SettleAsk>,
        (option, provider): (u8, &str),
        failure: &Error,
    ) {
        let Changed { before, after, command, outcome, .. } = settled;
        let was_asking = before.challenge.asking().is_some_and(|asking| asking.token == command.token);
        if !was_asking && reply(&before.challenge, command.key) == reply(&after.challenge, command.key) {
            return;
        }
        let outcome = match outcome {
            AskStep::Answer(verified) => verified_name(verified),
            AskStep::Unknown => UNKNOWN,
            AskStep::Refunded => error_name(failure),
        };
        self.tell(&target.call, attempt(&before.challenge, Some(option), provider, outcome));
        self.tell_locks(target, before, after, Some(option));
    }

    /// The locks that a failure has set, in the same commit.
    fn tell_locks(&self, target: &ChallengeRef, before: &State, after: &State, option: Option<u8>) {
        if Arc::ptr_eq(&before.lockout, &after.lockout) {
            return;
        }
        let Some(option) = option else { return };
        let contact = before.challenge.contact(option);
        let (old, new) = (before.lockout.locks_by_failures(contact), after.lockout.locks_by_failures(contact));
        let mut locks = new.into_iter().zip(old).map(|(new, old)| new.filter(|_| new != old));
        let (of_account, of_contact) = (locks.next().flatten(), locks.next().flatten());
        // The lockout of a registration is the contact's alone.
        let (of_account, of_contact) = match before.challenge.purpose {
            Purpose::Registration => (None, Locked::later(of_account, of_contact)),
            Purpose::Login | Purpose::Transaction => (of_account, of_contact),
        };
        for (scope, lock) in [(LockScope::Account, of_account), (LockScope::Contact, of_contact)] {
            let Some(locked) = lock else { continue };
            self.tell(&target.call, DecisionKind::Lock { scope, locked, reason: None });
        }
    }

    pub(super) fn tell_cancelled(&self, target: &ChallengeRef, changed: &Changed<Cancel>) {
        let cancelled = Phase::Ended(Ended::Cancelled);
        let (before, after) = (&changed.before.challenge, &changed.after.challenge);
        if after.phase == cancelled && before.phase != cancelled {
            self.tell(&target.call, DecisionKind::Cancel { purpose: after.purpose });
        }
    }

    /// What a commit has settled by the way: a send or an ask of another worker, whose lease had ended or whose challenge ends.
    /// The call that settles is not the one that asked, so that the event names the challenge and no call.
    pub(super) fn tell_overdue(&self, target: &ChallengeRef, before: &State, after: &State, settles: Option<Token>) {
        let (before, after) = (&before.challenge, &after.challenge);
        let is_over = |was: Token, is: Option<Token>| is != Some(was) && settles != Some(was);
        let provider = before.live_code().map_or("", |code| code.provider.as_str());
        if let Some(sending) = &before.sending
            && is_over(sending.token, after.sending.as_ref().map(|sending| sending.token))
            && !sending.resumed
            && let Some(send) = send(before, sending.option, provider, "unconfirmed")
        {
            self.tell_overdue_event(&target.call, send);
        }
        if let Some(asking) = before.asking()
            && is_over(asking.token, after.asking().map(|asking| asking.token))
        {
            self.tell_overdue_event(&target.call, attempt(before, Some(asking.attempt.option), provider, UNKNOWN));
        }
    }

    fn tell_overdue_event(&self, loader: &CallRecord, decision: DecisionKind<'_>) {
        let CallRecord { tenant, challenge, account, contact, .. } = loader;
        let (tenant, challenge) = (tenant.clone(), challenge.clone());
        let (account, contact) = (account.clone(), contact.clone());
        let owner = CallRecord { tenant, challenge, account, contact, ..CallRecord::default() };
        self.tell_event(&owner, decision, true);
        if let Some(unkept) = owner.unkept.get() {
            loader.unkept.get_or_init(|| *unkept);
        }
    }
}

fn send<'a>(challenge: &Challenge, option: u8, provider: &'a str, outcome: &'static str) -> Option<DecisionKind<'a>> {
    let channel = challenge.option_at(option)?.channel;
    Some(DecisionKind::Send { purpose: challenge.purpose, channel, provider, outcome, quota: None })
}

fn attempt<'a>(
    challenge: &Challenge,
    option: Option<u8>,
    provider: &'a str,
    outcome: &'static str,
) -> DecisionKind<'a> {
    let channel = option.and_then(|index| challenge.option_at(index)).map(|option| option.channel);
    DecisionKind::Attempt { purpose: challenge.purpose, channel, provider, outcome }
}

fn reply(challenge: &Challenge, key: IdempotencyKey) -> Option<&Reply> {
    challenge.answers.iter().find(|answer| answer.key == key).map(|answer| &answer.reply)
}

pub(super) fn sent_name(sent: &Sent) -> &'static str {
    match sent {
        Sent::Success(dispatch) if dispatch.confirmed => "accepted",
        Sent::Success(_) => "unconfirmed",
        Sent::ChallengeOptionExpired => "challenge_option_expired",
        Sent::SendLimitExceeded => "send_limit_exceeded",
        Sent::AccountLocked(_) => ACCOUNT_LOCKED,
        Sent::RiskDeclined => RISK_DECLINED,
        Sent::ResendTooSoon { .. } => "resend_too_soon",
        Sent::DestinationRejected => "destination_rejected",
    }
}

pub(super) fn verified_name(verified: &Verified) -> &'static str {
    match verified {
        Verified::Success(_) => SUCCESS,
        Verified::NotMatched { .. } => "otp_not_matched",
        Verified::AlreadyUsed => "otp_already_used",
        Verified::Expired => "otp_expired",
        Verified::AttemptsExceeded => "verification_attempts_exceeded",
        Verified::AccountLocked(_) => ACCOUNT_LOCKED,
    }
}

/// The reason of a refusal, as its status tells it.
pub(super) fn error_name(error: &Error) -> &'static str {
    match error {
        Error::InvalidIdentifier => "invalid_identifier",
        Error::IdempotencyViolation => "idempotency_violation",
        Error::RequestInProgress { .. } => "request_in_progress",
        Error::Contention => "contention",
        Error::ProviderUnavailable { .. } => "provider_unavailable",
        Error::ProviderRefused => "provider_refused",
        Error::Invalid(RequestError::MissingParameter(_)) => "missing_required_field",
        Error::Invalid(RequestError::InvalidParameter(_)) | Error::LockInThePast => "invalid_field_value",
        Error::Precondition(_) | Error::Invalid(RequestError::Unsupported(_)) => "precondition_violation",
        Error::VerificationOutcomeUnknown => UNKNOWN,
        Error::Forbidden => "forbidden",
        Error::Store(_) | Error::Gate(_) | Error::Audit(_) => "store_unavailable",
        Error::Internal(_) => "internal",
    }
}
