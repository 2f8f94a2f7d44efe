//! A collector of OTLP, which keeps what it is sent.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::Metric,
    trace::v1::Span,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport};

/// What has come so far.
#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    metrics: BTreeMap<String, Metric>,
    resources: Vec<KeyValue>,
    bytes: Vec<u8>,
}

/// Takes traces and metrics, at a port of its own.
#[derive(Clone)]
pub(crate) struct FakeCollector {
    kept: Arc<Mutex<Kept>>,
    pub(crate) url: String,
}

impl FakeCollector {
    /// Serves as long as the runtime of the test.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { kept: Arc::default(), url };
        let server = transport::Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()));
        #[expect(clippy::disallowed_methods, reason = "it serves to the end of the test")]
        drop(tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener))));
        collector
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The spans so far of one trace.
    pub(crate) fn trace(&self, trace: &str) -> Vec<Span> {
        self.kept().spans.iter().filter(|span| hex(&span.trace_id) == trace).cloned().collect()
    }

    /// All spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept().spans.clone()
    }

    /// The last reading of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<Metric> {
        self.kept().metrics.get(name).cloned()
    }

    /// What the spans and metrics are of.
    pub(crate) fn resource(&self) -> BTreeMap<String, String> {
        texts(&self.kept().resources)
    }

    /// All that has come, as it came.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.kept().bytes.clone()
    }
}

/// In the form of `traceparent`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}

/// Attributes by name, as texts.
pub(crate) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

#[tonic::async_trait]
impl TraceService for FakeCollector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept();
        kept.bytes.extend(request.encode_to_vec());
        for resource in request.resource_spans {
            kept.resources = resource.resource.unwrap_or_default().attributes;
            kept.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for FakeCollector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let request = request.into_inner();
        let mut kept = self.kept();
        kept.bytes.extend(request.encode_to_vec());
        let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        for metric in scopes.flat_map(|scope| scope.metrics) {
            kept.metrics.insert(metric.name.clone(), metric);
        }
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
