//! Failures and locks.

use std::{collections::BTreeSet, time::Duration};

use otpd::domain::outcome::{ChallengeState, Locked, Sent, Verified};

use super::{Call, History, Limits, Operation, Told};

/// Clocks of replicas differ by less than this.
const CLOCKS: Duration = Duration::from_secs(1);

impl History {
    /// A failure that began after the last reset counts; and without a reset there are no more than lock.
    pub(super) fn failures_count(&self, limits: &Limits, found: &mut Vec<String>) {
        for (owner, counted) in &self.failures {
            let succeeded: BTreeSet<&str> =
                self.successes().filter(|call| call.about.owner == *owner).map(|call| &*call.about.challenge).collect();
            let verified = self.challenges.iter().filter(|last| last.about.owner == *owner);
            if verified.filter(|last| last.state == ChallengeState::Verified).count() > succeeded.len() {
                continue; // A success that no caller was told of: its time is unknown.
            }
            let is_unlock = |operation: &&Operation| operation.account == *owner && operation.lock.is_none();
            let unlocks: Vec<u64> = self.operations.iter().filter(is_unlock).map(|unlock| unlock.ended).collect();
            let resets = succeeded.iter().map(|challenge| self.told_success(challenge)).chain(unlocks.iter().copied());
            let last = resets.max().unwrap_or(0);
            let observed = self.failed(|call| call.about.owner == *owner && self.first(call).started > last);
            if u32::try_from(observed).unwrap_or(u32::MAX) > *counted {
                found.push(format!("{owner} failed {observed} times since its last reset, and {counted} count"));
            }
            if unlocks.is_empty() {
                self.contacts_lock(owner, limits, found);
            }
        }
    }

    /// However often other contacts succeed, a contact without a success has no more failures than lock.
    fn contacts_lock(&self, owner: &str, limits: &Limits, found: &mut Vec<String>) {
        let contacts: BTreeSet<&str> =
            self.calls.iter().filter(|call| call.about.owner == owner).map(|call| &*call.about.contact).collect();
        for contact in contacts {
            let is_its = |call: &Call| call.about.owner == owner && call.about.contact == contact;
            let verified = self.challenges.iter().filter(|last| last.state == ChallengeState::Verified);
            let mut verified = verified.map(|last| &last.about);
            if verified.any(|about| about.owner == owner && about.contact == contact) {
                continue;
            }
            let failed = self.failed(is_its);
            if failed > limits.failures {
                found.push(format!("{owner}, {contact}: could fail {failed} times"));
            }
        }
    }

    /// A request that began after a lock was told has no success before the lock ends or is lifted.
    pub(super) fn no_success_under_a_lock(&self, found: &mut Vec<String>) {
        for success in self.successes() {
            let first = self.first(success);
            let operators = self.operations.iter().filter(|operation| operation.told);
            let operators = operators.filter(|operation| operation.account == success.about.account);
            let operators =
                operators.filter_map(|operation| Some((operation.lock?, operation.started, operation.ended)));
            let told = self.calls.iter().filter(|call| call.about == success.about);
            let told = told.filter_map(|call| Some((locked(&call.told)?, call.started, call.ended)));
            for (lock, started, ended) in operators.chain(told) {
                let in_time = lock.until.is_none_or(|until| success.ended_at.plus(CLOCKS) < until);
                if first.started > ended && in_time && !self.lifted(&success.about.account, started, success.ended) {
                    found.push(format!("{}, {} succeeded under a lock", success.about.challenge, success.id));
                }
            }
        }
    }

    fn lifted(&self, account: &str, from: u64, to: u64) -> bool {
        let mut unlocks = self.operations.iter().filter(|operation| operation.lock.is_none());
        unlocks.any(|unlock| unlock.account == account && unlock.ended > from && unlock.started < to)
    }

    fn told_success(&self, challenge: &str) -> u64 {
        let told = self.successes().filter(|call| call.about.challenge == challenge);
        told.map(|call| call.ended).min().unwrap_or(0)
    }

    /// How many requests were told that their code did not match.
    fn failed(&self, is: impl Fn(&Call) -> bool) -> usize {
        let told = self.calls.iter().filter(|call| matches!(call.told, Told::Verified(Verified::NotMatched { .. })));
        let requests: BTreeSet<_> =
            told.filter(|call| is(call)).map(|call| (&call.about.challenge, &call.id)).collect();
        requests.len()
    }
}

fn locked(told: &Told) -> Option<Locked> {
    match told {
        Told::Sent(Sent::AccountLocked(lock)) | Told::Verified(Verified::AccountLocked(lock)) => Some(*lock),
        _ => None,
    }
}
