//! What the metrics are made of: durations with the traces that they come from, and gauges and counters that are read when
//! they are asked for.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{
        DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabel, EncodeLabelSet, EncodeMetric,
        LabelSetEncoder,
    },
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        exemplar::HistogramWithExemplars,
        family::Family,
        gauge::ConstGauge,
    },
    registry::{Metric, Registry},
};

use super::names::MetricName;
use crate::ports::call::TraceId;

/// In seconds, from what a local answer takes to the longest time-outs.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Labels that are known when the program is compiled.
pub(super) type Known<const COUNT: usize> = [(&'static str, &'static str); COUNT];

/// The trace in which a duration was measured.
#[derive(Clone, Debug)]
pub(super) struct Exemplar(TraceId);

type Histogram = HistogramWithExemplars<Exemplar>;

/// Durations by labels.
#[derive(Clone)]
pub(super) struct Durations<S>(Family<S, Histogram, fn() -> Histogram>);

impl<S> Durations<S>
where
    S: Clone + Eq + std::hash::Hash + EncodeLabelSet + fmt::Debug + Send + Sync + 'static,
{
    pub(super) fn register(registry: &mut Registry, name: &MetricName) -> Self {
        let family = Family::new_with_constructor((|| Histogram::new(BUCKETS.into_iter())) as fn() -> Histogram);
        register(registry, name, &family);
        Self(family)
    }

    /// Begins at 0, for an alert on a rise.
    pub(super) fn begin(&self, labels: &S) {
        drop(self.0.get_or_create(labels));
    }

    /// Counts a duration. Of a trace that somebody may have recorded the name is kept with it.
    pub(super) fn observe(&self, labels: &S, duration: Duration, trace: Option<TraceId>) {
        self.0.get_or_create(labels).observe(duration.as_secs_f64(), trace.map(Exemplar), None);
    }
}

impl EncodeLabelSet for Exemplar {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("trace_id", self.0.to_string()).encode(encoder.encode_label())
    }
}

/// Registers a metric under its name.
pub(super) fn register<M: Metric + Clone>(registry: &mut Registry, name: &MetricName, metric: &M) {
    registry.register(name.prometheus, name.help, metric.clone());
}

/// A counter by labels, which begins at 0 for some: an alert on a rise needs a value to rise from.
pub(super) fn counters<S>(
    registry: &mut Registry,
    name: &MetricName,
    known: impl IntoIterator<Item = S>,
) -> Family<S, Counter>
where
    S: Clone + Eq + std::hash::Hash + EncodeLabelSet + fmt::Debug + Send + Sync + 'static,
{
    let family = Family::<S, Counter>::default();
    register(registry, name, &family);
    for labels in known {
        drop(family.get_or_create(&labels));
    }
    family
}

/// Writes a metric that is read now, by labels.
fn write<S: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, metric_type): (&MetricName, MetricType),
    values: impl IntoIterator<Item = (S, M)>,
) -> fmt::Result {
    // As the registry writes those that it knows.
    let help = format!("{}.", name.help);
    let mut metric = encoder.encode_descriptor(name.prometheus, &help, None, metric_type)?;
    values.into_iter().try_for_each(|(labels, value)| value.encode(metric.encode_family(&labels)?))
}

/// Writes a metric without labels.
fn write_single(
    encoder: &mut DescriptorEncoder<'_>,
    (name, metric_type): (&MetricName, MetricType),
    value: &impl EncodeMetric,
) -> fmt::Result {
    let help = format!("{}.", name.help);
    value.encode(encoder.encode_descriptor(name.prometheus, &help, None, metric_type)?)
}

/// Writes a gauge that is read now.
pub(super) fn gauge<S: EncodeLabelSet, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &MetricName,
    values: impl IntoIterator<Item = (S, V)>,
) -> fmt::Result {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
    write(encoder, (name, MetricType::Gauge), values)
}

/// Writes a counter that is read now.
pub(super) fn counter<S: EncodeLabelSet, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &MetricName,
    values: impl IntoIterator<Item = (S, V)>,
) -> fmt::Result {
    let values = values.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
    write(encoder, (name, MetricType::Counter), values)
}

/// Writes a gauge without labels.
pub(super) fn single_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &MetricName,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    write_single(encoder, (name, MetricType::Gauge), &ConstGauge::new(value))
}

/// Writes a counter without labels.
pub(super) fn single_counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &MetricName,
    value: impl EncodeCounterValue,
) -> fmt::Result {
    write_single(encoder, (name, MetricType::Counter), &ConstCounter::new(value))
}
