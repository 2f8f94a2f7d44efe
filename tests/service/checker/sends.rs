//! Messages and quotas.

use std::collections::{BTreeMap, BTreeSet};

use otpd::domain::outcome::{ChallengeState, Sent};

use super::{History, Last, Limits, Told};

impl History {
    pub(super) fn bounded_messages(&self, limits: &Limits, found: &mut Vec<String>) {
        let (mut by_challenge, mut by_destination) = (BTreeMap::new(), BTreeMap::new());
        let mut seen = BTreeSet::new();
        for mail in self.mails.iter().filter(|mail| !mail.failed) {
            if !seen.insert(&mail.idempotency_key) {
                found.push(format!("{} was sent twice", mail.idempotency_key));
            }
            *by_challenge.entry(&mail.challenge).or_insert(0) += 1;
            if !self.is_verified(&mail.challenge) {
                *by_destination.entry(&mail.destination).or_insert(0) += 1;
            }
        }
        for (challenge, count) in by_challenge.iter().filter(|(_, count)| **count > limits.sends) {
            found.push(format!("{challenge} sent {count} messages"));
        }
        for (destination, count) in by_destination.iter().filter(|(_, count)| **count > limits.destination_sends) {
            found.push(format!("{destination} got {count} messages that nothing refunds"));
        }
        let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for call in &self.calls {
            if let Told::Sent(Sent::Success(_) | Sent::DestinationRejected) = call.told {
                told.entry(&call.about.challenge).or_default().insert(&call.id);
            }
        }
        for (challenge, ids) in told.iter().filter(|(_, ids)| ids.len() > limits.sends) {
            found.push(format!("{challenge} told {ids:?} that it sent"));
        }
    }

    /// A number of a send is never used twice, not even after a refund: each message that one provider is given carries
    /// another code.
    pub(super) fn one_code_per_send(&self, found: &mut Vec<String>) {
        let mut codes = BTreeSet::new();
        for mail in &self.mails {
            if !codes.insert((&mail.provider, &mail.challenge, &mail.code)) {
                found.push(format!("{} used a number of a send again", mail.challenge));
            }
        }
    }

    /// Each spent send and each creation counts, unless its challenge is verified; and nothing else does, unless a store has
    /// failed or a process has died.
    pub(super) fn quotas_count(&self, limits: &Limits, found: &mut Vec<String>) {
        for (contact, counted) in &self.sends {
            let spent: u32 = self.unverified(|last| last.about.contact == *contact).map(|last| last.sends).sum();
            if *counted < spent || (limits.exact && *counted > spent) {
                found.push(format!("{contact}: {spent} sends are spent and not refunded, and {counted} count"));
            }
        }
        for (account, counted) in &self.creations {
            if self.operations.iter().any(|operation| operation.account == *account && operation.lock.is_none()) {
                continue; // An unlock has cleared them.
            }
            let opened = self.unverified(|last| last.about.account == *account).count();
            let counted = usize::try_from(*counted).unwrap_or(usize::MAX);
            if counted < opened || (limits.exact && counted > opened) {
                found.push(format!("{account}: {opened} creations are not refunded, and {counted} count"));
            }
        }
    }

    fn unverified(&self, is: impl Fn(&Last) -> bool) -> impl Iterator<Item = &Last> {
        self.challenges.iter().filter(move |last| last.state != ChallengeState::Verified && is(last))
    }

    fn is_verified(&self, challenge: &str) -> bool {
        self.challenges.iter().any(|last| last.about.challenge == challenge && last.state == ChallengeState::Verified)
    }
}
