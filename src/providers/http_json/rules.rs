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
    success: Vec<Statuses>,
    success_value: Option<(String, Vec<String>)>,
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

    /// Orders rules so that the more specific one comes first: a rule with a value, then a rule for fewer statuses.
    fn rank(&self) -> (bool, u16) {
        (self.value.is_none(), self.statuses.1 - self.statuses.0)
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
        let reference_pointer = section.optional_text("reference_pointer", pointer);
        let error_pointer = section.optional_text("error_pointer", pointer);
        let mut errors: Vec<Rule> = section.section("errors", |section| {
            let keys = section.names();
            let read = |key: String| {
                let class = section.text(&key, values::word(&CLASSES))?;
                Rule::parse(&key, class).map_err(|message| section.cross_field_error(&key, message)).ok()
            };
            keys.into_iter().filter_map(read).collect()
        });
        errors.sort_by_key(Rule::rank);
        if error_pointer.is_none() && errors.iter().any(|rule| rule.value.is_some()) {
            section.missing("error_pointer", "where the values are that errors names");
        }
        Self {
            errors,
            error_pointer,
            success: success.unwrap_or_else(|| vec![Statuses(200, 299)]),
            success_value: success_pointer.zip(success_values),
            reference_pointer,
        }
    }

    /// What an answer means. Errors come first: some providers report them inside a success.
    pub(super) fn judge(&self, answer: &Inbound) -> Delivered {
        let body: Value = answer.json().unwrap_or_default();
        let error = self.error_pointer.as_ref().and_then(|pointer| scalar(&body, pointer));
        let applies = |rule: &&Rule| {
            let value = rule.value.as_ref().is_none_or(|value| error.as_ref() == Some(value));
            value && rule.statuses.holds(answer.status)
        };
        match self.errors.iter().find(applies).map(|rule| rule.class) {
            Some(Class::Rejected) => Delivered::Rejected,
            Some(Class::Failed) => Delivered::Failed(Failure::Unavailable { retry_after: None }),
            Some(Class::Refused) => Delivered::Failed(Failure::Refused),
            Some(Class::Throttled) => Delivered::Failed(answer::unavailable(answer)),
            Some(Class::Unknown) => Delivered::Unknown,
            None => self.succeeded(answer, &body).unwrap_or_else(|| delivered_by_status(answer)),
        }
    }

    /// Accepted, if the answer fulfils every condition of a success.
    fn succeeded(&self, answer: &Inbound, body: &Value) -> Option<Delivered> {
        let status = self.success.iter().any(|statuses| statuses.holds(answer.status));
        let value = self
            .success_value
            .as_ref()
            .is_none_or(|(pointer, expected)| scalar(body, pointer).is_some_and(|value| expected.contains(&value)));
        if !status || !value {
            return None;
        }
        let Some(pointer) = &self.reference_pointer else { return Some(answer::accepted("")) };
        scalar(body, pointer).filter(|reference| !reference.is_empty()).map(|reference| answer::accepted(&reference))
    }
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
