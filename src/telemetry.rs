//! The log: structured lines on standard error, written by a thread of their own.

mod named;
mod pace;
mod writer;

use std::{io, panic, sync::OnceLock};

use tracing_subscriber::{
    EnvFilter, Layer,
    fmt::{self, writer::BoxMakeWriter},
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

use named::Named;
use pace::Paced;
use writer::LogWriter;

/// The one log of the process; `None` where its thread could not be started, and lines are written directly.
static LOG: OnceLock<Option<LogWriter>> = OnceLock::new();

/// Starts the log of this process, as JSON or for people, and makes panics a part of it. A second call changes nothing.
pub fn install(json: bool, filter: &str) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let log = LOG.get_or_init(|| LogWriter::start(io::stderr()).ok());
    let writer = log.clone().map_or_else(|| BoxMakeWriter::new(io::stderr), BoxMakeWriter::new);
    let (lines, format) = (fmt::layer().with_writer(writer), fmt::format());
    let lines = if json {
        lines.json().event_format(Named(format.json().flatten_event(true))).boxed()
    } else {
        lines.event_format(Named(format)).boxed()
    };
    let installed = registry().with(lines.with_filter(Paced::default())).with(filter).try_init();
    if installed.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Waits until all lines so far are written, for a second at most. The last thing before the process ends.
pub fn flush() {
    if let Some(Some(log)) = LOG.get() {
        log.flush();
    }
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
