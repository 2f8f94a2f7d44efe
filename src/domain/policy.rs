//! What a tenant's challenges may do. A policy that exists is valid; `config` reports what is not.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ids::Tenant,
    purpose::Purpose,
    quota::{QuotaPolicy, Window},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// What a resend does to the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnResend {
    /// A new code; the old one is void (the RuPay rule).
    Rotate,
    /// The same code with the same expiry, on the same option; another option gets a new code.
    Repeat,
}

/// The limits of one challenge. Recorded at its creation, so a change of policy touches no open challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Digits of a code. 6 to 10 (NIST SP 800-63B-4, 3.1.3.2: at least 6); 4 and 5 only where forced.
    pub code_digits: u8,
    /// How long a code is accepted. 30 s to `challenge_life`.
    pub code_life: Duration,
    /// How long a challenge lasts at most. Up to 10 min (NIST SP 800-63B-4, 3.1.3.2), longer only where forced.
    pub challenge_life: Duration,
    /// How many codes are ever compared. 1 to 20.
    pub max_verification_attempts: u32,
    /// How many sends an option has. 1 to 10.
    pub max_send_attempts: u32,
    /// The waits between sends, over all options; the last one repeats. 0 to 10 of up to 1 h; none: no wait.
    pub resend_gaps: Vec<Duration>,
    /// What a resend does to the code.
    pub on_resend: OnResend,
    /// How long a challenge that has sent is kept after its end. 1 h to 30 days.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            code_digits: 6,
            code_life: 5 * MINUTE,
            challenge_life: 10 * MINUTE,
            max_verification_attempts: 5,
            max_send_attempts: 3,
            resend_gaps: vec![Duration::from_secs(30), MINUTE, 2 * MINUTE],
            on_resend: OnResend::Rotate,
            retention: DAY,
        }
    }
}

/// When consecutive failures lock, and for how long. Read fresh at each failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockPolicy {
    /// Failures before the first lock. 1 to 10 (PCI DSS 8.3.4: at most 10; PSD2 RTS Art. 4(3): 5).
    pub first_after: u32,
    /// Failures before each further lock. 1 to 10.
    pub again_after: u32,
    /// How long each lock lasts; the last one repeats. 1 to 10 spans of at least 1 s.
    pub spans: Vec<Duration>,
    /// Failures that lock for good. `first_after` to 100 (NIST SP 800-63B-4, 3.2.2: at most 100).
    pub for_good_after: u32,
}

impl Default for LockPolicy {
    fn default() -> Self {
        Self { first_after: 10, again_after: 5, spans: vec![30 * MINUTE, 2 * HOUR, 8 * HOUR, DAY], for_good_after: 100 }
    }
}

/// All that a tenant has set for a purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Limits of each challenge.
    pub limits: Limits,
    /// The lock ladder.
    pub lock: LockPolicy,
    /// Quotas over all challenges.
    pub quotas: QuotaPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            lock: LockPolicy::default(),
            quotas: QuotaPolicy {
                destination_sends: vec![Window { max: 5, per: HOUR }, Window { max: 10, per: DAY }],
                account_creations: vec![Window { max: 30, per: HOUR }],
                ..QuotaPolicy::default()
            },
        }
    }
}

/// The policies of one tenant, or of all that have none of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// For purposes without an entry of their own.
    pub common: Policy,
    /// By purpose.
    pub by_purpose: BTreeMap<Purpose, Policy>,
}

impl Policies {
    /// The policy of a purpose.
    pub fn of(&self, purpose: Purpose) -> &Policy {
        self.by_purpose.get(&purpose).unwrap_or(&self.common)
    }
}

/// Which tenants there are, and what each has set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// For tenants without an entry of their own; `None` where those are refused.
    pub others: Option<Policies>,
    /// By tenant.
    pub listed: BTreeMap<Tenant, Policies>,
}

impl Tenants {
    /// Every tenant is accepted under one set of policies.
    pub fn any(policies: Policies) -> Self {
        Self { others: Some(policies), listed: BTreeMap::new() }
    }

    /// The policies of a tenant, or `None` where it is not accepted.
    pub fn of(&self, tenant: &Tenant) -> Option<&Policies> {
        self.listed.get(tenant).or(self.others.as_ref())
    }
}
