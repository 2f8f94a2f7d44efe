//! Settings: read once at start, checked as a whole, and plain values from then on.
//!
//! [`Config::load`] is pure. It reads the text of the file and the variables, and returns either a configuration in which
//! every value and every relation is valid, or all errors. `config.default.toml` describes every setting.
//!
//! A new setting is read in the file of its section and described in `config.default.toml`; a test fails without the
//! description.

mod audit;
mod callers;
mod listen;
mod messages;
mod policy;
mod profile;
mod providers;
mod sandbox;
mod server;
mod server_tls;
mod source;
mod store;
mod supervision;
mod telemetry;
mod tenants;

pub use crate::settings::{ConfigError, ConfigErrors};
pub use audit::{AuditSettings, StreamSettings};
pub use listen::Listen;
pub use profile::{Force, Profile};
pub use providers::Providers;
pub use sandbox::Sandboxes;
pub use server::{Operations, Requests, Server};
pub use server_tls::ServerTlsFiles;
pub use source::{FILE_VARIABLE, Source};
pub use store::{KEYS_FILE_VARIABLE, KEYS_VARIABLE, Keys, StoreSettings};
pub use supervision::Supervision;
pub use telemetry::{Log, LogFormat};

use crate::settings::{Diagnostics, Section, values};

use crate::{
    domain::{caller::ListedCaller, policy::Tenants},
    messages::Messages,
    providers::http::ProxyVariables,
    telemetry::OtlpSettings,
};

/// The file that describes every setting with its default.
pub const DEFAULT_FILE: &str = include_str!("../config.default.toml");

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Whether development-only features are allowed.
    pub profile: Profile,
    /// What is allowed in spite of the profile.
    pub force: Force,
    /// The gRPC server.
    pub server: Server,
    /// The operations server.
    pub operations: Operations,
    /// What each request must fulfil.
    pub requests: Requests,
    /// Where state lives.
    pub store: StoreSettings,
    /// The master keys, which seal it.
    pub keys: Keys,
    /// Which tenants there are, and their policies.
    pub tenants: Tenants,
    /// Who may call; empty: everybody.
    pub callers: Vec<ListedCaller>,
    /// Destinations to which nothing is sent.
    pub sandboxes: Sandboxes,
    /// The providers and their routes.
    pub providers: Providers,
    /// The proxies of the environment, for providers that name none.
    pub proxies: ProxyVariables,
    /// The texts of messages.
    pub messages: Messages,
    /// Where decisions are kept.
    pub audit: AuditSettings,
    /// The log.
    pub log: Log,
    /// Where traces and metrics go; `None`: nowhere.
    pub otlp: Option<OtlpSettings>,
    /// Who is told how the process does.
    pub supervision: Supervision,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// All errors: unknown settings, wrong values, and values that contradict each other.
    pub fn load(source: &Source) -> Result<Self, ConfigErrors> {
        let mut diagnostics = Diagnostics::default();
        let tree = source.tree(&mut diagnostics);
        let config = Section::root(tree, &diagnostics, |root| Self::read(root, source));
        diagnostics.finish(config)
    }

    fn read(root: &mut Section<'_>, source: &Source) -> Self {
        let profile = root.text("profile", values::word(&Profile::WORDS)).unwrap_or_default();
        let force = root.section("force", Force::read);
        let admin = root.section("admin", server::admin);
        let server = root.section("server", |section| Server::read(section, admin, profile, force));
        if let Some(admin) = server.admin.as_ref().filter(|admin| admin.overlaps(&server.listen)) {
            root.cross_field_error("admin.listen", format!("must differ from server.listen, which is {admin}"));
        }
        let operations = root.section("operations", |section| Operations::read(section, &server));
        let requests = root.section("requests", Requests::read);
        let store = root.section("store", |section| StoreSettings::read(section, profile, &server));
        let keys = root.section("keys", |section| Keys::read(section, source, &store, profile, force));
        let (tenants, sandboxes) = tenants::read(root, &requests, profile, force);
        let callers = root.section("callers", |section| callers::read(section, &tenants));
        if profile == Profile::Production {
            callers::check_open_listeners(root, &server, &callers, force);
        }
        let by_name = root.section("providers", |section| Providers::read(section, profile, force));
        let providers = Providers::routed(root, by_name);
        let proxies = ProxyVariables::read(|name| source.variable(name));
        let messages = root.section("messages", messages::read);
        let audit = root.section("audit", |section| AuditSettings::read(section, &store));
        let log = root.section("log", Log::read);
        let otlp = root.section("telemetry", telemetry::read_otlp);
        Self {
            profile,
            force,
            server,
            operations,
            requests,
            store,
            keys,
            tenants,
            callers,
            sandboxes,
            providers,
            proxies,
            messages,
            audit,
            log,
            otlp,
            supervision: Supervision::read(source),
        }
    }

    /// What is allowed here but is not meant for real people, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.providers.print_codes() {
            warnings.push("a console provider shows every code: fit for development only".to_owned());
        }
        if !self.sandboxes.is_empty() {
            warnings.push("sandbox destinations take codes that are known, and are sent nothing".to_owned());
        }
        warnings.extend(callers::warnings(&self.server, &self.callers));
        warnings.extend(self.server.warnings());
        if self.keys == Keys::Generated {
            warnings.push("the master key is generated in the store's folder: records are lost with it".to_owned());
        }
        if self.store.accept_loss {
            let again = "set it for one start only";
            warnings.push(format!("store.accept_loss lets an embedded store start that has lost data: {again}"));
        }
        for (name, provider) in &self.providers.by_name {
            warnings.extend(provider.notes().iter().map(|note| format!("providers.{name}: {note}")));
        }
        let unusable = "names no http:// proxy, and is not used";
        warnings.extend(self.proxies.unusable().map(|name| format!("the variable {name} {unusable}")));
        warnings.extend(self.messages.warnings());
        warnings.extend(self.force.set().map(|name| format!("{name} lets pass what is refused by default")));
        warnings
    }

    /// The most important settings, one line each, without secrets.
    pub fn summary(&self) -> Vec<String> {
        let keys = match &self.keys {
            Keys::Given(_) => format!("from {KEYS_VARIABLE}"),
            Keys::File(path) => format!("from {}", path.display()),
            Keys::Generated => "generated in the store's folder".to_owned(),
        };
        let others = if self.tenants.others.is_some() { "any other accepted" } else { "no other accepted" };
        let callers: Vec<&str> = self.callers.iter().map(|caller| caller.name.as_str()).collect();
        let callers = if callers.is_empty() { "anybody".to_owned() } else { callers.join(", ") };
        let encrypted = if self.server.tls.is_some() { "TLS" } else { "plain text" };
        let listeners = self.server.listeners();
        let mut lines = vec![format!("profile: {}", self.profile.name())];
        lines.extend(listeners.map(|(setting, listen)| match listen {
            Listen::Address(_) => format!("{setting}: {listen} ({encrypted})"),
            Listen::Socket(_) => format!("{setting}: {listen}"),
        }));
        lines.extend([
            format!("callers: {callers}"),
            format!("operations.listen: {}", self.operations.listen),
            format!("store: {}", self.store.shown()),
            format!("master keys: {keys}"),
            format!("tenants: {} listed, {others}", self.tenants.listed.len()),
            format!("routes: {}", self.providers.routes.join(", ")),
            format!("audit: {}", self.audit.shown()),
        ]);
        lines
    }
}

#[cfg(test)]
mod tests;
