//! Traces and metrics for a collector, by OTLP over gRPC, where the settings name one. One task sends both. What the collector
//! does not take is dropped and counted: a call never waits for it.

mod collector;
mod queue;
mod readings;

use std::{io, mem, path::PathBuf, sync::Arc, time::Duration};

use opentelemetry::{InstrumentationScope, KeyValue, trace::TracerProvider};
use opentelemetry_proto::transform::{
    common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData},
};
use tokio::{
    sync::mpsc::Receiver,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::ports::clock::Deadline;
use collector::Collector;
use queue::SpanQueue;
use readings::Readings;

pub use queue::Dropped;

/// Spans of one message to the collector.
const MAX_BATCH: usize = 512;
/// How long spans gather, where fewer come.
const GATHERING: Duration = Duration::from_secs(1);
/// How long the end of the process waits for the last of both.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where traces and metrics go, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpSettings {
    /// The collector: an address of OTLP over gRPC.
    pub endpoint: String,
    /// The authorities that its certificate is verified by, in PEM form, read at the start. `None`: those that Mozilla trusts.
    pub ca_file: Option<PathBuf>,
    /// Of the traces that begin here, so many of a hundred are kept. The others are kept where the caller keeps them.
    pub sample_percent: u8,
    /// How often the metrics are read and sent.
    pub metrics_interval: Duration,
    /// What these traces and metrics are of.
    pub service_name: String,
    /// Further attributes of it.
    pub resource: Vec<(String, String)>,
}

/// Nothing can be sent by these settings.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// The file of authorities cannot be read.
    #[error("telemetry.otlp_ca_file cannot be read: {0}")]
    CaFile(io::Error),
    /// The address, or what the file holds, cannot be used.
    #[error("telemetry.otlp_endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
}

impl OtlpSettings {
    /// Looks whether anything can be sent by them, without sending.
    ///
    /// # Errors
    /// Nothing can.
    pub fn check(&self) -> Result<(), OtlpError> {
        collector::endpoint(self).map(drop)
    }
}

/// Sends what has gathered.
pub struct Exporter {
    spans: Receiver<SpanData>,
    dropped: Arc<Dropped>,
    collector: Collector,
    resource: Resource,
    metrics_interval: Duration,
    // Spans end by it, as long as it lives.
    provider: SdkTracerProvider,
}

/// Where the tracer gets its spans to, and who sends them.
///
/// # Errors
/// The endpoint or the certificates cannot be used.
pub(super) fn start(settings: &OtlpSettings, instance: &str) -> Result<(SdkTracer, Exporter), OtlpError> {
    let collector = Collector::new(settings)?;
    let given = settings.resource.iter().map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let own = [
        KeyValue::new("service.name", settings.service_name.clone()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    let resource = Resource::builder_empty().with_attributes(own.into_iter().chain(given)).build();
    let (queue, spans, dropped) = SpanQueue::new();
    let ratio = f64::from(settings.sample_percent) / 100.0;
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
        .with_resource(resource.clone())
        .with_span_processor(queue)
        .build();
    let tracer = provider.tracer_with_scope(scope());
    let metrics_interval = settings.metrics_interval;
    Ok((tracer, Exporter { spans, dropped, collector, resource, metrics_interval, provider }))
}

/// Who has measured.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("otpd").with_version(env!("CARGO_PKG_VERSION")).build()
}

impl Exporter {
    /// What was dropped, for the metrics.
    pub fn dropped(&self) -> Arc<Dropped> {
        Arc::clone(&self.dropped)
    }

    /// Sends spans as they come and metrics at their interval, until told to stop; then the last of both.
    ///
    /// `text` gives the metrics in the text form of OpenMetrics, if it can.
    pub async fn run(mut self, text: impl Fn() -> Option<String> + Send, stop: CancellationToken) {
        let resource = ResourceAttributesWithSchema::from(&self.resource);
        let mut readings = Readings::new(&resource);
        let mut ticks = interval(self.metrics_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = OtlpBatch::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // What is on its way when the end comes is given up: the end has a bound of its own.
                _ = ticks.tick() => {
                    let _ = stop.run_until_cancelled(self.send_metrics(&mut readings, &text)).await;
                }
                () = batch.fill(&mut self.spans) => {
                    let count = batch.spans.len();
                    let sent = stop.run_until_cancelled(self.send_spans(batch.take(), &resource)).await;
                    if sent.is_none() {
                        self.dropped.add_spans(count);
                    }
                }
            }
        }
        // No span is added from here on.
        self.spans.close();
        let rest = async {
            while !batch.spans.is_empty() || !self.spans.is_empty() {
                let room = MAX_BATCH.saturating_sub(batch.spans.len());
                if room > 0 {
                    self.spans.recv_many(&mut batch.spans, room).await;
                }
                self.send_spans(batch.take(), &resource).await;
            }
            self.send_metrics(&mut readings, &text).await;
        };
        if timeout(FLUSH_TIMEOUT, rest).await.is_err() {
            tracing::warn!("the last traces and metrics are lost: the collector did not take them in time");
        }
        drop(self.provider);
    }

    async fn send_spans(&mut self, batch: Vec<SpanData>, resource: &ResourceAttributesWithSchema) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len();
        if !self.collector.take_spans(group_spans_by_resource_and_scope(batch, resource)).await {
            self.dropped.add_spans(count);
        }
    }

    async fn send_metrics(&mut self, readings: &mut Readings, text: &(impl Fn() -> Option<String> + Send)) {
        let Some(text) = text() else { return };
        if !self.collector.take_metrics(readings.of(&text)).await {
            self.dropped.add_reading();
        }
    }
}

/// Spans on their way into one message.
#[derive(Default)]
struct OtlpBatch {
    spans: Vec<SpanData>,
    /// Until when more may come. Set by the first.
    due: Option<Deadline>,
}

impl OtlpBatch {
    /// Waits for a span, and then for more until they fill a message or have waited long enough. Nothing is lost where this is not
    /// waited for to the end.
    async fn fill(&mut self, queue: &mut Receiver<SpanData>) {
        if self.spans.is_empty() && queue.recv_many(&mut self.spans, MAX_BATCH).await == 0 {
            return std::future::pending().await;
        }
        let due = *self.due.get_or_insert_with(|| Deadline::after(GATHERING));
        while self.spans.len() < MAX_BATCH {
            let room = MAX_BATCH - self.spans.len();
            match timeout(due.remaining(), queue.recv_many(&mut self.spans, room)).await {
                Ok(count) if count > 0 => {}
                _ => return,
            }
        }
    }

    /// What is there, and an empty batch from here on.
    fn take(&mut self) -> Vec<SpanData> {
        mem::take(self).spans
    }
}
