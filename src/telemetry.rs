//! The log: structured lines on standard error, written by a thread of their own. And traces, where a collector takes them.

mod named;
mod otlp;
mod pace;
mod writer;

use std::{
    hash::{BuildHasher, RandomState},
    io, panic, process,
    sync::OnceLock,
};

use opentelemetry_sdk::trace::SdkTracer;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use crate::spans;
use named::Named;
use pace::Paced;
use writer::LogWriter;

pub use otlp::{Dropped, Exporter, OtlpError, OtlpSettings};

/// The one log of the process; `None` where its thread could not be started, and lines are written directly.
static LOG: OnceLock<Option<LogWriter>> = OnceLock::new();

/// Starts the log of this process, as JSON or for people, and makes panics a part of it. A second call changes nothing.
pub fn install(json: bool, filter: &str) {
    install_layers(json, filter, None);
}

/// The same, with traces and metrics for a collector. Within a runtime, where the connection to it lives.
///
/// # Errors
/// The collector's address or certificates cannot be used.
pub fn install_exporting(json: bool, filter: &str, settings: &OtlpSettings) -> Result<Exporter, OtlpError> {
    let instance = format!("{:016x}", RandomState::new().hash_one(process::id()));
    let (tracer, exporter) = otlp::start(settings, &instance)?;
    install_layers(json, filter, Some(tracer));
    Ok(exporter)
}

fn install_layers(json: bool, filter: &str, tracer: Option<SdkTracer>) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let log = LOG.get_or_init(|| LogWriter::start(io::stderr()).ok());
    let writer = log.clone().map_or_else(|| BoxMakeWriter::new(io::stderr), BoxMakeWriter::new);
    let (lines, format) = (fmt::layer().with_writer(writer), fmt::format());
    let lines = if json {
        lines.json().event_format(Named(format.json().flatten_event(true))).boxed()
    } else {
        lines.event_format(Named(format)).boxed()
    };
    let spans = tracer.map(|tracer| {
        // A span has the fields that it is made with. Lines of the log stay in the log.
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let layer = layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
        layer.with_filter(filter_fn(is_exported))
    });
    // The filters of layers alone would have the registry make every span of every library, though no layer wants it.
    let exports = spans.is_some();
    let wanted = filter_fn(move |metadata| pace::is_for_the_log(metadata) || exports && is_exported(metadata));
    let lines = lines.with_filter(filter.and(Paced::default()));
    let installed = registry().with(lines).with(spans).with(wanted).try_init();
    if installed.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Whether it is a span of ours.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == spans::TARGET
}

/// Waits until all lines so far are written, for a second at most. The last thing before the process ends.
pub fn flush() {
    if let Some(Some(log)) = LOG.get() {
        log.flush();
    }
}

/// How many lines are missing, for standard error was not read fast enough.
pub fn lines_dropped() -> u64 {
    LOG.get().and_then(Option::as_ref).map_or(0, LogWriter::ever_dropped)
}

/// Logs where it happened. The message is left out: it may hold the value that caused the panic.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, "panic");
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    /// Where a test finds what was logged.
    #[derive(Clone, Default)]
    pub(super) struct Output(pub(super) Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
