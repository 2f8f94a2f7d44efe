//! Subjects: whose failures they are, and the load–decide–swap loop over them.

use super::{
    MAX_RACES, Otp,
    challenges::ChallengeRef,
    error::Error,
    records::{Held, Written},
};
use crate::{
    domain::{
        challenge::{Challenge, ChallengeOption, Ended, Phase},
        policy::LockPolicy,
        purpose::Purpose,
        subject::{self, Command, Standing, Subject},
    },
    ports::{clock::Deadline, store::Name},
};

impl Otp {
    /// The subject of an option: the account, or for a registration the destination; the account where a provider keeps
    /// the destination to itself.
    pub(super) fn subject_of(&self, target: &ChallengeRef, challenge: &Challenge, option: &ChallengeOption) -> Name {
        match (challenge.purpose, option.subject) {
            (Purpose::Registration, Some(destination)) => Name(destination.0),
            _ => self.keys.account_name(&target.tenant, &challenge.account),
        }
    }

    /// The subject of the attempts at a challenge: of the option with the live code; after the end, of the last one sent to.
    pub(super) fn subject_of_attempt(&self, target: &ChallengeRef, challenge: &Challenge) -> Option<Name> {
        let live = challenge.live_code().map(|code| code.option);
        let last = || challenge.timeline.iter().rev().find_map(|event| event.option);
        let option = live.or_else(last).and_then(|index| challenge.option_at(index)).or(challenge.options.first())?;
        Some(self.subject_of(target, challenge, option))
    }

    /// The lock ladder of a challenge's tenant, as it is today.
    pub(super) fn lock_policy(&self, target: &ChallengeRef) -> Result<&LockPolicy, Error> {
        Ok(&self.tenants.of(&target.tenant).ok_or(Error::Forbidden)?.lock)
    }

    /// How a subject stands, by a fresh load.
    pub(super) async fn standing(
        &self,
        name: Name,
        policy: &LockPolicy,
        deadline: Deadline,
    ) -> Result<Standing, Error> {
        let held = self.subjects.load(name, deadline).await?;
        let subject = held.map(|held| held.value).unwrap_or_default();
        let now = self.now().max(subject.latest_at);
        Ok(subject.standing(now, policy))
    }

    /// Applies a command to a subject.
    pub(super) async fn change_subject(
        &self,
        name: Name,
        command: &Command,
        policy: &LockPolicy,
        deadline: Deadline,
    ) -> Result<(Subject, Standing), Error> {
        self.change_subject_in(MAX_RACES, name, command, policy, deadline).await
    }

    /// Applies a command to a subject, or gives up with [`Error::Contention`] after so many lost races: nothing has
    /// changed then.
    pub(super) async fn change_subject_in(
        &self,
        races: usize,
        name: Name,
        command: &Command,
        policy: &LockPolicy,
        deadline: Deadline,
    ) -> Result<(Subject, Standing), Error> {
        let mut held = self.subjects.remembered(name);
        if held.is_none() && !may_insert_unseen(command) {
            held = self.subjects.load(name, deadline).await?;
            if held.is_none() {
                return Ok(subject::decide(&Subject::default(), command, self.now(), policy));
            }
        }
        for _ in 0..races {
            let before = held.as_ref().map(|held| held.value.clone()).unwrap_or_default();
            let now = self.now();
            let (next, standing) = subject::decide(&before, command, now, policy);
            if !must_write(command, &before, &next, &standing) {
                match &held {
                    Some(known) if !known.fresh && !is_settled(command, &known.value) => {
                        held = self.subjects.load(name, deadline).await?;
                        continue;
                    }
                    _ => return Ok((next, standing)),
                }
            }
            match self.write_subject(name, held.as_ref(), &next, deadline).await? {
                Written::Done => return Ok((next, standing)),
                Written::Lost(other) => held = Some(other),
                Written::Missing => held = None,
            }
        }
        Err(Error::Contention)
    }

    async fn write_subject(
        &self,
        name: Name,
        held: Option<&Held<Subject>>,
        next: &Subject,
        deadline: Deadline,
    ) -> Result<Written<Subject>, Error> {
        let ttl = next.kept_for(self.now());
        match held {
            Some(held) => self.subjects.swap(name, held, next, ttl, deadline).await,
            None => self.subjects.insert(name, next, ttl, deadline).await,
        }
    }
}

/// A command that writes in any case may try to insert a first record unseen: an existing one comes back from that.
fn may_insert_unseen(command: &Command) -> bool {
    match command {
        Command::Fail(_) | Command::Pass(_) | Command::Lock { .. } => true,
        Command::Succeed { .. } | Command::GiveBack(_) | Command::Unlock => false,
    }
}

/// A pass changes nothing, yet takes its place among the attempts by being written.
fn must_write(command: &Command, before: &Subject, next: &Subject, standing: &Standing) -> bool {
    next != before || (matches!(command, Command::Pass(_)) && standing.locked.is_none())
}

/// Forgiving what is forgiven changes nothing now or later, so that even an old version tells that there is nothing to do.
fn is_settled(command: &Command, known: &Subject) -> bool {
    matches!(command, Command::Succeed { attempt, through } if known.has_forgiven(*attempt, *through))
}

impl Challenge {
    /// Whether the attempt of that number was recorded as one that failed, so that its charge is due.
    pub(super) fn recorded_failure(&self, number: u32) -> bool {
        let succeeded = matches!(self.phase, Phase::Ended(Ended::Verified { attempt }) if attempt == number);
        self.attempts >= number && !succeeded
    }
}
