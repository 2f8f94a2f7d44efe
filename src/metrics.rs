//! Metrics for Prometheus: calls to otpd, and otpd's calls to providers. No label holds a tenant, a destination or an id.

use std::{
    borrow::Cow,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::ports::{
    observer::{CallObserver, CallSummary},
    provider::{ProviderCall, ProviderObserver},
};

/// In seconds, from what a local answer takes to the longest time-outs.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Names and values of one time series. Only the names of providers are not known when the program is compiled.
type Labels = [(&'static str, Cow<'static, str>); 3];
type Durations = Family<Labels, Histogram, fn() -> Histogram>;

/// All metrics.
pub struct Metrics {
    calls: Durations,
    provider_calls: Durations,
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
        Self { calls, provider_calls, registry: Mutex::new(registry) }
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

fn observe(durations: &Durations, labels: &Labels, duration: Duration) {
    durations.get_or_create(labels).observe(duration.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_outcome() {
        let metrics = Metrics::default();
        let duration = Duration::from_millis(7);
        let call = ProviderCall { provider: "twilio", operation: "deliver", outcome: "unknown", duration };
        metrics.provider_called(&call);
        metrics.provider_called(&call);
        let (method, outcome, code) = ("otp.v1.OtpService/SendOtp", "success", "OK");
        metrics.call_ended(&CallSummary { method, tenant: None, outcome, code, duration });
        let text = metrics.text().unwrap();
        for line in [
            "otp_provider_call_duration_seconds_count{provider=\"twilio\",operation=\"deliver\",outcome=\"unknown\"} 2",
            "rpc_server_call_duration_seconds_count{rpc_method=\"otp.v1.OtpService/SendOtp\",rpc_response_status_code=\"OK\",outcome=\"success\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
