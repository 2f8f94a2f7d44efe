//! The stream: one task hands over what waits, in batches, and tries again until it is taken.
//!
//! An entry has the number that it has among those of its process, from 1. One whose answer was lost is handed over again: the
//! same number of the same instance is the same decision.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{sleep, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::{
    encode::Encoder,
    queue::{EventBatch, EventQueue},
};
use crate::{
    domain::time::Timestamp,
    ports::{
        clock::{Deadline, Stopwatch},
        event_stream::EventStream,
        observer::{AuditObserver, AuditOutcome, AuditSink, AuditSinkState},
    },
};

/// How many are handed over at once.
const GROUP: usize = 256;
/// How long that may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(2);
/// How long it may take to connect, as at the start, before the log tells that it cannot be written.
const CONNECTING: Duration = Duration::from_secs(1);
/// At most one line in the log in this time.
const PAUSE: Duration = Duration::from_secs(10);

/// The stream, as decisions are handed to it.
pub(super) struct StreamSink {
    queue: Arc<EventQueue>,
    is_over: watch::Receiver<bool>,
    observer: Arc<dyn AuditObserver>,
}

impl StreamSink {
    pub(super) fn start(
        stream: Arc<dyn EventStream>,
        encoder: Encoder,
        observer: Arc<dyn AuditObserver>,
        tasks: &TaskTracker,
    ) -> Self {
        let queue = Arc::new(EventQueue::new(encoder));
        let (over, is_over) = watch::channel(false);
        let (failing, is_failing) = watch::channel(false);
        let read = Arc::clone(&queue);
        let reading = move || AuditSinkState { waiting: read.waiting(), is_failing: *is_failing.borrow() };
        observer.sink_made(AuditSink::Stream, Box::new(reading));
        let (observer_of, queue_of) = (Arc::clone(&observer), Arc::clone(&queue));
        let forwarder = Forwarder { stream, observer: observer_of, queue: queue_of, failing, told: None };
        tasks.spawn(async move {
            forwarder.run().await;
            over.send_replace(true);
        });
        Self { queue, is_over, observer }
    }

    pub(super) fn push(&self, body: &[u8], at: Timestamp) {
        if !self.queue.push(body, at) {
            self.observer.audited(AuditSink::Stream, AuditOutcome::Dropped, 1);
        }
    }

    pub(super) async fn close(&self, now: Timestamp, deadline: Deadline) {
        self.queue.close(now);
        let mut is_over = self.is_over.clone();
        if timeout_at(deadline.instant(), is_over.wait_for(|is_over| *is_over)).await.is_err() {
            tracing::error!("the last events of the audit could not be written to its stream");
        }
    }
}

struct Forwarder {
    stream: Arc<dyn EventStream>,
    observer: Arc<dyn AuditObserver>,
    queue: Arc<EventQueue>,
    failing: watch::Sender<bool>,
    told: Option<Stopwatch>,
}

impl Forwarder {
    async fn run(mut self) {
        let mut next = 1_u64;
        while !self.queue.noticed().await {
            let EventBatch { bodies, .. } = self.queue.take();
            let mut bodies = bodies.split(|byte| *byte == b'\n').filter(|body| !body.is_empty());
            loop {
                let numbered = (next..).zip(bodies.by_ref().take(GROUP)).map(|(number, body)| entry(number, body));
                let events: Vec<Vec<u8>> = numbered.collect();
                if events.is_empty() {
                    break;
                }
                let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
                self.forward(&events, count).await;
                next = next.saturating_add(count);
            }
        }
    }

    async fn forward(&mut self, events: &[Vec<u8>], count: u64) {
        let (mut back_off, began) = (BACK_OFF_MIN, Stopwatch::start());
        while let Err(error) = self.stream.append(events, Deadline::after(TIMEOUT)).await {
            self.observer.audited(AuditSink::Stream, AuditOutcome::Failed, count);
            self.failing.send_replace(true);
            let is_lasting = began.elapsed() >= CONNECTING;
            if is_lasting && self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
                self.told = Some(Stopwatch::start());
                tracing::error!(%error, "the stream of the audit cannot be written; it is tried again");
            }
            sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
        if self.told.take().is_some() {
            tracing::info!("the stream of the audit is written again");
        }
        self.queue.written(count);
        self.failing.send_replace(false);
        self.observer.audited(AuditSink::Stream, AuditOutcome::Written, count);
    }
}

fn entry(number: u64, body: &[u8]) -> Vec<u8> {
    let mut entry = format!(r#"{{"v":1,"seq":{number},"#).into_bytes();
    entry.extend_from_slice(body);
    entry.push(b'}');
    entry
}
