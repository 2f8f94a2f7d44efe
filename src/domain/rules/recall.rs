//! Idempotency: what a challenge remembers of a request.

use crate::domain::{
    challenge::{Challenge, PendingCheck, PendingSend, Phase, Reply},
    ids::Request,
};

/// What a challenge remembers of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recall {
    /// Nothing.
    New,
    /// Its id, with other content.
    Conflict,
    /// That it opened the challenge.
    Creation,
    /// Its answer.
    Reply(Reply),
    /// Its send is being delivered.
    Sending(PendingSend),
    /// Its attempt is being checked.
    Checking(PendingCheck),
}

/// Looks a request up, whatever its RPC: ids are compared within the whole challenge.
pub fn recall(challenge: &Challenge, request: &Request) -> Recall {
    let same = |other: &Request, found: Recall| if other.content == request.content { found } else { Recall::Conflict };
    if let Some(answer) = challenge.answers.iter().find(|answer| answer.request.id == request.id) {
        return same(&answer.request, Recall::Reply(answer.reply.clone()));
    }
    if let Some(send) = challenge.pending_send.as_ref().filter(|send| send.request.id == request.id) {
        return same(&send.request, Recall::Sending(send.clone()));
    }
    if let Some(check) = pending_check(challenge).filter(|check| check.request.id == request.id) {
        return same(&check.request, Recall::Checking(check.clone()));
    }
    if challenge.creation.id == request.id {
        return same(&challenge.creation, Recall::Creation);
    }
    Recall::New
}

/// The attempt that a provider is being asked about.
pub(super) fn pending_check(challenge: &Challenge) -> Option<&PendingCheck> {
    match &challenge.phase {
        Phase::Open(open) => open.pending_check.as_ref(),
        Phase::Ended(_) => None,
    }
}
