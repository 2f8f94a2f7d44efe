//! `[policy]`, `[policy.purposes.…]` and `[tenants.…]`: which tenants there are, and the policy of each.
//!
//! Layers from the bottom: the built-in policy, `[policy]`, `[policy.purposes.P]`, `[tenants.T.policy]`,
//! `[tenants.T.policy.purposes.P]`. What a tenant says of all its purposes thus wins over what is said of a purpose for
//! all tenants.

use std::collections::BTreeMap;

use super::{
    policy::PolicyLayer,
    profile::{Force, Profile},
    sandbox::{self, Sandboxes},
    server::Requests,
};
use crate::domain::{
    ids::Tenant,
    policy::{TenantPolicy, Tenants},
};
use crate::settings::Section;

/// Reads `[policy]`, `[tenants]` and their sandboxes.
pub(super) fn read(
    root: &mut Section<'_>,
    requests: &Requests,
    profile: Profile,
    force: Force,
) -> (Tenants, Sandboxes) {
    let weak = force.weak_policy;
    let refused = profile == Profile::Production && !force.sandbox;
    let diagnostics = root.diagnostics();
    let mut sandboxes = Sandboxes {
        common: root.section("sandbox", |section| sandbox::read(section, refused)),
        ..Sandboxes::default()
    };
    let everyone = root.section("policy", |section| PolicyLayer::read(section, weak));
    let everyone = everyone.over(&TenantPolicy::default(), diagnostics);
    let listed = root.section("tenants", |section| {
        let mut listed = BTreeMap::new();
        for name in section.names() {
            let tenant = Tenant::parse(&name);
            if let Err(malformed) = &tenant {
                section.cross_field_error(&name, format!("a tenant's name {malformed}"));
            }
            let (policy, known) = section.section(&name, |section| {
                let policy = section.section("policy", |section| PolicyLayer::read(section, weak));
                (policy, section.section("sandbox", |section| sandbox::read(section, refused)))
            });
            if let Ok(tenant) = tenant {
                listed.insert(tenant.clone(), policy.over(&everyone, diagnostics));
                sandboxes.by_tenant.insert(tenant, known);
            }
        }
        listed
    });
    let accept_others = requests.accept_unlisted_tenants.unwrap_or(listed.is_empty());
    if !accept_others && listed.is_empty() && !diagnostics.is_wrong_within("tenants") {
        diagnostics.add("requests.accept_unlisted_tenants", "no tenant would be accepted: list some as [tenants.NAME]");
    }
    if accept_others && profile == Profile::Production && !force.unlisted_tenants {
        let refused = "tenants without a section of their own are refused by profile production unless \
                       force.unlisted_tenants is set: list all as [tenants.NAME]";
        diagnostics.cross_field_error("requests.accept_unlisted_tenants", refused);
    }
    (Tenants { others: accept_others.then_some(everyone), listed }, sandboxes)
}
