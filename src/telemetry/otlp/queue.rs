//! Spans that have ended and wait to be sent: a bounded number. More are dropped, and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{Span, SpanData, SpanProcessor},
};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// The most that wait: of a few hundred calls, each with its trips.
const MAX_WAITING: usize = 8 * 1024;

/// What the collector did not get.
#[derive(Debug, Default)]
pub struct Dropped {
    spans: AtomicU64,
    readings: AtomicU64,
}

impl Dropped {
    /// By signal.
    pub fn by_signal(&self) -> [(&'static str, u64); 2] {
        [("spans", self.spans.load(Ordering::Relaxed)), ("metrics", self.readings.load(Ordering::Relaxed))]
    }

    pub(super) fn add_spans(&self, count: usize) {
        self.spans.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn add_reading(&self) {
        self.readings.fetch_add(1, Ordering::Relaxed);
    }
}

/// The end of the queue where spans are added.
#[derive(Debug)]
pub(super) struct SpanQueue {
    sender: Sender<SpanData>,
    dropped: Arc<Dropped>,
}

impl SpanQueue {
    pub(super) fn new() -> (Self, Receiver<SpanData>, Arc<Dropped>) {
        let (sender, receiver) = channel(MAX_WAITING);
        let dropped = Arc::<Dropped>::default();
        (Self { sender, dropped: Arc::clone(&dropped) }, receiver, dropped)
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.sender.try_send(span).is_err() {
            self.dropped.add_spans(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
