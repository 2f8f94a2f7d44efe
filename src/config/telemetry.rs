//! `[log]` and `[telemetry]`: what otpd says about itself, on standard error and to a collector.

use std::time::Duration;

use http::Uri;
use tracing_subscriber::EnvFilter;

use crate::{
    settings::{Section, values},
    telemetry::OtlpSettings,
};

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, in the syntax of `tracing_subscriber::EnvFilter`. Checked.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::default(), filter: "info".to_owned() }
    }
}

impl Log {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let words = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        Self {
            format: section.text("format", values::word(&words)).unwrap_or(default.format),
            filter: section.text("filter", filter).unwrap_or(default.filter),
        }
    }
}

/// Where traces and metrics go; `None`: nowhere, but that `/metrics` shows the latter.
pub(super) fn read_otlp(section: &mut Section<'_>) -> Option<OtlpSettings> {
    let endpoint = section.optional_text("otlp_endpoint", endpoint);
    let ca_file = section.optional_text("otlp_ca_file", values::path);
    if ca_file.is_some() && !endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("https://")) {
        section.cross_field_error("otlp_ca_file", "is only for encrypted connections: otlp_endpoint with https://");
    }
    let sample_percent = section.integer("sample_percent", 0..=100).unwrap_or(10);
    let interval = values::span(Duration::from_secs(1)..=Duration::from_secs(3600));
    let metrics_interval = section.text("metrics_interval", interval).unwrap_or(Duration::from_secs(30));
    let service_name = section.text("service_name", name).unwrap_or_else(|| "otpd".to_owned());
    let resource = section.optional_text("resource_attributes", pairs).unwrap_or_default();
    let endpoint = endpoint?;
    Some(OtlpSettings { endpoint, ca_file, sample_percent, metrics_interval, service_name, resource })
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri = text.parse::<Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let is_bare = uri.is_some_and(|uri| uri.authority().is_some() && matches!(uri.path(), "" | "/"));
    let wrong = "must be a URL of OTLP over gRPC such as http://127.0.0.1:4317, without a path";
    if is_bare && !text.contains(['@', '?']) { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

fn name(text: &str) -> Result<String, String> {
    let fits = (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err("must be 1 to 100 visible characters of ASCII".to_owned()) }
}

/// Pairs such as `deployment.environment.name=production,host.name=a`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.trim().split_once('=').filter(|(key, _)| !key.is_empty())?;
        Some((key.trim().to_owned(), value.trim().to_owned()))
    };
    let pairs: Option<Vec<_>> = text.split(',').map(pair).collect();
    let pairs = pairs.filter(|pairs| pairs.len() <= 32);
    pairs
        .ok_or_else(|| "must be at most 32 pairs such as deployment.environment.name=production,host.name=a".to_owned())
}

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("must be a level or directives, such as info or info,otpd=debug".to_owned()),
    }
}
