//! Opening a challenge.

use crate::domain::{
    challenge::{Challenge, ChallengeOption, Event, EventKind, Open, Phase, Target},
    destination::{Channel, Destination},
    ids::{AccountId, OptionId, Request, Tag},
    outcome::OptionView,
    policy::Limits,
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// All that a challenge starts with.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// The CreateChallenge.
    pub creation: Request,
    /// The account.
    pub account: AccountId,
    /// The purpose.
    pub purpose: Purpose,
    /// The transaction.
    pub transaction: Option<Transaction>,
    /// The limits of today's policy.
    pub limits: Limits,
    /// The options.
    pub options: Vec<OptionSpec>,
    /// Random.
    pub nonce: [u8; 16],
    /// BCP 47, or empty.
    pub locale: String,
}

/// One option to start with.
#[derive(Clone, Debug)]
pub struct OptionSpec {
    /// Its id.
    pub id: OptionId,
    /// How.
    pub channel: Channel,
    /// Where.
    pub destination: Destination,
    /// For a registration: to whom failures belong.
    pub subject: Option<Tag>,
}

/// Opens a challenge.
pub fn open(new: NewChallenge, now: Timestamp) -> Challenge {
    let options = new.options.into_iter().map(|spec| ChallengeOption {
        id: spec.id,
        channel: spec.channel,
        target: Target::Known(spec.destination),
        subject: spec.subject,
        sends: 0,
    });
    Challenge {
        created_at: now,
        latest_at: now,
        creation: new.creation,
        account: new.account,
        purpose: new.purpose,
        transaction: new.transaction,
        limits: new.limits,
        options: options.collect(),
        phase: Phase::Open(Open { nonce: new.nonce, locale: new.locale, code: None, pending_check: None }),
        pending_send: None,
        send_number: 0,
        sends_spent: 0,
        given_back: 0,
        next_send_at: now,
        attempts: 0,
        answers: Vec::new(),
        timeline: vec![Event { after_ms: 0, kind: EventKind::Created, option: None, provider: String::new() }],
    }
}

/// What a CreateChallenge is answered, then and whenever it is repeated.
pub fn created(challenge: &Challenge) -> (Vec<OptionView>, Timestamp) {
    (challenge.options.iter().map(option_view).collect(), challenge.expires_at())
}

/// An option as shown to callers.
pub(super) fn option_view(option: &ChallengeOption) -> OptionView {
    OptionView { id: option.id.clone(), channel: option.channel, masked: option.target.masked() }
}
