//! Tests of `config`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::*;
use crate::{
    domain::{ids::Tenant, purpose::Purpose},
    providers::http::HttpSettings,
    settings::{Section, tree::Table},
};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::load(&source(file, environment))
}

fn source(file: &str, environment: &[(&str, &str)]) -> Source {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Source { file: Some(("otpd.toml".to_owned(), file.to_owned())), environment }
}

/// The default file with all its examples made settings.
fn with_examples() -> String {
    let line = |line: &'static str| match line.strip_prefix('#') {
        Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
        _ => line,
    };
    DEFAULT_FILE.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_default_file_says_what_is_built_in() {
    assert_eq!(load(DEFAULT_FILE, &[]), Config::load(&Source::default()));
}

#[test]
fn the_examples_of_the_default_file_are_valid() {
    // The examples of the store are for several kinds of addresses: two of them exclude each other.
    let examples = with_examples().replace("\nserver_name =", "\n#server_name =");
    let config = load(&examples, &[("OTPD__STORE__URL", "rediss-sentinel://a,b/main")]).unwrap();
    assert_eq!(config.server.max_connection_age, Some(Duration::from_secs(1800)));
}

#[test]
fn every_setting_is_in_the_default_file() {
    let examples: toml::Table = with_examples().parse().unwrap();
    let source = source(&with_examples(), &[]);
    let mut diagnostics = Diagnostics::default();
    let tree = source.tree(&mut diagnostics);
    Section::root(tree, &diagnostics, |root| Config::read(root, &source));
    let shared = Diagnostics::default();
    Section::root(Table::default(), &shared, HttpSettings::read);
    let mut shared = shared.known();
    shared.insert("kind".to_owned());
    // A purpose and a tenant have the keys of [policy].
    let plain = |path: String| match path.strip_prefix("providers.").and_then(|rest| rest.split_once('.')) {
        None => path.replace("tenants.acme.", "").replace("purposes.transaction.", ""),
        // What many kinds have is described once, and what a kind has in one of its examples.
        Some((_, key)) if shared.contains(key) => format!("providers.NAME.{key}"),
        Some((name, key)) => {
            let kind = examples["providers"][name].get("kind").and_then(toml::Value::as_str);
            format!("providers.{}.{key}", kind.unwrap_or(name))
        }
    };
    let described: BTreeSet<String> = toml_settings(&examples, "").into_iter().map(plain).collect();
    let known: BTreeSet<String> = diagnostics.known().into_iter().map(plain).collect();
    assert_eq!(known, described);
}

/// Each secret of the examples comes from a file instead, which a variable names.
#[test]
fn every_secret_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    // The examples of the store are for several kinds of addresses.
    let written = with_examples().replace("\nserver_name =", "\n#server_name =").replace("embedded:./otpd-data", REDIS);
    let examples: toml::Table = written.parse().unwrap();
    let mut files = Vec::new();
    for path in secrets() {
        let keys: Vec<&str> = path.split('.').collect();
        let (name, sections) = keys.split_last().unwrap();
        let section = sections.iter().try_fold(&examples, |table, key| table.get(*key)?.as_table());
        // A kind has several examples, and not all of its settings in each.
        let Some(secret) = section.and_then(|section| section.get(*name)) else { continue };
        files.push((path.clone(), folder.path().join(&path), secret.as_str().unwrap().to_owned()));
    }
    let variable = |(path, file, _): &(String, PathBuf, String)| {
        (format!("OTPD__{}_FILE", path.replace('.', "__")), file.display().to_string())
    };
    let environment = files.iter().map(variable).collect();
    let source = Source { file: Some(("otpd.toml".to_owned(), written)), environment };
    for (_, file, _) in &files {
        fs::write(file, "").unwrap();
    }
    let errors = Config::load(&source).map_err(|errors| errors.0).unwrap_err();
    let empty: BTreeSet<&str> =
        errors.iter().filter(|error| error.message == "is empty").map(|error| error.setting.as_str()).collect();
    for (path, ..) in &files {
        assert!(empty.contains(format!("{path}_file").as_str()), "{path} is not read from a file: {empty:?}");
    }
    for (_, file, secret) in &files {
        fs::write(file, format!("{secret}\n")).unwrap();
    }
    assert_eq!(Config::load(&source).unwrap().store.url.expose(), "rediss-sentinel://otpd:secret@a,b/main");
}

const REDIS: &str = "rediss-sentinel://a,b/main";

/// The paths of all secrets in the examples.
fn secrets() -> BTreeSet<String> {
    let source = source(&with_examples(), &[]);
    let mut diagnostics = Diagnostics::default();
    let tree = source.tree(&mut diagnostics);
    Section::root(tree, &diagnostics, |root| Config::read(root, &source));
    diagnostics.secrets()
}

#[test]
fn the_table_of_secrets_is_complete() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("<!-- secrets -->").unwrap();
    let (table, _) = table.split_once("<!-- /secrets -->").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let listed: BTreeSet<&str> = rows.flat_map(|(names, _)| names.split('`').step_by(2)).collect();
    let plain = |path: String| match path.split('.').collect::<Vec<_>>().as_slice() {
        ["providers", _, keys @ ..] => match keys {
            [section @ ("headers" | "form"), _] | ["hmac", section @ "headers", _] => {
                format!("providers.NAME.{section}.KEY")
            }
            keys => format!("providers.NAME.{}", keys.join(".")),
        },
        _ => path.replace("tenants.acme.", "tenants.NAME."),
    };
    let known: BTreeSet<String> = secrets().into_iter().map(plain).collect();
    assert_eq!(known.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
}

fn toml_settings(table: &toml::Table, path: &str) -> Vec<String> {
    let below = |(name, value): (&String, &toml::Value)| match value {
        toml::Value::Table(table) => toml_settings(table, &format!("{path}{name}.")),
        _ => vec![format!("{path}{name}")],
    };
    table.iter().flat_map(below).collect()
}

#[test]
fn layers_of_policy_stack_up() {
    let file = "
        [policy]
        code_digits = 7
        [policy.purposes.login]
        code_digits = 8
        max_send_attempts = 1
        [tenants.acme.policy]
        max_verification_attempts = 3
        [tenants.acme.policy.purposes.transaction]
        code_digits = 9
        [tenants.bold.policy]
        code_digits = 10
        [tenants.plain]
    ";
    let tenants = load(file, &[]).unwrap().tenants;
    let digits = |tenant: &str, purpose| {
        let limits = tenants.of(&Tenant::parse(tenant).unwrap()).unwrap().limits(purpose).clone();
        (limits.code_digits, limits.max_send_attempts, limits.max_verification_attempts)
    };
    assert_eq!(digits("acme", Purpose::Registration), (7, 3, 3));
    assert_eq!(digits("acme", Purpose::Login), (8, 1, 3));
    assert_eq!(digits("acme", Purpose::Transaction), (9, 3, 3));
    assert_eq!(digits("bold", Purpose::Login), (10, 1, 5));
    assert_eq!(digits("plain", Purpose::Login), (8, 1, 5));
    assert_eq!(tenants.of(&Tenant::parse("other").unwrap()), None);
}

#[test]
fn a_shorter_challenge_shortens_its_codes() {
    let config = load("[policy]\nchallenge_life = \"2m\"", &[]).unwrap();
    assert_eq!(config.tenants.others.unwrap().limits.code_life, Duration::from_secs(120));
}

#[test]
fn a_tenant_in_a_variable_keeps_its_case_unless_the_file_has_it() {
    let variable = ("OTPD__TENANTS__ACME__POLICY__CODE_DIGITS", "8");
    let named = |file| load(file, &[variable]).unwrap().tenants.listed.into_keys().next().unwrap();
    assert_eq!(named("").as_str(), "ACME");
    assert_eq!(named("[tenants.Acme]").as_str(), "Acme");
}

#[test]
fn spans_are_shown_as_they_are_written() {
    let shown = [0, 10, 1500, 60_000, 90_000, 3_600_000, 2_678_400_000].map(Duration::from_millis).map(values::show);
    assert_eq!(shown, ["0s", "10ms", "1500ms", "1m", "90s", "1h", "31d"]);
}
