//! `[store]` and `[keys]`: where state lives, and what seals it.

use std::{path::PathBuf, time::Duration};

use super::{
    profile::{Force, Profile},
    server::Server,
    source::Source,
};
use crate::settings::{Section, secret_file, values};
use crate::{
    keys::ring::KeyRing,
    secret::Secret,
    stores::{self, Confirmation, SentinelLogin, StoreUrl, TlsFiles},
};

/// Holds the master keys.
pub const KEYS_VARIABLE: &str = "OTPD_MASTER_KEYS";

/// Names a file that holds them, and overrides `keys.file` of the configuration file.
pub const KEYS_FILE_VARIABLE: &str = "OTPD_MASTER_KEYS_FILE";

const EMBEDDED: &str = "embedded:";
/// More replicas than a master of a careful operator has.
const REPLICAS_MAX: u32 = 16;

/// The store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Its kind and address, with the login in it.
    pub url: Secret<String>,
    /// How long one operation may take.
    pub timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// Whether a Redis that evicts keys when it is full is refused at start; otherwise it is a warning.
    pub require_noeviction: bool,
    /// Certificates of encrypted connections.
    pub tls: TlsFiles,
    /// How to log in at sentinels.
    pub sentinel: SentinelLogin,
    /// What must have a commit before it is told.
    pub confirmation: Confirmation,
    /// Whether an embedded store goes on with what is left, where less is there than was acknowledged.
    pub accept_loss: bool,
}

impl StoreSettings {
    pub(super) fn read(section: &mut Section<'_>, profile: Profile, server: &Server) -> Self {
        let span = || values::span(Duration::from_millis(10)..=Duration::from_secs(60));
        let url = section.secret("url", |text| check_url(text).map(|()| Secret::new(text.to_owned())));
        let url = logged_in(section, url);
        let parsed = url.as_ref().and_then(|url| url.expose().parse::<StoreUrl>().ok());
        let store = Self {
            tls: tls(section, parsed.as_ref()),
            sentinel: sentinel(section, parsed.as_ref()),
            confirmation: confirmation(section, parsed.as_ref()),
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
        if store.confirmation.is_wanted() && store.confirmation.timeout > store.timeout {
            let most = values::show(store.timeout);
            section.cross_field_error("wait_timeout", format!("must be at most store.timeout, which is {most}"));
        }
        store
    }

    /// Whether the store lives in this process, so that no other process needs its keys.
    pub(crate) fn is_embedded(&self) -> bool {
        self.url.expose().starts_with(EMBEDDED)
    }

    /// The address without its credentials.
    pub(crate) fn shown(&self) -> String {
        self.url.expose().parse::<StoreUrl>().map_or_else(|_| "unknown".to_owned(), |url| url.to_string())
    }
}

/// The address with the login that stands beside it.
fn logged_in(section: &mut Section<'_>, url: Option<Secret<String>>) -> Option<Secret<String>> {
    let user = section.optional_text("username", |text| Ok(text.to_owned()));
    let password = section.optional_secret("password", |text| Ok(Secret::new(text.to_owned())));
    let Some(password) = password else {
        if user.is_some() && !section.is_secret_wrong("password") {
            section.cross_field_error("username", "needs password, too");
        }
        return url;
    };
    if url.is_none() && section.is_secret_wrong("url") {
        return url;
    }
    let address = url.as_ref().map_or(EMBEDDED, |url| url.expose());
    let complete = stores::with_login(address, user.as_deref(), password.expose());
    if complete.is_none() {
        section.cross_field_error("password", "is only for a Redis whose address has no login");
    }
    complete.or(url)
}

fn tls(section: &mut Section<'_>, url: Option<&StoreUrl>) -> TlsFiles {
    let files = TlsFiles {
        ca: section.optional_text("ca_file", values::path),
        certificate: section.optional_text("client_certificate_file", values::path),
        key: section.optional_text("client_key_file", values::path),
        server_name: section.optional_text("server_name", |text| Ok(text.to_owned())),
    };
    let set = [
        ("ca_file", files.ca.is_some()),
        ("client_certificate_file", files.certificate.is_some()),
        ("client_key_file", files.key.is_some()),
        ("server_name", files.server_name.is_some()),
    ];
    for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set && url.is_some_and(|url| !url.is_tls())) {
        section.cross_field_error(name, "is only for encrypted connections, as with rediss://");
    }
    if files.certificate.is_some() != files.key.is_some() {
        section.cross_field_error("client_key_file", "client_certificate_file and client_key_file belong together");
    }
    if files.server_name.is_some() && url.is_some_and(|url| url.is_tls() && !url.is_one_server()) {
        let why = "is only for one server: nodes and masters are verified by the names that they announce";
        section.cross_field_error("server_name", why);
    }
    files
}

fn sentinel(section: &mut Section<'_>, url: Option<&StoreUrl>) -> SentinelLogin {
    let login = SentinelLogin {
        user: section.optional_text("sentinel_username", |text| Ok(text.to_owned())),
        password: section.optional_secret("sentinel_password", |text| Ok(Secret::new(text.to_owned()))),
    };
    let set = [("sentinel_username", login.user.is_some()), ("sentinel_password", login.password.is_some())];
    for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set && url.is_some_and(|url| !url.has_sentinels())) {
        section.cross_field_error(name, "is only for redis-sentinel:// and rediss-sentinel://");
    }
    if login.user.is_some() && login.password.is_none() {
        section.cross_field_error("sentinel_username", "needs sentinel_password, too");
    }
    login
}

fn confirmation(section: &mut Section<'_>, url: Option<&StoreUrl>) -> Confirmation {
    let span = values::span(Duration::from_millis(1)..=Duration::from_secs(60));
    let confirmation = Confirmation {
        replicas: section.integer("wait_replicas", 0..=REPLICAS_MAX).unwrap_or(0),
        disk: section.boolean("wait_fsync").unwrap_or(false),
        timeout: section.text("wait_timeout", span).unwrap_or(Duration::from_millis(500)),
    };
    let is_embedded = url.is_some_and(|url| url.directory().is_some());
    let set = [("wait_replicas", confirmation.replicas > 0), ("wait_fsync", confirmation.disk)];
    for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set && is_embedded) {
        section.cross_field_error(
            name,
            "is only for Redis: the embedded store has every commit on its disk before it answers",
        );
    }
    confirmation
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
        let by_variable = source.variable(KEYS_FILE_VARIABLE).map(PathBuf::from);
        let is_overridden = by_variable.is_some() && !section.is_variable("file");
        let file = section.optional_text("file", values::path).filter(|_| !is_overridden);
        let diagnostics = section.diagnostics();
        let set_too = |name: &str| format!("{name} is set too; set one of them");
        if given.is_some() && by_variable.is_some() {
            diagnostics.add(KEYS_FILE_VARIABLE, set_too(KEYS_VARIABLE));
        } else if given.is_some() && file.is_some() {
            section.cross_field_error("file", set_too(KEYS_VARIABLE));
        } else if by_variable.is_some() && file.is_some() {
            section.cross_field_error("file", set_too(KEYS_FILE_VARIABLE));
        }
        let file = by_variable.or(file);
        if let Some(Err(bad)) = given.as_ref().map(|keys| KeyRing::parse(keys, force.missing_lowest_key)) {
            diagnostics.add(KEYS_VARIABLE, bad.to_string());
        }
        if let Some(keys) = given.map(Self::Given).or(file.map(Self::File)) {
            return keys;
        }
        // While the address or the file is wrong, it is not known whether keys are missing.
        if diagnostics.is_wrong("store.url")
            || diagnostics.is_wrong("store.url_file")
            || diagnostics.is_wrong("keys.file")
        {
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
    /// The file cannot be read, is empty or too long.
    pub fn text(&self) -> Result<Option<Secret<String>>, String> {
        match self {
            Self::Given(keys) => Ok(Some(keys.clone())),
            Self::File(path) => {
                let text = secret_file::read(path).map_err(|why| format!("{}: {why}", path.display()))?;
                Ok(Some(Secret::new(text.trim().to_owned())))
            }
            Self::Generated => Ok(None),
        }
    }
}
