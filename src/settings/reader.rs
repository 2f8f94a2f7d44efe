//! Reads settings one by one.
//!
//! A setting that is wrong reads as unset, so that reading goes on and finds the next error. A section is read inside
//! [`Section::section`], which then reports every key that was not asked for: an unknown key is an error, never ignored.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive};

use super::{
    diagnostics::Diagnostics,
    secret_file,
    tree::{Node, Table, table_of},
    values,
};

/// One section while it is read.
pub struct Section<'a> {
    path: String,
    table: Table,
    asked: BTreeSet<String>,
    diagnostics: &'a Diagnostics,
}

impl<'a> Section<'a> {
    /// Reads the whole tree.
    pub fn root<T>(table: Table, diagnostics: &'a Diagnostics, read: impl FnOnce(&mut Self) -> T) -> T {
        Self::read(String::new(), table, diagnostics, read)
    }

    /// Reads a section; one that is not there reads as empty.
    pub(crate) fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let path = self.path_of(name);
        let table = match self.remove(name) {
            None => Ok(Table::default()),
            Some(Node::Table(table)) => Ok(table),
            Some(Node::Text(text)) => table_of(&text),
            Some(Node::Value(_)) => Err(format!("must be a section: [{path}]")),
        };
        let table = table.unwrap_or_else(|message| {
            self.diagnostics.add(&path, message);
            Table::default()
        });
        Self::read(path, table, self.diagnostics, read)
    }

    fn read<T>(path: String, table: Table, diagnostics: &'a Diagnostics, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut section = Self { path, table, asked: BTreeSet::new(), diagnostics };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    /// The keys that have not been asked for: for sections whose keys the operator chooses.
    pub(crate) fn names(&self) -> Vec<String> {
        self.table.0.keys().cloned().collect()
    }

    /// A variable of the process that is no setting of otpd, but of what a provider's own tools are configured by.
    pub(crate) fn variable(&self, name: &str) -> Option<&'a str> {
        self.diagnostics.foreign(name)
    }

    /// Whether the section has no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.table.0.is_empty()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.value(name, |node| match node {
            Node::Value(toml::Value::Boolean(value)) => Ok(value),
            Node::Text(text) => {
                text.trim().to_ascii_lowercase().parse().map_err(|_| "must be true or false".to_owned())
            }
            _ => Err("must be true or false".to_owned()),
        })
    }

    /// A whole number.
    pub(crate) fn integer<N>(&mut self, name: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        self.integer_or(name, range, |message| message)
    }

    /// A whole number; `say` may add to the message where it is out of range.
    pub(crate) fn integer_or<N>(
        &mut self,
        name: &str,
        range: RangeInclusive<N>,
        say: impl FnOnce(String) -> String,
    ) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let range_text = format!("{} to {}", range.start(), range.end());
        self.value(name, |node| {
            let number: Option<i64> = match node {
                Node::Value(toml::Value::Integer(number)) => Some(number),
                Node::Text(text) => text.trim().parse().ok(),
                _ => None,
            };
            let number = number.ok_or_else(|| format!("must be a whole number, {range_text}"))?;
            let number = N::try_from(number).ok().filter(|number| range.contains(number));
            number.ok_or_else(|| say(format!("must be {range_text}")))
        })
    }

    /// A text that `parse` accepts.
    pub(crate) fn text<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.value(name, |node| match node {
            Node::Value(toml::Value::String(text)) | Node::Text(text) => parse(&text),
            _ => Err("must be a text in quotes".to_owned()),
        })
    }

    /// A text that may be empty, which means unset, so that a variable can undo what the file says.
    pub(crate) fn optional_text<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.text(name, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }).flatten()
    }

    /// A secret: in the setting itself, or in the file that the setting `NAME_file` names, without line breaks at its end. One of
    /// them as a variable overrides the other in the configuration file.
    pub(crate) fn secret<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let file = format!("{name}_file");
        self.diagnostics.asked_for_secret(&self.path_of(name));
        match (self.is_variable(name), self.is_variable(&file)) {
            (true, false) => drop(self.remove(&file)),
            (false, true) => drop(self.remove(name)),
            _ => {}
        }
        // One sentence of config.default.toml describes all of these settings.
        let path = self.parsed(&file, |node| match node {
            Node::Value(toml::Value::String(text)) | Node::Text(text) if text.is_empty() => Ok(None),
            Node::Value(toml::Value::String(text)) | Node::Text(text) => values::path(&text).map(Some),
            _ => Err("must be a path in quotes".to_owned()),
        });
        let Some(path) = path.flatten() else { return self.text(name, parse) };
        if self.text(name, |text| Ok(!text.is_empty())) == Some(true) {
            self.cross_field_error(&file, format!("{name} is set, too: set one of them"));
            return None;
        }
        match secret_file::read(&path).and_then(|text| parse(&text)) {
            Ok(secret) => Some(secret),
            Err(message) => {
                self.cross_field_error(&file, message);
                None
            }
        }
    }

    /// A secret that may be empty, which is as good as unset.
    pub(crate) fn optional_secret<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.secret(name, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }).flatten()
    }

    /// Whether a secret is wrong in itself, wherever it stands.
    pub(crate) fn is_secret_wrong(&self, name: &str) -> bool {
        let path = self.path_of(name);
        self.diagnostics.is_wrong(&path) || self.diagnostics.is_wrong(&format!("{path}_file"))
    }

    /// A list of texts, each of which `parse` accepts.
    pub(crate) fn list<T>(
        &mut self,
        name: &str,
        lengths: RangeInclusive<usize>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.value(name, |node| {
            let list = match node {
                Node::Value(value) => Some(value),
                Node::Text(text) => text.parse().ok(),
                Node::Table(_) => None,
            };
            let Some(toml::Value::Array(list)) = list else {
                return Err("must be a list of texts, such as [\"…\", \"…\"]".to_owned());
            };
            if !lengths.contains(&list.len()) {
                return Err(format!("must hold {} to {}, not {}", lengths.start(), lengths.end(), list.len()));
            }
            let text = |value: toml::Value| match value {
                toml::Value::String(text) => parse(&text),
                _ => Err("must be a text in quotes".to_owned()),
            };
            let (mut items, mut mistakes) = (Vec::new(), Vec::new());
            for (i, value) in list.into_iter().enumerate() {
                match text(value) {
                    Ok(item) => items.push(item),
                    Err(message) => mistakes.push(format!("item {}: {message}", i + 1)),
                }
            }
            if mistakes.is_empty() { Ok(items) } else { Err(mistakes.join("; ")) }
        })
    }

    /// Drops the keys that have not been asked for, without an error: it is not known whether they belong here.
    pub(crate) fn forget_rest(&mut self) {
        self.table = Table::default();
    }

    /// Adds an error of a required setting that is absent.
    pub(crate) fn missing(&self, name: &str, what: &str) {
        self.cross_field_error(name, format!("required: {what}"));
    }

    /// Adds an error that concerns several settings, unless this one is wrong in itself.
    pub(crate) fn cross_field_error(&self, name: &str, message: impl Into<String>) {
        self.diagnostics.cross_field_error(&self.path_of(name), message);
    }

    /// Reports a setting or section that has no meaning here, with the reason.
    pub(crate) fn refuse(&mut self, name: &str, reason: &str) {
        if let Some(node) = self.table.0.remove(name) {
            for path in leaves(self.path_of(name), &node) {
                self.diagnostics.add(&path, reason);
            }
        }
    }

    /// The section's path, such as `policy.lock`; empty for the root.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The diagnostics, for checks across sections.
    pub(crate) fn diagnostics(&self) -> &'a Diagnostics {
        self.diagnostics
    }

    fn value<T>(&mut self, name: &str, parse: impl FnOnce(Node) -> Result<T, String>) -> Option<T> {
        self.diagnostics.asked_for(&self.path_of(name));
        self.parsed(name, parse)
    }

    fn parsed<T>(&mut self, name: &str, parse: impl FnOnce(Node) -> Result<T, String>) -> Option<T> {
        let path = self.path_of(name);
        match parse(self.remove(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.diagnostics.add(&path, message);
                None
            }
        }
    }

    /// Whether a variable says something of a setting.
    pub(crate) fn is_variable(&self, name: &str) -> bool {
        matches!(self.table.0.get(name), Some(Node::Text(text)) if !text.is_empty())
    }

    fn remove(&mut self, name: &str) -> Option<Node> {
        self.asked.insert(name.to_owned());
        self.table.0.remove(name)
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn report_unknown(&self) {
        let known: Vec<&str> = self.asked.iter().map(String::as_str).collect();
        let message = format!("unknown setting; here are: {}", known.join(", "));
        for (name, node) in &self.table.0 {
            for path in leaves(self.path_of(name), node) {
                self.diagnostics.add(&path, message.clone());
            }
        }
    }
}

/// The paths of all settings below a node, so that an error names the variable that set each.
fn leaves(path: String, node: &Node) -> Vec<String> {
    match node {
        Node::Table(table) if !table.0.is_empty() => {
            table.0.iter().flat_map(|(name, node)| leaves(format!("{path}.{name}"), node)).collect()
        }
        _ => vec![path],
    }
}
