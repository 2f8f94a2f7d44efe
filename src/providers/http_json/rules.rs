//! What an answer means, as the operator describes it from the provider's documentation.

use serde_json::Value;

use crate::{
    ports::provider::{Delivered, Failure},
    providers::{
        adapter::{answer, delivered_by_status, settings},
        http::Inbound,
    },
    settings::{Section, values},
};

/// How answers are judged.
#[derive(Clone)]
pub(super) struct Rules {
    errors: Vec<Rule>,
    error_pointer: Option<String>,
    error_texts: Vec<(String, Class)>,
    success: Vec<Statuses>,
    success_value: Option<(String, Vec<String>)>,
    success_text: Vec<String>,
    reference_pointer: Option<String>,
}

/// One class of errors: the statuses and, where one is given, the value at `error_pointer` by which it is recognised.
#[derive(Clone)]
struct Rule {
    statuses: Statuses,
    value: Option<String>,
    class: Class,
}

#[derive(Clone, Copy)]
enum Class {
    Rejected,
    Failed,
    Refused,
    Throttled,
    Unknown,
}

const CLASSES: [(&str, Class); 5] = [
    ("rejected", Class::Rejected),
    ("failed", Class::Failed),
    ("refused", Class::Refused),
    ("throttled", Class::Throttled),
    ("unknown", Class::Unknown),
];

/// A range of HTTP statuses, both ends included.
#[derive(Clone, Copy)]
struct Statuses(u16, u16);

impl Statuses {
    fn parse(text: &str) -> Result<Self, String> {
        let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
        let status = |text: &str| text.parse().ok().filter(|status| (200..=599).contains(status));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first, last)),
            _ => Err("must be a status or a range of them, 200 to 599, such as \"200\" or \"200-299\"".to_owned()),
        }
    }

    fn holds(self, status: u16) -> bool {
        (self.0..=self.1).contains(&status)
    }
}

impl Rule {
    /// Parses `STATUSES`, `STATUSES VALUE` or `* VALUE`.
    fn parse(key: &str, class: Class) -> Result<Self, String> {
        let (statuses, value) = key.split_once(' ').map_or((key, None), |(first, rest)| (first, Some(rest.trim())));
        let statuses = match (statuses, value) {
            ("*", Some(_)) => Statuses(200, 599),
            _ => Statuses::parse(statuses).map_err(|message| format!("the name {message}, or that and a value"))?,
        };
        Ok(Self { statuses, value: value.map(str::to_owned), class })
    }

    /// Orders rules so that the more specific one comes first: the one for fewer statuses.
    fn rank(&self) -> u16 {
        self.statuses.1 - self.statuses.0
    }
}

impl Rules {
    /// Reads them from a provider's section.
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let success = section.list("success_status", 1..=20, Statuses::parse);
        let success_pointer = section.optional_text("success_pointer", pointer);
        let success_values = section.list("success_values", 1..=100, |text| Ok(text.to_owned()));
        let half = success_pointer.is_some() != success_values.is_some();
        if half && !settings::is_wrong(section, "success_pointer") {
            section.cross_field_error("success_values", "goes with success_pointer: set both or none");
        }
        let success_text = section.list("success_text", 1..=100, said_text).unwrap_or_default();
        let reference_pointer = section.optional_text("reference_pointer", pointer);
        let error_pointer = section.optional_text("error_pointer", pointer);
        let errors = section.section("errors", errors);
        if error_pointer.is_none() && errors.iter().any(|rule| rule.value.is_some()) {
            section.missing("error_pointer", "where the values are that errors names");
        }
        let error_texts = section.section("error_texts", error_texts);
        let is_told = !success_text.is_empty() || success_pointer.is_some() || reference_pointer.is_some();
        if !error_texts.is_empty() && !is_told {
            section.missing("success_text", "how a success is told from an error that error_texts does not list");
        }
        Self {
            errors,
            error_pointer,
            error_texts,
            success: success.unwrap_or_else(|| vec![Statuses(200, 299)]),
            success_value: success_pointer.zip(success_values),
            success_text,
            reference_pointer,
        }
    }

    /// What an answer means. Errors come first: some providers report them inside a success.
    pub(super) fn judge(&self, answer: &Inbound) -> Delivered {
        let content = Content { text: answer.text().trim().to_owned(), json: answer.json().unwrap_or_default() };
        match self.class(answer.status, &content) {
            Some(Class::Rejected) => Delivered::Rejected,
            Some(Class::Failed) => Delivered::Failed(Failure::Unavailable { retry_after: None }),
            Some(Class::Refused) => Delivered::Failed(Failure::Refused),
            Some(Class::Throttled) => Delivered::Failed(answer::unavailable(answer)),
            Some(Class::Unknown) => Delivered::Unknown,
            None if self.hides_errors(answer.status, &content) => delivered_by_status(answer),
            None => self.succeeded(answer, &content).unwrap_or_else(|| delivered_by_status(answer)),
        }
    }

    /// The class of an error: by its text, then by its value, then by its status alone.
    fn class(&self, status: u16, content: &Content) -> Option<Class> {
        let error = self.error_pointer.as_ref().and_then(|pointer| scalar(&content.json, pointer));
        let mut rules = self.errors.iter().filter(|rule| rule.statuses.holds(status));
        let by_text = self.error_texts.iter().find(|(text, _)| content.text.contains(text)).map(|(_, class)| *class);
        let by_value = rules.clone().find(|rule| rule.value.is_some() && rule.value == error);
        let by_status = || rules.find(|rule| rule.value.is_none()).map(|rule| rule.class);
        by_text.or_else(|| by_value.map(|rule| rule.class)).or_else(by_status)
    }

    /// Whether the body cannot be read, and so may hold an error that nobody sees: the page of a proxy, or a text where the
    /// rules are about JSON.
    fn hides_errors(&self, status: u16, content: &Content) -> bool {
        if !self.success_text.is_empty() {
            return false;
        }
        let has_errors_inside = || self.errors.iter().any(|rule| rule.value.is_some() && rule.statuses.holds(status));
        match content.text.as_str() {
            // No Content and Reset Content have none (RFC 9110, 15.3.5 and 15.3.6).
            "" => !matches!(status, 204 | 205) && has_errors_inside(),
            text => {
                is_page(text)
                    || (self.error_pointer.is_some() && !(content.json.is_object() || content.json.is_array()))
            }
        }
    }

    /// Accepted, if the answer fulfils every condition of a success.
    fn succeeded(&self, answer: &Inbound, content: &Content) -> Option<Delivered> {
        let status = self.success.iter().any(|statuses| statuses.holds(answer.status));
        let value = self.success_value.as_ref().is_none_or(|(pointer, expected)| {
            scalar(&content.json, pointer).is_some_and(|value| expected.contains(&value))
        });
        let text = self.success_text.is_empty() || self.success_text.iter().any(|text| content.text.starts_with(text));
        if !status || !value || !text {
            return None;
        }
        let Some(pointer) = &self.reference_pointer else { return Some(answer::accepted("")) };
        scalar(&content.json, pointer)
            .filter(|reference| !reference.is_empty())
            .map(|reference| answer::accepted(&reference))
    }
}

/// A body, as text and as JSON; null where it is no JSON.
struct Content {
    text: String,
    json: Value,
}

/// Where the tags of a page are looked for, in characters.
const PAGE_START: usize = 1000;
const PAGE_TAGS: [&str; 8] = ["<html", "<!doctype", "<head", "<body", "<script", "<meta", "<title", "<!--"];

/// Whether a text is a web page: what begins with a tag, and has one of HTML's own soon. Some gateways answer in XML.
fn is_page(text: &str) -> bool {
    let start: String = text.trim_start().chars().take(PAGE_START).collect();
    let start = start.to_ascii_lowercase();
    start.starts_with('<') && PAGE_TAGS.iter().any(|tag| start.contains(tag))
}

/// Reads `[errors]`, the most specific row first.
fn errors(section: &mut Section<'_>) -> Vec<Rule> {
    let keys = section.names();
    let read = |key: String| {
        let class = section.text(&key, values::word(&CLASSES))?;
        Rule::parse(&key, class).map_err(|message| section.cross_field_error(&key, message)).ok()
    };
    let mut errors: Vec<Rule> = keys.into_iter().filter_map(read).collect();
    errors.sort_by_key(Rule::rank);
    errors
}

/// Reads `[error_texts]`, the longest text first.
fn error_texts(section: &mut Section<'_>) -> Vec<(String, Class)> {
    let keys = section.names();
    let read = |key: String| {
        let class = section.text(&key, values::word(&CLASSES))?;
        said_text(&key).map_err(|message| section.cross_field_error(&key, message)).ok().map(|text| (text, class))
    };
    let mut texts: Vec<_> = keys.into_iter().filter_map(read).collect();
    texts.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    texts
}

/// A text that an answer may hold.
fn said_text(text: &str) -> Result<String, String> {
    let fits = !text.trim().is_empty();
    if fits { Ok(text.to_owned()) } else { Err("must be a text that answers hold".to_owned()) }
}

/// Parses a JSON pointer (RFC 6901) to a value inside a document.
fn pointer(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/');
    if fits { Ok(text.to_owned()) } else { Err("must be a JSON pointer, such as /messages/0/id".to_owned()) }
}

/// The value at a pointer as a text; `None` where there is none, or where it is a list or an object.
fn scalar(body: &Value, pointer: &str) -> Option<String> {
    match body.pointer(pointer)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
