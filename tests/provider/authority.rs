//! Tokens of OAuth 2.0 client credentials: fetched once, kept, renewed before they end and when they are refused; without one,
//! nothing is sent.

use std::{sync::Arc, time::Duration};

use otpd::{
    metrics::Metrics,
    ports::{
        clock::Deadline,
        provider::{Delivered, Provider},
    },
    providers::{self, ProviderDeps, http::ProxyVariables},
    settings::{Diagnostics, Section, tree::Table},
};
use tokio::task::JoinSet;

use super::{
    probe::{FAILED, LONGEST_CALL, ManualClock, REFUSED, accepted, answer, delivery},
    server::{Act, Server},
};

/// A provider of one kind, as otpd builds it.
pub(crate) fn provider(kind: &'static str, settings: toml::Table, clock: &Arc<ManualClock>) -> Arc<dyn Provider> {
    counted(kind, settings, clock, &Arc::default())
}

fn counted(
    kind: &'static str,
    settings: toml::Table,
    clock: &Arc<ManualClock>,
    metrics: &Arc<Metrics>,
) -> Arc<dyn Provider> {
    let diagnostics = Diagnostics::default();
    let table = Table::from_toml(settings);
    let configured = Section::root(table, &diagnostics, |section| providers::read(kind, section));
    let configured = diagnostics.finish(configured).expect("right settings").expect("a provider");
    let deps = ProviderDeps { clock: clock.clone(), observer: metrics.clone(), proxies: ProxyVariables::default() };
    configured.build(kind, &deps).expect("a provider")
}

pub(crate) async fn deliver(provider: &Arc<dyn Provider>) -> Delivered {
    provider.deliver(delivery("parameter-secret"), Deadline::after(LONGEST_CALL)).await
}

struct World {
    tokens: Server,
    api: Server,
    clock: Arc<ManualClock>,
    metrics: Arc<Metrics>,
    provider: Arc<dyn Provider>,
}

impl World {
    async fn new(more: &str) -> Self {
        let (tokens, api, clock) = (Server::start().await, Server::start().await, Arc::new(ManualClock::default()));
        api.otherwise(Act::Send(answer(200, "")));
        let settings = format!(
            "base_url = \"{}\"\npath = \"/send\"\nform = {{ code = \"{{{{code}}}}\" }}\ntimeout = \"5s\"\n\
             [oauth2]\ntoken_url = \"{}/token\"\nclient_id = \"otpd:1\"\nclient_secret = \"oauth2-secret%\"\n{more}",
            api.url(),
            tokens.url()
        );
        let metrics = Arc::default();
        let provider = counted("http-json", settings.parse().expect("TOML"), &clock, &metrics);
        Self { tokens, api, clock, metrics, provider }
    }

    fn bearers(&self) -> Vec<String> {
        let header = |request: &super::server::Request| request.header("authorization").unwrap_or_default().to_owned();
        self.api.seen().iter().map(header).collect()
    }
}

fn token(name: &str, expires_in: &str) -> Act {
    Act::Send(answer(
        200,
        &format!("{{\"access_token\":\"{name}\",\"token_type\":\"Bearer\",\"expires_in\":{expires_in}}}"),
    ))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_renewed_before_it_ends() {
    let world = World::new("scope = \"sms send\"").await;
    world.tokens.script([token("t1", "3600"), token("t2", "\"3600\"")]);
    for _ in 0..3 {
        assert_eq!(deliver(&world.provider).await, accepted(""));
    }
    let asked = world.tokens.seen();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].method.as_str(), asked[0].target.as_str()), ("POST", "/token"));
    // Basic of otpd%3A1:oauth2-secret%25, encoded as RFC 6749, 2.3.1 has it.
    assert_eq!(asked[0].header("authorization"), Some("Basic b3RwZCUzQTE6b2F1dGgyLXNlY3JldCUyNQ=="));
    assert_eq!(asked[0].body, b"grant_type=client_credentials&scope=sms+send");
    assert_eq!(world.bearers(), ["Bearer t1", "Bearer t1", "Bearer t1"]);
    world.clock.pass(Duration::from_secs(3600 - 59));
    assert_eq!(deliver(&world.provider).await, accepted(""));
    assert_eq!(world.bearers(), ["Bearer t2"]);
}

#[tokio::test]
async fn the_secret_can_go_in_the_body() {
    let world = World::new("client_auth = \"body\"\naudience = \"https://api\"").await;
    world.tokens.script([token("t1", "60")]);
    assert_eq!(deliver(&world.provider).await, accepted(""));
    let asked = world.tokens.seen().remove(0);
    assert_eq!(asked.header("authorization"), None);
    let body =
        "grant_type=client_credentials&audience=https%3A%2F%2Fapi&client_id=otpd%3A1&client_secret=oauth2-secret%25";
    assert_eq!(String::from_utf8_lossy(&asked.body), body);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let world = World::new("").await;
    world.tokens.script([token("t1", "3600"), token("t2", "3600"), token("t3", "3600")]);
    world.api.script([Act::Send(answer(401, "")), Act::Send(answer(200, ""))]);
    assert_eq!(deliver(&world.provider).await, accepted(""));
    assert_eq!(world.bearers(), ["Bearer t1", "Bearer t2"]);
    world.api.script([Act::Send(answer(401, "")), Act::Send(answer(401, ""))]);
    assert_eq!(deliver(&world.provider).await, REFUSED);
    assert_eq!(world.bearers(), ["Bearer t2", "Bearer t3"]);
    assert_eq!(world.tokens.seen().len(), 3);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let denied = "{\"error\":\"invalid_client\"}";
    for (act, expected) in [
        (Act::Send(answer(401, denied)), REFUSED),
        (Act::Send(answer(400, denied)), REFUSED),
        (Act::Send(answer(302, "")), REFUSED),
        (Act::Send(answer(429, "")), FAILED),
        (Act::Send(answer(503, "")), FAILED),
        (Act::Send(answer(200, "<html>")), FAILED),
        (Act::Send(answer(200, "{\"access_token\":\"\"}")), FAILED),
        (Act::Send(answer(200, "{\"access_token\":\"a\\nb\"}")), FAILED),
        (Act::Close, FAILED),
    ] {
        let world = World::new("").await;
        world.tokens.script([act.clone()]);
        assert_eq!(deliver(&world.provider).await, expected, "{act:?}");
        assert!(world.api.seen().is_empty(), "{act:?}");
        // A secret that is refused is counted as what the caller is told, and an operator must mend.
        let outcome = if expected == REFUSED { "refused" } else { "nothing_sent" };
        let counted = ["answered", "failed", "refused", "nothing_sent", "unknown"].map(|word| {
            let labels = format!("{{provider=\"http-json\",operation=\"deliver\",outcome=\"{word}\"}}");
            let line = format!("otp_provider_call_duration_seconds_count{labels} {}", u8::from(word == outcome));
            world.metrics.text().unwrap().contains(&line)
        });
        assert_eq!(counted, [true; 5], "{act:?}");
    }
}

#[tokio::test]
async fn a_silent_token_server_costs_no_more_than_the_call() {
    let world = World::new("").await;
    world.tokens.script([Act::Silence]);
    let short = Deadline::after(Duration::from_millis(200));
    assert_eq!(world.provider.deliver(delivery("parameter-secret"), short).await, FAILED);
    world.tokens.script([token("t1", "60")]);
    assert_eq!(deliver(&world.provider).await, accepted(""));
    assert_eq!(world.bearers(), ["Bearer t1"]);
}

/// The first call has little time, and its failure is its own: the others fetch a token within theirs.
#[tokio::test]
async fn a_hurried_call_does_not_fail_those_that_wait_for_it() {
    let world = World::new("").await;
    world.tokens.script([Act::Silence, token("t1", "3600")]);
    let first = world.provider.deliver(delivery("parameter-secret"), Deadline::after(Duration::from_millis(300)));
    let arrives = async {
        while world.tokens.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // A failure that is shared comes later on this clock than the wait began.
            world.clock.pass(Duration::from_millis(1));
        }
        let ticks = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                world.clock.pass(Duration::from_millis(1));
            }
        };
        tokio::select! {
            delivered = deliver(&world.provider) => delivered,
            () = ticks => unreachable!(),
        }
    };
    let (first, second) = tokio::join!(first, arrives);
    assert_eq!((first, second), (FAILED, accepted("")));
    assert!(world.provider.is_ready());
}

#[tokio::test]
async fn while_the_old_token_is_good_a_failure_to_renew_it_costs_nothing() {
    let world = World::new("").await;
    world.tokens.script([token("t1", "3600"), Act::Send(answer(503, ""))]);
    assert_eq!(deliver(&world.provider).await, accepted(""));
    world.clock.pass(Duration::from_secs(3600 - 30));
    for _ in 0..3 {
        assert_eq!(deliver(&world.provider).await, accepted(""));
    }
    assert_eq!((world.tokens.seen().len(), world.bearers().len()), (2, 4), "one try, then a pause");
    world.clock.pass(Duration::from_secs(31));
    world.tokens.script([token("t2", "3600")]);
    assert_eq!(deliver(&world.provider).await, accepted(""));
    assert_eq!(world.bearers(), ["Bearer t2"]);
}

#[tokio::test]
async fn of_many_calls_one_fetches_the_token() {
    let world = World::new("").await;
    let slow = answer(200, "{\"access_token\":\"t1\",\"expires_in\":3600}");
    world.tokens.script([Act::Slowly(Duration::from_millis(100), vec![slow])]);
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let provider = Arc::clone(&world.provider);
        calls.spawn(async move { deliver(&provider).await });
    }
    assert!(calls.join_all().await.iter().all(|delivered| *delivered == accepted("")));
    assert_eq!((world.tokens.seen().len(), world.bearers().len()), (1, 20));
}
