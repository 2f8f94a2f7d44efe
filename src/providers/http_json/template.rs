//! Texts with placeholders, `{{name}}`, and JSON made of them.
//!
//! A placeholder is filled inside a part that is delimited already: a string of parsed JSON, a value of a form, a piece of
//! a path. So no value can change the structure of a request.

use std::collections::BTreeSet;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::variables::{Values, Variable};
use crate::{ports::provider::RequestError, secret::Secret};

/// A text with placeholders. The rest of the text may be a credential.
#[derive(Clone)]
pub(super) struct Template<V = Variable>(Vec<Piece<V>>);

#[derive(Clone)]
enum Piece<V> {
    Literal(Secret<String>),
    Placeholder(V),
}

/// What the placeholders of a template stand for.
pub(super) trait Placeholder: Copy {
    /// Parses a name.
    ///
    /// # Errors
    /// The name is unknown.
    fn parse(name: &str) -> Result<Self, String>;
}

impl Template {
    /// The text with each value inserted unchanged.
    pub(super) fn fill(&self, values: &Values) -> Secret<String> {
        self.fill_with(|variable| values.get(variable).to_owned())
    }

    /// The text with each value percent-encoded but for the unreserved characters (RFC 3986, 2.3) and the asterisk.
    pub(super) fn fill_encoded(&self, values: &Values) -> Secret<String> {
        // The encoder writes a space as a plus, and a plus of the value as %2B.
        let encode =
            |value: &str| form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20");
        self.fill_with(|variable| encode(values.get(variable)))
    }
}

impl<V: Placeholder> Template<V> {
    /// Parses a text.
    ///
    /// # Errors
    /// A placeholder is not closed, or its name is unknown.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").ok_or("has a {{ without its }}")?;
            if name.contains(':') {
                return Err("has a placeholder with a type, which is for a whole string of json".to_owned());
            }
            pieces.push(Piece::Literal(Secret::new(literal.to_owned())));
            pieces.push(Piece::Placeholder(V::parse(name.trim())?));
            rest = after;
        }
        pieces.push(Piece::Literal(Secret::new(rest.to_owned())));
        Ok(Self(pieces))
    }

    /// The variables of its placeholders.
    pub(super) fn variables(&self) -> impl Iterator<Item = V> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Placeholder(variable) => Some(*variable),
        })
    }

    /// The text with one and the same sample in each placeholder.
    pub(super) fn sample(&self) -> Secret<String> {
        self.fill_with(|_| "0".to_owned())
    }

    /// The text with what the function says in each placeholder.
    pub(super) fn fill_with(&self, value: impl Fn(V) -> String) -> Secret<String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => filled.push_str(text.expose()),
                Piece::Placeholder(variable) => filled.push_str(Secret::new(value(*variable)).expose()),
            }
        }
        Secret::new(filled)
    }
}

/// JSON whose strings are templates. A string that is one placeholder with a type, such as `{{minutes:number}}`, becomes a value
/// of that type.
#[derive(Clone)]
pub(super) enum Json {
    Fixed(Value),
    Text(Template),
    Typed(Variable, Type),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a JSON text.
    ///
    /// # Errors
    /// It is not JSON, or one of its strings is not a template.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser's messages quote single characters of the text at most.
        let value = serde_json::from_str(text).map_err(|error| format!("must be JSON: {error}"))?;
        Self::of(value)
    }

    fn of(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => match typed(&text)? {
                Some((variable, kind)) => Self::Typed(variable, kind),
                None => Self::Text(Template::parse(&text)?),
            },
            Value::Array(list) => Self::List(list.into_iter().map(Self::of).collect::<Result<_, _>>()?),
            Value::Object(map) if map.keys().any(|key| key.contains("{{")) => {
                return Err("has a {{ in the name of a member: only values are filled".to_owned());
            }
            Value::Object(map) => {
                let member = |(key, value)| Ok((key, Self::of(value)?));
                Self::Object(map.into_iter().map(member).collect::<Result<_, String>>()?)
            }
            fixed => Self::Fixed(fixed),
        })
    }

    /// Adds the variables of its placeholders.
    pub(super) fn collect(&self, variables: &mut BTreeSet<Variable>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(template) => variables.extend(template.variables()),
            Self::Typed(variable, _) => drop(variables.insert(*variable)),
            Self::List(list) => list.iter().for_each(|item| item.collect(variables)),
            Self::Object(members) => members.iter().for_each(|(_, value)| value.collect(variables)),
        }
    }

    /// Whether every value is of the type that its placeholder has.
    ///
    /// # Errors
    /// Names the first one that is not.
    pub(super) fn check(&self, values: &Values) -> Result<(), RequestError> {
        match self {
            Self::Fixed(_) | Self::Text(_) => Ok(()),
            Self::Typed(variable, kind) => match kind.read(values.get(*variable)) {
                Some(_) => Ok(()),
                None => Err(RequestError::InvalidParameter(variable.name())),
            },
            Self::List(list) => list.iter().try_for_each(|item| item.check(values)),
            Self::Object(members) => members.iter().try_for_each(|(_, value)| value.check(values)),
        }
    }
}

/// What a value becomes instead of a string.
#[derive(Clone, Copy)]
pub(super) enum Type {
    Number,
    Boolean,
}

impl Type {
    /// The text as a value of this type; `None` where it is none.
    fn read(self, text: &str) -> Option<Value> {
        let value: Value = serde_json::from_str(text).ok()?;
        let fits = match self {
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        };
        Some(value).filter(|_| fits)
    }
}

/// The variable and type of a string that is one placeholder with a type; `None` for any other string.
fn typed(text: &str) -> Result<Option<(Variable, Type)>, String> {
    let inner = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).filter(|rest| !rest.contains("{{"));
    let Some((name, kind)) = inner.and_then(|inner| inner.split_once(':')) else { return Ok(None) };
    let kind = match kind.trim() {
        "number" => Type::Number,
        "boolean" => Type::Boolean,
        _ => return Err("has a placeholder of a type that there is not; there are: number, boolean".to_owned()),
    };
    let variable = Variable::parse(name.trim())?;
    if matches!(variable, Variable::Code | Variable::To) {
        return Err("has a number of what is a text: zeros at its start would be lost".to_owned());
    }
    Ok(Some((variable, kind)))
}

/// JSON with its placeholders filled.
pub(super) struct Filled<'a>(pub(super) &'a Json, pub(super) &'a Values);

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(json, values) = self;
        match json {
            Json::Fixed(value) => value.serialize(serializer),
            Json::Text(template) => serializer.serialize_str(template.fill(values).expose()),
            // What is of another type was refused before.
            Json::Typed(variable, kind) => kind.read(values.get(*variable)).serialize(serializer),
            Json::List(list) => serializer.collect_seq(list.iter().map(|item| Filled(item, values))),
            Json::Object(members) => {
                serializer.collect_map(members.iter().map(|(key, value)| (key, Filled(value, values))))
            }
        }
    }
}
