//! The collector: whoever takes OTLP at the address of the settings.

use std::{fs, mem, time::Duration};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient},
        trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    },
    metrics::v1::ResourceMetrics,
    trace::v1::ResourceSpans,
};
use tokio::time::timeout;
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use super::{OtlpError, OtlpSettings};

/// How long connecting may take, and one message.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to it, made when there is something to send.
pub(super) struct Collector {
    traces: TraceServiceClient<Channel>,
    metrics: MetricsServiceClient<Channel>,
    /// The last message was not taken: that is told once.
    is_away: bool,
}

/// Where it is and how it is encrypted, by the settings.
pub(super) fn endpoint(settings: &OtlpSettings) -> Result<Endpoint, OtlpError> {
    let mut endpoint = Endpoint::from_shared(settings.endpoint.clone())?.connect_timeout(CONNECT_TIMEOUT);
    if settings.endpoint.starts_with("https://") {
        let tls = ClientTlsConfig::new();
        endpoint = endpoint.tls_config(match &settings.ca_file {
            Some(path) => tls.ca_certificate(Certificate::from_pem(fs::read(path).map_err(OtlpError::CaFile)?)),
            None => tls.with_webpki_roots(),
        })?;
    }
    Ok(endpoint)
}

impl Collector {
    /// Within a runtime: the connection lives there.
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, OtlpError> {
        let channel = endpoint(settings)?.connect_lazy();
        let (traces, metrics) = (TraceServiceClient::new(channel.clone()), MetricsServiceClient::new(channel));
        Ok(Self { traces, metrics, is_away: false })
    }

    /// Whether it has taken these spans.
    pub(super) async fn take_spans(&mut self, resource_spans: Vec<ResourceSpans>) -> bool {
        let sent = timeout(TIMEOUT, self.traces.export(ExportTraceServiceRequest { resource_spans })).await;
        self.note(sent.unwrap_or_else(|_| Err(late())).err())
    }

    /// Whether it has taken these metrics.
    pub(super) async fn take_metrics(&mut self, reading: ResourceMetrics) -> bool {
        let request = ExportMetricsServiceRequest { resource_metrics: vec![reading] };
        let sent = timeout(TIMEOUT, self.metrics.export(request)).await;
        self.note(sent.unwrap_or_else(|_| Err(late())).err())
    }

    fn note(&mut self, failure: Option<Status>) -> bool {
        let was_away = mem::replace(&mut self.is_away, failure.is_some());
        match failure {
            Some(status) if !was_away => {
                let (code, cause) = (status.code(), cause(&status));
                tracing::warn!(%code, cause, "the collector does not take traces and metrics; they are dropped");
            }
            None if was_away => tracing::info!("the collector takes traces and metrics again"),
            Some(_) | None => {}
        }
        !self.is_away
    }
}

fn late() -> Status {
    Status::new(Code::DeadlineExceeded, "no answer in time")
}

/// The innermost cause, which says most: that a connection is refused, or a certificate not trusted.
fn cause(status: &Status) -> String {
    let first = std::error::Error::source(status);
    let last = std::iter::successors(first, |error| error.source()).last();
    last.map_or_else(|| status.message().to_owned(), ToString::to_string)
}
