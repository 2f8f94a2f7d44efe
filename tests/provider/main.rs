//! Providers over HTTP against a local server: the fixtures of every kind, and the executor.
//!
//! `tests/provider/fixtures/<kind>/` holds `provider.toml` and one JSON file for each scenario; docs/adding-a-provider.md
//! has the format.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod authority;
mod aws;
mod breaker;
mod canary;
mod executor;
mod fixtures;
mod logs;
mod play;
mod probe;
mod proxy;
mod recipes;
mod scenario;
mod server;
mod smtp;
mod tls;
mod waits;

use std::collections::BTreeSet;

use fixtures::{Fixture, folders, kinds, read_folder};
use otpd::{domain::code::CodeOwner, providers::KINDS};
use server::Server;

#[tokio::test]
async fn every_fixture_is_answered_as_it_says_and_nothing_leaks() {
    let server = Server::start().await;
    let (log, guard) = logs::capture();
    let mut complaints = Vec::new();
    let (mut played, mut secrets) = (0, BTreeSet::new());
    for kind in kinds() {
        match read_folder(kind) {
            Ok(fixture) => {
                for (file, scenario) in &fixture.scenarios {
                    let outcome = fixture.play(scenario, &server, &mut secrets).await;
                    complaints.extend(outcome.into_iter().map(|complaint| format!("{kind}/{file}: {complaint}")));
                    played += 1;
                }
            }
            Err(wrong) => complaints.extend(wrong.into_iter().map(|complaint| format!("{kind}/{complaint}"))),
        }
    }
    drop(guard);
    complaints.extend(log.leaks(&secrets).into_iter().map(|secret| format!("the log shows {secret}")));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    assert!(played == 0 || log.text().contains("the provider answered"), "the log was not captured");
}

#[test]
fn no_required_scenario_is_missing() {
    let mut complaints = Vec::new();
    for kind in kinds() {
        match read_folder(kind) {
            Ok(fixture) => complaints.extend(missing(&fixture).into_iter().map(|name| format!("{kind}/{name}"))),
            Err(wrong) => complaints.extend(wrong.into_iter().map(|complaint| format!("{kind}/{complaint}"))),
        }
    }
    let known: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let stray = folders().into_iter().filter(|folder| !known.contains(folder.as_str()));
    complaints.extend(stray.map(|folder| format!("{folder}: no kind of this name")));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// What every kind must show, as a file `<name>.json`, or `<name>.skip` with the reason why there is none.
fn missing(fixture: &Fixture) -> Vec<String> {
    let managed = !matches!(fixture.provider("http://127.0.0.1:9").unwrap().capabilities().code_owner, CodeOwner::Otpd);
    let deliver = ["accepted", "bad_number", "throttled", "bad_credentials", "server_error", "rubbish"];
    let check =
        ["matched", "not_matched", "gone", "throttled", "unavailable", "bad_credentials", "server_error", "rubbish"];
    let deliver = deliver.iter().map(|name| format!("deliver_{name}"));
    let check = check.iter().filter(|_| managed).map(|name| format!("check_{name}"));
    let required = deliver.chain(check).filter(|name| !fixture.has(name));
    required.map(|name| format!("{name}.json is missing, and no {name}.skip says why")).collect()
}
