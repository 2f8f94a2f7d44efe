//! Settings before they are read: the tables of the file, with the values of the environment instead of those of the file where both have one.

use std::collections::BTreeMap;

use super::diagnostics::Diagnostics;

/// A setting or a section of settings.
pub(crate) enum Node {
    /// A section.
    Table(Table),
    /// A value of the file.
    Value(toml::Value),
    /// A variable's text, which becomes a value of the type that the setting has.
    Text(String),
}

/// The settings of one section.
#[derive(Default)]
pub struct Table(pub(super) BTreeMap<String, Node>);

impl Table {
    /// A table of the file.
    pub fn from_toml(table: toml::Table) -> Self {
        let node = |value| match value {
            toml::Value::Table(table) => Node::Table(Self::from_toml(table)),
            value => Node::Value(value),
        };
        Self(table.into_iter().map(|(key, value)| (key, node(value))).collect())
    }

    /// Puts a variable's value in its place, instead of the file's.
    ///
    /// # Errors
    /// The path of a section around it that the file has as a plain value.
    pub(crate) fn put(
        &mut self,
        segments: &[&str],
        variable: &str,
        node: Node,
        diagnostics: &mut Diagnostics,
    ) -> Result<(), String> {
        self.put_below("", segments, variable, node, diagnostics)
    }

    fn put_below(
        &mut self,
        path: &str,
        segments: &[&str],
        variable: &str,
        node: Node,
        diagnostics: &mut Diagnostics,
    ) -> Result<(), String> {
        let Some((first, rest)) = segments.split_first() else { return Ok(()) };
        let key = self.key(path, first);
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if rest.is_empty() {
            if let Some(other) = diagnostics.set_variable(&path, variable) {
                diagnostics.add(&path, format!("set twice in the environment, also by {other}"));
            }
            self.0.insert(key, node);
            return Ok(());
        }
        let below = self.0.entry(key).or_insert_with(|| Node::Table(Self::default()));
        if let Node::Text(text) = below {
            *below = Node::Table(table_of(text).map_err(|_| path.clone())?);
        }
        match below {
            Node::Table(table) => table.put_below(&path, rest, variable, node, diagnostics),
            Node::Value(_) | Node::Text(_) => Err(path),
        }
    }

    /// The key that a variable means: that of the file in any case, and with hyphens for underscores, which few shells take in
    /// the name of a variable; or else in lower case. The case of a tenant is kept, because callers send its name.
    ///
    /// Of several such keys in the file the most similar one is meant.
    fn key(&self, path: &str, segment: &str) -> String {
        let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
        let in_any_case = self.0.keys().find(|key| key.eq_ignore_ascii_case(segment));
        let similar = in_any_case.or_else(|| self.0.keys().find(|key| plain(key) == plain(segment)));
        match similar {
            _ if self.0.contains_key(segment) => segment.to_owned(),
            Some(key) => key.clone(),
            None if path == "tenants" => segment.to_owned(),
            // Headers have hyphens, and many servers drop those with underscores; a file is named by `NAME_file`.
            None if path.ends_with(".headers") => match plain(segment).strip_suffix("_file") {
                Some(header) => format!("{}_file", header.replace('_', "-")),
                None => plain(segment).replace('_', "-"),
            },
            None => segment.to_ascii_lowercase(),
        }
    }
}

/// The table that a variable holds in TOML syntax.
pub(super) fn table_of(text: &str) -> Result<Table, String> {
    match text.parse() {
        Ok(toml::Value::Table(table)) => Ok(Table::from_toml(table)),
        _ => Err("must be a table in TOML syntax, such as { key = \"value\" }".to_owned()),
    }
}
