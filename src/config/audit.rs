//! `[audit]`: where every decision is kept.

use std::path::PathBuf;

use super::store::StoreSettings;
use crate::{
    audit::FileOptions,
    settings::{Section, values},
};

/// In bytes.
const MIB: u64 = 1024 * 1024;
/// The longest name of a stream.
const MAX_NAME: usize = 100;

/// The audit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditSettings {
    /// The file, and how it is written.
    pub file: Option<FileOptions>,
    /// The stream in Redis.
    pub stream: Option<StreamSettings>,
}

/// A stream in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSettings {
    /// Its key.
    pub name: String,
    /// About how many events it keeps.
    pub max_length: u64,
}

impl AuditSettings {
    pub(super) fn read(section: &mut Section<'_>, store: &StoreSettings) -> Self {
        let path = section.optional_text("file", values::path);
        let required = section.boolean("required").unwrap_or(false);
        let max_bytes = section.integer("max_file_bytes", MIB..=1024 * 1024 * MIB).unwrap_or(100 * MIB);
        let max_files = section.integer("max_files", 0..=1_000_000_usize).unwrap_or(0);
        let name = section.optional_text("stream", stream_name);
        let max_length = section.integer("stream_max_length", 100..=100_000_000_u64).unwrap_or(100_000);
        if required && path.is_none() {
            section.cross_field_error("required", "needs a file: set audit.file");
        }
        if name.is_some() && store.is_embedded() {
            section.cross_field_error("stream", "needs a Redis: store.url is of an embedded store");
        }
        let file: Option<PathBuf> = path;
        let max_files = Some(max_files).filter(|files| *files > 0);
        Self {
            file: file.map(|path| FileOptions { path, required, max_bytes, max_files }),
            stream: name.map(|name| StreamSettings { name, max_length }),
        }
    }

    /// Whether anything is kept.
    pub(crate) fn is_on(&self) -> bool {
        self.file.is_some() || self.stream.is_some()
    }

    /// In a line of a summary.
    pub(super) fn shown(&self) -> String {
        let file = self.file.as_ref().map(|file| {
            let required = if file.required { " (required)" } else { "" };
            format!("{}{required}", file.path.display())
        });
        let stream = self.stream.as_ref().map(|stream| format!("stream {}", stream.name));
        let all: Vec<String> = file.into_iter().chain(stream).collect();
        if all.is_empty() { "nowhere".to_owned() } else { all.join(", ") }
    }
}

fn stream_name(text: &str) -> Result<String, String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b":_-.{}".contains(&byte);
    if text.len() <= MAX_NAME && text.bytes().all(is_fit) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_NAME} of [a-zA-Z0-9:_.{{}}-]"))
    }
}
