//! Reads settings one by one, and keeps all that is wrong for one report.
//!
//! A setting that is wrong reads as unset, so that reading goes on and finds the next mistake. A section is read inside
//! [`Section::section`], which reports what nobody asked for: an unknown key is a mistake, never ignored.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    ops::RangeInclusive,
};

use super::{
    mistake::{Mistake, Mistakes},
    tree::{Node, Table, table_of},
};

/// Keeps mistakes, and which variable set what.
#[derive(Default)]
pub struct Ledger {
    mistakes: RefCell<Vec<Mistake>>,
    variables: BTreeMap<String, String>,
    /// Every setting that was asked for.
    known: RefCell<BTreeSet<String>>,
}

impl Ledger {
    /// Notes a mistake of the setting with this path.
    pub fn add(&self, setting: &str, message: impl Into<String>) {
        let variable = self.variable(setting).map(str::to_owned);
        let mistake = Mistake { setting: setting.to_owned(), variable, message: message.into() };
        let mut mistakes = self.mistakes.borrow_mut();
        // A layer that several policies share is checked once for each.
        if !mistakes.contains(&mistake) {
            mistakes.push(mistake);
        }
    }

    /// Notes that a setting does not fit with others, unless it is wrong in itself.
    pub fn misfit(&self, setting: &str, message: impl Into<String>) {
        if !self.is_wrong(setting) {
            self.add(setting, message);
        }
    }

    /// Whether the setting is wrong already: then it says nothing about how it relates to others.
    pub fn is_wrong(&self, setting: &str) -> bool {
        self.mistakes.borrow().iter().any(|mistake| mistake.setting == setting)
    }

    /// Whether anything in the section, or the section itself, is wrong already.
    pub fn is_wrong_within(&self, section: &str) -> bool {
        let within =
            |setting: &str| setting.strip_prefix(section).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.mistakes.borrow().iter().any(|mistake| within(&mistake.setting))
    }

    /// Notes which variable set a setting, and gives back the one that had done so before.
    pub fn set_variable(&mut self, setting: &str, variable: &str) -> Option<String> {
        self.variables.insert(setting.to_owned(), variable.to_owned())
    }

    /// The variable that set a setting or a section around it.
    fn variable(&self, setting: &str) -> Option<&str> {
        let found = self.variables.get(setting).map(String::as_str);
        found.or_else(|| setting.rsplit_once('.').and_then(|(section, _)| self.variable(section)))
    }

    /// The paths of all settings that were asked for.
    #[cfg(test)]
    pub fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// The value, if nothing was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, Mistakes> {
        let mistakes = self.mistakes.into_inner();
        if mistakes.is_empty() { Ok(value) } else { Err(Mistakes(mistakes)) }
    }
}

/// One section while it is read.
pub struct Section<'a> {
    path: String,
    table: Table,
    asked: BTreeSet<String>,
    ledger: &'a Ledger,
}

impl<'a> Section<'a> {
    /// Reads the whole tree.
    pub fn root<T>(table: Table, ledger: &'a Ledger, read: impl FnOnce(&mut Self) -> T) -> T {
        Self::read(String::new(), table, ledger, read)
    }

    /// Reads a section; one that is not there reads as empty.
    pub fn section<T>(&mut self, name: &str, read: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let path = self.path_of(name);
        let table = match self.remove(name) {
            None => Ok(Table::default()),
            Some(Node::Table(table)) => Ok(table),
            Some(Node::Text(text)) => table_of(&text),
            Some(Node::Value(_)) => Err(format!("must be a section: [{path}]")),
        };
        let table = table.unwrap_or_else(|message| {
            self.ledger.add(&path, message);
            Table::default()
        });
        Self::read(path, table, self.ledger, read)
    }

    fn read<T>(path: String, table: Table, ledger: &'a Ledger, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut section = Self { path, table, asked: BTreeSet::new(), ledger };
        let value = read(&mut section);
        section.report_unknown();
        value
    }

    /// The names in this section that have not been asked for: for sections whose keys the operator makes up.
    pub fn names(&self) -> Vec<String> {
        self.table.0.keys().cloned().collect()
    }

    /// Whether the section says nothing.
    pub fn is_empty(&self) -> bool {
        self.table.0.is_empty()
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        self.take(name, |node| match node {
            Node::Value(toml::Value::Boolean(value)) => Ok(value),
            Node::Text(text) => {
                text.trim().to_ascii_lowercase().parse().map_err(|_| "must be true or false".to_owned())
            }
            _ => Err("must be true or false".to_owned()),
        })
    }

    /// A whole number.
    pub fn integer<N>(&mut self, name: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        self.integer_or(name, range, |message| message)
    }

    /// A whole number, with more to say where it is wrong.
    pub fn integer_or<N>(
        &mut self,
        name: &str,
        range: RangeInclusive<N>,
        say: impl FnOnce(String) -> String,
    ) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let range_text = format!("{} to {}", range.start(), range.end());
        self.take(name, |node| {
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

    /// A text, as `parse` takes it.
    pub fn text<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.take(name, |node| match node {
            Node::Value(toml::Value::String(text)) | Node::Text(text) => parse(&text),
            _ => Err("must be a text in quotes".to_owned()),
        })
    }

    /// A text that may be empty, which is as unset: so a variable can take back what the file says.
    pub fn optional_text<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.text(name, |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }).flatten()
    }

    /// A list of texts, each as `parse` takes it.
    pub fn list<T>(
        &mut self,
        name: &str,
        lengths: RangeInclusive<usize>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        self.take(name, |node| {
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
            let parsed = list.into_iter().enumerate();
            parsed.map(|(i, value)| text(value).map_err(|message| format!("item {}: {message}", i + 1))).collect()
        })
    }

    /// Passes over what has not been asked for: it cannot be judged.
    pub fn forget_rest(&mut self) {
        self.table = Table::default();
    }

    /// Notes that a setting of this section does not fit with others, unless it is wrong in itself.
    pub fn misfit(&self, name: &str, message: impl Into<String>) {
        self.ledger.misfit(&self.path_of(name), message);
    }

    /// Reports a setting or section that has no meaning here, with the reason.
    pub fn refuse(&mut self, name: &str, reason: &str) {
        if let Some(node) = self.table.0.remove(name) {
            for path in leaves(self.path_of(name), &node) {
                self.ledger.add(&path, reason);
            }
        }
    }

    /// Where the section is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The ledger, for what is checked after reading.
    pub fn ledger(&self) -> &'a Ledger {
        self.ledger
    }

    fn take<T>(&mut self, name: &str, parse: impl FnOnce(Node) -> Result<T, String>) -> Option<T> {
        let path = self.path_of(name);
        self.ledger.known.borrow_mut().insert(path.clone());
        match parse(self.remove(name)?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.ledger.add(&path, message);
                None
            }
        }
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
                self.ledger.add(&path, message.clone());
            }
        }
    }
}

/// The settings below a node, so that each variable that set one is named.
fn leaves(path: String, node: &Node) -> Vec<String> {
    match node {
        Node::Table(table) if !table.0.is_empty() => {
            table.0.iter().flat_map(|(name, node)| leaves(format!("{path}.{name}"), node)).collect()
        }
        _ => vec![path],
    }
}
