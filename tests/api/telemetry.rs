//! One call in the log, in traces and in metrics: found by one id, and without what is secret.

use std::net::TcpListener;

use opentelemetry_proto::tonic::{
    metrics::v1::metric::Data,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use otpd::grpc::proto::{CreateChallengeRequest, Purpose};
use serde_json::{Value, json};
use tonic::{Request, metadata::MetadataValue};

use crate::{
    caller::{Caller, TENANT, lock, login, send, sms, verify},
    collector::{FakeCollector, hex, texts},
    redis_server::RedisServer,
    secrecy,
    site::{Server, Site, until},
    upstream::{Upstream, gateway, ok, only, to},
};

const X_REQUEST_ID: &str = "0af7651916cd43dd-8448:eb211c80319c";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Lines of the log that hold all of this.
fn lines(server: &Server, parts: &[(&str, &str)]) -> Vec<Value> {
    let parsed = server.log().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>();
    parsed.into_iter().filter(|line| parts.iter().all(|(name, value)| line[*name] == *value)).collect()
}

/// The one line that holds all of this, once it is written.
async fn line(server: &Server, parts: &[(&str, &str)]) -> Value {
    until("the line", async || !lines(server, parts).is_empty()).await;
    let mut found = lines(server, parts);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A request with headers.
fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, MetadataValue::try_from(*value).unwrap());
    }
    request
}

#[tokio::test]
async fn one_id_finds_all_lines_of_a_call_and_one_tag_all_calls_of_a_challenge() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let site = Site::embedded().configured(&format!("routes = [\"sms\"]\n{}", gateway("sms", &upstream.url())));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let request = to(sms("+14155550100", "option"), login("c", "account", ""));
    let request = CreateChallengeRequest { purpose: Purpose::Registration.into(), send_otp: true, ..request };
    let headers = [("x-request-id", X_REQUEST_ID), ("traceparent", TRACEPARENT)];
    let answer = caller.otp.clone().create_challenge(with(request, &headers)).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), X_REQUEST_ID);
    assert!(only(&upstream).header("traceparent").is_none(), "a provider is told nothing of the trace");

    let method = "otp.v1.OtpService/CreateChallenge";
    let created = line(&server, &[("message", "call"), ("rpc.method", method)]).await;
    let asked = line(&server, &[("message", "the provider answered")]).await;
    for line in [&created, &asked] {
        for (name, value) in
            [("x_request_id", X_REQUEST_ID), ("trace_id", TRACE), ("tenant", TENANT), ("request_id", "c")]
        {
            assert_eq!(line[name], value, "{line}");
        }
        assert!(
            ["challenge", "account", "contact"].iter().all(|tag| line[tag].as_str().unwrap().len() == 16),
            "{line}"
        );
    }
    assert_eq!((&created["peer"], &created["rpc.response.status_code"]), (&"127.0.0.1".into(), &"OK".into()));

    // Without an id, and with one that is none of ours in form, otpd makes one, and tells it with failures too.
    for (given, other) in [(&[][..], "v1"), (&[("x-request-id", "two words")], "v2")] {
        let request = with(verify(other, "unknown", "123456"), given);
        let status = caller.otp.clone().verify_otp(request).await.unwrap_err();
        let id = status.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
        let failed = line(&server, &[("message", "call"), ("request_id", other)]).await;
        assert_eq!((&failed["x_request_id"], id.len()), (&id.into(), 16));
        assert_ne!(failed["challenge"], created["challenge"]);
        assert_eq!(failed["account"], Value::Null);
    }

    // All calls of a challenge have its tag, and those of its account the account's.
    assert!(caller.verify(verify("wrong", "c", "000")).await.is_ok());
    let verified = line(&server, &[("message", "call"), ("request_id", "wrong")]).await;
    for tag in ["challenge", "account", "contact"] {
        assert_eq!(verified[tag], created[tag], "{tag}");
    }
}

#[tokio::test]
async fn an_operators_line_tells_whose_account_and_who_asked() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    let created = line(&server, &[("message", "call"), ("request_id", "c")]).await;
    let request = with(lock("l", "account", None), &[("x-request-id", X_REQUEST_ID)]);
    caller.admin.clone().lock_account(request).await.unwrap();
    for message in ["call", "an operator locked an account"] {
        let locked = line(&server, &[("message", message), ("request_id", "l")]).await;
        assert_eq!((&locked["account"], &locked["x_request_id"]), (&created["account"], &X_REQUEST_ID.into()));
    }
    assert!(caller.number("+14155550100").await.is_ok());
    let looked = line(&server, &[("message", "call"), ("rpc.method", "otp.v1.OtpAdminService/GetAccount")]).await;
    assert_eq!((looked["contact"].as_str().unwrap().len(), &looked["account"]), (16, &Value::Null));
}

/// The line that tells why a use case failed belongs to a call as well.
#[tokio::test]
async fn a_cause_is_found_by_the_id_of_its_call() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    drop(redis);
    let request = with(send("s", "c"), &[("x-request-id", X_REQUEST_ID)]);
    assert!(caller.otp.clone().send_otp(request).await.is_err());
    let cause = line(&server, &[("message", "use case failed"), ("x_request_id", X_REQUEST_ID)]).await;
    assert_eq!((&cause["request_id"], &cause["rpc.method"]), (&"s".into(), &"otp.v1.OtpService/SendOtp".into()));
    assert_eq!(cause["challenge"].as_str().unwrap().len(), 16);
}

/// A site whose traces and metrics go to the collector.
fn observed(site: Site, collector: &FakeCollector) -> Site {
    site.with("OTPD__TELEMETRY__OTLP_ENDPOINT", &collector.url)
        .with("OTPD__TELEMETRY__METRICS_INTERVAL", "1s")
        .with("OTPD__TELEMETRY__RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
}

/// The one span of this name.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:?}"));
    assert_eq!(found.next(), None);
    span
}

#[tokio::test]
async fn a_trace_goes_on_through_the_call_the_store_and_the_provider() {
    let (collector, upstream, redis) = (FakeCollector::start().await, Upstream::start().await, RedisServer::start());
    upstream.otherwise(ok(&json!({})));
    let settings = format!("routes = [\"sms\"]\n{}propagate_trace = true\n", gateway("sms", &upstream.url()));
    let site =
        observed(Site::on(&redis).configured(&settings), &collector).with("OTPD__TELEMETRY__SAMPLE_PERCENT", "0");
    let server = site.start();
    let caller = Caller::of(&server).await;
    // Of a trace that its caller does not keep nothing is kept here, and of those that begin here none, by the setting.
    let unsampled = "00-11111111111111111111111111111111-b7ad6b7169203331-00";
    let request = CreateChallengeRequest { send_otp: true, ..login("c1", "account", "+14155550100") };
    caller.otp.clone().create_challenge(with(request, &[("traceparent", unsampled)])).await.unwrap();
    let told = only(&upstream).header("traceparent").unwrap().to_owned();
    assert!(told.starts_with("00-11111111111111111111111111111111-") && told.ends_with("-00"), "{told}");
    caller.sent("c2", "account", "+14155550101").await;
    let begun = line(&server, &[("message", "call"), ("request_id", "c2")]).await;
    assert_eq!(begun["trace_id"].as_str().unwrap().len(), 32);
    let _ = only(&upstream);

    let headers = [("x-request-id", X_REQUEST_ID), ("traceparent", TRACEPARENT), ("tracestate", "shop=7")];
    let request = CreateChallengeRequest { send_otp: true, ..login("c3", "account", "+14155550102") };
    caller.otp.clone().create_challenge(with(request, &headers)).await.unwrap();
    until("the span of the call", async || collector.trace(TRACE).iter().any(|span| span.name.contains('/'))).await;
    let spans = collector.trace(TRACE);
    assert_eq!(collector.spans().len(), spans.len(), "other traces are not kept");

    let call = named(&spans, "otp.v1.OtpService/CreateChallenge");
    let logged = line(&server, &[("message", "call"), ("request_id", "c3")]).await;
    assert_eq!((hex(&call.parent_span_id).as_str(), call.kind()), ("b7ad6b7169203331", SpanKind::Server));
    assert_eq!(call.trace_state, "shop=7");
    let attributes = texts(&call.attributes);
    for (name, value) in [
        ("rpc.system.name", "grpc"),
        ("rpc.method", "otp.v1.OtpService/CreateChallenge"),
        ("rpc.response.status_code", "OK"),
        ("otp.outcome", "success"),
        ("network.peer.address", "127.0.0.1"),
        ("x_request_id", X_REQUEST_ID),
        ("request_id", "c3"),
        ("tenant", TENANT),
    ] {
        assert_eq!(attributes.get(name).map(String::as_str), Some(value), "{name} {attributes:?}");
    }
    for tag in ["challenge", "account"] {
        assert_eq!(attributes[tag], logged[tag].as_str().unwrap());
    }

    let commits: Vec<&Span> = spans.iter().filter(|span| span.name == "commit").collect();
    assert_eq!(commits.len(), 3, "of the challenge, the reservation and the settlement");
    for trip in spans.iter().filter(|span| texts(&span.attributes).contains_key("db.system.name")) {
        assert_eq!((&trip.parent_span_id, trip.kind()), (&call.span_id, SpanKind::Client), "{trip:?}");
        let attributes = texts(&trip.attributes);
        assert_eq!((&attributes["db.system.name"], &attributes["db.operation.name"]), (&"redis".into(), &trip.name));
    }
    let provider = named(&spans, "deliver");
    assert_eq!(provider.parent_span_id, call.span_id);
    assert_eq!(texts(&provider.attributes)["otp.provider"], "sms");
    let request = named(&spans, "POST");
    assert_eq!((&request.parent_span_id, request.kind()), (&provider.span_id, SpanKind::Client));
    let attributes = texts(&request.attributes);
    for (name, value) in
        [("http.request.method", "POST"), ("server.address", "127.0.0.1"), ("http.response.status_code", "200")]
    {
        assert_eq!(attributes[name], value);
    }
    let asked = only(&upstream);
    let expected = format!("00-{TRACE}-{}-01", hex(&request.span_id));
    assert_eq!((asked.header("traceparent"), asked.header("tracestate")), (Some(expected.as_str()), Some("shop=7")));
    let resource = collector.resource();
    assert_eq!((&*resource["service.name"], &*resource["deployment.environment.name"]), ("otpd", "test"));

    // A metric points to the trace.
    let shown = server.get("/metrics");
    let exemplar = format!("# {{trace_id=\"{TRACE}\"}}");
    for name in ["rpc_server_call_duration", "otp_store_operation_duration", "otp_provider_call_duration"] {
        let has = |line: &str| line.starts_with(name) && line.contains(&exemplar);
        assert!(shown.lines().any(has), "{name}\n{shown}");
    }
}

/// Whether a call has been counted.
fn counted(collector: &FakeCollector) -> bool {
    match collector.metric("rpc.server.call.duration").and_then(|metric| metric.data) {
        Some(Data::Histogram(calls)) => calls.data_points.iter().any(|point| point.count > 0),
        _ => false,
    }
}

#[tokio::test]
async fn metrics_arrive_and_the_last_spans_at_the_end_as_well() {
    let collector = FakeCollector::start().await;
    let site = observed(Site::embedded(), &collector).with("OTPD__TELEMETRY__SAMPLE_PERCENT", "100");
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    until("a reading with the call", async || counted(&collector)).await;
    let Some(Data::Histogram(calls)) = collector.metric("rpc.server.call.duration").unwrap().data else { panic!() };
    let point = calls.data_points.iter().find(|point| point.count > 0).unwrap();
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    assert_eq!(texts(&point.attributes)["rpc.method"], "otp.v1.OtpService/CreateChallenge");
    assert!(collector.metric("process.memory.usage").is_some() && collector.metric("otp.ready").is_some());

    assert!(caller.verify(verify("v", "unknown", "123456")).await.is_err());
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let spans = collector.spans();
    let failed = named(&spans, "otp.v1.OtpService/VerifyOtp");
    assert_eq!(texts(&failed.attributes)["error.type"], "INVALID_IDENTIFIER");
    // The server has not failed: its caller has.
    assert_eq!(failed.status.clone().unwrap_or_default().code(), StatusCode::Unset);
    assert!(failed.parent_span_id.is_empty());
    let logged = lines(&server, &[("message", "call"), ("request_id", "v")]);
    assert_eq!(logged[0]["trace_id"], hex(&failed.trace_id));
}

/// An alert on a rise needs a value to rise from: what has never happened is 0 from the start, with the labels that it would have.
#[tokio::test]
async fn what_alerts_wait_for_is_0_from_the_start() {
    let server = Site::embedded().start();
    let metrics = server.get("/metrics");
    for method in [
        "OtpService/CreateChallenge",
        "OtpService/SendOtp",
        "OtpService/VerifyOtp",
        "OtpService/CancelChallenge",
        "OtpService/GetChallenge",
        "OtpAdminService/GetAccount",
        "OtpAdminService/LockAccount",
        "OtpAdminService/UnlockAccount",
    ] {
        let labels = format!(
            "rpc_system_name=\"grpc\",rpc_method=\"otp.v1.{method}\",rpc_response_status_code=\"INTERNAL\",\
             error_type=\"INTERNAL\",outcome=\"INTERNAL\""
        );
        assert!(metrics.contains(&format!("rpc_server_call_duration_seconds_count{{{labels}}} 0\n")), "{metrics}");
    }
    for sink in ["file", "stream"] {
        assert!(metrics.contains(&format!("otp_audit_failing{{sink=\"{sink}\"}} 0\n")), "{metrics}");
    }
}

/// Calls go on, one line tells of it, and what is lost is counted.
#[tokio::test]
async fn a_collector_that_is_away_costs_nothing_but_a_line() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let site = Site::embedded()
        .with("OTPD__TELEMETRY__OTLP_ENDPOINT", &format!("http://{free}"))
        .with("OTPD__TELEMETRY__METRICS_INTERVAL", "1s")
        .with("OTPD__TELEMETRY__SAMPLE_PERCENT", "100");
    let mut server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", "account", "+14155550100").await;
    let dropped = |signal: &str| {
        let start = format!("otp_telemetry_dropped_total{{signal=\"{signal}\"}} ");
        let text = server.get("/metrics");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap_or_default()
    };
    until("both are dropped", async || dropped("spans") >= 3 && dropped("metrics") >= 2).await;
    assert_eq!(lines(&server, &[("target", "otpd::telemetry::otlp::collector")]).len(), 1);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
}

#[tokio::test]
async fn nothing_secret_shows_in_traces_and_metrics() {
    let (redis, collector) = (RedisServer::start(), FakeCollector::start().await);
    let site =
        observed(secrecy::talkative(Site::on(&redis)), &collector).with("OTPD__TELEMETRY__SAMPLE_PERCENT", "100");
    let mut server = site.start();
    let (_, codes) = secrecy::all_calls(&site, &Caller::of(&server).await).await;
    let shown = server.get("/metrics");
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let secrets = secrecy::secrets(codes);
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    for name in ["otp.v1.OtpAdminService/LockAccount", "commit", "acquire"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert!(collector.metric("otp.store.operation.duration").is_some());
    for (place, text) in [
        ("the log", server.log().into_bytes()),
        ("/metrics", shown.into_bytes()),
        ("a message of OTLP", collector.bytes()),
    ] {
        secrecy::find_none(place, &text, &secrets);
    }
}
