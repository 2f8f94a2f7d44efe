//! `[providers.NAME]` and `routes`: who delivers codes, and in which order they are tried.
//!
//! A new kind adds a variant to [`ProviderKind`], a word to `KINDS`, and reads its own keys in [`ProviderKind::read`].

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    profile::{Force, Profile},
    reader::Section,
    values,
};

const CONSOLE: &str = "console";
const KINDS: [(&str, &str); 1] = [(CONSOLE, CONSOLE)];

/// A kind of provider with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderKind {
    /// Prints codes: for development.
    Console {
        /// Where the same is appended as JSON lines.
        file: Option<PathBuf>,
    },
}

/// The providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Providers {
    /// By name.
    pub by_name: BTreeMap<String, ProviderKind>,
    /// Names in the order in which they are tried. Not empty; each is in `by_name`, and none is there twice.
    pub routes: Vec<String>,
}

impl Providers {
    /// Reads `[providers]`; `routes` is read by [`Providers::routed`].
    pub(super) fn read(section: &mut Section<'_>, profile: Profile, force: Force) -> BTreeMap<String, ProviderKind> {
        let refused = profile == Profile::Production && !force.console_provider;
        let mut by_name = BTreeMap::new();
        for name in section.names() {
            if let Err(message) = check_name(&name) {
                section.misfit(&name, message);
            }
            let kind = section.section(&name, |section| {
                let kind = ProviderKind::read(section, &name);
                if refused && matches!(kind, Some(ProviderKind::Console { .. })) {
                    section.misfit("kind", refusal());
                }
                kind
            });
            by_name.extend(kind.map(|kind| (name, kind)));
        }
        let nothing_said = by_name.is_empty() && !section.ledger().is_wrong_within("providers");
        if nothing_said && refused {
            section.ledger().add("providers", format!("none is configured, and the default {}", refusal()));
        }
        if nothing_said {
            by_name.insert(CONSOLE.to_owned(), ProviderKind::Console { file: None });
        }
        by_name
    }

    /// Reads `routes`, a key of the root.
    pub(super) fn routed(root: &mut Section<'_>, by_name: BTreeMap<String, ProviderKind>) -> Self {
        let routes = root.list("routes", 1..=100, |name| Ok(name.to_owned()));
        let routes = routes.unwrap_or_else(|| by_name.keys().cloned().collect());
        for (i, name) in routes.iter().enumerate() {
            // The name of a provider that is wrong itself is no second mistake.
            let missing = !by_name.contains_key(name) && !root.ledger().is_wrong_within(&format!("providers.{name}"));
            if missing {
                root.misfit("routes", format!("item {}: no provider of this name is configured", i + 1));
            } else if routes.iter().take(i).any(|earlier| earlier == name) {
                root.misfit("routes", format!("item {}: is there twice", i + 1));
            }
        }
        Self { by_name, routes }
    }

    /// Whether any provider prints codes.
    pub fn print_codes(&self) -> bool {
        self.by_name.values().any(|kind| matches!(kind, ProviderKind::Console { .. }))
    }
}

impl ProviderKind {
    /// Reads a provider's section. The kind may be left out where the name says it.
    fn read(section: &mut Section<'_>, name: &str) -> Option<Self> {
        let named = KINDS.iter().find(|(kind, _)| *kind == name).map(|(_, kind)| *kind);
        let kind = section.text("kind", values::word(&KINDS)).or(named);
        if kind.is_none() {
            let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            section.misfit("kind", format!("required: {}", kinds.join(" or ")));
        }
        // Every kind's keys are known where the kind is not, so that one mistake is not reported as two.
        match kind {
            Some(CONSOLE) | None => {
                let file = section.optional_text("file", values::path);
                kind.map(|_| Self::Console { file })
            }
            Some(_) => None,
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let fits = (1..=50).contains(&name.len()) && name.bytes().all(letter);
    if fits { Ok(()) } else { Err("a provider's name must be 1 to 50 of [a-z0-9_-]".to_owned()) }
}

fn refusal() -> String {
    "console shows codes; refused by profile production unless force.console_provider is set".to_owned()
}
