//! Metrics for Prometheus: calls to otpd, otpd's calls to providers, and what was found out about the store. No label holds a tenant, a destination or an id.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::ports::{
    observer::{
        AuditObserver, AuditOutcome, AuditSink, CallObserver, CallSummary, CertificateObserver, StoreLoss,
        StoreObserver,
    },
    provider::{ProviderCall, ProviderObserver},
};

/// In seconds, from what a local answer takes to the longest time-outs.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// What becomes of changed files of a certificate.
const LOADED: &str = "loaded";
const FAILED: &str = "failed";

/// Names and values of one time series. Only the names of providers are not known when the program is compiled.
type Labels = [(&'static str, Cow<'static, str>); 3];
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics.
pub struct Metrics {
    calls: Durations,
    provider_calls: Durations,
    clock_skew: Gauge<f64, AtomicU64>,
    store_losses: Family<[(&'static str, &'static str); 1], Counter>,
    certificate_expiry: Family<[(&'static str, &'static str); 1], Gauge<i64, AtomicI64>>,
    certificate_reloads: Family<[(&'static str, &'static str); 1], Counter>,
    audit_events: Family<[(&'static str, &'static str); 2], Counter>,
    audit_waiting: Family<[(&'static str, &'static str); 1], Gauge>,
    registry: Mutex<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let durations = || Durations::new_with_constructor(|| Histogram::new(BUCKETS));
        let (calls, provider_calls) = (durations(), durations());
        let mut registry = Registry::default();
        // The name and unit of OpenTelemetry's conventions for RPC.
        let help = "RPC duration by method, status code and outcome";
        registry.register("rpc_server_call_duration_seconds", help, calls.clone());
        let help = "Duration of calls to providers by provider, operation and outcome";
        registry.register("otp_provider_call_duration_seconds", help, provider_calls.clone());
        let (clock_skew, store_losses) = (Gauge::default(), Family::<[(&str, &str); 1], Counter>::default());
        let help = "How far the clock of this machine is ahead of the store's, at least; more than 1 either way is off";
        registry.register("otp_store_clock_skew_seconds", help, clock_skew.clone());
        let help = "How often the store was found to have lost a part of its records or all, or to be replaced";
        registry.register("otp_store_losses", help, store_losses.clone());
        // An alarm on a rise needs a value to rise from.
        for loss in [StoreLoss::Part, StoreLoss::All, StoreLoss::Replaced] {
            drop(store_losses.get_or_create(&[("loss", loss.word())]));
        }
        let certificate_expiry = Family::<[(&str, &str); 1], Gauge<i64, AtomicI64>>::default();
        let help = "When the certificate ends that a listener shows, in seconds of Unix time";
        registry.register("otp_certificate_expiry_timestamp_seconds", help, certificate_expiry.clone());
        let certificate_reloads = Family::<[(&str, &str); 1], Counter>::default();
        let help = "How often changed files of the server's certificate were loaded, or could not be";
        registry.register("otp_certificate_reloads", help, certificate_reloads.clone());
        for outcome in [LOADED, FAILED] {
            drop(certificate_reloads.get_or_create(&[("outcome", outcome)]));
        }
        let (audit_events, audit_waiting) =
            (Family::<[(&str, &str); 2], Counter>::default(), Family::<[(&str, &str); 1], Gauge>::default());
        let help = "Events of the audit by sink and outcome; failed ones are tried again, dropped ones are lost";
        registry.register("otp_audit_events", help, audit_events.clone());
        registry.register("otp_audit_waiting", "Events of the audit that wait to be written", audit_waiting.clone());
        for sink in AuditSink::ALL {
            drop(audit_waiting.get_or_create(&[("sink", sink.word())]));
            for outcome in AuditOutcome::ALL {
                drop(audit_events.get_or_create(&[("sink", sink.word()), ("outcome", outcome.word())]));
            }
        }
        Self {
            calls,
            provider_calls,
            clock_skew,
            store_losses,
            certificate_expiry,
            certificate_reloads,
            audit_events,
            audit_waiting,
            registry: Mutex::new(registry),
        }
    }
}

impl Metrics {
    /// All metrics in Prometheus' text form.
    ///
    /// # Errors
    /// None that is known: writing to a text does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl CallObserver for Metrics {
    fn call_ended(&self, call: &CallSummary<'_>) {
        let labels = [
            ("rpc_method", call.method.into()),
            ("rpc_response_status_code", call.code.into()),
            ("outcome", call.outcome.into()),
        ];
        observe(&self.calls, &labels, call.duration);
    }
}

impl ProviderObserver for Metrics {
    fn provider_called(&self, call: &ProviderCall<'_>) {
        let labels = [
            ("provider", call.provider.to_owned().into()),
            ("operation", call.operation.into()),
            ("outcome", call.outcome.into()),
        ];
        observe(&self.provider_calls, &labels, call.duration);
    }
}

impl StoreObserver for Metrics {
    fn clock_compared(&self, skew_ms: i64) {
        // Exact below three days; a clock that is off by more is off.
        let skew_ms = i32::try_from(skew_ms).unwrap_or(if skew_ms < 0 { i32::MIN } else { i32::MAX });
        self.clock_skew.set(f64::from(skew_ms) / 1_000.0);
    }

    fn store_lost(&self, loss: StoreLoss) {
        self.store_losses.get_or_create(&[("loss", loss.word())]).inc();
    }
}

impl CertificateObserver for Metrics {
    fn certificate_expires(&self, listener: &'static str, at: i64) {
        self.certificate_expiry.get_or_create(&[("listener", listener)]).set(at);
    }

    fn certificate_reloaded(&self, is_loaded: bool) {
        let outcome = if is_loaded { LOADED } else { FAILED };
        self.certificate_reloads.get_or_create(&[("outcome", outcome)]).inc();
    }
}

impl AuditObserver for Metrics {
    fn audited(&self, sink: AuditSink, outcome: AuditOutcome, events: u64) {
        self.audit_events.get_or_create(&[("sink", sink.word()), ("outcome", outcome.word())]).inc_by(events);
    }

    fn audit_waiting(&self, sink: AuditSink, events: u64) {
        let events = i64::try_from(events).unwrap_or(i64::MAX);
        self.audit_waiting.get_or_create(&[("sink", sink.word())]).set(events);
    }
}

fn observe(durations: &Durations, labels: &Labels, duration: Duration) {
    durations.get_or_create(labels).observe(duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::call::CallRecord;

    #[test]
    fn calls_are_counted_by_outcome() {
        let metrics = Metrics::default();
        let duration = Duration::from_millis(7);
        let call = ProviderCall { provider: "twilio", operation: "deliver", outcome: "unknown", duration };
        metrics.provider_called(&call);
        metrics.provider_called(&call);
        let (method, outcome, code) = ("otp.v1.OtpService/SendOtp", "success", "OK");
        metrics.clock_compared(-2_500);
        metrics.store_lost(StoreLoss::All);
        metrics.call_ended(&CallSummary { method, record: &CallRecord::default(), outcome, code, duration });
        let text = metrics.text().unwrap();
        for line in [
            "otp_store_clock_skew_seconds -2.5",
            "otp_store_losses_total{loss=\"all\"} 1",
            "otp_store_losses_total{loss=\"part\"} 0",
            "otp_provider_call_duration_seconds_count{provider=\"twilio\",operation=\"deliver\",outcome=\"unknown\"} 2",
            "rpc_server_call_duration_seconds_count{rpc_method=\"otp.v1.OtpService/SendOtp\",rpc_response_status_code=\"OK\",outcome=\"success\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
