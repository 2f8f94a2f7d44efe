//! CreateChallenge.

use super::{
    FINISH, Otp,
    challenges::ChallengeRef,
    error::{Error, Precondition},
    quotas::NO_QUOTAS,
    records::{Held, Written, kept_until},
    request::{Caller, CreateChallenge, Reach},
    send::SendAsk,
};
use crate::{
    domain::{
        challenge::Challenge,
        ids::Request,
        outcome::{Created, Locked},
        policy::TenantPolicy,
        purpose::Purpose,
        route::Goal,
        rules::{self, NewChallenge, OptionSpec, Recall},
    },
    ports::{
        clock::Deadline,
        store::{Name, Taken},
    },
};

impl Otp {
    /// Opens a challenge, and sends to its first option where asked to.
    ///
    /// # Errors
    /// See [`Error`]. After the creation a provider's failure is an error; the same request then resumes the send.
    pub async fn create_challenge(&self, caller: Caller, request: CreateChallenge) -> Result<Created, Error> {
        let target = self.challenge_ref(&caller, &caller.request_id)?;
        let identity = self.request(&caller, &target, request.content());
        let policy = self.policy(&caller)?;
        let challenge = match self.find_or_open(&caller, &target, identity, &request, policy).await? {
            Opening::Challenge(challenge) => *challenge,
            Opening::Refused(refusal) => return Ok(refusal),
        };
        let send = if request.send_otp {
            Some(self.first_send(caller, target, identity, &challenge, request).await?)
        } else {
            None
        };
        let (options, expires_at) = rules::created(&challenge);
        Ok(Created::Success { options, expires_at, send })
    }

    async fn find_or_open(
        &self,
        caller: &Caller,
        target: &ChallengeRef,
        identity: Request,
        request: &CreateChallenge,
        policy: &TenantPolicy,
    ) -> Result<Opening, Error> {
        let found = self.challenges.load(target.name, caller.deadline).await?;
        let found = match found {
            Some(held) if !held.value.is_forgotten(self.now()) => return repetition(held.value, &identity),
            forgotten => forgotten,
        };
        let unserved = |reach: &Reach| {
            let (purpose, channel, destination) = (request.purpose, reach.channel, &reach.destination);
            self.routes.to(&Goal { tenant: &target.tenant, purpose, channel, destination }, None).is_empty()
        };
        if request.destinations.iter().any(unserved) {
            return Err(Error::Precondition(Precondition::NoProvider));
        }
        let challenge = self.new_challenge(target, identity, request, policy)?;
        if let Some(locked) = self.locked_out(target, &challenge, policy, caller.deadline).await? {
            return Ok(Opening::Refused(Created::AccountLocked(locked)));
        }
        let sandboxed = |reach: &Reach| self.routes.is_sandboxed(&target.tenant, &reach.destination);
        let limits = if request.destinations.iter().all(sandboxed) { &NO_QUOTAS } else { &policy.quotas };
        let take = self.keys.creation_take_id(target.name);
        let quotas = self.creation_quotas(&target.tenant, &challenge.account, limits, take);
        if self.take(&quotas, caller.deadline).await? == Taken::Refused {
            return Ok(Opening::Refused(Created::RiskDeclined));
        }
        match self.store_new(target.name, found.as_ref(), &challenge).await? {
            Written::Done => Ok(Opening::Challenge(Box::new(challenge))),
            Written::Lost(held) => repetition(held.value, &identity),
            Written::Missing => Err(Error::Contention),
        }
    }

    /// Stores a new challenge, over a forgotten one if there is one.
    async fn store_new(
        &self,
        name: Name,
        forgotten: Option<&Held<Challenge>>,
        challenge: &Challenge,
    ) -> Result<Written<Challenge>, Error> {
        let ttl = kept_until(challenge.forgotten_at(), self.now());
        let finish = Deadline::after(FINISH);
        match forgotten {
            Some(held) => self.challenges.swap(name, held, challenge, ttl, finish).await,
            None => self.challenges.insert(name, challenge, ttl, finish).await,
        }
    }

    fn new_challenge(
        &self,
        target: &ChallengeRef,
        creation: Request,
        request: &CreateChallenge,
        policy: &TenantPolicy,
    ) -> Result<Challenge, Error> {
        let mut nonce = [0; 16];
        self.entropy.fill(&mut nonce)?;
        let options = request.destinations.iter().enumerate().map(|(index, reach)| {
            let failures_follow = request.purpose == Purpose::Registration;
            let canonical = reach.destination.canonical().filter(|_| failures_follow);
            OptionSpec {
                id: reach.id.clone().unwrap_or_else(|| self.keys.option_id(target.name, index)),
                channel: reach.channel,
                destination: reach.destination.clone(),
                subject: canonical.map(|canonical| self.keys.destination_tag(&target.tenant, &canonical)),
            }
        });
        let new = NewChallenge {
            creation,
            account: request.account.clone(),
            purpose: request.purpose,
            transaction: request.transaction.clone(),
            limits: policy.limits(request.purpose).clone(),
            options: options.collect(),
            nonce,
            locale: request.locale.clone(),
        };
        Ok(rules::open(new, self.now()))
    }

    /// The lock that leaves no option open: of the account, or of every destination of a registration.
    async fn locked_out(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        policy: &TenantPolicy,
        deadline: Deadline,
    ) -> Result<Option<Locked>, Error> {
        let mut subjects: Vec<Name> =
            challenge.options.iter().map(|option| self.subject_of(target, challenge, option)).collect();
        subjects.dedup();
        let mut lock = None;
        for subject in subjects {
            lock = self.standing(subject, &policy.lock, deadline).await?.locked;
            if lock.is_none() {
                break;
            }
        }
        Ok(lock)
    }

    async fn first_send(
        &self,
        caller: Caller,
        target: ChallengeRef,
        identity: Request,
        challenge: &Challenge,
        request: CreateChallenge,
    ) -> Result<crate::domain::outcome::Sent, Error> {
        let first =
            challenge.options.first().ok_or_else(|| Error::Internal("a challenge without options".to_owned()))?;
        let ask = SendAsk {
            target,
            challenge: caller.request_id.clone(),
            request: identity,
            option: first.id.clone(),
            parameters: request.parameters,
            client: request.client,
        };
        self.send(&caller, ask).await
    }
}

/// What came of looking for the challenge, or opening it.
enum Opening {
    Challenge(Box<Challenge>),
    Refused(Created),
}

/// The challenge is there: the same request is answered again, any other is refused.
fn repetition(challenge: Challenge, identity: &Request) -> Result<Opening, Error> {
    let same = challenge.creation == *identity;
    let known = matches!(rules::recall(&challenge, identity), Recall::Creation | Recall::Reply(_) | Recall::Sending(_));
    if same && known { Ok(Opening::Challenge(Box::new(challenge))) } else { Err(Error::IdempotencyViolation) }
}
