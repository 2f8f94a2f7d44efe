//! What a tenant's challenges may do. Every value that exists here is valid: `config` refuses the others.

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

/// The limits of one challenge. They are recorded at its creation, so a change of policy touches no open challenge.
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

/// When consecutive failures lock, and for how long. The policy of today applies, also to challenges that were created under
/// another one.
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

/// The policy of one tenant, or of all tenants without one of their own.
///
/// The limits of a challenge may differ by purpose. Lock ladder and quotas may not: failures and sends are counted over all
/// purposes together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantPolicy {
    /// The limits of challenges whose purpose has none of its own.
    pub limits: Limits,
    /// The limits of challenges by purpose.
    pub by_purpose: BTreeMap<Purpose, Limits>,
    pub lock: LockPolicy,
    pub quotas: QuotaPolicy,
}

impl TenantPolicy {
    /// The limits of a challenge with this purpose.
    pub fn limits(&self, purpose: Purpose) -> &Limits {
        self.by_purpose.get(&purpose).unwrap_or(&self.limits)
    }
}

impl Default for TenantPolicy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            by_purpose: BTreeMap::new(),
            lock: LockPolicy::default(),
            quotas: QuotaPolicy {
                destination_sends: vec![Window { max: 5, per: HOUR }, Window { max: 10, per: DAY }],
                account_creations: vec![Window { max: 30, per: HOUR }],
                ..QuotaPolicy::default()
            },
        }
    }
}

/// Which tenants are accepted, and the policy of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// For tenants without an entry of their own; `None` where those are refused.
    pub others: Option<TenantPolicy>,
    pub listed: BTreeMap<Tenant, TenantPolicy>,
}

impl Tenants {
    /// The policy of a tenant, or `None` where it is not accepted.
    pub fn of(&self, tenant: &Tenant) -> Option<&TenantPolicy> {
        self.listed.get(tenant).or(self.others.as_ref())
    }
}
