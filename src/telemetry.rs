//! The log: structured lines on standard error.

use std::{io, panic};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, registry, util::SubscriberInitExt,
};

/// Starts the log of this process, as JSON or for people, and makes panics a part of it. A second call changes nothing.
pub fn install(json: bool, filter: &str) {
    let filter = EnvFilter::builder().parse_lossy(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if json { lines.json().flatten_event(true).boxed() } else { lines.boxed() };
    let installed = registry().with(lines.with_filter(filter_fn(allowed))).with(filter).try_init();
    if installed.is_ok() {
        panic::set_hook(Box::new(log_panic));
    }
}

/// Libraries log what is on the wire at their lower levels, and with it codes and keys.
fn allowed(metadata: &Metadata<'_>) -> bool {
    let ours = metadata.target() == "otpd" || metadata.target().starts_with("otpd::");
    ours || *metadata.level() <= Level::INFO
}

/// Where, and not what: the message of a panic may hold the value that caused it.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(location, "panic");
}
