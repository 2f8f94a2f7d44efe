//! CreateChallenge: claim the id, read, and acquire quotas at once; then decide and commit.

use std::{sync::Arc, time::Duration};

use super::{
    Otp,
    challenge_ref::ChallengeRef,
    context::CallContext,
    deliveries::SendRequest,
    error::{Error, Precondition},
    memory::Snapshot,
    quotas::{Acquisition, NO_QUOTAS, Uses},
    request::{Caller, CreateChallenge, Reach},
    tags,
    timing::MAX_CONFLICTS,
};
use crate::{
    domain::{
        challenge::{Challenge, Ended, Phase},
        ids::IdempotencyKey,
        lockout::Lockout,
        outcome::{Created, Locked, Sent},
        policy::TenantPolicy,
        purpose::Purpose,
        route::Goal,
        rules::{self, NewChallenge, OptionSpec, Seen},
        time::Timestamp,
    },
    ports::store::Partition,
};

/// The creator of a challenge that is older than this has been answered.
const CREATION_TIME: Duration = Duration::from_secs(60);

/// What came of looking for the challenge, or opening it.
enum Opening {
    Challenge(Arc<Challenge>),
    /// With the quota that refused.
    Refused(Created, Option<&'static str>),
    /// The challenge might outlive its index entry. Nothing was created.
    ClaimTooOld,
}

/// One CreateChallenge at work.
struct Creation<'a> {
    caller: &'a Caller,
    target: ChallengeRef,
    key: IdempotencyKey,
    partition: Partition,
    request: &'a CreateChallenge,
    policy: &'a TenantPolicy,
}

impl Otp {
    /// Opens a challenge, and sends to its first option where asked to.
    ///
    /// After the creation a provider's failure is an error; the same request then resumes the send.
    pub async fn create_challenge(&self, caller: Caller, request: CreateChallenge) -> Result<Created, Error> {
        let created = self.create(&caller, &request).await;
        self.decisions.conclude(&caller, "create_challenge", created).await
    }

    async fn create(&self, caller: &Caller, request: &CreateChallenge) -> Result<Created, Error> {
        let target = self.states.challenge(caller, &caller.request_id)?;
        let partition = self.partition(&target, request);
        if !caller.rights.has_purpose(request.purpose) {
            self.decisions.tell_creation_refused(&target.call, request.purpose, &Error::Forbidden);
            return Err(Error::Forbidden);
        }
        let key = self.states.key(&target, caller, request.content());
        let policy = self.states.policy(&target.tenant)?;
        let creation = Creation { caller, target, key, partition, request, policy };
        let challenge = match self.find_or_open(&creation).await? {
            Opening::Challenge(challenge) => challenge,
            Opening::Refused(refusal, quota) => {
                self.decisions.tell_not_opened(&creation.target.call, request.purpose, &refusal, quota);
                return Ok(refusal);
            }
            Opening::ClaimTooOld => return Err(Error::Contention),
        };
        let send = if request.send_otp { Some(Box::pin(self.first_send(&creation, &challenge)).await?) } else { None };
        let (options, expires_at) = rules::created(&challenge);
        Ok(Created::Success { options, expires_at, send })
    }

    /// A registration belongs to its one contact, so that a fresh account buys no guesses; all else to its account. The call
    /// is told of both.
    fn partition(&self, target: &ChallengeRef, request: &CreateChallenge) -> Partition {
        let (tenant, call) = (&target.tenant, &*target.call);
        tags::note_account(&self.keys, call, tenant, &request.account);
        let contact = request.destinations.first().and_then(|reach| reach.destination.canonical());
        match contact.filter(|_| request.purpose == Purpose::Registration) {
            Some(contact) => {
                let partition = self.keys.contact_partition(tenant, &contact);
                tags::note_contact(&self.keys, call, partition);
                partition
            }
            None => self.keys.account_partition(tenant, &request.account),
        }
    }

    async fn find_or_open(&self, creation: &Creation<'_>) -> Result<Opening, Error> {
        if self.is_unserved(&creation.target, creation.request) {
            return match self.states.read(&creation.target, creation.caller.deadline).await {
                Ok(state) => repetition(state.challenge, &creation.key),
                Err(Error::InvalidIdentifier) => {
                    let refusal = Error::Precondition(Precondition::NoProvider);
                    let (call, purpose) = (&creation.target.call, creation.request.purpose);
                    self.decisions.tell_creation_refused(call, purpose, &refusal);
                    Err(refusal)
                }
                Err(error) => Err(error),
            };
        }
        for _ in 0..MAX_CONFLICTS {
            match self.claim_and_open(creation).await? {
                Opening::ClaimTooOld => {}
                opening => return Ok(opening),
            }
        }
        Err(Error::Contention)
    }

    /// Claims the id for the longest life that the challenge can have, reads, and acquires the quotas, all at once; then opens.
    async fn claim_and_open(&self, creation: &Creation<'_>) -> Result<Opening, Error> {
        let Creation { caller, target, partition, .. } = creation;
        let now = self.states.now()?;
        let challenge = self.new_challenge(creation, now)?;
        let uses = self.creation_uses(creation, &challenge);
        let life = challenge.limits.challenge_life + challenge.limits.retention;
        let deadline = caller.deadline;
        let (claimed, account_lock, acquired) = tokio::join!(
            self.states.claim(target, *partition, life, deadline),
            self.account_lock(creation),
            self.quotas.acquire(&uses, deadline),
        );
        let Some(read) = claimed? else {
            return self.refuse(acquired.ok(), Err(Error::IdempotencyViolation)).await;
        };
        // What is on record is answered whatever became of the lock and the quotas.
        let (acquired, opened) = if let Some(repeated) = repeated(creation, &read, now) {
            (acquired.ok(), repeated)
        } else {
            let acquired = acquired?;
            let refused_by = match acquired {
                Acquisition::Refused(quota) => Some(quota),
                Acquisition::Acquired(_) => None,
            };
            let opened = self.open(creation, challenge, read, account_lock?, refused_by).await;
            (Some(acquired), opened)
        };
        // Whatever else has happened, another worker with the same request may have created, resting on what this one acquired.
        let is_unused = match &opened {
            Ok(Opening::Challenge(found)) => is_surplus(found, now),
            Ok(Opening::Refused(..)) | Err(Error::IdempotencyViolation) => true,
            Ok(Opening::ClaimTooOld) | Err(_) => false,
        };
        if is_unused { self.refuse(acquired, opened).await } else { opened }
    }

    /// Decides by the lockout, and commits the challenge beside it.
    async fn open(
        &self,
        creation: &Creation<'_>,
        challenge: Challenge,
        mut read: Snapshot,
        mut account_lock: Option<Locked>,
        refused_by: Option<&'static str>,
    ) -> Result<Opening, Error> {
        for _ in 0..MAX_CONFLICTS {
            let now = self.states.now()?;
            if let Some(repeated) = repeated(creation, &read, now) {
                return repeated;
            }
            let lockout = read.lockout.as_ref().map(|lockout| Arc::clone(&lockout.value)).unwrap_or_default();
            if let Some(locked) = locked(&challenge, &lockout, account_lock, now) {
                return Ok(Opening::Refused(Created::AccountLocked(locked), None));
            }
            if refused_by.is_some() {
                return Ok(Opening::Refused(Created::RiskDeclined, refused_by));
            }
            // A creator that was held up for so long that its challenge might outlive the claim starts over.
            if read.located_until.remaining() < challenge.limits.challenge_life + challenge.limits.retention {
                return Ok(Opening::ClaimTooOld);
            }
            match self.states.create(&creation.target, &read, challenge.clone()).await? {
                None => {
                    self.decisions.tell_opened(&creation.target.call, challenge.purpose);
                    return Ok(Opening::Challenge(Arc::new(challenge)));
                }
                Some(conflict) => read = conflict,
            }
            account_lock = self.account_lock(creation).await?;
        }
        Err(Error::Contention)
    }

    /// Refunds what this call acquired for a creation that is not its own.
    async fn refuse(&self, acquired: Option<Acquisition>, refusal: Result<Opening, Error>) -> Result<Opening, Error> {
        if let Some(Acquisition::Acquired(uses)) = acquired {
            self.quotas.refund(uses).await;
        }
        refusal
    }

    async fn account_lock(&self, creation: &Creation<'_>) -> Result<Option<Locked>, Error> {
        let Creation { caller, target, request, .. } = creation;
        match request.purpose {
            Purpose::Registration => self.states.operator_lock(&target.tenant, &request.account, caller.deadline).await,
            Purpose::Login | Purpose::Transaction => Ok(None),
        }
    }

    fn is_unserved(&self, target: &ChallengeRef, request: &CreateChallenge) -> bool {
        request.destinations.iter().any(|reach| {
            let (purpose, channel, destination) = (request.purpose, reach.channel, &reach.destination);
            let currency = request.transaction.as_ref().map(|transaction| transaction.amount.currency.as_str());
            let goal = Goal { tenant: &target.tenant, purpose, channel, destination, currency };
            self.routes.to(&goal, None).is_empty()
        })
    }

    fn creation_uses<'a>(&self, creation: &Creation<'a>, challenge: &Challenge) -> Uses<'a> {
        let Creation { target, key, partition, request, policy, .. } = creation;
        let is_sandboxed = |reach: &Reach| self.routes.is_sandboxed(&target.tenant, &reach.destination);
        let policy = if request.destinations.iter().all(is_sandboxed) { &NO_QUOTAS } else { &policy.quotas };
        let token = self.keys.creation_use(target.name, *partition, key.fingerprint);
        self.quotas.of_creation(&target.tenant, policy, challenge, token)
    }

    fn new_challenge(&self, creation: &Creation<'_>, now: Timestamp) -> Result<Challenge, Error> {
        let Creation { target, key, request, policy, .. } = creation;
        let options = request.destinations.iter().enumerate().map(|(index, reach)| OptionSpec {
            id: reach.id.clone().unwrap_or_else(|| self.keys.option_id(target.name, index)),
            channel: reach.channel,
            destination: reach.destination.clone(),
            contact: self.keys.contact(&target.tenant, reach.channel, &reach.destination),
        });
        let new = NewChallenge {
            creation: *key,
            account: request.account.clone(),
            purpose: request.purpose,
            transaction: request.transaction.clone(),
            limits: policy.limits(request.purpose).clone(),
            options: options.collect(),
            nonce: self.states.records.random()?,
            locale: request.locale.clone(),
        };
        Ok(rules::open(new, now))
    }

    async fn first_send(&self, creation: &Creation<'_>, challenge: &Challenge) -> Result<Sent, Error> {
        let Creation { caller, target, key, request, .. } = creation;
        let first = challenge.options.first().ok_or_else(|| Error::Internal("no options".to_owned()))?;
        let (parameters, client) = (request.parameters.clone(), request.client.clone());
        let call = CallContext { challenge: caller.request_id.clone(), parameters, client };
        self.send(caller, SendRequest { target: target.clone(), key: *key, option: first.id.clone(), call }).await
    }
}

/// What a challenge that is there means for the request: the same one is answered again, any other is refused.
fn repeated(creation: &Creation<'_>, read: &Snapshot, now: Timestamp) -> Option<Result<Opening, Error>> {
    let found = read.challenge.as_ref().filter(|found| !found.value.is_forgotten(now))?;
    Some(repetition(Arc::clone(&found.value), &creation.key))
}

/// The lock that leaves no option open, and of several the one that ends first.
fn locked(challenge: &Challenge, lockout: &Lockout, account_lock: Option<Locked>, now: Timestamp) -> Option<Locked> {
    let locks = challenge.options.iter().map(|option| lockout.locked(option.contact, now));
    let all: Option<Vec<Locked>> = locks.map(|lock| Locked::later(lock, account_lock)).collect();
    all?.into_iter().reduce(Locked::earlier)
}

/// Whether what a repetition acquired is surplus: the challenge is verified, so that its uses are refunded, or it was there long
/// before, so that its creator has been answered. Else the creator may rest on what the repetition acquired.
fn is_surplus(found: &Challenge, now: Timestamp) -> bool {
    found.phase == Phase::Ended(Ended::Verified) || now.since(found.created_at) >= CREATION_TIME
}

fn repetition(challenge: Arc<Challenge>, key: &IdempotencyKey) -> Result<Opening, Error> {
    let is_same = challenge.creation == *key;
    let is_known = matches!(rules::seen(&challenge, key), Seen::Created | Seen::Answered(_) | Seen::Sending(_));
    if is_same && is_known { Ok(Opening::Challenge(challenge)) } else { Err(Error::IdempotencyViolation) }
}
