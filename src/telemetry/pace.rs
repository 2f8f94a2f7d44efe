//! Which lines are written, and how often: what a stranger can make otpd log by opening a connection is one line a second,
//! whoever logs it.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{Event, Level, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::layer::{Context, Filter};

#[expect(clippy::disallowed_methods, reason = "lines are paced by no clock that a test sets")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Between two lines of what is paced.
const PAUSE: Duration = Duration::from_secs(1);
/// The target of lines of ours about what comes over the wire before anything of it is understood.
const WIRE: &str = "otpd::wire";

/// Lets through all lines of ours, and now and then one of the wire and of the libraries that are nearest to it.
#[derive(Debug, Default)]
pub(super) struct Paced {
    /// When the next may be written; in milliseconds since the start.
    wire: AtomicU64,
    libraries: AtomicU64,
}

impl Paced {
    fn is_due(&self, metadata: &Metadata<'_>) -> bool {
        let next = match metadata.target() {
            WIRE => &self.wire,
            target if is_ours(target) => return true,
            _ => &self.libraries,
        };
        let (now, due) = (milliseconds(), next.load(Ordering::Relaxed));
        let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
        // Of two at once, one is written.
        now >= due && next.compare_exchange(due, now + pause, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

pub(super) fn is_for_the_log(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && (is_ours(metadata.target()) || *metadata.level() <= Level::INFO)
}

fn is_ours(target: &str) -> bool {
    target == "otpd" || target.starts_with("otpd::")
}

impl<S: Subscriber> Filter<S> for Paced {
    /// Libraries log what is on the wire at their lower levels, and with it codes and keys. Spans are for traces only.
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        is_for_the_log(metadata)
    }

    /// So that a span costs nothing where nobody else wants it. Never "always": the registry keeps what `event_enabled` refuses
    /// for the next event of the thread, unless it has asked `enabled` first.
    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_for_the_log(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.is_due(event.metadata())
    }
}

fn milliseconds() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::{Layer, layer::SubscriberExt, registry};

    use super::*;
    use crate::telemetry::tests::Output;

    #[test]
    fn what_strangers_cause_is_paced_and_the_rest_is_not() {
        let output = Output::default();
        let writer = output.clone();
        let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        tracing::subscriber::with_default(registry().with(lines.with_filter(Paced::default())), || {
            for _ in 0..100 {
                tracing::warn!(target: "h2::proto", "a-library");
                tracing::info!(target: "otpd::wire", "the-wire");
                tracing::info!(target: "otpd::rpc", "our-own");
                tracing::debug!(target: "h2::proto", "frames");
            }
        });
        let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        let count = |word: &str| text.matches(word).count();
        assert_eq!([count("our-own"), count("frames")], [100, 0]);
        // A machine may be so slow that a second passes.
        for word in ["a-library", "the-wire"] {
            assert!((1..50).contains(&count(word)), "{word}: {}", count(word));
        }
    }
}
