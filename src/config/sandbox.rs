//! `[sandbox]` and `[tenants.NAME.sandbox]`: destinations for callers' own tests.

use std::collections::BTreeMap;

use crate::{
    domain::destination::{Destination, Mailbox, PhoneNumber},
    providers::sandbox::KnownCodes,
    secret::Secret,
    settings::Section,
};

/// How many destinations one section lists.
const MAX_DESTINATIONS: usize = 1000;

/// Reads a section: `code`, and the `destinations` that accept it.
///
/// Where known codes are `refused`, a section that has anything in it is, whether that is right or wrong.
pub(super) fn read(section: &mut Section<'_>, refused: bool) -> KnownCodes {
    let is_said = !section.is_empty();
    let code = section.optional_secret("code", code);
    let destinations = section.list("destinations", 0..=MAX_DESTINATIONS, destination).unwrap_or_default();
    if code.is_none() && !destinations.is_empty() && !section.is_secret_wrong("code") {
        section.missing("code", "the code that the destinations take");
    }
    if refused && is_said && (code.is_some() || !destinations.is_empty() || is_wrong(section)) {
        section.diagnostics().add(section.path(), REFUSAL);
    }
    let canonical = destinations.iter().filter_map(Destination::canonical);
    code.map(|code| canonical.map(|destination| (destination, code.clone())).collect()).unwrap_or_default()
}

const REFUSAL: &str = "takes codes that are known; refused by profile production unless force.sandbox is set";

fn is_wrong(section: &Section<'_>) -> bool {
    section.diagnostics().is_wrong_within(section.path())
}

fn code(text: &str) -> Result<Secret<String>, String> {
    let fits = (6..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(Secret::new(text.to_owned())) } else { Err("must be 6 to 10 digits".to_owned()) }
}

fn destination(text: &str) -> Result<Destination, String> {
    let parsed = if text.starts_with('+') {
        PhoneNumber::parse(text).map(Destination::Phone)
    } else {
        Mailbox::parse(text).map(Destination::Email)
    };
    parsed.map_err(|malformed| malformed.to_string())
}

/// The sandboxes of all tenants and of single ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandboxes {
    /// For every tenant.
    pub common: KnownCodes,
    /// By tenant.
    pub by_tenant: BTreeMap<crate::domain::ids::Tenant, KnownCodes>,
}

impl Sandboxes {
    /// Whether no destination is listed.
    pub(crate) fn is_empty(&self) -> bool {
        self.common.is_empty() && self.by_tenant.values().all(BTreeMap::is_empty)
    }
}
