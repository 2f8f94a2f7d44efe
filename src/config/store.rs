//! `[store]` and `[keys]`: where state lives, and what seals it.

use std::{io, path::PathBuf, time::Duration};

use super::{
    profile::{Force, Profile},
    server::Server,
    source::Source,
};
use crate::settings::{Section, values};
use crate::{keys::ring::KeyRing, secret::Secret, stores::StoreUrl};

/// Holds the master keys.
pub const KEYS_VARIABLE: &str = "OTPD_MASTER_KEYS";

const EMBEDDED: &str = "embedded:";
const SCHEMES: [&str; 4] = [EMBEDDED, "redis://", "rediss://", "redis+unix://"];

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Its kind and address. A secret, because it may hold a password.
    pub url: Secret<String>,
    /// How long one operation may take.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Whether a Redis that evicts keys when it is full is refused at start; otherwise it is a warning.
    pub require_noeviction: bool,
    /// Whether an embedded store goes on with what is left, where less is there than was acknowledged.
    pub accept_loss: bool,
}

impl StoreSettings {
    pub(super) fn read(section: &mut Section<'_>, profile: Profile, server: &Server) -> Self {
        let span = || values::span(Duration::from_millis(10)..=Duration::from_secs(60));
        let url = section.text("url", |text| check_url(text).map(|()| Secret::new(text.to_owned())));
        let store = Self {
            url: url.unwrap_or_else(|| Secret::new("embedded:./otpd-data".to_owned())),
            timeout: section.text("timeout", span()).unwrap_or(Duration::from_secs(1)),
            connect_timeout: section.text("connect_timeout", span()).unwrap_or(Duration::from_secs(1)),
            require_noeviction: section.boolean("require_noeviction").unwrap_or(profile == Profile::Production),
            accept_loss: section.boolean("accept_loss").unwrap_or(false),
        };
        if store.timeout > server.request_timeout {
            let most = values::show(server.request_timeout);
            section.cross_field_error("timeout", format!("must be at most server.request_timeout, which is {most}"));
        }
        store
    }

    /// Whether the store lives in this process, so that no other process needs its keys.
    pub(super) fn is_embedded(&self) -> bool {
        self.url.expose().starts_with(EMBEDDED)
    }

    /// The scheme of the address, the only part that may be printed.
    pub(crate) fn scheme(&self) -> &'static str {
        SCHEMES.into_iter().find(|scheme| self.url.expose().starts_with(scheme)).unwrap_or("unknown")
    }
}

/// Checks an address; the message does not quote it.
fn check_url(text: &str) -> Result<(), String> {
    text.parse::<StoreUrl>().map(|_| ()).map_err(|error| error.to_string())
}

/// Where the master keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Here: `2:<base64>,1:<base64>`.
    Given(Secret<String>),
    /// In a file, in the same form.
    File(PathBuf),
    /// In the folder of the embedded store, where one is made if there is none.
    Generated,
}

impl Keys {
    pub(super) fn read(
        section: &mut Section<'_>,
        source: &Source,
        store: &StoreSettings,
        profile: Profile,
        force: Force,
    ) -> Self {
        let given = source.variable(KEYS_VARIABLE).map(|keys| Secret::new(keys.trim().to_owned()));
        let file = section.optional_text("file", values::path);
        let diagnostics = section.diagnostics();
        if given.is_some() && file.is_some() {
            section.cross_field_error("file", format!("{KEYS_VARIABLE} is set too; set one of them"));
        }
        if let Some(Err(bad)) = given.as_ref().map(|keys| KeyRing::parse(keys, force.missing_lowest_key)) {
            diagnostics.add(KEYS_VARIABLE, bad.to_string());
        }
        if let Some(keys) = given.map(Self::Given).or(file.map(Self::File)) {
            return keys;
        }
        // While the address or the file is wrong, it is not known whether keys are missing.
        if diagnostics.is_wrong("store.url") || diagnostics.is_wrong("keys.file") {
            return Self::Generated;
        }
        let generate = "make one with `otpd generate-key`, or set keys.file";
        if !store.is_embedded() {
            diagnostics.add(KEYS_VARIABLE, format!("required where replicas share a store; {generate}"));
        } else if profile == Profile::Production && !force.generated_keys {
            let forced = "or set force.generated_keys to keep a generated one";
            diagnostics.add(KEYS_VARIABLE, format!("required by profile production; {generate}, {forced}"));
        }
        Self::Generated
    }

    /// The keys in text form, or `None` where they are generated.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(&self) -> io::Result<Option<Secret<String>>> {
        match self {
            Self::Given(keys) => Ok(Some(keys.clone())),
            Self::File(path) => {
                let text = Secret::new(std::fs::read_to_string(path)?);
                Ok(Some(Secret::new(text.expose().trim().to_owned())))
            }
            Self::Generated => Ok(None),
        }
    }
}
