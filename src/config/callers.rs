//! `[callers.…]`: who may call, what each is known by, and what each may do.

use std::collections::{BTreeMap, BTreeSet};

use super::{listen::Listen, profile::Force, server::Server};
use crate::{
    domain::{
        caller::{CallerName, CallerRights, ListedCaller},
        identity::Identity,
        ids::Tenant,
        policy::Tenants,
        purpose::Purpose,
    },
    settings::{Section, values},
};

/// Stands for all tenants that are accepted.
const ALL_TENANTS: &str = "*";
/// How many identities, and how many tenants, a caller may have.
const MAX_LISTED: usize = 1_000;

/// Reads all callers. None: whoever reaches the server may do everything.
pub(super) fn read(section: &mut Section<'_>, tenants: &Tenants) -> Vec<ListedCaller> {
    let mut owners: BTreeMap<Identity, String> = BTreeMap::new();
    let mut callers = Vec::new();
    for name in section.names() {
        let parsed = CallerName::parse(&name);
        if let Err(malformed) = &parsed {
            section.cross_field_error(&name, format!("a caller's name {malformed}"));
        }
        let (identities, rights) = section.section(&name, |section| {
            let identities = identities(section, &name, &mut owners);
            (identities, rights(section, tenants))
        });
        if let Ok(name) = parsed {
            callers.push(ListedCaller { name, identities, rights });
        }
    }
    callers
}

/// Each identity is of one caller.
fn identities(section: &mut Section<'_>, caller: &str, owners: &mut BTreeMap<Identity, String>) -> Vec<Identity> {
    let parse = |text: &str| Identity::parse(text.trim()).map_err(|malformed| malformed.to_string());
    let Some(identities) = section.list("identities", 1..=MAX_LISTED, parse) else {
        section.missing("identities", "what the caller is known by, such as [\"spiffe://example.org/shop\"]");
        return Vec::new();
    };
    for (index, identity) in identities.iter().enumerate() {
        if let Some(owner) = owners.insert(identity.clone(), caller.to_owned()) {
            let whose = if owner == caller { "is there twice".to_owned() } else { format!("is one of {owner}, too") };
            section.cross_field_error("identities", format!("item {}: {whose}", index + 1));
        }
    }
    identities
}

fn rights(section: &mut Section<'_>, tenants: &Tenants) -> CallerRights {
    let names = section.list("tenants", 1..=MAX_LISTED, |text| match text {
        ALL_TENANTS => Ok(None),
        name => Tenant::parse(name).map(Some).map_err(|malformed| format!("a tenant's name {malformed}")),
    });
    let allowed = names.and_then(|names| {
        for (index, name) in names.iter().enumerate() {
            if name.as_ref().is_some_and(|tenant| tenants.of(tenant).is_none()) {
                section.cross_field_error("tenants", format!("item {}: no tenant of this name is accepted", index + 1));
            }
        }
        // All of them, if one stands for all.
        names.into_iter().collect::<Option<BTreeSet<Tenant>>>()
    });
    let words = Purpose::ALL.map(|purpose| (purpose.name(), purpose));
    let purposes = section.list("purposes", 1..=Purpose::ALL.len(), values::word(&words));
    CallerRights {
        tenants: allowed,
        purposes: purposes.map(|purposes| purposes.into_iter().collect()),
        admin: section.boolean("admin").unwrap_or(false),
        max_in_flight: section.integer("max_in_flight", 1..=1_000_000),
    }
}

/// What production refuses of listeners that others can reach.
pub(super) fn check_open_listeners(root: &Section<'_>, server: &Server, callers: &[ListedCaller], force: Force) {
    for (setting, _) in server.listeners().filter(|(_, listen)| listen.is_open()) {
        let has_none = callers.is_empty() && !root.diagnostics().is_wrong_within("callers");
        if has_none && !force.open_listener {
            let refused = "other machines can reach it and no [callers.NAME] is there: refused by profile production unless \
                           force.open_listener is set";
            root.cross_field_error(setting, refused);
        }
        if server.tls.is_none() && has_tokens(callers) && !force.plain_tokens {
            let refused = "bearer tokens would cross the network in plain text: set server.tls; refused by profile production \
                           unless force.plain_tokens is set";
            root.cross_field_error(setting, refused);
        }
    }
}

/// What an operator should know of who may call.
pub(super) fn warnings(server: &Server, callers: &[ListedCaller]) -> Vec<String> {
    let mut warnings = Vec::new();
    let open: Vec<&str> = server.listeners().filter(|(_, listen)| listen.is_open()).map(|(name, _)| name).collect();
    let asks_certificate = server.tls.as_ref().is_some_and(|tls| tls.client_ca_file.is_some());
    if callers.is_empty() {
        // Over a Unix socket none can be shown.
        let is_certified = asks_certificate && (!open.is_empty() || matches!(server.listen, Listen::Address(_)));
        let who = if is_certified { "has a certificate of server.tls.client_ca_file" } else { "can reach it" };
        let is_anybody = format!(
            "no callers are configured: whoever {who} may open challenges for any tenant and unlock any account"
        );
        match open.as_slice() {
            [] => warnings.push(format!("server.listen: {is_anybody}")),
            open => warnings
                .extend(open.iter().map(|setting| format!("{setting} is open to other machines, and {is_anybody}"))),
        }
    }
    if server.tls.is_none() && has_tokens(callers) {
        let plain = "is open to other machines, and bearer tokens cross the network in plain text: set server.tls";
        warnings.extend(open.iter().map(|setting| format!("{setting} {plain}")));
    }
    if callers.is_empty() && server.sidecar.is_any() {
        warnings.push("server.sidecar says nothing: no callers are configured that it could name".to_owned());
    }
    let shows_names = asks_certificate || server.sidecar.is_any();
    for caller in callers.iter().filter(|_| !shows_names) {
        if caller.identities.iter().any(|identity| !matches!(identity, Identity::Token(_))) {
            let how = "is known by a certificate, which none can show: set server.tls.client_ca_file or server.sidecar";
            warnings.push(format!("callers.{} {how}", caller.name.as_str()));
        }
    }
    warnings
}

fn has_tokens(callers: &[ListedCaller]) -> bool {
    callers.iter().flat_map(|caller| &caller.identities).any(|identity| matches!(identity, Identity::Token(_)))
}
