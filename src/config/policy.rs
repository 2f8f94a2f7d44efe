//! The keys of a policy: `[policy]`, and the same for a tenant; for a purpose the limits of a challenge only.
//!
//! A section says what differs from the policy below it. It is read once, as a list of changes, and the list is applied to
//! each policy that the section stands over.

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{
    policy::{Limits, LockPolicy, OnResend, TenantPolicy},
    purpose::Purpose,
    quota::{QuotaPolicy, Window},
};
use crate::settings::{Diagnostics, Section, values};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What one `policy` section says.
#[derive(Default)]
pub(super) struct PolicyLayer {
    limits: Layer<Limits>,
    by_purpose: BTreeMap<Purpose, Layer<Limits>>,
    lock: Layer<LockPolicy>,
    quotas: Layer<QuotaPolicy>,
}

impl PolicyLayer {
    /// Reads a section. `weak` allows what [`crate::config::Force::weak_policy`] does.
    pub(super) fn read(section: &mut Section<'_>, weak: bool) -> Self {
        let by_purpose = section.section("purposes", |section| {
            let purposes = Purpose::ALL.into_iter();
            purposes.filter_map(|purpose| Some((purpose, read_purpose(section, purpose, weak)?))).collect()
        });
        Self {
            by_purpose,
            limits: Layer::limits(section, weak),
            lock: section.section("lock", |section| Layer::lock(section)),
            quotas: section.section("quotas", |section| Layer::quotas(section)),
        }
    }

    /// The policy with this layer over it.
    pub(super) fn over(&self, base: &TenantPolicy, diagnostics: &Diagnostics) -> TenantPolicy {
        let of_purpose = |purpose: Purpose| {
            let own = self.by_purpose.get(&purpose);
            let differs = own.is_some() || base.by_purpose.contains_key(&purpose);
            let common = differs.then(|| self.limits.over_limits(base.limits(purpose), diagnostics))?;
            Some((purpose, own.map_or(common.clone(), |layer| layer.over_limits(&common, diagnostics))))
        };
        TenantPolicy {
            limits: self.limits.over_limits(&base.limits, diagnostics),
            by_purpose: Purpose::ALL.into_iter().filter_map(of_purpose).collect(),
            lock: self.lock.over_lock(&base.lock, diagnostics),
            quotas: self.quotas.over(base.quotas.clone()),
        }
    }
}

fn read_purpose(purposes: &mut Section<'_>, purpose: Purpose, weak: bool) -> Option<Layer<Limits>> {
    purposes.section(purpose.name(), |section| {
        let of_tenant = |what: &str| format!("cannot differ by purpose: {what} are counted over all purposes together");
        section.refuse("lock", &of_tenant("failures"));
        section.refuse("quotas", &of_tenant("sends and creations"));
        (!section.is_empty()).then(|| Layer::limits(section, weak))
    })
}

/// One key of a section, applied.
type Change<P> = Box<dyn Fn(&mut P)>;

/// What one section changes in a part of the policy.
struct Layer<P> {
    path: String,
    changes: Vec<Change<P>>,
}

impl<P> Default for Layer<P> {
    fn default() -> Self {
        Self { path: String::new(), changes: Vec::new() }
    }
}

impl<P: 'static> Layer<P> {
    fn of(section: &Section<'_>) -> Self {
        Self { path: section.path().to_owned(), ..Self::default() }
    }

    /// Adds a change, where the section has a value for it.
    fn set<T: Clone + 'static>(&mut self, value: Option<T>, change: fn(&mut P, T)) {
        if let Some(value) = value {
            self.changes.push(Box::new(move |policy| change(policy, value.clone())));
        }
    }

    fn over(&self, mut base: P) -> P {
        self.changes.iter().for_each(|change| change(&mut base));
        base
    }
}

impl Layer<Limits> {
    fn limits(section: &mut Section<'_>, weak: bool) -> Self {
        let resends = [("rotate", OnResend::Rotate), ("repeat", OnResend::Repeat)];
        let digits = if weak { 4 } else { 6 }..=10;
        let life = values::span(30 * SECOND..=if weak { DAY } else { 10 * MINUTE });
        let unforced = |allowed: &'static str| {
            move |message: String| {
                if weak { message } else { format!("{message} (set force.weak_policy to allow {allowed})") }
            }
        };
        let life = |text: &str| life(text).map_err(unforced("more"));
        let mut layer = Self::of(section);
        layer.set(section.integer_or("code_digits", digits, unforced("4 and 5")), |it, to| it.code_digits = to);
        layer.set(section.text("challenge_life", life), |it, to| {
            it.challenge_life = to;
            // A code ends with its challenge, so a section that shortens the challenge alone shortens both.
            it.code_life = it.code_life.min(to);
        });
        layer.set(section.text("code_life", life), |it, to| it.code_life = to);
        layer.set(section.integer("max_verification_attempts", 1..=20), |it, to| it.max_verification_attempts = to);
        layer.set(section.integer("max_send_attempts", 1..=10), |it, to| it.max_send_attempts = to);
        let gaps = section.list("resend_gaps", 0..=10, values::span(Duration::ZERO..=HOUR));
        layer.set(gaps, |it, to| it.resend_gaps = to);
        layer.set(section.text("on_resend", values::word(&resends)), |it, to| it.on_resend = to);
        layer.set(section.text("retention", values::span(HOUR..=30 * DAY)), |it, to| it.retention = to);
        layer
    }

    fn over_limits(&self, base: &Limits, diagnostics: &Diagnostics) -> Limits {
        // Where the base is wrong in itself, that is on record, and is not to be reported again for this section.
        let base = Limits { code_life: base.code_life.min(base.challenge_life), ..base.clone() };
        let limits = self.over(base);
        if limits.code_life > limits.challenge_life {
            let most = values::show(limits.challenge_life);
            let message = format!("must be at most challenge_life, which is {most}");
            diagnostics.cross_field_error(&format!("{}.code_life", self.path), message);
        }
        limits
    }
}

impl Layer<LockPolicy> {
    fn lock(section: &mut Section<'_>) -> Self {
        let mut layer = Self::of(section);
        layer.set(section.integer("first_after", 1..=10), |it, to| it.first_after = to);
        layer.set(section.integer("again_after", 1..=10), |it, to| it.again_after = to);
        layer.set(section.list("spans", 1..=10, values::span(SECOND..=3650 * DAY)), |it, to| it.spans = to);
        layer.set(section.integer("for_good_after", 1..=100), |it, to| it.for_good_after = to);
        layer
    }

    fn over_lock(&self, base: &LockPolicy, diagnostics: &Diagnostics) -> LockPolicy {
        let base = LockPolicy { for_good_after: base.for_good_after.max(base.first_after), ..base.clone() };
        let lock = self.over(base.clone());
        if lock.for_good_after < lock.first_after {
            let (key, message) = if lock.for_good_after == base.for_good_after {
                ("first_after", format!("must be at most for_good_after, which is {}", lock.for_good_after))
            } else {
                ("for_good_after", format!("must be at least first_after, which is {}", lock.first_after))
            };
            diagnostics.cross_field_error(&format!("{}.{key}", self.path), message);
        }
        lock
    }
}

impl Layer<QuotaPolicy> {
    fn quotas(section: &mut Section<'_>) -> Self {
        let mut layer = Self::of(section);
        layer.set(windows(section, "destination_sends"), |it, to| it.destination_sends = to);
        layer.set(windows(section, "account_sends"), |it, to| it.account_sends = to);
        layer.set(windows(section, "tenant_sends"), |it, to| it.tenant_sends = to);
        layer.set(windows(section, "account_creations"), |it, to| it.account_creations = to);
        layer.set(windows(section, "tenant_creations"), |it, to| it.tenant_creations = to);
        layer
    }
}

fn windows(section: &mut Section<'_>, name: &str) -> Option<Vec<Window>> {
    let windows = section.list(name, 0..=QuotaPolicy::MAX_WINDOWS, values::window);
    if let Some(message) = windows.as_deref().and_then(values::conflicting_windows) {
        section.cross_field_error(name, message);
    }
    windows
}
