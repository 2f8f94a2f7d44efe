//! The errors of a configuration, which are reported all at once.

use std::fmt;

/// One error. It never holds the value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting as `section.key`; where no setting is meant, the variable or the file.
    pub setting: String,
    /// The environment variable that set it, where one did.
    pub variable: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if let Some(variable) = &self.variable {
            write!(f, " ({variable})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All errors, one line each. Not empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<ConfigError>);
