//! Where settings come from: one TOML file, and environment variables that override it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

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
                diagnostics.add(name, format!("not a setting: settings are named {PREFIX}SECTION__KEY"));
            } else if segments.iter().any(|segment| segment.is_empty()) {
                diagnostics.add(name, "not a setting: a section or key is empty");
            } else if let Err(path) = tree.put(&segments, name, Node::Text(value.clone()), diagnostics) {
                diagnostics.add(&path, format!("is no section, but {name} sets a key of it"));
            }
        }
        tree
    }

    /// The variables that are meant as overrides, sections before their keys, so that the more specific one wins.
    ///
    /// Other variables that begin with `OTPD_` are ignored: Kubernetes sets such for a Service named otpd.
    fn overrides(&self) -> Vec<&(String, String)> {
        let meant = |name: &str| name.to_ascii_uppercase().starts_with("OTPD_") && name.contains("__");
        let mut overrides: Vec<_> = self.environment.iter().filter(|(name, _)| meant(name)).collect();
        overrides.sort_by_key(|(name, _)| (name.matches("__").count(), name));
        overrides
    }
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
