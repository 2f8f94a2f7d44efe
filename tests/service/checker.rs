//! What every history must obey, whatever went wrong in it. Knows the contract and nothing of the code: it sees what callers
//! were told, what providers were given, and what operators see at the end.

use std::collections::{BTreeMap, BTreeSet};

use otpd::domain::{
    outcome::{ChallengeState, Sent, Verified},
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

/// One call, from its start to its end on one line of order.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) account: String,
    pub(crate) challenge: String,
    pub(crate) id: String,
    /// What was typed, for a verification.
    pub(crate) typed: Option<String>,
    pub(crate) started: u64,
    pub(crate) ended: u64,
    pub(crate) started_at: Timestamp,
    pub(crate) told: Told,
}

/// A whole run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) calls: Vec<Call>,
    pub(crate) mails: Vec<Mail>,
    pub(crate) questions: Vec<Question>,
    /// At the end: consecutive failures by account.
    pub(crate) failures: BTreeMap<String, u64>,
    /// At the end: the account and state of each challenge.
    pub(crate) challenges: BTreeMap<String, (String, ChallengeState)>,
}

/// The limits of the run.
pub(crate) struct Limits {
    pub(crate) attempts: usize,
    pub(crate) sends: usize,
    pub(crate) destination_sends: usize,
    /// Failures that lock for longer than the run lasts.
    pub(crate) failures: usize,
}

impl History {
    /// All violations. None in a history that obeys the contract.
    pub(crate) fn violations(&self, limits: &Limits) -> Vec<String> {
        let mut found = Vec::new();
        self.one_success(&mut found);
        self.bounded_comparisons(limits, &mut found);
        self.bounded_messages(limits, &mut found);
        self.no_late_or_wrong_success(&mut found);
        self.repeated_answers(&mut found);
        self.failures_count(limits, &mut found);
        found
    }

    fn one_success(&self, found: &mut Vec<String>) {
        for (challenge, ids) in self.verified_by_challenge(|verified| matches!(verified, Verified::Success(_))) {
            if ids.len() > 1 {
                found.push(format!("{challenge} succeeded under {ids:?}"));
            }
            if self.challenges.get(challenge).is_some_and(|(_, state)| *state != ChallengeState::Verified) {
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
        for question in &self.questions {
            let challenge = question.idempotency_key.split("-check-").next().unwrap_or_default();
            asked.entry(challenge).or_default().insert(&question.idempotency_key);
        }
        for (challenge, keys) in asked.iter().filter(|(_, keys)| keys.len() > limits.attempts) {
            found.push(format!("{challenge} was asked about {keys:?}"));
        }
    }

    fn bounded_messages(&self, limits: &Limits, found: &mut Vec<String>) {
        let (mut by_challenge, mut by_destination) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        for mail in &self.mails {
            if !seen.insert(&mail.idempotency_key) {
                found.push(format!("{} was sent twice", mail.idempotency_key));
            }
            if !mail.failed {
                *by_challenge.entry(&mail.challenge).or_insert(0) += 1;
                *by_destination.entry(&mail.destination).or_insert(0) += 1;
            }
        }
        for (challenge, count) in by_challenge.iter().filter(|(_, count)| **count > limits.sends) {
            found.push(format!("{challenge} sent {count} messages"));
        }
        for (destination, count) in by_destination.iter().filter(|(_, count)| **count > limits.destination_sends) {
            found.push(format!("{destination} got {count} messages"));
        }
        let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &self.calls {
            if let Told::Sent(Sent::Success(_) | Sent::DestinationRejected) = call.told {
                told.entry(&call.challenge).or_default().insert(&call.id);
            }
        }
        for (challenge, ids) in told.iter().filter(|(_, ids)| ids.len() > limits.sends) {
            found.push(format!("{challenge} told {ids:?} that it sent"));
        }
    }

    fn no_late_or_wrong_success(&self, found: &mut Vec<String>) {
        for call in self.calls.iter().filter(|call| matches!(call.told, Told::Verified(Verified::Success(_)))) {
            let typed = call.typed.as_deref().unwrap_or_default();
            let sent = self.mails.iter().any(|mail| mail.challenge == call.challenge && mail.code == typed);
            if !sent {
                found.push(format!("{} succeeded with a code that was never sent", call.id));
            }
            let first = self.first(call);
            let expired =
                |other: &&Call| matches!(other.told, Told::Created { expires_at } if first.started_at >= expires_at);
            if self.calls.iter().filter(|other| other.challenge == call.challenge).find(expired).is_some() {
                found.push(format!("{} succeeded although first asked after the end", call.id));
            }
        }
    }

    /// What used something up is told again as it was, to everybody who asks after it was first told, and at any time.
    fn repeated_answers(&self, found: &mut Vec<String>) {
        let is_final = |told: &Told| match told {
            Told::Created { .. } => true,
            Told::Sent(sent) => matches!(sent, Sent::Success(_) | Sent::DestinationRejected),
            Told::Verified(verified) => is_compared(verified),
            Told::Nothing => false,
        };
        let mut by_id: BTreeMap<(&str, &str), Vec<&Call>> = BTreeMap::new();
        for call in &self.calls {
            by_id.entry((&call.challenge, &call.id)).or_default().push(call);
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

    /// A failure that began after the last success was told counts; and without a success there are no more than lock.
    fn failures_count(&self, limits: &Limits, found: &mut Vec<String>) {
        for (account, counted) in &self.failures {
            let of_account = |call: &&Call| call.account == *account;
            let is_success = |call: &&Call| matches!(call.told, Told::Verified(Verified::Success(_)));
            let told: BTreeSet<_> =
                self.calls.iter().filter(of_account).filter(is_success).map(|call| &call.challenge).collect();
            let verified =
                |(owner, state): &&(String, ChallengeState)| owner == account && *state == ChallengeState::Verified;
            if self.challenges.values().filter(verified).count() > told.len() {
                continue; // A success that nobody was told of: nobody knows when.
            }
            let mut last = 0;
            for challenge in &told {
                let ends = self
                    .calls
                    .iter()
                    .filter(|call| call.challenge == **challenge)
                    .filter(is_success)
                    .map(|call| call.ended);
                last = last.max(ends.min().unwrap_or(0));
            }
            let failed: BTreeSet<_> = self
                .calls
                .iter()
                .filter(of_account)
                .filter(|call| matches!(call.told, Told::Verified(Verified::NotMatched { .. })))
                .map(|call| self.first(call))
                .filter(|first| first.started > last || told.is_empty())
                .map(|first| (&first.challenge, &first.id))
                .collect();
            let observed = failed.len();
            if u64::try_from(observed).unwrap_or(u64::MAX) > *counted {
                found.push(format!("{account} failed {observed} times since its last success, and {counted} count"));
            }
            if told.is_empty() && observed > limits.failures {
                found.push(format!("{account} could fail {observed} times"));
            }
        }
    }

    fn first<'a>(&'a self, call: &'a Call) -> &'a Call {
        let same = |other: &&Call| other.challenge == call.challenge && other.id == call.id;
        self.calls.iter().filter(same).min_by_key(|other| other.started).unwrap_or(call)
    }

    fn verified_by_challenge(&self, is: impl Fn(&Verified) -> bool) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &self.calls {
            if matches!(&call.told, Told::Verified(verified) if is(verified)) {
                ids.entry(&call.challenge).or_default().insert(&call.id);
            }
        }
        ids
    }
}

/// A code was compared.
pub(crate) fn is_compared(verified: &Verified) -> bool {
    matches!(verified, Verified::Success(_) | Verified::NotMatched { .. })
}
