//! What is found while settings are read: every error, and which environment variable set what.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use super::config_error::{ConfigError, ConfigErrors};

/// Collects errors, so that all are reported at once.
#[derive(Default)]
pub struct Diagnostics {
    errors: RefCell<Vec<ConfigError>>,
    /// The variable that set each setting.
    variables: BTreeMap<String, String>,
    /// Every setting that was asked for.
    known: RefCell<BTreeSet<String>>,
    /// Those of them that are secrets.
    secrets: RefCell<BTreeSet<String>>,
    /// Variables that are no settings of otpd.
    foreign: BTreeMap<String, String>,
}

impl Diagnostics {
    /// Adds an error of the setting with this path.
    pub(crate) fn add(&self, setting: &str, message: impl Into<String>) {
        let variable = self.variable(setting).map(str::to_owned);
        let error = ConfigError { setting: setting.to_owned(), variable, message: message.into() };
        let mut errors = self.errors.borrow_mut();
        // A section over which several policies stand is checked once for each of them.
        if !errors.contains(&error) {
            errors.push(error);
        }
    }

    /// Adds an error that concerns several settings, unless this one is wrong in itself: then its value says nothing about
    /// the others.
    pub(crate) fn cross_field_error(&self, setting: &str, message: impl Into<String>) {
        if !self.is_wrong(setting) {
            self.add(setting, message);
        }
    }

    /// Whether the setting has an error already.
    pub(crate) fn is_wrong(&self, setting: &str) -> bool {
        self.errors.borrow().iter().any(|error| error.setting == setting)
    }

    /// Whether the section, or anything in it, has an error already.
    pub(crate) fn is_wrong_within(&self, section: &str) -> bool {
        let within =
            |setting: &str| setting.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.errors.borrow().iter().any(|error| within(&error.setting))
    }

    /// Hands over variables that are no settings of otpd.
    pub(crate) fn set_foreign(&mut self, variables: impl Iterator<Item = (String, String)>) {
        self.foreign = variables.collect();
    }

    /// The value of such a variable; `None` where it is not set, or empty.
    pub(super) fn foreign(&self, name: &str) -> Option<&str> {
        self.foreign.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Records which variable set a setting, and returns the variable that had set it before.
    pub(crate) fn set_variable(&mut self, setting: &str, variable: &str) -> Option<String> {
        self.variables.insert(setting.to_owned(), variable.to_owned())
    }

    /// The variable that set a setting, or a section around it.
    fn variable(&self, setting: &str) -> Option<&str> {
        let found = self.variables.get(setting).map(String::as_str);
        found.or_else(|| setting.rsplit_once('.').and_then(|(section, _)| self.variable(section)))
    }

    /// Records that a setting was asked for.
    pub(super) fn asked_for(&self, setting: &str) {
        self.known.borrow_mut().insert(setting.to_owned());
    }

    /// Records that a secret was asked for.
    pub(super) fn asked_for_secret(&self, setting: &str) {
        self.secrets.borrow_mut().insert(setting.to_owned());
    }

    /// The paths of all secrets that were asked for.
    #[cfg(test)]
    pub(crate) fn secrets(&self) -> BTreeSet<String> {
        self.secrets.borrow().clone()
    }

    /// The paths of all settings that were asked for.
    #[cfg(test)]
    pub(crate) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// The value, if there is no error.
    ///
    /// # Errors
    /// All errors.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigErrors> {
        let errors = self.errors.into_inner();
        if errors.is_empty() { Ok(value) } else { Err(ConfigErrors(errors)) }
    }
}
