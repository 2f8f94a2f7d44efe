//! Asking a provider that checks its own codes. The attempt is reserved, and its failure pending, before it is asked.

use std::{sync::Arc, time::Duration};

use super::{
    challenge_ref::ChallengeRef,
    context::{CallContext, challenge_context, upstream_id},
    error::{Error, Precondition},
    request::{Caller, VerifyOtp},
    route::Routes,
    states::States,
    timing::{FINISH, GRACE, LEASE_MARGIN, provider_deadline, within_lease},
};
use crate::{
    domain::{
        challenge::{Challenge, LiveCode},
        outcome::Verified,
        rules::{AskResult, AskStep, Asked, SettleAsk, Verify},
        time::Timestamp,
    },
    ports::{
        clock::Deadline,
        provider::{Check, Checked, ClientContext, Failure, Provider},
    },
};

/// Asks providers about codes.
pub(super) struct Asks {
    states: Arc<States>,
    routes: Routes,
}

impl Asks {
    pub(super) fn new(states: Arc<States>, routes: Routes) -> Self {
        Self { states, routes }
    }

    /// How long the provider of a code may take to answer, and a margin.
    pub(super) fn lease(&self, code: &LiveCode) -> Duration {
        let timeout = self.routes.named(&code.provider).map(|provider| provider.capabilities().timeout);
        timeout.unwrap_or(FINISH).saturating_add(LEASE_MARGIN)
    }

    /// Why the provider of the live code cannot be asked: found out before an attempt is used up for it.
    pub(super) fn obstacle(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        code: &LiveCode,
        verify: &Verify,
        request: &VerifyOtp,
    ) -> Option<Error> {
        let Some(provider) = self.routes.named(&code.provider) else {
            tracing::error!(provider = code.provider, "the provider of a live code is not configured any more");
            return Some(Error::Precondition(Precondition::NoProvider));
        };
        if let Some(failure) = provider.refusal() {
            return Some(failure.into());
        }
        let asked =
            Asked { provider: String::new(), reference: code.reference.clone(), option: code.option, repeated: false };
        let now = match self.states.now() {
            Ok(now) => now,
            Err(error) => return Some(error),
        };
        let check = self.question(target, challenge, &asked, verify, request, now)?;
        provider.check_error(&check).map(Error::Invalid)
    }

    /// Asks, settles, and only then tells; with the challenge as it was before the settle.
    pub(super) async fn ask(
        &self,
        caller: &Caller,
        target: &ChallengeRef,
        challenge: &Challenge,
        verify: &Verify,
        asked: &Asked,
        request: &VerifyOtp,
    ) -> Result<(Verified, Arc<Challenge>), Error> {
        let lease_until = challenge.asking().map_or(Timestamp::default(), |asking| asking.lease_until);
        let now = self.states.now()?;
        let deadline = within_lease(provider_deadline(caller), lease_until, now);
        let check = self.question(target, challenge, asked, verify, request, now);
        let checked = match (self.routes.named(&asked.provider), check, deadline) {
            (Some(provider), Some(check), Some(deadline)) => ask_provider(provider.as_ref(), check, deadline).await,
            (_, _, None) => Checked::Failed(Failure::Unavailable { retry_after: None }),
            _ => Checked::Failed(Failure::Refused),
        };
        let failure = match &checked {
            Checked::Failed(failure) => (*failure).into(),
            Checked::Invalid(error) => Error::Invalid(*error),
            _ => Error::ProviderUnavailable { retry_after: None },
        };
        let (key, token) = (verify.key, verify.token);
        let result = result_of(checked);
        let settle = |_: &_| Ok(SettleAsk { key, token, result: result.clone() });
        let settled = self.states.change(target, Deadline::after(FINISH), settle).await?;
        self.states.decisions.tell_asked(target, &settled, (asked.option, &asked.provider), &failure);
        match settled.outcome {
            AskStep::Answer(verified) => Ok((verified, settled.before.challenge)),
            AskStep::Unknown => Err(Error::VerificationOutcomeUnknown),
            AskStep::Refunded => Err(failure),
        }
    }

    fn question(
        &self,
        target: &ChallengeRef,
        challenge: &Challenge,
        asked: &Asked,
        verify: &Verify,
        request: &VerifyOtp,
        now: Timestamp,
    ) -> Option<Check> {
        let client = ClientContext::default();
        let call = CallContext { challenge: request.challenge.clone(), parameters: request.parameters.clone(), client };
        Some(Check {
            context: challenge_context(self.states.records.keys(), target, challenge, asked.option, &call, now)?,
            otp: request.otp.clone(),
            reference: asked.reference.clone(),
            repeated: asked.repeated,
            idempotency_key: upstream_id(&call, challenge, "check", &verify.key),
        })
    }
}

async fn ask_provider(provider: &dyn Provider, check: Check, deadline: Deadline) -> Checked {
    let deadline = deadline.at_most(provider.capabilities().timeout);
    let guard = Deadline::after(deadline.remaining() + GRACE);
    let checked = tokio::time::timeout_at(guard.instant(), provider.check(check, deadline)).await;
    checked.unwrap_or(Checked::Unknown)
}

fn result_of(checked: Checked) -> AskResult {
    match checked {
        Checked::Matched(evidence) => AskResult::Matched(evidence),
        Checked::NotMatched { left } => AskResult::NotMatched { left },
        Checked::Gone => AskResult::Gone,
        Checked::AttemptsExceeded => AskResult::AttemptsExceeded,
        Checked::AlreadyUsed => AskResult::AlreadyUsed,
        // What the caller gave is looked at before an attempt is reserved, so that this is a provider's answer too.
        Checked::Failed(_) | Checked::Invalid(_) => AskResult::NotJudged,
        Checked::Unknown => AskResult::Unknown,
    }
}
