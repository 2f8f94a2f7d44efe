//! The keys of a policy: `[policy]`, and the same again for a purpose or a tenant.
//!
//! A section says what differs from the policy below it. It is read once, as a [`Layer`], and laid over each policy that
//! it applies to; how the layers stack up is in `tenants`.

use std::time::Duration;

use super::{reader::Section, values};
use crate::domain::{
    policy::{Limits, LockPolicy, OnResend, Policy},
    quota::{QuotaPolicy, Window},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What one section says of a policy.
#[derive(Default)]
pub(super) struct Layer {
    path: String,
    code_digits: Option<u8>,
    code_life: Option<Duration>,
    challenge_life: Option<Duration>,
    max_verification_attempts: Option<u32>,
    max_send_attempts: Option<u32>,
    resend_gaps: Option<Vec<Duration>>,
    on_resend: Option<OnResend>,
    retention: Option<Duration>,
    first_after: Option<u32>,
    again_after: Option<u32>,
    spans: Option<Vec<Duration>>,
    for_good_after: Option<u32>,
    destination_sends: Option<Vec<Window>>,
    account_sends: Option<Vec<Window>>,
    tenant_sends: Option<Vec<Window>>,
    account_creations: Option<Vec<Window>>,
    tenant_creations: Option<Vec<Window>>,
}

impl Layer {
    /// Reads a section. `weak` allows what [`crate::config::Force::weak_policy`] does.
    pub(super) fn read(section: &mut Section<'_>, weak: bool) -> Self {
        let mut layer = Self { path: section.path().to_owned(), ..Self::default() };
        layer.read_limits(section, weak);
        section.section("lock", |section| layer.read_lock(section));
        section.section("quotas", |section| layer.read_quotas(section));
        layer
    }

    fn read_limits(&mut self, section: &mut Section<'_>, weak: bool) {
        let resends = [("rotate", OnResend::Rotate), ("repeat", OnResend::Repeat)];
        let longest = if weak { DAY } else { 10 * MINUTE };
        let life = || values::span(30 * SECOND..=longest);
        let unforced = |allowed: &'static str| {
            move |message: String| {
                if weak { message } else { format!("{message} (set force.weak_policy to allow {allowed})") }
            }
        };
        self.code_digits = section.integer_or("code_digits", if weak { 4 } else { 6 }..=10, unforced("4 and 5"));
        self.code_life = section.text("code_life", |text| life()(text).map_err(unforced("more")));
        self.challenge_life = section.text("challenge_life", |text| life()(text).map_err(unforced("more")));
        self.max_verification_attempts = section.integer("max_verification_attempts", 1..=20);
        self.max_send_attempts = section.integer("max_send_attempts", 1..=10);
        self.resend_gaps = section.list("resend_gaps", 0..=10, values::span(Duration::ZERO..=HOUR));
        self.on_resend = section.text("on_resend", values::word(&resends));
        self.retention = section.text("retention", values::span(HOUR..=30 * DAY));
    }

    fn read_lock(&mut self, section: &mut Section<'_>) {
        self.first_after = section.integer("first_after", 1..=10);
        self.again_after = section.integer("again_after", 1..=10);
        self.spans = section.list("spans", 1..=10, values::span(SECOND..=3650 * DAY));
        self.for_good_after = section.integer("for_good_after", 1..=100);
    }

    fn read_quotas(&mut self, section: &mut Section<'_>) {
        let mut windows = |name| {
            let windows = section.list(name, 0..=QuotaPolicy::MAX_WINDOWS, values::window);
            if let Some(message) = windows.as_deref().and_then(values::misfit) {
                section.misfit(name, message);
            }
            windows
        };
        self.destination_sends = windows("destination_sends");
        self.account_sends = windows("account_sends");
        self.tenant_sends = windows("tenant_sends");
        self.account_creations = windows("account_creations");
        self.tenant_creations = windows("tenant_creations");
    }

    /// The policy with this layer over it, and what in the layer does not fit, by setting.
    pub(super) fn over(&self, base: &Policy) -> (Policy, Vec<(String, String)>) {
        let policy = Policy { limits: self.limits(base), lock: self.lock(base), quotas: self.quotas(base) };
        let misfits = self.misfits(&policy);
        (policy, misfits)
    }

    fn limits(&self, base: &Policy) -> Limits {
        let base = &base.limits;
        let challenge_life = self.challenge_life.unwrap_or(base.challenge_life);
        Limits {
            code_digits: self.code_digits.unwrap_or(base.code_digits),
            // A code ends with its challenge: who shortens only the challenge means both.
            code_life: self.code_life.unwrap_or(base.code_life.min(challenge_life)),
            challenge_life,
            max_verification_attempts: self.max_verification_attempts.unwrap_or(base.max_verification_attempts),
            max_send_attempts: self.max_send_attempts.unwrap_or(base.max_send_attempts),
            resend_gaps: self.resend_gaps.clone().unwrap_or_else(|| base.resend_gaps.clone()),
            on_resend: self.on_resend.unwrap_or(base.on_resend),
            retention: self.retention.unwrap_or(base.retention),
        }
    }

    fn lock(&self, base: &Policy) -> LockPolicy {
        let base = &base.lock;
        LockPolicy {
            first_after: self.first_after.unwrap_or(base.first_after),
            again_after: self.again_after.unwrap_or(base.again_after),
            spans: self.spans.clone().unwrap_or_else(|| base.spans.clone()),
            for_good_after: self.for_good_after.unwrap_or(base.for_good_after),
        }
    }

    fn quotas(&self, base: &Policy) -> QuotaPolicy {
        let base = &base.quotas;
        let pick = |own: &Option<Vec<Window>>, base: &Vec<Window>| own.clone().unwrap_or_else(|| base.clone());
        QuotaPolicy {
            destination_sends: pick(&self.destination_sends, &base.destination_sends),
            account_sends: pick(&self.account_sends, &base.account_sends),
            tenant_sends: pick(&self.tenant_sends, &base.tenant_sends),
            account_creations: pick(&self.account_creations, &base.account_creations),
            tenant_creations: pick(&self.tenant_creations, &base.tenant_creations),
        }
    }

    fn misfits(&self, policy: &Policy) -> Vec<(String, String)> {
        let mut misfits = Vec::new();
        let (limits, lock) = (&policy.limits, &policy.lock);
        if limits.code_life > limits.challenge_life {
            let most = values::show(limits.challenge_life);
            let message = format!("must be at most challenge_life, which is {most}");
            misfits.push((format!("{}.code_life", self.path), message));
        }
        if lock.for_good_after < lock.first_after {
            let (own, message) = match self.for_good_after {
                Some(_) => ("for_good_after", format!("must be at least first_after, which is {}", lock.first_after)),
                None => ("first_after", format!("must be at most for_good_after, which is {}", lock.for_good_after)),
            };
            misfits.push((format!("{}.lock.{own}", self.path), message));
        }
        misfits
    }
}
