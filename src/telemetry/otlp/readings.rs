//! The metrics of `/metrics` as OTLP has them: they are counted in one place, and read here from the text that is shown there.

use std::collections::BTreeMap;

use opentelemetry_proto::{
    tonic::{
        common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
        metrics::v1::{
            AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
            ScopeMetrics, Sum, metric::Data, number_data_point,
        },
        resource::v1::Resource,
    },
    transform::common::tonic::ResourceAttributesWithSchema,
};

use crate::{
    metrics::names::{self, MetricName},
    ports::clock::{Clock, SystemClock},
};

/// Turns texts into readings.
pub(super) struct Readings {
    resource: Resource,
    /// Since when is counted, in nanoseconds.
    since: u64,
}

/// One line of the text.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

/// The lines of one histogram with the same labels.
#[derive(Default)]
struct Buckets {
    sum: f64,
    count: f64,
    /// By upper bound, up to which is counted. The last has none.
    bounded: Vec<(f64, f64)>,
}

impl Readings {
    pub(super) fn new(resource: &ResourceAttributesWithSchema) -> Self {
        let attributes = resource.attributes.0.clone();
        Self { resource: Resource { attributes, ..Resource::default() }, since: now() }
    }

    /// What the text says now.
    pub(super) fn of(&mut self, text: &str) -> ResourceMetrics {
        let scope = InstrumentationScope {
            name: "otpd".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let metrics = metrics(text, self.since, now());
        let scope_metrics = vec![ScopeMetrics { scope: Some(scope), metrics, schema_url: String::new() }];
        ResourceMetrics { resource: Some(self.resource.clone()), scope_metrics, schema_url: String::new() }
    }
}

fn now() -> u64 {
    SystemClock.now().as_millis().saturating_mul(1_000_000)
}

fn metrics(text: &str, since: u64, now: u64) -> Vec<Metric> {
    let mut metrics = Vec::new();
    let mut families = text.split("# TYPE ").skip(1);
    while let Some((head, lines)) = families.next().and_then(|family| family.split_once('\n')) {
        let Some((name, kind)) = head.split_once(' ') else { continue };
        let Some(name) = names::ALL.iter().find(|known| known.prometheus == name) else { continue };
        let samples = lines.lines().filter_map(sample);
        let data = match kind {
            "histogram" => histogram(samples, since, now),
            "counter" => Data::Sum(Sum {
                data_points: numbers(samples, since, now),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
                is_monotonic: true,
            }),
            _ => Data::Gauge(Gauge { data_points: numbers(samples, 0, now) }),
        };
        metrics.push(metric(name, data));
    }
    metrics
}

fn metric(name: &MetricName, data: Data) -> Metric {
    Metric {
        name: name.otel.to_owned(),
        description: name.help.to_owned(),
        unit: name.unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn numbers<'a>(samples: impl Iterator<Item = Sample<'a>>, since: u64, now: u64) -> Vec<NumberDataPoint> {
    let point = |sample: Sample<'_>| NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    };
    samples.map(point).collect()
}

fn histogram<'a>(samples: impl Iterator<Item = Sample<'a>>, since: u64, now: u64) -> Data {
    let mut by_labels: BTreeMap<Vec<(&str, String)>, Buckets> = BTreeMap::new();
    for mut sample in samples {
        let bound = sample.labels.iter().position(|(name, _)| *name == "le").map(|index| sample.labels.remove(index).1);
        let buckets = by_labels.entry(sample.labels).or_default();
        match bound {
            // The bound of the last is infinite, which a number may be read from as well.
            Some(bound) => buckets.bounded.push((bound.parse().unwrap_or(f64::INFINITY), sample.value)),
            None if sample.name.ends_with("_sum") => buckets.sum = sample.value,
            None => buckets.count = sample.value,
        }
    }
    let point = |(labels, buckets): (Vec<(&str, String)>, Buckets)| {
        let mut below = 0.0;
        let counts = buckets.bounded.iter().map(|(_, up_to)| whole(up_to - std::mem::replace(&mut below, *up_to)));
        HistogramDataPoint {
            attributes: attributes(&labels),
            start_time_unix_nano: since,
            time_unix_nano: now,
            count: whole(buckets.count),
            sum: Some(buckets.sum),
            bucket_counts: counts.collect(),
            explicit_bounds: buckets
                .bounded
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|bound| bound.is_finite())
                .collect(),
            ..HistogramDataPoint::default()
        }
    };
    let data_points = by_labels.into_iter().map(point).collect();
    Data::Histogram(Histogram { data_points, aggregation_temporality: AggregationTemporality::Cumulative.into() })
}

/// The names that OpenTelemetry's conventions have for labels. What is empty is not said there.
fn attributes(labels: &[(&str, String)]) -> Vec<KeyValue> {
    let named = |name: &str| {
        names::ATTRIBUTES
            .iter()
            .find(|(label, _)| *label == name)
            .map_or(name.to_owned(), |(_, name)| (*name).to_owned())
    };
    let said = labels.iter().filter(|(_, value)| !value.is_empty());
    said.map(|(name, value)| {
        let value = AnyValue { value: Some(Value::StringValue(value.clone())) };
        KeyValue { key: named(name), value: Some(value), ..KeyValue::default() }
    })
    .collect()
}

/// A line such as `name{label="value",le="0.1"} 7 # {trace_id="…"} 0.07`. `None` for comments.
fn sample(line: &str) -> Option<Sample<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at_checked(end)?;
    if name == "#" {
        return None;
    }
    let mut labels = Vec::new();
    if let Some(open) = rest.strip_prefix('{') {
        rest = open;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            labels.push((label, value));
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.trim_start().split(' ').next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// The text up to its closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// A count, which the text has as a number without a fraction.
fn whole(number: f64) -> u64 {
    // Below 2^53, which no counter of these reaches, both are the same.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and not negative")]
    let count = number as u64;
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP otp_ready Whether.
# TYPE otp_ready gauge
otp_ready 1
# HELP otp_sends Sends "and" such.
# TYPE otp_sends counter
otp_sends_total{purpose="login",channel="",provider="a\"b\\c"} 3
# TYPE unheard_of gauge
unheard_of 9
# TYPE rpc_server_call_duration_seconds histogram
rpc_server_call_duration_seconds_sum{rpc_method="m"} 1.5
rpc_server_call_duration_seconds_count{rpc_method="m"} 4
rpc_server_call_duration_seconds_bucket{le="0.1",rpc_method="m"} 1 # {trace_id="0abc"} 0.07
rpc_server_call_duration_seconds_bucket{le="1.0",rpc_method="m"} 3
rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_method="m"} 4
# EOF
"#;

    fn shown(attributes: &[KeyValue]) -> Vec<(String, String)> {
        let value = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
            Some(Value::StringValue(text)) => text,
            other => panic!("{other:?}"),
        };
        attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
    }

    #[test]
    fn a_text_is_read_as_it_was_written() {
        let metrics = metrics(TEXT, 1, 2);
        let names: Vec<_> = metrics.iter().map(|metric| (metric.name.as_str(), metric.unit.as_str())).collect();
        assert_eq!(names, [("otp.ready", "1"), ("otp.sends", "{send}"), ("rpc.server.call.duration", "s")]);
        let Some(Data::Gauge(ready)) = &metrics[0].data else { panic!("{metrics:?}") };
        assert_eq!(ready.data_points[0].value, Some(number_data_point::Value::AsDouble(1.0)));
        let Some(Data::Sum(sends)) = &metrics[1].data else { panic!("{metrics:?}") };
        let expected = [("purpose", "login"), ("provider", "a\"b\\c")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(shown(&sends.data_points[0].attributes), expected);
        assert!(sends.is_monotonic && sends.data_points[0].start_time_unix_nano == 1);
        let Some(Data::Histogram(calls)) = &metrics[2].data else { panic!("{metrics:?}") };
        let point = &calls.data_points[0];
        assert_eq!((point.count, point.sum, &point.bucket_counts), (4, Some(1.5), &vec![1, 2, 1]));
        assert_eq!(point.explicit_bounds, [0.1, 1.0]);
        assert_eq!(shown(&point.attributes), [("rpc.method".to_owned(), "m".to_owned())]);
    }

    #[test]
    fn every_line_that_is_shown_can_be_read() {
        let text = crate::metrics::tests::used().text().unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.iter().any(|line| line.contains("_bucket{") && line.contains(" # {")), "an exemplar");
        for line in lines {
            assert!(sample(line).is_some(), "{line}");
        }
    }
}
