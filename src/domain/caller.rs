//! Who calls otpd, and what each caller may do.

use std::{collections::BTreeSet, fmt, sync::Arc};

use super::{
    identity::Identity,
    ids::{MalformedId, Tenant},
    purpose::Purpose,
};

/// The name of a caller in the configuration. The operator chose it, so that logs and metrics may show it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerName(Arc<str>);

impl CallerName {
    /// Takes a name.
    ///
    /// # Errors
    /// It is not 1 to 100 of `[a-zA-Z0-9:_-]`, or begins with an underscore, as what metrics call unknown callers does.
    pub fn parse(text: &str) -> Result<Self, MalformedId> {
        Tenant::parse(text.strip_prefix('_').map_or(text, |_| "")).map(|_| Self(text.into()))
    }

    /// The name as it is configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CallerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallerName({})", self.0)
    }
}

/// What a caller may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerRights {
    /// The tenants that it may name; `None`: all that are accepted.
    pub tenants: Option<BTreeSet<Tenant>>,
    /// The purposes of its challenges; `None`: all. A challenge of another purpose is for this caller one that does not exist.
    pub purposes: Option<BTreeSet<Purpose>>,
    /// Whether it may call `OtpAdminService`.
    pub admin: bool,
    /// How many of its calls are worked on at once; `None`: as many as the server has permits for.
    pub max_in_flight: Option<u32>,
}

impl CallerRights {
    /// Of a caller on a server that knows no callers: everything.
    pub fn of_everybody() -> Self {
        Self { admin: true, ..Self::default() }
    }

    /// Whether it may name a tenant.
    pub fn has_tenant(&self, tenant: &Tenant) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }

    /// Whether it may open and use challenges of a purpose.
    pub fn has_purpose(&self, purpose: Purpose) -> bool {
        self.purposes.as_ref().is_none_or(|purposes| purposes.contains(&purpose))
    }
}

/// A caller as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedCaller {
    /// Its name in logs and metrics.
    pub name: CallerName,
    /// What it is known by; no other caller has one of them.
    pub identities: Vec<Identity>,
    /// What it may do.
    pub rights: CallerRights,
}
