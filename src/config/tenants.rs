//! `[policy]`, `[policy.purposes.…]` and `[tenants.…]`: which tenants there are, and the policy of each.
//!
//! Layers from the bottom: the built-in policy, `[policy]`, `[policy.purposes.P]`, `[tenants.T.policy]`,
//! `[tenants.T.policy.purposes.P]`. What a tenant says of all its purposes thus wins over what is said of a purpose for
//! all tenants.

use std::collections::BTreeMap;

use super::{
    policy::Layer,
    reader::{Ledger, Section},
    server::Requests,
};
use crate::domain::{
    ids::Tenant,
    policy::{Policies, Policy, Tenants},
    purpose::Purpose,
};

/// The layers of one `policy` section.
#[derive(Default)]
struct Layers {
    common: Layer,
    by_purpose: BTreeMap<Purpose, Layer>,
}

impl Layers {
    fn read(section: &mut Section<'_>, weak: bool) -> Self {
        let by_purpose = section.section("purposes", |section| {
            let mut purposes = BTreeMap::new();
            for purpose in Purpose::ALL {
                let layer = section
                    .section(purpose.name(), |section| (!section.is_empty()).then(|| Layer::read(section, weak)));
                purposes.extend(layer.map(|layer| (purpose, layer)));
            }
            purposes
        });
        Self { common: Layer::read(section, weak), by_purpose }
    }

    fn over(&self, base: &Policies, ledger: &Ledger) -> Policies {
        let lay = |layer: &Layer, base: &Policy| {
            let (policy, misfits) = layer.over(base);
            for (setting, message) in misfits {
                if !ledger.is_wrong(&setting) {
                    ledger.add(&setting, message);
                }
            }
            policy
        };
        let of_purpose = |purpose: Purpose| {
            let said = base.by_purpose.contains_key(&purpose) || self.by_purpose.contains_key(&purpose);
            let common = said.then(|| lay(&self.common, base.of(purpose)))?;
            let own = self.by_purpose.get(&purpose);
            Some((purpose, own.map_or(common.clone(), |layer| lay(layer, &common))))
        };
        Policies {
            common: lay(&self.common, &base.common),
            by_purpose: Purpose::ALL.into_iter().filter_map(of_purpose).collect(),
        }
    }
}

/// Reads `[policy]` and `[tenants]`.
pub(super) fn read(root: &mut Section<'_>, requests: &Requests, weak: bool) -> Tenants {
    let ledger = root.ledger();
    let built_in = Policies { common: Policy::default(), by_purpose: BTreeMap::new() };
    let everyone = root.section("policy", |section| Layers::read(section, weak)).over(&built_in, ledger);
    let listed = root.section("tenants", |section| {
        let mut listed = BTreeMap::new();
        for name in section.names() {
            let tenant = Tenant::parse(&name);
            if let Err(malformed) = &tenant {
                section.misfit(&name, format!("a tenant's name {malformed}"));
            }
            let layers =
                section.section(&name, |section| section.section("policy", |section| Layers::read(section, weak)));
            listed.extend(tenant.map(|tenant| (tenant, layers.over(&everyone, ledger))));
        }
        listed
    });
    let accept_others = requests.accept_unlisted_tenants.unwrap_or(listed.is_empty());
    if !accept_others && listed.is_empty() && !ledger.is_wrong_within("tenants") {
        ledger.add("requests.accept_unlisted_tenants", "no tenant would be accepted: list some as [tenants.NAME]");
    }
    Tenants { others: accept_others.then_some(everyone), listed }
}
