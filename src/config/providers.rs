//! `[providers.NAME]`, `routes` and `[route.NAME]`: the providers, and the order in which they are tried.
//!
//! The kinds and their settings are defined in `crate::providers`.

use std::collections::BTreeMap;

use super::profile::{Force, Profile};
use crate::{
    domain::{destination::Channel, ids::Tenant, purpose::Purpose, route::Scope},
    providers::{self, Configured, KINDS, sandbox},
    settings::{Section, values},
};

const CONSOLE: &str = "console";
const MAX_ROUTES: usize = 1000;

/// The providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// By name.
    pub by_name: BTreeMap<String, Configured>,
    /// Names in the order in which they are tried. Not empty; each is in `by_name`, and none is there twice.
    pub routes: Vec<String>,
    /// The same for each scope with a route of its own.
    pub scoped: Vec<(Scope, Vec<String>)>,
    /// Whether a resend prefers another provider than the one whose message did not arrive.
    pub resend_elsewhere: bool,
}

impl Providers {
    /// Reads `[providers]`; `routes` is read by [`Providers::routed`].
    pub(super) fn read(section: &mut Section<'_>, profile: Profile, force: Force) -> BTreeMap<String, Configured> {
        let refused = profile == Profile::Production && !force.console_provider;
        let must_encrypt = profile == Profile::Production && !force.plain_http;
        let mut by_name = BTreeMap::new();
        for name in section.names() {
            if let Err(message) = check_name(&name) {
                section.cross_field_error(&name, message);
            }
            let kind = section.section(&name, |section| {
                let kind = read_one(section, &name);
                if refused && is_console(kind.as_ref()) {
                    section.cross_field_error("kind", refusal());
                }
                if let Some((setting, what)) = kind.as_ref().and_then(Configured::open).filter(|_| must_encrypt) {
                    section.cross_field_error(setting, format!("{what}: {OPEN}"));
                }
                kind
            });
            by_name.extend(kind.map(|kind| (name, kind)));
        }
        let nothing_said = by_name.is_empty() && !section.diagnostics().is_wrong_within("providers");
        if nothing_said && refused {
            section.diagnostics().add("providers", format!("none is configured, and the default {}", refusal()));
        }
        if nothing_said {
            by_name.extend(
                section.section(CONSOLE, |section| read_one(section, CONSOLE)).map(|only| (CONSOLE.to_owned(), only)),
            );
        }
        by_name
    }

    /// Reads `routes`, `[route.NAME]` and `resend_elsewhere`, keys of the root.
    pub(super) fn routed(root: &mut Section<'_>, by_name: BTreeMap<String, Configured>) -> Self {
        let all = read_order(root, "routes", &by_name).unwrap_or_else(|| by_name.keys().cloned().collect());
        let scoped = root.section("route", |section| {
            let named = section.names().into_iter().take(MAX_ROUTES);
            named.filter_map(|name| section.section(&name, |section| read_route(section, &by_name))).collect()
        });
        let resend_elsewhere = root.boolean("resend_elsewhere").unwrap_or(true);
        Self { by_name, routes: all, scoped, resend_elsewhere }
    }

    /// Whether any provider prints codes.
    pub(super) fn print_codes(&self) -> bool {
        self.by_name.values().any(|kind| is_console(Some(kind)))
    }
}

/// Reads a provider's section. The kind may be left out where the name says it.
fn read_one(section: &mut Section<'_>, name: &str) -> Option<Configured> {
    let kinds: Vec<(&'static str, &'static str)> = KINDS.iter().map(|kind| (kind.name, kind.name)).collect();
    let named = kinds.iter().find(|(kind, _)| *kind == name.replace('_', "-")).map(|(_, kind)| *kind);
    let given = section.text("kind", values::word(&kinds));
    let Some(kind) = given.or(named) else {
        let kinds: Vec<&str> = kinds.iter().map(|(kind, _)| *kind).collect();
        section.missing("kind", &kinds.join(" or "));
        // The other keys cannot be checked without the kind.
        section.forget_rest();
        return None;
    };
    providers::read(kind, section)
}

/// Reads a list of providers in their order.
fn read_order(section: &mut Section<'_>, key: &str, by_name: &BTreeMap<String, Configured>) -> Option<Vec<String>> {
    let names = section.list(key, 1..=100, |name| Ok(name.to_owned()))?;
    for (i, name) in names.iter().enumerate() {
        // A provider whose own section is wrong is not reported a second time.
        let missing =
            !by_name.contains_key(name) && !section.diagnostics().is_wrong_within(&format!("providers.{name}"));
        if missing {
            section.cross_field_error(key, format!("item {}: no provider of this name is configured", i + 1));
        } else if names.iter().take(i).any(|earlier| earlier == name) {
            section.cross_field_error(key, format!("item {}: is there twice", i + 1));
        }
    }
    Some(names)
}

/// Reads one route.
fn read_route(section: &mut Section<'_>, by_name: &BTreeMap<String, Configured>) -> Option<(Scope, Vec<String>)> {
    let purposes = Purpose::ALL.map(|purpose| (purpose.name(), purpose));
    let channels = Channel::ALL.map(|channel| (channel.name(), channel));
    let scope = Scope {
        tenant: section.optional_text("tenant", |text| Tenant::parse(text).map_err(|malformed| malformed.to_string())),
        purpose: section.optional_text("purpose", values::word(&purposes)),
        channel: section.optional_text("channel", values::word(&channels)),
        prefix: section.optional_text("country_prefix", prefix).unwrap_or_default(),
    };
    let order = read_order(section, "providers", by_name);
    if order.is_none() {
        section.missing("providers", "the names of providers in the order in which they are tried");
    }
    order.map(|order| (scope, order))
}

fn prefix(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').filter(|digits| (1..=15).contains(&digits.len()));
    let fits = digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if fits { Ok(text.to_owned()) } else { Err("must be the beginning of a number, such as +91".to_owned()) }
}

fn check_name(name: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let fits = (1..=50).contains(&name.len()) && name.bytes().all(letter);
    match fits {
        _ if name == sandbox::NAME => Err("is the name of the built-in sandbox: choose another".to_owned()),
        true => Ok(()),
        false => Err("a provider's name must be 1 to 50 of [a-z0-9_-]".to_owned()),
    }
}

const OPEN: &str =
    "codes and credentials can be read on the way; refused by profile production unless force.plain_http is set";

fn refusal() -> String {
    "console shows codes; refused by profile production unless force.console_provider is set".to_owned()
}

fn is_console(provider: Option<&Configured>) -> bool {
    provider.is_some_and(|provider| provider.kind() == CONSOLE)
}
