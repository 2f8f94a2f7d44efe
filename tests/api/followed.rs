//! One call, followed by one id: from the access log of a real Envoy through otpd's lines, span and audit event to the request that
//! its provider gets.

use std::fs;

use otpd::grpc::proto::CreateChallengeRequest;
use serde_json::{Value, json};

use crate::{
    caller::{Caller, login, verify, wrong},
    collector::{FakeCollector, texts},
    envoy_server::{CHECKED_ONCE, Envoy},
    redis_server::Port,
    secrecy::{ACCOUNT, NUMBER, find_none, secrets},
    site::{Site, until},
    upstream::{Upstream, code, gateway, ok, only, parameters},
    words::{created, verified},
};

#[tokio::test]
async fn one_id_leads_from_the_proxy_to_the_provider() {
    let (upstream, collector) = (Upstream::start().await, FakeCollector::start().await);
    upstream.otherwise(ok(&json!({})));
    let settings = format!("routes = [\"sms\"]\n{}propagate_trace = true\n", gateway("sms", &upstream.url()));
    let site = Site::embedded()
        .configured(&settings)
        .with("OTPD__TELEMETRY__OTLP_ENDPOINT", &collector.url)
        .with("OTPD__TELEMETRY__SAMPLE_PERCENT", "100")
        .with("OTPD__POLICY__CODE_DIGITS", "10")
        .with("OTPD__AUDIT__REQUIRED", "true");
    let audit = site.folder().join("audit");
    let site = site.with("OTPD__AUDIT__FILE", &audit.display().to_string());
    let port = Port::reserve();
    let mut server = site.start_at(port.number());
    // One replica, under two names.
    let Some(envoy) = Envoy::front([port.number(); 2], CHECKED_ONCE) else { return };
    let caller = Caller::at(&envoy.address()).await;
    let request = CreateChallengeRequest {
        send_otp: true,
        provider_parameters: parameters(&[("pan", "4111111111111111")]),
        ..login("c", ACCOUNT, NUMBER)
    };
    assert_eq!(created(&caller.create(request).await), "success with success");
    let asked = only(&upstream);
    let guess = wrong(&code(&asked), 1);
    assert_eq!(verified(&caller.verify(verify("v", "c", &guess)).await), "otp_not_matched");

    // What Envoy has named the call.
    let method = "otp.v1.OtpService/CreateChallenge";
    let seen = |path: &str| -> Option<Value> {
        let parsed =
            envoy.access().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
        parsed.into_iter().find(|line| line["path"] == format!("/{path}"))
    };
    until("Envoy's line", async || seen(method).is_some()).await;
    let seen = seen(method).unwrap();
    let id = seen["x_request_id"].as_str().unwrap();
    assert_eq!(id.len(), 36, "{seen}");

    // Whose lines, event and span those are.
    let of_the_call = |text: &str, name: &str, value: &str| -> Value {
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut found = lines.filter(|line| line["x_request_id"] == id && line[name] == value);
        let line = found.next().unwrap_or_else(|| panic!("{name}={value}: {text}"));
        assert!(found.next().is_none(), "{name}={value}: {text}");
        line
    };
    until("the line of the call", async || server.log().lines().any(|line| line.contains(id) && line.contains(method)))
        .await;
    let logged = of_the_call(&server.log(), "message", "call");
    let answered = of_the_call(&server.log(), "message", "the provider answered");
    let kept = fs::read_to_string(&audit).unwrap();
    let (opened, told) = (of_the_call(&kept, "event", "challenge"), of_the_call(&kept, "event", "send"));
    until("the span", async || collector.spans().iter().any(|span| span.name == method)).await;
    let spans = collector.spans();
    let span = spans.iter().find(|span| span.name == method).unwrap();
    assert_eq!(texts(&span.attributes)["x_request_id"], id);
    let trace = logged["trace_id"].as_str().unwrap();
    for line in [&answered, &opened, &told] {
        assert_eq!(
            (&line["trace_id"], &line["challenge"], &line["account"]),
            (&logged["trace_id"], &logged["challenge"], &logged["account"])
        );
    }
    // The provider is told of the trace, since its setting asks for it.
    assert!(asked.header("traceparent").is_some_and(|parent| parent.contains(trace)), "{trace}");

    let shown = server.get("/metrics");
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let secrets = secrets(vec![code(&asked), guess]);
    for (place, text) in [
        ("Envoy's log", envoy.access().into_bytes()),
        ("the log", server.log().into_bytes()),
        ("the audit", fs::read(&audit).unwrap()),
        ("/metrics", shown.into_bytes()),
        ("a message of OTLP", collector.bytes()),
    ] {
        find_none(place, &text, &secrets);
    }
}
