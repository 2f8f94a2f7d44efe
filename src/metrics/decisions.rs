//! Decisions, counted by what they were about and what came of them.

use std::borrow::Cow;

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{
    Metrics,
    family::{Known, counters},
    names,
};
use crate::{
    domain::{destination::Channel, purpose::Purpose},
    ports::{
        decisions::{DecisionEvent, DecisionKind, DecisionObserver, LockScope},
        provider::Capabilities,
    },
};

/// With the name of a provider.
type Routed = [(&'static str, Cow<'static, str>); 4];

/// What may become of a CreateChallenge.
const CREATED: [&str; 3] = ["success", "account_locked", "risk_declined"];
/// What may become of a send by a provider, and of an attempt at its code: the outcomes that alerts rest on.
const SENT: [&str; 3] = ["accepted", "unconfirmed", "failed"];
const JUDGED: [&str; 3] = ["success", "otp_not_matched", "account_locked"];
/// The quotas.
const QUOTAS: [&str; 5] =
    ["destination_sends", "account_sends", "tenant_sends", "account_creations", "tenant_creations"];

pub(super) struct DecisionMetrics {
    challenges: Family<Known<2>, Counter>,
    sends: Family<Routed, Counter>,
    verifications: Family<Routed, Counter>,
    locks: Family<Known<2>, Counter>,
    unlocks: Family<Known<1>, Counter>,
    quota_refusals: Family<Known<1>, Counter>,
}

impl DecisionMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let of_purpose = |purpose: Purpose| CREATED.map(|outcome| [("purpose", purpose.name()), ("outcome", outcome)]);
        let by = |scope: LockScope| ["failures", "operator"].map(|by| [("scope", scope.word()), ("by", by)]);
        let scopes = [LockScope::Account, LockScope::Contact];
        Self {
            challenges: counters(registry, &names::CHALLENGES, Purpose::ALL.into_iter().flat_map(of_purpose)),
            sends: counters(registry, &names::SENDS, []),
            verifications: counters(registry, &names::VERIFICATIONS, []),
            locks: counters(registry, &names::LOCKS, scopes.into_iter().flat_map(by)),
            unlocks: counters(registry, &names::UNLOCKS, scopes.map(|scope| [("scope", scope.word())])),
            quota_refusals: counters(registry, &names::QUOTA_REFUSALS, QUOTAS.map(|quota| [("quota", quota)])),
        }
    }

    /// Begins at 0 what alerts and conversion rest on, for all that a provider can be asked for.
    pub(super) fn begin(&self, provider: &str, capabilities: &Capabilities) {
        for purpose in &capabilities.purposes {
            for channel in &capabilities.channels {
                let labels = |outcome| routed(*purpose, Some(*channel), provider, outcome);
                for outcome in SENT {
                    drop(self.sends.get_or_create(&labels(outcome)));
                }
                for outcome in JUDGED {
                    drop(self.verifications.get_or_create(&labels(outcome)));
                }
            }
        }
    }

    fn count_refusal(&self, quota: Option<&'static str>) {
        if let Some(quota) = quota {
            self.quota_refusals.get_or_create(&[("quota", quota)]).inc();
        }
    }
}

fn routed(purpose: Purpose, channel: Option<Channel>, provider: &str, outcome: &'static str) -> Routed {
    [
        ("purpose", purpose.name().into()),
        ("channel", channel.map_or("", Channel::name).into()),
        ("provider", provider.to_owned().into()),
        ("outcome", outcome.into()),
    ]
}

impl DecisionObserver for Metrics {
    fn decided(&self, event: &DecisionEvent<'_>) {
        let metrics = &self.decisions;
        match event.decision {
            DecisionKind::Challenge { purpose, outcome, quota } => {
                metrics.count_refusal(quota);
                metrics.challenges.get_or_create(&[("purpose", purpose.name()), ("outcome", outcome)]).inc();
            }
            DecisionKind::Send { purpose, channel, provider, outcome, quota } => {
                metrics.count_refusal(quota);
                metrics.sends.get_or_create(&routed(purpose, Some(channel), provider, outcome)).inc();
            }
            DecisionKind::Attempt { purpose, channel, provider, outcome } => {
                metrics.verifications.get_or_create(&routed(purpose, channel, provider, outcome)).inc();
            }
            DecisionKind::Lock { scope, reason, .. } => {
                let by = if reason.is_some() { "operator" } else { "failures" };
                metrics.locks.get_or_create(&[("scope", scope.word()), ("by", by)]).inc();
            }
            DecisionKind::Unlock { scope, .. } => {
                metrics.unlocks.get_or_create(&[("scope", scope.word())]).inc();
            }
            DecisionKind::Cancel { .. }
            | DecisionKind::Look { .. }
            | DecisionKind::QuotaClear { .. }
            | DecisionKind::InDoubt { .. }
            | DecisionKind::Configuration(_) => {}
        }
    }
}
