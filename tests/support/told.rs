//! Writes down every decision that it is told of. Included with `#[path]`.

use std::sync::{Mutex, PoisonError};

use otpd::{
    domain::ids::SupportTag,
    ports::decisions::{DecisionEvent, DecisionKind, DecisionObserver},
};

/// See the module.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<(String, [Option<SupportTag>; 3])>>);

impl Told {
    /// Each decision in a line, and forgets them.
    pub(crate) fn take(&self) -> Vec<String> {
        self.drain().into_iter().map(|(line, _)| line).collect()
    }

    /// With the tags of challenge, account and contact.
    pub(crate) fn drain(&self) -> Vec<(String, [Option<SupportTag>; 3])> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl DecisionObserver for Told {
    fn decided(&self, event: &DecisionEvent<'_>) {
        let name = event.decision.name();
        let words = match event.decision {
            DecisionKind::Challenge { purpose, outcome, quota } => {
                vec![purpose.name(), outcome, quota.unwrap_or_default()]
            }
            DecisionKind::Send { channel, provider, outcome, quota, .. } => {
                vec![channel.name(), provider, outcome, quota.unwrap_or_default()]
            }
            DecisionKind::Attempt { channel, provider, outcome, .. } => {
                vec![channel.map_or("", |channel| channel.name()), provider, outcome]
            }
            DecisionKind::Cancel { purpose } => vec![purpose.name()],
            DecisionKind::Lock { scope, locked, reason } => {
                vec![scope.word(), if locked.until.is_some() { "" } else { "for good" }, reason.unwrap_or("failures")]
            }
            DecisionKind::Unlock { scope, reason } => vec![scope.word(), reason],
            DecisionKind::QuotaClear { scope, quotas, reason } => [&[scope.word()], quotas, &[reason]].concat(),
            DecisionKind::Look { scope } => vec![scope.word()],
            DecisionKind::InDoubt { operation } => vec![operation],
            DecisionKind::Configuration(_) => Vec::new(),
        };
        let overdue = if event.is_overdue { "overdue" } else { "" };
        let words = [name].into_iter().chain(words).chain([overdue]);
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        let call = event.call;
        assert!(!event.is_overdue || (call.tenant.get().is_some(), call.request_id.get()) == (true, None), "{words:?}");
        let tags = [&call.challenge, &call.account, &call.contact].map(|tag| tag.get().copied());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((words.join(" "), tags));
    }
}
