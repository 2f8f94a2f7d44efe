//! What an open challenge holds: its live code, and the send and the ask that are reserved.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{
    code::CodeOwner,
    ids::{IdempotencyKey, Token},
    policy::OnResend,
    time::Timestamp,
};

/// What an open challenge needs, and drops at its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Random; all codes of the challenge are made from it.
    pub nonce: [u8; 16],
    /// BCP 47, or empty.
    pub locale: String,
    pub code: Option<LiveCode>,
    /// The attempt that a provider is being asked about.
    pub asking: Option<Asking>,
    /// The last send, where it is unconfirmed and its provider answers a repetition as the first request.
    pub unconfirmed: Option<Box<Sending>>,
    /// How often a provider was asked again about an unconfirmed send, at most [`MAX_RESUMES`](super::MAX_RESUMES).
    pub resumes: u32,
    /// When one is next asked again.
    pub resumes_from: Timestamp,
    /// After repeated failures of its provider: when it is next asked about a code.
    pub asks_from: Timestamp,
    /// After repeated failures of the providers: when a send is next tried.
    pub sends_from: Timestamp,
    /// The sends that were spent, by the tokens that name their uses of quotas. A success refunds them.
    pub uses: Vec<SendUse>,
}

/// The quotas that one send acquired are those of the account, the tenant and this option's destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendUse {
    pub token: Token,
    pub option: u8,
}

/// The live code: all that is needed to make it again, never the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveCode {
    /// The index of the option that it was sent to.
    pub option: u8,
    /// The number of the send that made it. Part of what the code is made from: a new one voids all older codes.
    pub generation: u32,
    /// The number of the send that delivers it; a later one than `generation` where a resend repeats the code.
    pub send: u32,
    /// How many digits it has; of a provider's own code as far as known, else 0.
    pub digits: u8,
    /// The master key that it is made with.
    pub key_id: u32,
    pub expires_at: Timestamp,
    /// What a resend does to it.
    pub on_resend: OnResend,
    pub provider: String,
    pub owner: CodeOwner,
    /// By what its provider knows it; empty for a code of ours, and until the provider has answered.
    pub reference: String,
    /// Whether everybody knows it: a success with it resets no failures.
    pub sandbox: bool,
    /// The attempts of the challenge when the code was made: what came later was compared with it.
    pub attempts_before: u32,
    /// How many codes its provider compares with it at most, where that says so.
    pub max_checks: Option<u32>,
    /// How often its provider sends to its option at most, where that says so.
    pub max_sends: Option<u32>,
}

/// A send between its reservation and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sending {
    /// The request that asked for it.
    pub key: IdempotencyKey,
    /// Of the worker that reserved it, who alone delivers and settles it.
    pub token: Token,
    pub number: u32,
    pub option: u8,
    /// From then on it counts as unconfirmed.
    pub lease_until: Timestamp,
    /// When its code expires, for the answer to a send that outlives its challenge.
    pub code_expires_at: Timestamp,
    /// How long its code is, or 0; likewise.
    pub code_digits: u8,
    /// The code that lives again if nothing was sent.
    pub previous: Option<LiveCode>,
    /// When the next send would be accepted if nothing was sent.
    pub previous_next_send_at: Timestamp,
    /// Whether its provider answers a repetition as the first request.
    pub repeatable: bool,
    /// Whether it was unconfirmed, and its provider is being asked again.
    pub resumed: bool,
}

/// An attempt between the question to its provider and the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asking {
    pub attempt: Attempt,
    pub token: Token,
    pub number: u32,
    /// From then on it counts as unanswered.
    pub lease_until: Timestamp,
    /// Whether the provider was asked about this attempt before.
    pub repeated: bool,
}

/// An attempt that a provider judges, bound to the code that was live when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub key: IdempotencyKey,
    pub generation: u32,
    /// The index of the option that the code went to.
    pub option: u8,
    /// Whether its check may be repeated.
    pub repeatable: bool,
    pub sandbox: bool,
    /// Whether an ask before may have been judged. Only an attempt that nothing judged is refunded.
    pub judged: bool,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("code", &self.code).field("asking", &self.asking).finish_non_exhaustive()
    }
}
