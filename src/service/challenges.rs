//! Challenges: the load–decide–swap loop.

use super::{
    FINISH, MAX_RACES, Otp,
    error::Error,
    records::{Held, Written, kept_until},
};
use crate::{
    domain::{
        challenge::{Challenge, Phase},
        ids::Tenant,
        invariants,
        rules::{self, Command},
        subject::{self, Attempt},
        time::Timestamp,
    },
    ports::{clock::Deadline, store::Name},
};

/// Which challenge, and whose.
#[derive(Clone, Debug)]
pub(super) struct ChallengeRef {
    /// Where it is kept.
    pub(super) name: Name,
    /// The tenant.
    pub(super) tenant: Tenant,
}

impl Otp {
    /// The challenge, as remembered or as stored.
    ///
    /// # Errors
    /// There is none, or none any more.
    pub(super) async fn hold(&self, name: Name, deadline: Deadline) -> Result<Held<Challenge>, Error> {
        // Of a forgotten one the id may name another challenge by now.
        match self.challenges.remembered(name).filter(|held| !held.value.is_forgotten(self.now())) {
            Some(held) => Ok(held),
            None => self.reload(name, deadline).await,
        }
    }

    /// The challenge as stored.
    ///
    /// # Errors
    /// There is none, or none any more.
    pub(super) async fn reload(&self, name: Name, deadline: Deadline) -> Result<Held<Challenge>, Error> {
        let held = self.challenges.load(name, deadline).await?;
        let now = self.now();
        held.filter(|held| !held.value.is_forgotten(now)).ok_or(Error::InvalidIdentifier)
    }

    /// Applies a command to a challenge, from a load or the cache to the swap.
    pub(super) async fn change<C: Command>(
        &self,
        target: &ChallengeRef,
        command: &C,
        deadline: Deadline,
    ) -> Result<(Challenge, C::Outcome), Error> {
        let mut held = self.hold(target.name, deadline).await?;
        for _ in 0..MAX_RACES {
            let decision = rules::decide(&held.value, command, self.now());
            if decision.record == held.value && !held.fresh {
                held = self.reload(target.name, deadline).await?;
                continue;
            }
            match self.commit(target, &held, &decision.record, decision.abandoned_attempt).await? {
                None => return Ok((decision.record, decision.outcome)),
                Some(other) => held = other,
            }
        }
        Err(Error::Contention)
    }

    /// Stores what was decided, if anything changed. Where somebody else was first: what is there now.
    pub(super) async fn commit(
        &self,
        target: &ChallengeRef,
        read: &Held<Challenge>,
        next: &Challenge,
        abandoned_attempt: Option<u32>,
    ) -> Result<Option<Held<Challenge>>, Error> {
        if *next == read.value {
            return Ok(None);
        }
        invariants::check_change(&read.value, next)
            .map_err(|broken| Error::Internal(format!("invariant: {broken}")))?;
        let ttl = kept_until(next.forgotten_at(), self.now());
        let finish = Deadline::after(FINISH);
        match self.challenges.swap(target.name, read, next, ttl, finish).await? {
            Written::Missing => return Err(Error::InvalidIdentifier),
            Written::Lost(other) => return Ok(Some(other)),
            Written::Done => {}
        }
        if matches!(next.phase, Phase::Ended(_)) && next.pending_send.is_none() {
            self.challenges.forget(target.name);
        }
        if let Some(number) = abandoned_attempt {
            self.give_failure_back(target, &read.value, number).await?;
        }
        Ok(None)
    }

    /// Gives the subject of a challenge's live code the failure of an attempt back.
    pub(super) async fn give_failure_back(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        number: u32,
    ) -> Result<(), Error> {
        let Some(subject) = self.subject_of_attempt(target, challenge) else { return Ok(()) };
        let command = subject::Command::GiveBack(self.attempt_of(target, challenge, number));
        self.change_subject(subject, &command, self.lock_policy(target)?, Deadline::after(FINISH)).await?;
        Ok(())
    }

    /// An attempt at a challenge, as its subject remembers it.
    pub(super) fn attempt_of(&self, target: &ChallengeRef, challenge: &Challenge, number: u32) -> Attempt {
        Attempt { challenge: self.keys.challenge_tag(target.name, challenge.created_at), number }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
