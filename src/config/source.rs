//! Where settings come from: one TOML file, and environment variables that override it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use super::store::{KEYS_FILE_VARIABLE, KEYS_VARIABLE};
use crate::settings::{
    ConfigError, ConfigErrors, Diagnostics,
    tree::{Node, Table},
};

/// The prefix of every variable that overrides a setting.
const PREFIX: &str = "OTPD__";

/// How the variables begin by which the tools of Amazon Web Services are configured.
const FOREIGN: &str = "AWS_";

/// Names the configuration file where the command line does not.
pub const FILE_VARIABLE: &str = "OTPD_CONFIG";

/// Everything that a configuration is read from, as plain values.
#[derive(Clone, Default)]
pub struct Source {
    /// The path, for messages only, and the text of the file.
    pub file: Option<(String, String)>,
    /// Names and values of the environment. Those that do not concern otpd are ignored.
    pub environment: Vec<(String, String)>,
}

impl Source {
    /// Reads the environment of the process and the file that `path` or `OTPD_CONFIG` names, if one does.
    ///
    /// # Errors
    /// The file cannot be read, or a variable of otpd is not UTF-8.
    pub fn of_process(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let (environment, mut errors) = environment(std::env::vars_os());
        let path = path.map(Path::to_path_buf).or_else(|| configured_path(&environment));
        let file = path.and_then(|path| match std::fs::read_to_string(&path) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(error) => {
                let message = format!("cannot read the configuration file: {error}");
                errors.push(ConfigError { setting: path.display().to_string(), variable: None, message });
                None
            }
        });
        if errors.is_empty() { Ok(Self { file, environment }) } else { Err(ConfigErrors(errors)) }
    }

    /// The value of a variable that is not a setting. An empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.trim().is_empty())
    }

    /// The settings as one tree. What cannot be placed goes to the diagnostics.
    pub(super) fn tree(&self, diagnostics: &mut Diagnostics) -> Table {
        let mut tree = Table::default();
        let foreign = self.environment.iter().filter(|(name, _)| name.starts_with(FOREIGN)).cloned();
        diagnostics.set_foreign(foreign);
        if let Some((path, text)) = &self.file {
            match text.parse::<toml::Table>() {
                Ok(table) => tree = Table::from_toml(table),
                Err(error) => diagnostics.add(path, format!("{}not TOML: {}", line_of(text, &error), error.message())),
            }
        }
        for (name, value) in self.overrides() {
            let segments: Vec<&str> = name.get(PREFIX.len()..).unwrap_or_default().split("__").collect();
            if !name.to_ascii_uppercase().starts_with(PREFIX) {
                let meant = meant(name);
                diagnostics.add(name, format!("means nothing to otpd: settings are named {PREFIX}SECTION__KEY{meant}"));
            } else if segments.iter().any(|segment| segment.is_empty()) {
                diagnostics.add(name, "not a setting: a section or key is empty");
            } else if let Err(path) = tree.put(&segments, name, Node::Text(value.clone()), diagnostics) {
                diagnostics.add(&path, format!("is no section, but {name} sets a key of it"));
            }
        }
        tree
    }

    /// The variables that are meant as overrides, sections before their keys, so that the more specific one wins. Whatever begins
    /// with `OTPD_` is, but for what otpd reads otherwise, and what Kubernetes sets for a Service named otpd.
    fn overrides(&self) -> Vec<&(String, String)> {
        let meant = |(name, value): &&(String, String)| {
            let is_ours = name.to_ascii_uppercase().starts_with("OTPD_");
            is_ours
                && !matches!(name.as_str(), FILE_VARIABLE | KEYS_VARIABLE | KEYS_FILE_VARIABLE)
                && !is_of_kubernetes(name, value)
        };
        let mut overrides: Vec<_> = self.environment.iter().filter(meant).collect();
        overrides.sort_by_key(|(name, _)| (name.matches("__").count(), name));
        overrides
    }
}

/// What a variable may have been meant as, for the end of a message.
fn meant(name: &str) -> String {
    let rest = name.get("OTPD_".len()..).unwrap_or_default();
    match (rest.to_ascii_uppercase().as_str(), rest.split_once('_')) {
        (upper, _) if upper.starts_with("CONF") => format!(", and the file by {FILE_VARIABLE}"),
        (upper, _) if upper.starts_with("MASTER") || upper.starts_with("KEY") => {
            format!(", and the keys by {KEYS_VARIABLE}")
        }
        (_, Some((section, key))) if !rest.contains("__") => format!(", such as {PREFIX}{section}__{key}"),
        (_, None) => format!(", such as {PREFIX}SERVER__LISTEN"),
        _ => String::new(),
    }
}

/// Whether Kubernetes sets such a variable for a Service whose name begins with otpd: `OTPD_SERVICE_HOST`, `OTPD_SERVICE_PORT`,
/// `OTPD_SERVICE_PORT_<NAME>`, `OTPD_PORT`, `OTPD_PORT_<N>_<PROTOCOL>` and `…_ADDR`, `…_PORT`, `…_PROTO`
/// (kubernetes.io/docs, "Accessing the Service").
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let by_port = name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        let mut words = rest.split('_');
        words.next().is_some_and(is_number) && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
    });
    let is_url = value.split_once("://").is_some_and(|(scheme, _)| matches!(scheme, "tcp" | "udp" | "sctp"));
    let is_port = name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_");
    let is_named = name.ends_with("_SERVICE_HOST") || is_port && is_number(value) || name.ends_with("_PORT") && is_url;
    !name.contains("__") && (is_named || by_port)
}

fn configured_path(environment: &[(String, String)]) -> Option<PathBuf> {
    let found = environment.iter().find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
    found.map(|(_, value)| PathBuf::from(value))
}

/// Splits variables into those that can be read and those of otpd that cannot.
fn environment(variables: impl Iterator<Item = (OsString, OsString)>) -> (Vec<(String, String)>, Vec<ConfigError>) {
    let mut readable = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in variables {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => readable.push((name, value)),
            (Ok(name), Err(_)) if name.to_ascii_uppercase().starts_with("OTPD_") => {
                errors.push(ConfigError { setting: name, variable: None, message: "must be UTF-8".to_owned() });
            }
            _ => {}
        }
    }
    (readable, errors)
}

/// The line of a TOML error. The error's own text quotes the line, which may hold a secret.
fn line_of(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    before.map(|before| format!("line {}: ", before.matches('\n').count() + 1)).unwrap_or_default()
}
