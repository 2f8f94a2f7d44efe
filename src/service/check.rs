//! Asking a provider that checks its own codes. The question is on record, and its failure charged, before it is asked.

use super::{
    FINISH, Otp,
    challenges::ChallengeRef,
    deliver::GRACE,
    error::{Error, Precondition},
    send::retry_after,
};
use crate::{
    domain::{
        challenge::{Challenge, Phase, Target},
        destination::Destination,
        ids::{Request, RequestId},
        outcome::Verified,
        rules::{Asked, CheckResult, CheckStep, SettleCheck, VerifyStep},
        subject::{Command, Standing},
        time::Timestamp,
    },
    ports::{
        clock::Deadline,
        provider::{ChallengeContext, Check, Checked, ClientContext, Parameters},
        store::Name,
    },
    secret::Secret,
};

/// A question on record.
pub(super) struct Ask {
    pub(super) target: ChallengeRef,
    pub(super) identity: Request,
    pub(super) challenge: Challenge,
    pub(super) asked: Asked,
    pub(super) subject: Name,
    /// After the charge.
    pub(super) standing: Standing,
    pub(super) call: CheckAsk,
    /// Until when the caller would hear of it.
    pub(super) deadline: Deadline,
}

/// What only the caller knows of it.
pub(super) struct CheckAsk {
    pub(super) challenge: RequestId,
    pub(super) otp: Secret<String>,
    pub(super) parameters: Parameters,
}

impl Otp {
    /// Asks, settles, and only then tells.
    pub(super) async fn ask(&self, mut ask: Ask) -> Result<Verified, Error> {
        if self.routes.is_sandbox(&ask.asked.provider) {
            // A code that everybody knows forgives no failure but the one charged for it.
            ask.standing.through = 0;
        }
        let result = self.ask_provider(&ask).await;
        let not_matched = result == CheckResult::NotMatched;
        let settle = SettleCheck { request: ask.identity, attempt: ask.asked.attempt, result, standing: ask.standing };
        let (challenge, step) = self.change(&ask.target, &settle, Deadline::after(FINISH)).await?;
        let attempt = self.attempt_of(&ask.target, &challenge, ask.asked.attempt);
        match step {
            CheckStep::Answer { verdict, give_back } => {
                if give_back {
                    self.give_check_back(&ask, &challenge).await?;
                }
                if let Verified::Success(_) = verdict {
                    self.forgive(&ask.target, ask.subject, attempt, ask.standing.through).await?;
                }
                Ok(verdict)
            }
            CheckStep::Unanswered => {
                self.give_check_back(&ask, &challenge).await?;
                Err(Error::VerificationOutcomeUnknown)
            }
            CheckStep::Superseded(step) => {
                // The challenge ended meanwhile, and no answer is on record: only a code that did not match was a failure.
                if !not_matched && matches!(step, VerifyStep::Refused(_)) {
                    self.give_check_back(&ask, &challenge).await?;
                }
                self.superseded(&ask, &challenge, step).await
            }
        }
    }

    async fn ask_provider(&self, ask: &Ask) -> CheckResult {
        let Some(provider) = self.routes.named(&ask.asked.provider) else {
            tracing::error!(provider = ask.asked.provider, "the provider of a live code is not configured any more");
            return CheckResult::Unknown;
        };
        let Some(check) = check(&ask.target, &ask.challenge, &ask.asked, &ask.call, self.now()) else {
            return CheckResult::Unknown;
        };
        let deadline = ask.deadline.at_most(provider.capabilities().timeout);
        let guard = Deadline::after(deadline.remaining() + GRACE);
        let checked = tokio::time::timeout_at(guard.instant(), provider.check(check, deadline)).await;
        result(checked.unwrap_or(Checked::Unknown))
    }

    /// Whether the provider can be asked: found out before an attempt is used up for it.
    pub(super) fn may_ask(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        asked: &Asked,
        call: &CheckAsk,
    ) -> Result<(), Error> {
        let Some(provider) = self.routes.named(&asked.provider) else {
            tracing::error!(provider = asked.provider, "the provider of a live code is not configured any more");
            return Err(Error::Precondition(Precondition::NoProvider));
        };
        if !provider.is_ready() {
            return Err(Error::VerificationOutcomeUnknown);
        }
        let check = check(target, challenge, asked, call, self.now());
        match check.and_then(|check| provider.check_error(&check)) {
            Some(unfit) => Err(Error::Unfit(unfit)),
            None => Ok(()),
        }
    }

    async fn give_check_back(&self, ask: &Ask, challenge: &Challenge) -> Result<(), Error> {
        let command = Command::GiveBack(self.attempt_of(&ask.target, challenge, ask.asked.attempt));
        let policy = self.lock_policy(&ask.target)?;
        self.change_subject(ask.subject, &command, policy, Deadline::after(FINISH)).await?;
        Ok(())
    }

    /// Somebody else settled the question, or ended the challenge, meanwhile.
    async fn superseded(&self, ask: &Ask, challenge: &Challenge, step: VerifyStep) -> Result<Verified, Error> {
        match step {
            VerifyStep::Replay(verified) | VerifyStep::Refused(verified) => Ok(verified),
            VerifyStep::ReplaySuccess { proof, attempt, through, subject } => self
                .success_again(&ask.target, challenge, proof, attempt, through, subject)
                .await
                .map(Verified::Success),
            VerifyStep::Conflict => Err(Error::IdempotencyViolation),
            VerifyStep::Mismatch => Err(Error::InvalidIdentifier),
            VerifyStep::Busy { until } => {
                Err(Error::RequestInProgress { retry_after: retry_after(until.since(self.now())) })
            }
            VerifyStep::NothingSent | VerifyStep::Attempt { .. } | VerifyStep::Ask(_) => {
                Err(Error::VerificationOutcomeUnknown)
            }
        }
    }
}

fn result(checked: Checked) -> CheckResult {
    match checked {
        Checked::Matched(evidence) => {
            CheckResult::Matched { eci: evidence.eci, verification_id: evidence.verification_id }
        }
        Checked::NotMatched => CheckResult::NotMatched,
        Checked::Gone => CheckResult::Gone,
        Checked::AttemptsExceeded => CheckResult::AttemptsExceeded,
        Checked::AlreadyUsed => CheckResult::AlreadyUsed,
        Checked::Failed(_) | Checked::Unknown => CheckResult::Unknown,
    }
}

fn check(
    target: &ChallengeRef,
    challenge: &Challenge,
    asked: &Asked,
    call: &CheckAsk,
    now: Timestamp,
) -> Option<Check> {
    let option = challenge.option_at(asked.option)?;
    let Phase::Open(open) = &challenge.phase else { return None };
    let destination = match &option.target {
        Target::Known(destination) => destination.clone(),
        Target::Masked(_) => Destination::OnFile,
    };
    let context = ChallengeContext {
        now,
        tenant: target.tenant.clone(),
        challenge: call.challenge.clone(),
        account: challenge.account.clone(),
        purpose: challenge.purpose,
        transaction: challenge.transaction.clone(),
        channel: option.channel,
        destination,
        locale: open.locale.clone(),
        parameters: call.parameters.clone(),
        client: ClientContext::default(),
    };
    Some(Check {
        context,
        otp: call.otp.clone(),
        reference: asked.reference.clone(),
        repeated: asked.repeated,
        idempotency_key: format!(
            "{}-{:x}-check-{}",
            call.challenge.as_str(),
            challenge.created_at.as_millis(),
            asked.attempt
        ),
    })
}
