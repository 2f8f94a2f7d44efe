//! Lines that are logged while otpd works for a call name the call, whoever logs them: the service, the store, a provider or a
//! panic. So that one id finds all of them.

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::ports::call::CallRecord;

/// Most lines are shorter.
const USUAL_LENGTH: usize = 768;

/// A format of lines, and the call after what it writes.
pub(super) struct Named<F>(pub(super) F);

/// How a format ends its lines, and writes one more field.
pub(super) trait Extended {
    /// What comes last.
    const END: &'static str;

    /// Adds a field. All values are of characters that need no quotes.
    fn field(line: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result;
}

impl<T> Extended for Format<Json, T> {
    const END: &'static str = "}\n";

    fn field(line: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result {
        write!(line, ",\"{name}\":\"{value}\"")
    }
}

impl<T> Extended for Format<tracing_subscriber::fmt::format::Full, T> {
    const END: &'static str = "\n";

    fn field(line: &mut String, name: &str, value: impl fmt::Display) -> fmt::Result {
        write!(line, " {name}={value}")
    }
}

impl<S, N, F> FormatEvent<S, N> for Named<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N> + Extended,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(call) = CallRecord::current() else { return self.0.format_event(context, writer, event) };
        let mut line = String::with_capacity(USUAL_LENGTH);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        if line.ends_with(F::END) {
            line.truncate(line.len() - F::END.len());
            name::<F>(&mut line, &call)?;
            line.push_str(F::END);
        }
        writer.write_str(&line)
    }
}

/// What is known of the call. Nothing of it is secret: names that operators chose, ids in the form of ours, keyed tags.
fn name<F: Extended>(line: &mut String, call: &CallRecord) -> fmt::Result {
    if let Some(origin) = call.origin.get() {
        F::field(line, "x_request_id", &origin.x_request_id)?;
        if let Some(trace) = origin.trace {
            F::field(line, "trace_id", trace.id())?;
        }
    }
    if let Some(caller) = call.caller.get() {
        F::field(line, "caller", caller.as_str())?;
    }
    if let Some(tenant) = call.tenant.get() {
        F::field(line, "tenant", tenant.as_str())?;
    }
    if let Some(id) = call.request_id.get() {
        F::field(line, "request_id", id.as_str())?;
    }
    for (name, tag) in [("challenge", &call.challenge), ("account", &call.account), ("contact", &call.contact)] {
        if let Some(tag) = tag.get() {
            F::field(line, name, tag)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt::layer, layer::SubscriberExt, registry};

    use super::*;
    use crate::{
        domain::{
            caller::CallerName,
            ids::{RequestId, SupportTag, Tenant},
        },
        ports::call::{CallOrigin, TraceParent},
        telemetry::tests::Output,
    };

    fn call() -> Arc<CallRecord> {
        let trace = TraceParent { trace_id: 0xabc, span_id: 7, is_sampled: true };
        let origin = CallOrigin { x_request_id: "x-1".into(), trace: Some(trace), ..CallOrigin::default() };
        let call = CallRecord::arrived(origin, CallerName::parse("shop").ok());
        call.tenant.set(Tenant::parse("acme").unwrap()).unwrap();
        call.request_id.set(RequestId::parse("r:1").unwrap()).unwrap();
        call.challenge.set(SupportTag([0, 0, 0, 0, 0, 0, 0, 9])).unwrap();
        call
    }

    #[test]
    fn a_line_within_a_call_names_it_and_one_outside_is_left_alone() {
        let output = Arc::new(Mutex::new(Vec::new()));
        let line = || String::from_utf8(std::mem::take(&mut *output.lock().unwrap())).unwrap();
        let log = || tracing::info!(target: "otpd::rpc", number = 7, "a line");
        let writer = Output(Arc::clone(&output));
        let json = Named(tracing_subscriber::fmt::format().json().flatten_event(true));
        let lines = layer().json().event_format(json).with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines), || {
            log();
            let plain: serde_json::Value = serde_json::from_str(&line()).unwrap();
            assert_eq!((&plain["number"], plain.get("x_request_id")), (&7.into(), None));
            call().within(log);
            let named: serde_json::Value = serde_json::from_str(&line()).unwrap();
            let expected = [
                ("message", "a line"),
                ("x_request_id", "x-1"),
                ("trace_id", "00000000000000000000000000000abc"),
                ("caller", "shop"),
                ("tenant", "acme"),
                ("request_id", "r:1"),
                ("challenge", "0000000000000009"),
            ];
            for (name, value) in expected {
                assert_eq!(named[name], value, "{named}");
            }
        });
        let writer = Output(Arc::clone(&output));
        let lines = layer().event_format(Named(tracing_subscriber::fmt::format())).with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines), || call().within(log));
        let text = line();
        assert!(text.ends_with(" tenant=acme request_id=r:1 challenge=0000000000000009\n"), "{text}");
    }
}
