//! What every history must obey, whatever went wrong in it. Knows the contract and nothing of the code: it sees what callers
//! were told, what providers were given, and what operators see at the end.

mod locks;
mod sends;

use std::collections::{BTreeMap, BTreeSet};

use otpd::domain::{
    outcome::{ChallengeState, Locked, Sent, Verified},
    time::Timestamp,
};

use crate::fake::{Mail, Question};

/// What a caller was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Created {
        expires_at: Timestamp,
    },
    Sent(Sent),
    Verified(Verified),
    /// Refused, failed, or the process died.
    Nothing,
}

/// What a call is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct About {
    pub(crate) account: String,
    /// Whose lockout counts its failures: the account, or the contact of a registration.
    pub(crate) owner: String,
    /// The one contact of the challenge.
    pub(crate) contact: String,
    pub(crate) challenge: String,
}

/// One call, from its start to its end on one line of order.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) about: About,
    pub(crate) id: String,
    /// What was typed, for a verification.
    pub(crate) typed: Option<String>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Timestamp,
    pub(crate) told: Told,
}

/// An operator's call, on the same line of order.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) account: String,
    /// The lock; `None` for an unlock.
    pub(crate) lock: Option<Locked>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    /// Whether the operator was told that it is done.
    pub(crate) told: bool,
}

/// A challenge at the end.
#[derive(Clone, Debug)]
pub(crate) struct Last {
    pub(crate) about: About,
    pub(crate) state: ChallengeState,
    /// Sends that are spent.
    pub(crate) sends: u32,
}

/// A whole run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) operations: Vec<Operation>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) questions: Vec<Question>,
    /// At the end: consecutive failures by owner.
    pub(crate) failures: BTreeMap<String, u32>,
    /// At the end: each challenge that a caller was told of.
    pub(crate) challenges: Vec<Last>,
    /// At the end: sends that count, by contact.
    pub(crate) sends: BTreeMap<String, u32>,
    /// At the end: creations that count, by account.
    pub(crate) creations: BTreeMap<String, u32>,
}

/// The limits of the run.
pub(crate) struct Limits {
    pub(crate) attempts: usize,
    pub(crate) sends: usize,
    pub(crate) destination_sends: usize,
    /// Failures that lock for longer than the run lasts.
    pub(crate) failures: usize,
    /// Whether no store failed and no process died: then quotas are exact, and else they count too much.
    pub(crate) exact: bool,
}

impl History {
    /// All violations. None in a history that obeys the contract.
    pub(crate) fn violations(&self, limits: &Limits) -> Vec<String> {
        let mut found = Vec::new();
        self.one_success(&mut found);
        self.bounded_comparisons(limits, &mut found);
        self.bounded_messages(limits, &mut found);
        self.one_code_per_send(&mut found);
        self.quotas_count(limits, &mut found);
        self.no_late_or_wrong_success(&mut found);
        self.repeated_answers(&mut found);
        self.failures_count(limits, &mut found);
        self.no_success_under_a_lock(&mut found);
        found
    }

    fn one_success(&self, found: &mut Vec<String>) {
        for (challenge, ids) in self.verified_by_challenge(|verified| matches!(verified, Verified::Success(_))) {
            if ids.len() > 1 {
                found.push(format!("{challenge} succeeded under {ids:?}"));
            }
            let last = self.challenges.iter().find(|last| last.about.challenge == challenge);
            if last.is_some_and(|last| last.state != ChallengeState::Verified) {
                found.push(format!("{challenge} succeeded and is not verified"));
            }
        }
    }

    fn bounded_comparisons(&self, limits: &Limits, found: &mut Vec<String>) {
        for (challenge, ids) in self.verified_by_challenge(is_compared) {
            if ids.len() > limits.attempts {
                found.push(format!("{challenge} was compared {} times", ids.len()));
            }
        }
        let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for question in self.questions.iter().filter(|question| !question.failed) {
            asked.entry(&question.challenge).or_default().insert(&question.idempotency_key);
        }
        for (challenge, keys) in asked.iter().filter(|(_, keys)| keys.len() > limits.attempts) {
            found.push(format!("{challenge} was asked about {keys:?}"));
        }
    }

    fn no_late_or_wrong_success(&self, found: &mut Vec<String>) {
        for call in self.successes() {
            let typed = call.typed.as_deref().unwrap_or_default();
            let sent = self.mails.iter().any(|mail| mail.challenge == call.about.challenge && mail.code == typed);
            if !sent {
                found.push(format!("{} succeeded with a code that was never sent", call.id));
            }
            let first = self.first(call);
            let expired =
                |other: &&Call| matches!(other.told, Told::Created { expires_at } if first.started_at >= expires_at);
            if self.calls.iter().filter(|other| other.about == call.about).find(expired).is_some() {
                found.push(format!("{} succeeded although first asked after the end", call.id));
            }
        }
    }

    /// What used something up is told again as it was, to all who ask after it was first told, and at any time.
    fn repeated_answers(&self, found: &mut Vec<String>) {
        let is_final = |told: &Told| match told {
            Told::Created { .. } => true,
            Told::Sent(sent) => matches!(sent, Sent::Success(_) | Sent::DestinationRejected),
            Told::Verified(verified) => is_compared(verified),
            Told::Nothing => false,
        };
        let mut by_id: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            by_id.entry((&call.about.challenge, &call.id)).or_default().push(call);
        }
        for ((challenge, id), calls) in by_id {
            let finals: Vec<_> = calls.iter().filter(|call| is_final(&call.told)).collect();
            let Some(first) = finals.iter().min_by_key(|call| call.ended) else { continue };
            for call in &calls {
                let due = call.started > first.ended && call.told != Told::Nothing;
                if (is_final(&call.told) || due) && call.told != first.told {
                    found.push(format!("{challenge}, {id}: {:?}, then {:?}", first.told, call.told));
                }
            }
        }
    }

    fn successes(&self) -> impl Iterator<Item = &Call> {
        self.calls.iter().filter(|call| matches!(call.told, Told::Verified(Verified::Success(_))))
    }

    /// The first call of the same request.
    fn first<'a>(&'a self, call: &'a Call) -> &'a Call {
        let same = |other: &&Call| other.about == call.about && other.id == call.id;
        self.calls.iter().filter(same).min_by_key(|other| other.started).unwrap_or(call)
    }

    fn verified_by_challenge(&self, is: impl Fn(&Verified) -> bool) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &self.calls {
            if matches!(&call.told, Told::Verified(verified) if is(verified)) {
                ids.entry(&call.about.challenge).or_default().insert(&call.id);
            }
        }
        ids
    }
}

/// A code was compared.
pub(crate) fn is_compared(verified: &Verified) -> bool {
    matches!(verified, Verified::Success(_) | Verified::NotMatched { .. })
}
