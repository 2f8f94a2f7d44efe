//! What a provider is told of the challenge, and under which id a request goes upstream.

use super::challenge_ref::ChallengeRef;
use crate::{
    domain::{
        challenge::Challenge,
        destination::Destination,
        ids::{IdempotencyKey, RequestId},
        time::Timestamp,
    },
    keys::ring::KeyRing,
    ports::provider::{ChallengeContext, ClientContext, Parameters},
};

/// What only the caller of this one request knows, and what is never stored.
#[derive(Clone, Debug)]
pub(super) struct CallContext {
    pub(super) challenge: RequestId,
    pub(super) parameters: Parameters,
    pub(super) client: ClientContext,
}

/// What a provider is told of an option of an open challenge. `None` once the challenge has ended.
pub(super) fn challenge_context(
    keys: &KeyRing,
    target: &ChallengeRef,
    challenge: &Challenge,
    option: u8,
    call: &CallContext,
    now: Timestamp,
) -> Option<ChallengeContext> {
    let open = challenge.open()?;
    let made = keys.option_id(target.name, usize::from(option));
    let option = challenge.option_at(option)?;
    Some(ChallengeContext {
        now,
        tenant: target.tenant.clone(),
        challenge: call.challenge.clone(),
        account: challenge.account.clone(),
        purpose: challenge.purpose,
        transaction: challenge.transaction.clone(),
        option: Some(option.id.clone()).filter(|id| *id != made),
        channel: option.channel,
        destination: option.target.known().cloned().unwrap_or(Destination::OnFile),
        locale: open.locale.clone(),
        parameters: call.parameters.clone(),
        client: call.client.clone(),
    })
}

/// The id of a request upstream: the same for each repetition of the caller's request, and for no other. The time tells it from
/// an earlier challenge of the same id, which a provider may remember for longer than otpd does.
pub(super) fn upstream_id(call: &CallContext, challenge: &Challenge, operation: &str, key: &IdempotencyKey) -> String {
    let opened = challenge.created_at.as_millis();
    let hash = key.id.0.iter().zip(key.fingerprint.0).map(|(id, content)| id ^ content);
    let hash = hash.take(8).fold(0_u64, |hash, byte| (hash << 8) | u64::from(byte));
    format!("{}-{opened:x}-{operation}-{hash:016x}", call.challenge.as_str())
}
