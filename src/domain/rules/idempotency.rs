//! Idempotency: what a challenge remembers of a request.

use crate::domain::{
    challenge::{Asking, Challenge, Reply, Sending},
    ids::IdempotencyKey,
};

/// What a challenge remembers of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    New,
    Conflict,
    Created,
    Answered(&'a Reply),
    Sending(&'a Sending),
    Asking(&'a Asking),
}

/// Looks a request up, whatever its RPC: ids are compared within the whole challenge.
pub fn seen<'a>(challenge: &'a Challenge, key: &IdempotencyKey) -> Seen<'a> {
    let found =
        |known: &IdempotencyKey, seen| (known.id == key.id).then_some(if known == key { seen } else { Seen::Conflict });
    let answered = || challenge.answers.iter().find_map(|answer| found(&answer.key, Seen::Answered(&answer.reply)));
    let sending = || challenge.sending.as_ref().and_then(|sending| found(&sending.key, Seen::Sending(sending)));
    let asking = || challenge.asking().and_then(|asking| found(&asking.attempt.key, Seen::Asking(asking)));
    let created = || found(&challenge.creation, Seen::Created);
    // A repeated ask is in flight although its attempt is on record as unknown.
    asking().or_else(sending).or_else(answered).or_else(created).unwrap_or(Seen::New)
}
