//! The runner itself: a scenario that is wrong in any one place must not pass.

use std::{collections::BTreeSet, sync::Arc};

use otpd::{
    domain::{code::CodeOwner, destination::Channel},
    ports::{
        clock::SystemClock,
        provider::{Capabilities, Check, Checked, Delivered, Delivery, Evidence, Receipt, RequestError},
    },
    providers::{
        adapter::{Adapter, delivered_by_status},
        http::{BaseUrl, HttpProvider, Inbound, Outbound},
    },
    secret::Secret,
};
use serde_json::{Value, json};

use super::{logs, play::play, probe::http_settings, scenario::Scenario, server::Server};

/// The smallest adapter that uses every part of a request.
struct Tiny {
    base: BaseUrl,
}

impl Adapter for Tiny {
    fn base_url(&self) -> &BaseUrl {
        &self.base
    }

    fn capabilities(&self) -> Capabilities {
        let code_owner = CodeOwner::Provider { check_repeatable: true };
        Capabilities { code_owner, ..Capabilities::delivers(vec![Channel::Sms]) }
    }

    fn deliver(&self, delivery: &Delivery) -> Result<Outbound, RequestError> {
        let code = delivery.message.as_ref().ok_or(RequestError::MissingParameter("code"))?;
        let outbound = Outbound::post(self.base.join("/send")).query(&[("a", "1 2"), ("b", "x&y")]);
        Ok(outbound.bearer(&Secret::new("TOKEN-77".to_owned())).json(&json!({"code": code.code.expose(), "n": [1, 2]})))
    }

    fn delivered(&self, _: &Delivery, answer: &Inbound) -> Delivered {
        if answer.is_success() {
            Delivered::Accepted(Receipt { reference: "R".to_owned(), ..Receipt::default() })
        } else {
            delivered_by_status(answer)
        }
    }

    fn check(&self, check: &Check) -> Result<Outbound, RequestError> {
        Ok(Outbound::post(self.base.join("/check")).form(&[("to", "+1 2"), ("otp", check.otp.expose())]))
    }

    fn checked(&self, _: &Check, answer: &Inbound) -> Checked {
        if answer.is_success() { Checked::Matched(Evidence::default()) } else { Checked::Unknown }
    }
}

fn deliver() -> Value {
    json!({
        "about": "a delivery", "call": "deliver",
        "given": {"channel": "sms", "destination": {"phone": "+14155550100"}, "code": "123456"},
        "request": {
            "method": "POST", "path": "/send?b=x%26y&a=1+2",
            "headers": {"authorization": "Bearer TOKEN-77", "user-agent": "<any>"},
            "json": {"code": "123456", "n": ["<any>", 2]}
        },
        "answer": {"status": 200, "json": {}},
        "outcome": {"accepted": {"reference": "R"}}
    })
}

fn check() -> Value {
    json!({
        "about": "a check", "call": "check",
        "given": {"channel": "sms", "destination": {"phone": "+14155550100"}, "otp": "123456"},
        "request": {"method": "POST", "path": "/check", "form": {"otp": "123456", "to": "+1 2"}},
        "answer": {"status": 200},
        "outcome": {"matched": {}}
    })
}

fn incomplete() -> Value {
    json!({
        "about": "no code", "call": "deliver",
        "given": {"channel": "sms", "destination": {"phone": "+14155550100"}},
        "request": null, "outcome": {"invalid": {"missing_parameter": "code"}}
    })
}

fn throttled() -> Value {
    let mut scenario = deliver();
    scenario["answer"] = json!({"status": 429, "headers": {"retry-after": "7"}});
    scenario["outcome"] = json!({"unavailable": {"retry_after_s": 7}});
    scenario
}

async fn complaints(server: &Server, scenario: &Value) -> Vec<String> {
    let scenario: Scenario = serde_json::from_value(scenario.clone()).unwrap();
    let adapter = Box::new(Tiny { base: BaseUrl::parse(&server.url()).unwrap() });
    let provider = HttpProvider::new("tiny", adapter, &http_settings(""), Arc::new(SystemClock)).unwrap();
    play(&provider, &scenario, server).await
}

#[tokio::test]
async fn right_scenarios_pass() {
    let server = Server::start().await;
    for scenario in [deliver(), check(), incomplete(), throttled()] {
        assert_eq!(complaints(&server, &scenario).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_scenario_that_is_wrong_in_one_place_fails_there() {
    let server = Server::start().await;
    for (scenario, place, value, complaint) in [
        (deliver(), "/about", json!(" "), "about"),
        (deliver(), "/given/code", json!("123457"), "json"),
        (deliver(), "/request/method", json!("GET"), "method"),
        (deliver(), "/request/path", json!("/sent?b=x%26y&a=1+2"), "path"),
        (deliver(), "/request/path", json!("/send?b=x%26y&a=1"), "query"),
        (deliver(), "/request/path", json!("/send"), "query"),
        (deliver(), "/request/headers", json!({"authorization": "Bearer TOKEN-78"}), "header authorization"),
        (deliver(), "/request/headers", json!({"x-absent": "<any>"}), "header x-absent"),
        (deliver(), "/request/json", json!({"code": "123456"}), "json"),
        (deliver(), "/request/json", json!({"code": "123456", "n": [1]}), "json"),
        (deliver(), "/request/json", json!({"code": "123456", "n": [1, 2], "m": 1}), "json"),
        (deliver(), "/request/json", Value::Null, "body"),
        (deliver(), "/request", Value::Null, "an answer goes with a request"),
        (deliver(), "/answer/status", json!(500), "outcome"),
        (deliver(), "/outcome", json!({"accepted": {"reference": "S"}}), "outcome"),
        (deliver(), "/outcome", json!({"accepted": {"reference": "R", "code_length": 6}}), "outcome"),
        (check(), "/request/form", json!({"otp": "123456"}), "form"),
        (check(), "/request/form", json!({"otp": "123456", "to": ["+1 2", "+1 2"]}), "form"),
        (check(), "/request/form", json!({"otp": "654321", "to": "+1 2"}), "form"),
        (check(), "/outcome", json!("gone"), "outcome"),
        (check(), "/outcome", json!({"matched": {"eci": "07"}}), "outcome"),
        (incomplete(), "/outcome", json!({"invalid": {"invalid_parameter": "code"}}), "outcome"),
        (incomplete(), "/given/code", json!("123456"), "outcome"),
        (throttled(), "/outcome", json!({"unavailable": {}}), "outcome"),
        (throttled(), "/answer/headers", json!({}), "outcome"),
    ] {
        let mut scenario = scenario;
        match scenario.pointer_mut(place) {
            Some(at) => *at = value,
            None => scenario["given"]["code"] = value,
        }
        let found = complaints(&server, &scenario).await;
        assert!(found.iter().any(|found| found.starts_with(complaint)), "{place}: {found:?}");
    }
}

#[test]
fn a_scenario_with_a_misspelt_field_is_not_read() {
    for (place, field) in [("", "abouts"), ("/given", "codes"), ("/request", "bodies"), ("/answer", "state")] {
        let mut scenario = deliver();
        scenario.pointer_mut(place).unwrap()[field] = json!("1");
        assert!(serde_json::from_value::<Scenario>(scenario).is_err(), "{field}");
    }
}

#[tokio::test]
async fn a_leak_is_seen() {
    let (log, guard) = logs::capture();
    let secrets = BTreeSet::from(["TOKEN-77".to_owned(), "918273".to_owned(), "555555".to_owned()]);
    tracing::trace!(target: "another_crate", "sends xTOKEN-77x, code=918273, port 15555550");
    let leaks = log.leaks(&secrets);
    assert_eq!(leaks.len(), 2, "{leaks:?}");
    assert!(leaks[0].starts_with("918273: ") && leaks[1].starts_with("TOKEN-77: "));
    drop(guard);
    tracing::error!("555555");
    assert_eq!(log.leaks(&secrets), leaks);
}
