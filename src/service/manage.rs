//! CancelChallenge and GetChallenge, and what operators do with accounts.

use super::{
    FINISH, Otp,
    error::{Error, Precondition},
    fingerprint,
    request::{Caller, LockAccount, UnlockAccount},
};
use crate::{
    domain::{
        ids::{AccountId, RequestId},
        outcome::{AccountView, ChallengeView},
        rules::{self, Cancel, CancelStep},
        subject::{Command, Subject},
    },
    ports::clock::Deadline,
};

impl Otp {
    /// Ends a challenge.
    ///
    /// # Errors
    /// See [`Error`]; a verified challenge cannot be cancelled.
    pub async fn cancel_challenge(&self, caller: Caller, challenge: RequestId) -> Result<(), Error> {
        let target = self.challenge_ref(&caller, &challenge)?;
        let request = self.request(&caller, &target, fingerprint::cancel(&challenge));
        let (_, step) = self.change(&target, &Cancel { request }, caller.deadline).await?;
        match step {
            CancelStep::Done => Ok(()),
            CancelStep::Conflict => Err(Error::IdempotencyViolation),
            CancelStep::Verified => Err(Error::Precondition(Precondition::Verified)),
        }
    }

    /// Describes a challenge, and changes nothing.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_challenge(&self, caller: Caller, challenge: RequestId) -> Result<ChallengeView, Error> {
        let target = self.challenge_ref(&caller, &challenge)?;
        let held = self.reload(target.name, caller.deadline).await?;
        Ok(rules::view(&held.value, self.now()))
    }

    /// Shows an account.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_account(&self, caller: Caller, account: AccountId) -> Result<AccountView, Error> {
        self.policy(&caller)?;
        let name = self.keys.account_name(&caller.tenant, &account);
        let held = self.subjects.load(name, caller.deadline).await?;
        let subject = held.map(|held| held.value).unwrap_or_default();
        Ok(subject.view(self.now()))
    }

    /// Locks an account until a time, or until it is unlocked.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn lock_account(&self, caller: Caller, request: LockAccount) -> Result<AccountView, Error> {
        let subject = self.operate(&caller, &request.account, &Command::Lock { until: request.until }).await?;
        tracing::info!(otp.tenant = caller.tenant.as_str(), reason = request.reason, "an operator locked an account");
        Ok(subject.view(self.now()))
    }

    /// Lifts every lock of an account and forgives its failures.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn unlock_account(&self, caller: Caller, request: UnlockAccount) -> Result<AccountView, Error> {
        let subject = self.operate(&caller, &request.account, &Command::Unlock).await?;
        tracing::info!(otp.tenant = caller.tenant.as_str(), reason = request.reason, "an operator unlocked an account");
        Ok(subject.view(self.now()))
    }

    async fn operate(&self, caller: &Caller, account: &AccountId, command: &Command) -> Result<Subject, Error> {
        // The ladder only matters to failures, which no operator's command counts.
        let policy = &self.policy(caller)?.lock;
        let name = self.keys.account_name(&caller.tenant, account);
        let (subject, _) = self.change_subject(name, command, policy, Deadline::after(FINISH)).await?;
        Ok(subject)
    }
}
