//! Reads the folders of fixtures, and builds providers as production does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use otpd::{
    metrics::Metrics,
    ports::{clock::SystemClock, provider::Provider},
    providers::{self, KINDS, ProviderDeps, http::ProxyVariables},
    settings::{Diagnostics, Section, tree::Table},
};

use super::{
    play::play,
    scenario::{Given, Scenario},
    server::Server,
};

/// Stands for the server's URL in `provider.toml`, and for the folder of the fixtures.
const SERVER: &str = "{server}";
const FOLDER: &str = "{folder}";

/// Settings that are no secret, whatever their text.
const OPEN_SETTINGS: [&str; 5] = ["kind", "base_url", "timeout", "connect_timeout", "channels"];

/// The fixtures of one kind.
pub(crate) struct Fixture {
    kind: &'static str,
    folder: PathBuf,
    pub(crate) scenarios: BTreeMap<String, Scenario>,
    skipped: BTreeSet<String>,
}

/// The kinds that speak HTTP.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.name).filter(|name| !matches!(*name, "console" | "smtp"))
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider/fixtures")
}

/// The names of all folders of fixtures.
pub(crate) fn folders() -> Vec<String> {
    let entries = fs::read_dir(top()).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Reads the folder of a kind, or says all that is wrong with it.
pub(crate) fn read_folder(kind: &'static str) -> Result<Fixture, Vec<String>> {
    let folder = top().join(kind);
    let mut fixture = Fixture { kind, folder, scenarios: BTreeMap::new(), skipped: BTreeSet::new() };
    let mut wrong = Vec::new();
    let entries = fs::read_dir(&fixture.folder).map_err(|error| vec![format!(": no folder of fixtures: {error}")])?;
    for entry in entries.flatten() {
        let (path, file) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let text = fs::read_to_string(&path).unwrap_or_default();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => match serde_json::from_str(&text) {
                Ok(scenario) => drop(fixture.scenarios.insert(file, scenario)),
                Err(error) => wrong.push(format!("{file}: {error}")),
            },
            Some("skip") if text.trim().len() < 10 => wrong.push(format!("{file}: must say why")),
            Some("skip") => drop(fixture.skipped.insert(file)),
            _ => {}
        }
    }
    if let Err(error) = fixture.provider("http://127.0.0.1:9") {
        wrong.push(error);
    }
    if wrong.is_empty() { Ok(fixture) } else { Err(wrong) }
}

impl Fixture {
    /// Whether there is a scenario of this name, or a reason why there is none.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.scenarios.contains_key(&format!("{name}.json")) || self.skipped.contains(&format!("{name}.skip"))
    }

    /// The provider of `provider.toml` with its API at this URL.
    pub(crate) fn provider(&self, server: &str) -> Result<Arc<dyn Provider>, String> {
        self.provider_of("provider.toml", server)
    }

    fn provider_of(&self, file: &str, server: &str) -> Result<Arc<dyn Provider>, String> {
        let mut settings = self.settings(file, server)?;
        settings.remove("kind");
        let diagnostics = Diagnostics::default();
        let configured =
            Section::root(Table::from_toml(settings), &diagnostics, |section| providers::read(self.kind, section));
        let configured = diagnostics.finish(configured).map_err(|errors| format!("{file}: {errors}"))?;
        let configured = configured.ok_or_else(|| format!("{file}: not read, and no mistake was reported"))?;
        configured
            .build(
                self.kind,
                &ProviderDeps {
                    clock: Arc::new(SystemClock),
                    observer: Arc::new(Metrics::default()),
                    proxies: ProxyVariables::default(),
                },
            )
            .map_err(|error| format!("{file}: {error}"))
    }

    fn settings(&self, file: &str, server: &str) -> Result<toml::Table, String> {
        let text = fs::read_to_string(self.folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
        let text = text.replace(SERVER, server).replace(FOLDER, &self.folder.display().to_string());
        text.parse().map_err(|error: toml::de::Error| format!("{file}: {}", error.message()))
    }

    /// Plays a scenario with a provider of its own: none sees another's breaker or connections. Notes what may not be
    /// printed, and says all that was not as the scenario says.
    pub(crate) async fn play(
        &self,
        scenario: &Scenario,
        server: &Server,
        secrets: &mut BTreeSet<String>,
    ) -> Vec<String> {
        let settings = scenario.provider.as_deref().unwrap_or("provider.toml");
        let provider = match self.provider_of(settings, &server.url()) {
            Ok(provider) => provider,
            Err(error) => return vec![error],
        };
        secrets.extend(self.settings(settings, &server.url()).iter().flat_map(secret_settings));
        secrets.extend(scenario.secrets());
        play(provider.as_ref(), scenario, server).await
    }
}

/// The texts of a provider's section that may not be printed: all but short words.
fn secret_settings(table: &toml::Table) -> Vec<String> {
    fn collect(value: &toml::Value, found: &mut Vec<String>) {
        match value {
            toml::Value::String(text) if text.len() >= Given::SHORTEST_SECRET + 2 => found.push(text.clone()),
            toml::Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            toml::Value::Table(table) => table.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let secret = table.iter().filter(|(name, _)| !OPEN_SETTINGS.contains(&name.as_str()));
    secret.for_each(|(_, value)| collect(value, &mut found));
    found
}
