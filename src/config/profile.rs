//! `profile` and `[force]`: development-only features, and the switches that allow them in production.

use crate::settings::Section;

/// Whether development-only features are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Conveniences that show codes or lose keys are allowed, with warnings.
    #[default]
    Development,
    /// They are refused.
    Production,
}

impl Profile {
    /// The words of the setting.
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("development", Self::Development), ("production", Self::Production)];

    /// The word of the setting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// What is allowed although it is refused by default. The operator sets each switch by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Force {
    /// A console provider in production: codes appear on standard output.
    pub console_provider: bool,
    /// A generated master key in production: it is lost with the store's folder.
    pub generated_keys: bool,
    /// Sandbox destinations in production: a known code verifies every one of them.
    pub sandbox: bool,
    /// Reflection in production: it answers whoever asks with much more than it is asked with.
    pub reflection: bool,
    /// Codes of 4 or 5 digits, and challenges of more than 10 minutes.
    pub weak_policy: bool,
    /// Providers that are reached without encryption, on other machines, in production.
    pub plain_http: bool,
    /// Callers that nobody knows, on a listener that other machines can reach, in production.
    pub open_listener: bool,
    /// Bearer tokens that cross the network in plain text in production: whoever reads one calls by it.
    pub plain_tokens: bool,
    /// Tenants without a section of their own in production.
    pub unlisted_tenants: bool,
    /// A key ring without the lowest-numbered key of the store: all records are lost, because their names depend on it.
    pub missing_lowest_key: bool,
}

impl Force {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            console_provider: section.boolean("console_provider").unwrap_or(false),
            generated_keys: section.boolean("generated_keys").unwrap_or(false),
            sandbox: section.boolean("sandbox").unwrap_or(false),
            reflection: section.boolean("reflection").unwrap_or(false),
            weak_policy: section.boolean("weak_policy").unwrap_or(false),
            plain_http: section.boolean("plain_http").unwrap_or(false),
            open_listener: section.boolean("open_listener").unwrap_or(false),
            plain_tokens: section.boolean("plain_tokens").unwrap_or(false),
            unlisted_tenants: section.boolean("unlisted_tenants").unwrap_or(false),
            missing_lowest_key: section.boolean("missing_lowest_key").unwrap_or(false),
        }
    }

    /// The names of the switches that are set.
    pub(super) fn set(self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("force.console_provider", self.console_provider),
            ("force.generated_keys", self.generated_keys),
            ("force.sandbox", self.sandbox),
            ("force.reflection", self.reflection),
            ("force.weak_policy", self.weak_policy),
            ("force.plain_http", self.plain_http),
            ("force.open_listener", self.open_listener),
            ("force.plain_tokens", self.plain_tokens),
            ("force.unlisted_tenants", self.unlisted_tenants),
            ("force.missing_lowest_key", self.missing_lowest_key),
        ];
        all.into_iter().filter_map(|(name, set)| set.then_some(name))
    }
}
