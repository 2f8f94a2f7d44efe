//! What the metrics look like, and that their names are those of the table.

use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::{
    domain::{
        caller::CallerName, code::CodeOwner, destination::Channel, outcome::Locked, purpose::Purpose, time::Timestamp,
    },
    ports::{
        call::{CallOrigin, CallRecord, TraceParent},
        decisions::{DecisionEvent, DecisionKind, DecisionObserver, LockScope},
        observer::{
            AuditObserver, AuditOutcome, AuditSink, AuditSinkState, CallObserver, CallSummary, ListenerName,
            ListenerObserver, PermitPoolUse, ShedCause, StoreCall, StoreCallObserver, StoreLoss, StoreObserver,
        },
        provider::{Capabilities, ProviderCall, ProviderObserver},
    },
};

const DURATION: Duration = Duration::from_millis(7);

/// With everything seen at least once.
pub(crate) fn used() -> Metrics {
    let metrics = Metrics::default();
    metrics.sources.readiness(|| vec![("store", true), ("clock", false)]);
    metrics.permits_made(Box::new(|| vec![PermitPoolUse { pool: "common", limit: 9, in_use: 2 }]));
    metrics.sources.keys(|| vec![MasterKeyUse { id: 2, role: "active", opened: 5 }]);
    metrics.sources.log_lines_dropped(|| 3);
    metrics.sources.telemetry_dropped(|| [("spans", 1), ("metrics", 0)]);
    let trace = Some(TraceParent { trace_id: 0xabc, span_id: 1, is_sampled: true });
    let record = CallRecord::arrived(CallOrigin { trace, ..CallOrigin::default() }, None);
    let (method, record_) = ("otp.v1.OtpService/SendOtp", &*record);
    metrics.call_ended(&CallSummary { method, record: record_, outcome: "success", code: "OK", duration: DURATION });
    let known = CallRecord::default();
    known.caller.set(CallerName::parse("shop").unwrap()).unwrap();
    for (record, outcome, code) in
        [(&known, "OVERLOADED", "RESOURCE_EXHAUSTED"), (&CallRecord::default(), "UNAUTHENTICATED", "UNAUTHENTICATED")]
    {
        metrics.call_ended(&CallSummary { method, record, outcome, code, duration: DURATION });
    }
    metrics.call_shed(ShedCause::Permits);
    metrics.connection_opened(ListenerName::Server);
    metrics.connection_refused(ListenerName::Admin);
    metrics.certificate_expires(ListenerName::Server, Timestamp::from_millis(1_500));
    metrics.certificates_reloaded(true);
    record.within(|| {
        metrics.store_asked(&StoreCall { operation: "commit", outcome: "conflict", duration: DURATION });
    });
    metrics.store_examined(true);
    metrics.clock_compared(-2_500);
    metrics.store_lost(StoreLoss::All);
    metrics.methods_served(&["otp.v1.OtpService/VerifyOtp"]);
    let verify = Capabilities {
        code_owner: CodeOwner::Provider { check_repeatable: false },
        ..Capabilities::delivers(vec![Channel::Sms])
    };
    metrics.provider_made("twilio", &verify);
    metrics.breaker_moved("twilio", true);
    let call = ProviderCall { provider: "twilio", operation: "deliver", outcome: "unknown", duration: DURATION };
    metrics.provider_called(&call);
    let (purpose, channel, provider) = (Purpose::Login, Channel::Sms, "twilio");
    for decision in [
        DecisionKind::Challenge { purpose, outcome: "risk_declined", quota: Some("account_creations") },
        DecisionKind::Send { purpose, channel, provider, outcome: "unconfirmed", quota: None },
        DecisionKind::Attempt { purpose, channel: Some(channel), provider, outcome: "success" },
        DecisionKind::Lock { scope: LockScope::Account, locked: Locked { until: None }, reason: None },
        DecisionKind::Unlock { scope: LockScope::Contact, reason: "asked" },
    ] {
        metrics.decided(&DecisionEvent {
            at: Timestamp::default(),
            call: &CallRecord::default(),
            is_overdue: false,
            decision,
        });
    }
    metrics.audited(AuditSink::File, AuditOutcome::Written, 4);
    metrics.sink_made(AuditSink::Stream, Box::new(|| AuditSinkState { waiting: 2, is_failing: true }));
    metrics
}

#[test]
fn each_is_counted_by_its_labels() {
    let text = used().text().unwrap();
    for line in [
        r#"rpc_server_call_duration_seconds_count{rpc_system_name="grpc",rpc_method="otp.v1.OtpService/SendOtp",rpc_response_status_code="OK",error_type="",outcome="success"} 1"#,
        r#"rpc_method="otp.v1.OtpService/VerifyOtp",rpc_response_status_code="INTERNAL",error_type="INTERNAL",outcome="INTERNAL"} 0"#,
        r#"rpc_response_status_code="RESOURCE_EXHAUSTED",error_type="OVERLOADED",outcome="OVERLOADED"} 1"#,
        r#"otp_caller_calls_total{caller="",rpc_response_status_code="OK"} 1"#,
        r#"otp_caller_calls_total{caller="shop",rpc_response_status_code="RESOURCE_EXHAUSTED"} 1"#,
        r#"otp_caller_calls_total{caller="_UNKNOWN",rpc_response_status_code="UNAUTHENTICATED"} 1"#,
        r#"otp_calls_shed_total{cause="permits"} 1"#,
        r#"otp_calls_shed_total{cause="open_calls"} 0"#,
        r#"otp_permits{pool="common"} 9"#,
        r#"otp_permits_in_use{pool="common"} 2"#,
        r#"otp_connections{listener="server"} 1"#,
        r#"otp_connections_refused_total{listener="admin"} 1"#,
        r#"otp_certificate_expiry_timestamp_seconds{listener="server"} 1.5"#,
        r#"otp_certificate_reloads_total{outcome="loaded"} 1"#,
        "otp_ready 0",
        r#"otp_not_ready{reason="store"} 1"#,
        r#"otp_not_ready{reason="clock"} 0"#,
        r#"otp_store_operation_duration_seconds_count{operation="commit",outcome="conflict"} 1"#,
        r#"otp_store_operation_duration_seconds_bucket{le="0.01",operation="commit",outcome="conflict"} 1 # {trace_id="00000000000000000000000000000abc"} 0.007"#,
        "otp_store_connected 1",
        "otp_store_clock_skew_seconds -2.5",
        r#"otp_store_losses_total{loss="all"} 1"#,
        r#"otp_store_losses_total{loss="part"} 0"#,
        r#"otp_provider_call_duration_seconds_count{provider="twilio",operation="deliver",outcome="unknown"} 1"#,
        r#"otp_provider_call_duration_seconds_count{provider="twilio",operation="check",outcome="refused"} 0"#,
        r#"otp_sends_total{purpose="registration",channel="sms",provider="twilio",outcome="failed"} 0"#,
        r#"otp_verifications_total{purpose="login",channel="sms",provider="twilio",outcome="otp_not_matched"} 0"#,
        r#"otp_breaker_open{provider="twilio"} 1"#,
        r#"otp_breaker_openings_total{provider="twilio"} 1"#,
        r#"otp_challenges_total{purpose="login",outcome="risk_declined"} 1"#,
        r#"otp_challenges_total{purpose="transaction",outcome="success"} 0"#,
        r#"otp_quota_refusals_total{quota="account_creations"} 1"#,
        r#"otp_sends_total{purpose="login",channel="sms",provider="twilio",outcome="unconfirmed"} 1"#,
        r#"otp_verifications_total{purpose="login",channel="sms",provider="twilio",outcome="success"} 1"#,
        r#"otp_locks_total{scope="account",by="failures"} 1"#,
        r#"otp_locks_total{scope="account",by="operator"} 0"#,
        r#"otp_unlocks_total{scope="contact"} 1"#,
        r#"otp_master_key_info{key="2",role="active"} 1"#,
        r#"otp_records_opened_total{key="2"} 5"#,
        r#"otp_audit_events_total{sink="file",outcome="written"} 4"#,
        r#"otp_audit_waiting{sink="stream"} 2"#,
        r#"otp_audit_failing{sink="stream"} 1"#,
        r#"otp_audit_failing{sink="file"} 0"#,
        "otp_log_lines_dropped_total 3",
        r#"otp_telemetry_dropped_total{signal="spans"} 1"#,
        concat!("otp_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

/// Dashboards, alerts and the exporter rest on the table, and people on the documentation.
#[test]
fn the_table_and_the_documentation_name_every_metric_that_there_is() {
    let text = used().text().unwrap();
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let named: BTreeSet<&str> = names::ALL.iter().map(|name| name.prometheus).collect();
    assert_eq!(shown, named);
    let counters: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let documents = include_str!("../../docs/operations.md");
    let (_, documents) = documents.split_once("<!-- metrics -->").expect("a table of metrics");
    let (table, _) = documents.split_once("<!-- /metrics -->").expect("its end");
    let documented: BTreeSet<String> =
        table.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split(['`', '{']).next()?.to_owned())).collect();
    let total = |name: &&str| if counters.contains(name) { format!("{name}_total") } else { (*name).to_owned() };
    assert_eq!(documented, named.iter().map(total).collect());
}
