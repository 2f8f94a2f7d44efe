//! Challenges and their lockouts: located, read, decided about, committed, remembered.

use std::{sync::Arc, time::Duration};

use super::{
    challenge_ref::ChallengeRef,
    decisions::Decisions,
    error::Error,
    gate::Gate,
    memory::{Memory, Snapshot},
    records::{Records, is_own, versioned},
    request::Caller,
    tags,
    timing::{FINISH, INDEX_MARGIN, MAX_CONFLICTS},
};
use crate::{
    domain::{
        canonical::Canonical,
        challenge::Challenge,
        ids::{IdempotencyKey, Tenant},
        invariants,
        lockout::Lockout,
        policy::{TenantPolicy, Tenants},
        purpose::Purpose,
        rules::{self, Command, Decision, State},
        time::Timestamp,
    },
    ports::{
        clock::{Deadline, Stopwatch},
        store::{Change, Claimed, Committed, Name, Partition, Sealed, Store},
    },
};

/// Challenges and lockouts, as the use cases work with them.
pub(super) struct States {
    pub(super) store: Arc<dyn Store>,
    pub(super) records: Records,
    gate: Arc<Gate>,
    pub(super) memory: Memory,
    pub(super) decisions: Decisions,
    tenants: Tenants,
}

/// A state to decide by, with the records that it comes from.
struct Loaded {
    snapshot: Snapshot,
    state: State,
    /// Whether it was read from the store within this request, so that a refusal may rest on it.
    is_fresh: bool,
}

/// A decision that is committed, or that needs no commit.
pub(super) struct Changed<C: Command> {
    pub(super) partition: Partition,
    pub(super) before: State,
    pub(super) after: State,
    pub(super) command: C,
    pub(super) outcome: C::Outcome,
}

impl States {
    pub(super) fn new(
        store: Arc<dyn Store>,
        records: Records,
        gate: Arc<Gate>,
        decisions: Decisions,
        tenants: Tenants,
    ) -> Self {
        Self { store, records, gate, memory: Memory::new(), decisions, tenants }
    }

    /// A request as its challenge remembers it.
    pub(super) fn key(&self, target: &ChallengeRef, caller: &Caller, content: Canonical) -> IdempotencyKey {
        self.records.keys().request_key(target.name, &caller.request_id, content)
    }

    pub(super) fn policy(&self, tenant: &Tenant) -> Result<&TenantPolicy, Error> {
        self.tenants.of(tenant).ok_or(Error::Forbidden)
    }

    /// The time that everything is judged and dated by.
    pub(super) fn now(&self) -> Result<Timestamp, Error> {
        Ok(self.gate.now()?)
    }

    /// Has the rules decide a command, and commits what they decide. `command` is made anew for each state that is tried,
    /// since it may depend on it. A conflict starts over with what is there.
    ///
    /// An outcome that changes nothing is only told from a fresh read, unless it is a recorded answer.
    pub(super) async fn change<C: Command>(
        &self,
        target: &ChallengeRef,
        deadline: Deadline,
        command: impl Fn(&State) -> Result<C, Error>,
    ) -> Result<Changed<C>, Error> {
        let policy = &self.policy(&target.tenant)?.lock;
        // The rare ways are boxed: what a call awaits is moved several times, and is small without them.
        let mut loaded = match self.remembered(target) {
            Some(loaded) => loaded,
            // Also one that is not the caller's: it costs as much as one that never was.
            None => Box::pin(self.reload(target, deadline)).await?,
        };
        tags::note_owner(self.records.keys(), target, &loaded.state.challenge, loaded.snapshot.partition);
        for _ in 0..MAX_CONFLICTS {
            // An operator's lock of the account stops its registrations too. It lives in another partition: read afresh.
            if loaded.state.challenge.purpose == Purpose::Registration {
                let account = &loaded.state.challenge.account;
                let lock = Box::pin(self.operator_lock(&target.tenant, account, deadline)).await?;
                loaded.state.account_lock = lock;
            }
            let command = command(&loaded.state)?;
            let Decision { state: after, outcome } = rules::decide(&loaded.state, &command, self.now()?, policy);
            if after == loaded.state {
                if !loaded.is_fresh && !C::may_rest_on_memory(&outcome) {
                    loaded = Box::pin(self.reload(target, deadline)).await?;
                    continue;
                }
            } else if let Some(conflict) = self.commit(target, &loaded.snapshot, &after).await? {
                let is_there = conflict.challenge.is_some();
                loaded = if is_there {
                    self.loaded(target, conflict, true)?
                } else {
                    Box::pin(self.reload(target, deadline)).await?
                };
                continue;
            }
            let Loaded { snapshot: Snapshot { partition, .. }, state: before, .. } = loaded;
            self.decisions.tell_overdue(target, &before, &after, command.settles());
            return Ok(Changed { partition, before, after, command, outcome });
        }
        Err(Error::Contention)
    }

    /// A challenge as the store holds it.
    pub(super) async fn read(&self, target: &ChallengeRef, deadline: Deadline) -> Result<State, Error> {
        let Loaded { state, snapshot, .. } = self.reload(target, deadline).await?;
        tags::note_owner(self.records.keys(), target, &state.challenge, snapshot.partition);
        Ok(state)
    }

    /// Claims the id of a new challenge for a partition, at least for so long and a margin, and reads what is there. `None`: the
    /// id belongs to another partition.
    pub(super) async fn claim(
        &self,
        target: &ChallengeRef,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Option<Snapshot>, Error> {
        // The claim's life runs from before it was asked for: its answer, or the one beside it, may be late.
        let asked = Stopwatch::start();
        let claim = self.store.claim(target.name, partition, life + INDEX_MARGIN, deadline);
        let (claimed, read) = tokio::join!(claim, self.read_partition(target.name, partition, deadline, deadline));
        let Claimed::Ours(life) = claimed? else { return Ok(None) };
        Ok(Some(Snapshot { located_until: Deadline::after(life.saturating_sub(asked.elapsed())), ..read? }))
    }

    async fn read_partition(
        &self,
        name: Name,
        partition: Partition,
        located_until: Deadline,
        deadline: Deadline,
    ) -> Result<Snapshot, Error> {
        let records = self.store.read(partition, &[name, Name::LOCKOUT], deadline).await?;
        self.snapshot(name, partition, located_until, records)
    }

    /// Commits a new challenge beside the lockout that it was judged by. What is there instead, on a conflict.
    pub(super) async fn create(
        &self,
        target: &ChallengeRef,
        read: &Snapshot,
        challenge: Challenge,
    ) -> Result<Option<Snapshot>, Error> {
        let lockout = read.lockout.as_ref().map_or_else(Arc::default, |lockout| Arc::clone(&lockout.value));
        let state = State { challenge: Arc::new(challenge), lockout, account_lock: None };
        self.commit(target, read, &state).await
    }

    /// The state as this replica remembers it. Of a forgotten challenge the id may name another one by now.
    fn remembered(&self, target: &ChallengeRef) -> Option<Loaded> {
        self.loaded(target, self.memory.get(target.name)?, false).ok()
    }

    async fn reload(&self, target: &ChallengeRef, deadline: Deadline) -> Result<Loaded, Error> {
        if let Some((partition, located_until)) = self.memory.partition(target.name) {
            let snapshot = self.read_partition(target.name, partition, located_until, deadline).await?;
            if snapshot.challenge.is_some() {
                return self.read_anew(target, snapshot);
            }
        }
        let names = [target.name, Name::LOCKOUT];
        // The life of the entry runs from before it was asked for: the answer may be late.
        let asked = Stopwatch::start();
        let located = self.store.locate(target.name, &names, deadline).await?.ok_or(Error::InvalidIdentifier)?;
        let located_until = Deadline::after(located.life.saturating_sub(asked.elapsed()));
        let partition = located.partition;
        let snapshot = match located.records {
            Some(records) => self.snapshot(target.name, partition, located_until, records)?,
            None => self.read_partition(target.name, partition, located_until, deadline).await?,
        };
        self.read_anew(target, snapshot)
    }

    fn read_anew(&self, target: &ChallengeRef, snapshot: Snapshot) -> Result<Loaded, Error> {
        self.memory.remember(target.name, &snapshot);
        self.loaded(target, snapshot, true)
    }

    /// A challenge that is forgotten, or of a purpose that is not the caller's, is none.
    fn loaded(&self, target: &ChallengeRef, snapshot: Snapshot, is_fresh: bool) -> Result<Loaded, Error> {
        let challenge = snapshot.challenge.as_ref().ok_or(Error::InvalidIdentifier)?;
        let is_own = target.is_own(&challenge.value);
        if !is_own || challenge.value.is_forgotten(self.now()?) {
            return Err(Error::InvalidIdentifier);
        }
        let lockout = snapshot.lockout.as_ref().map_or_else(Arc::default, |lockout| Arc::clone(&lockout.value));
        let state = State { challenge: Arc::clone(&challenge.value), lockout, account_lock: None };
        Ok(Loaded { snapshot, state, is_fresh })
    }

    fn snapshot(
        &self,
        name: Name,
        partition: Partition,
        located_until: Deadline,
        records: Vec<Option<Sealed>>,
    ) -> Result<Snapshot, Error> {
        let mut records = records.into_iter();
        let (challenge, lockout) = (records.next().flatten(), records.next().flatten());
        let challenge = challenge.map(|sealed| self.records.open(partition, name, &sealed)).transpose()?;
        let lockout = lockout.map(|sealed| self.records.open(partition, Name::LOCKOUT, &sealed)).transpose()?;
        Ok(Snapshot { partition, challenge, lockout, located_until })
    }

    /// Commits a state over the records that it was decided by. What is there instead, on a conflict.
    async fn commit(&self, target: &ChallengeRef, read: &Snapshot, next: &State) -> Result<Option<Snapshot>, Error> {
        let (name, partition, now) = (target.name, read.partition, self.now()?);
        if let Some(before) = read.challenge.as_ref().filter(|before| !before.value.is_forgotten(now)) {
            invariants::check_change(&before.value, &next.challenge)
                .map_err(|broken| Error::Internal(format!("invariant: {broken}")))?;
        }
        let forgotten_at = next.challenge.forgotten_at();
        let is_lengthened = read.challenge.as_ref().is_none_or(|before| before.value.forgotten_at() != forgotten_at);
        // Zero leaves the time to live as it is.
        let ttl = if is_lengthened { forgotten_at.since(now).max(Duration::from_secs(1)) } else { Duration::ZERO };
        let challenge = self.records.change_of(partition, name, read.challenge.as_ref(), &next.challenge, ttl)?;
        let lockout = match &read.lockout {
            None if *next.lockout == Lockout::default() => Change { name: Name::LOCKOUT, expected: None, write: None },
            before => self.records.change_of(
                partition,
                Name::LOCKOUT,
                before.as_ref(),
                &next.lockout,
                next.lockout.kept_for(now),
            )?,
        };
        let changes = [challenge, lockout];
        let committed = self.store.commit(partition, &changes, Deadline::after(FINISH)).await;
        let committed = committed.inspect_err(|_| self.memory.forget(name, partition))?;
        match committed {
            Committed::Conflict(records) if !is_own(&changes, &records) => {
                let conflict = self.snapshot(name, partition, read.located_until, records)?;
                self.memory.remember(name, &conflict);
                Ok(Some(conflict))
            }
            Committed::Done | Committed::Conflict(_) => {
                let [challenge, lockout] = &changes;
                let written = Snapshot {
                    partition,
                    challenge: versioned(challenge, &next.challenge),
                    lockout: versioned(lockout, &next.lockout),
                    located_until: read.located_until,
                };
                self.memory.remember(name, &written);
                Ok(None)
            }
        }
    }
}
