//! `[log]`: what otpd says about itself on standard error.

use tracing_subscriber::EnvFilter;

use super::{reader::Section, values};

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

fn filter(text: &str) -> Result<String, String> {
    match EnvFilter::builder().parse(text) {
        Ok(_) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err("must be a level or directives, such as info or info,otpd=debug".to_owned()),
    }
}
