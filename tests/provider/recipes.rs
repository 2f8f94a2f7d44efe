//! The recipes of docs/recipes: each sends what its provider documents, and judges the answers that the provider documents.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    authority::provider,
    play::play,
    probe::{ManualClock, answer},
    scenario::Scenario,
    server::{Act, Request, Server},
};

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names(path: &str, extension: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(path)).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|found| found == extension));
    files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
}

/// The one provider's section of a recipe, with its API at this URL.
fn settings(name: &str, url: &str) -> toml::Table {
    let text = fs::read_to_string(folder("docs/recipes").join(format!("{name}.toml"))).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let providers = file["providers"].as_table().expect("[providers]");
    let section = providers.values().next().and_then(toml::Value::as_table);
    let mut section = section.expect("the section of a provider").clone();
    assert_eq!(section.remove("kind"), Some(toml::Value::String("http-json".to_owned())), "{name}");
    let base_url = section.insert("base_url".to_owned(), toml::Value::String(url.to_owned())).unwrap();
    assert!(base_url.as_str().unwrap().starts_with("https://"), "{name}: {base_url:?}");
    section
}

fn scenarios(name: &str) -> Vec<Scenario> {
    let path = folder("tests/provider/recipes").join(format!("{name}.json"));
    let recipe: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let scenario = |answer: &Value| {
        json!({
            "about": answer["about"], "call": "deliver", "given": recipe["given"], "request": recipe["request"],
            "answer": answer["answer"], "outcome": answer["outcome"]
        })
    };
    let answers = recipe["answers"].as_array().unwrap();
    answers.iter().map(|answer| serde_json::from_value(scenario(answer)).unwrap()).collect()
}

#[tokio::test]
async fn every_recipe_sends_and_judges_as_its_provider_documents() {
    let (recipes, server) = (names("docs/recipes", "toml"), Server::start().await);
    assert_eq!(recipes, names("tests/provider/recipes", "json"));
    let mut complaints = Vec::new();
    for name in &recipes {
        let (settings, clock) = (settings(name, &server.url()), Arc::new(ManualClock::default()));
        for scenario in scenarios(name) {
            // Each with a provider of its own: repeated refusals open the breaker.
            let provider = provider("http-json", settings.clone(), &clock);
            let wrong = play(provider.as_ref(), &scenario, &server).await;
            complaints.extend(wrong.into_iter().map(|wrong| format!("{name}, {}: {wrong}", scenario.about)));
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_recipe_is_listed() {
    let readme = fs::read_to_string(folder("docs/recipes/README.md")).unwrap();
    let listed = |name: &&String| readme.contains(&format!("[{name}.toml]({name}.toml)"));
    assert_eq!(names("docs/recipes", "toml").iter().filter(listed).count(), names("docs/recipes", "toml").len());
}

/// The string to sign is that of learn.microsoft.com, "Sign an HTTP request with HMAC".
#[tokio::test]
async fn azure_gets_the_signature_that_it_computes_itself() {
    let (server, clock) = (Server::start().await, Arc::new(ManualClock::default()));
    server.otherwise(Act::Send(answer(202, "{}")));
    let provider = provider("http-json", settings("azure-sms", &server.url()), &clock);
    super::authority::deliver(&provider).await;
    let request: Request = server.seen().remove(0);
    let header = |name| request.header(name).unwrap();
    let content = STANDARD.encode(Sha256::digest(&request.body));
    assert_eq!(
        (header("x-ms-date"), header("x-ms-content-sha256")),
        ("Tue, 14 Nov 2023 22:13:20 GMT", content.as_str())
    );
    let signed = format!("POST\n{}\n{};{};{content}", request.target, header("x-ms-date"), header("host"));
    let mut mac = Hmac::<Sha256>::new_from_slice(b"ACCESS_KEY").unwrap();
    mac.update(signed.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let expected = format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}");
    assert_eq!(header("authorization"), expected);
}
