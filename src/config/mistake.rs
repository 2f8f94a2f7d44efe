//! What is wrong with a configuration, all of it at once.

use std::fmt;

/// One thing that is wrong. Never holds a value: settings may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The setting as `section.key`, or the variable or file where there is no setting.
    pub setting: String,
    /// The environment variable that set it, where one did.
    pub variable: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.setting)?;
        if let Some(variable) = &self.variable {
            write!(f, " ({variable})")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All that is wrong, one line each. Not empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);
