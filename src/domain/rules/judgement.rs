//! What a judged code comes to: the one success, a failure that is counted, and either told again.

use super::{Judged, State, create::option_view};
use crate::domain::{
    challenge::{Challenge, Ended, EventKind, Reply},
    ids::IdempotencyKey,
    outcome::{Evidence, Proof, ProviderValues, Verified},
    time::Timestamp,
};

/// Records the one success of a challenge, ends it, and resets the failures that it disproves.
pub(super) fn succeed(
    state: &mut State,
    key: IdempotencyKey,
    option: u8,
    sandbox: bool,
    evidence: Evidence,
    at: &Judged<'_>,
) -> Verified {
    if !sandbox {
        let contact = state.challenge.contact(option);
        state.lockout_mut().reset(contact);
    }
    let challenge = state.challenge_mut();
    let proof = Proof::of(challenge, option, at.time, evidence.clone());
    let Evidence { eci, verification_id, values: _ } = evidence;
    challenge.answer(key, Reply::Matched { option, at: at.time, eci, verification_id });
    challenge.log(at.time, EventKind::Verified, Some(option), "");
    challenge.end(Ended::Verified);
    Verified::Success(Box::new(proof))
}

/// Records a code that did not match, counts the failure, and ends the challenge with its last attempt.
pub(super) fn fail(state: &mut State, key: IdempotencyKey, option: u8, at: &Judged<'_>) -> Verified {
    let contact = state.challenge.contact(option);
    state.lockout_mut().count(contact, at.now, at.policy);
    let remaining = state.remaining_attempts(option, at);
    let challenge = state.challenge_mut();
    challenge.answer(key, Reply::NotMatched { remaining });
    challenge.log(at.time, EventKind::NotMatched, Some(option), "");
    let code_expires_at = challenge.live_code().map_or(at.time, |code| code.expires_at);
    challenge.end_if_exhausted(code_expires_at);
    Verified::NotMatched { remaining }
}

impl State {
    /// How many more codes will be compared: the smaller of what the challenge and the lockout allow.
    fn remaining_attempts(&self, option: u8, at: &Judged<'_>) -> u32 {
        let challenge = &self.challenge;
        let has_ended = challenge.open().is_none() || at.time >= challenge.expires_at();
        if has_ended || self.locked(Some(option), at.now).is_some() {
            return 0;
        }
        challenge.checks_left().min(self.lockout.budget(challenge.contact(option), at.policy))
    }
}

impl Proof {
    fn of(challenge: &Challenge, option: u8, at: Timestamp, evidence: Evidence) -> Self {
        Self {
            account: challenge.account.clone(),
            purpose: challenge.purpose,
            transaction: challenge.transaction.clone(),
            option: challenge.option_at(option).map(option_view),
            at,
            evidence,
        }
    }
}

/// A recorded answer of a verification, as it was given. `None` for the answer of another RPC.
pub(super) fn recorded(challenge: &Challenge, reply: &Reply) -> Option<Verified> {
    match reply {
        Reply::Matched { option, at, eci, verification_id } => {
            let (eci, verification_id) = (eci.clone(), verification_id.clone());
            let evidence = Evidence { eci, verification_id, values: ProviderValues::new() };
            Some(Verified::Success(Box::new(Proof::of(challenge, *option, *at, evidence))))
        }
        Reply::NotMatched { remaining } => Some(Verified::NotMatched { remaining: *remaining }),
        Reply::CodeExpired => Some(Verified::Expired),
        Reply::AttemptsExceeded => Some(Verified::AttemptsExceeded),
        Reply::AlreadyUsed => Some(Verified::AlreadyUsed),
        Reply::Unknown(_)
        | Reply::Sent { .. }
        | Reply::DestinationRejected
        | Reply::SendFailed
        | Reply::Declined(_) => None,
    }
}
