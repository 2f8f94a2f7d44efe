//! Opening a challenge.

use crate::domain::{
    challenge::{Challenge, ChallengeOption, ContactAddress, Event, EventKind, Open, Phase},
    destination::{Channel, Destination},
    ids::{AccountId, Contact, IdempotencyKey, OptionId},
    outcome::OptionView,
    policy::Limits,
    purpose::Purpose,
    time::Timestamp,
    transaction::Transaction,
};

/// All that a challenge starts with.
#[derive(Clone)]
pub struct NewChallenge {
    pub creation: IdempotencyKey,
    pub account: AccountId,
    pub purpose: Purpose,
    pub transaction: Option<Transaction>,
    pub limits: Limits,
    pub options: Vec<OptionSpec>,
    /// Random.
    pub nonce: [u8; 16],
    /// BCP 47, or empty.
    pub locale: String,
}

/// One option to start with.
#[derive(Clone, Debug)]
pub struct OptionSpec {
    pub id: OptionId,
    pub channel: Channel,
    pub destination: Destination,
    /// Whose failures are counted apart from those of other options.
    pub contact: Contact,
}

/// Opens a challenge.
pub fn open(new: NewChallenge, now: Timestamp) -> Challenge {
    let options = new.options.into_iter().map(|spec| ChallengeOption {
        id: spec.id,
        channel: spec.channel,
        target: ContactAddress::Known(spec.destination),
        contact: spec.contact,
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
        phase: Phase::Open(Box::new(Open {
            nonce: new.nonce,
            locale: new.locale,
            code: None,
            asking: None,
            unconfirmed: None,
            resumes: 0,
            resumes_from: Timestamp::default(),
            asks_from: Timestamp::default(),
            sends_from: Timestamp::default(),
            uses: Vec::new(),
        })),
        sending: None,
        last_send: 0,
        last_ask: 0,
        refunded_sends: 0,
        refunded_attempts: 0,
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
