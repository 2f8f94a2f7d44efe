//! The variables of templates, and their values in one delivery.

use std::collections::{BTreeMap, BTreeSet};

use super::template::Placeholder;
use crate::{
    domain::{code, destination::Destination, time::whole_minutes},
    ports::provider::{Delivery, RequestError},
    providers::adapter::context,
    secret::Secret,
};

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Variable {
    Code,
    CodeSpelled,
    Text,
    To,
    ToDigits,
    ToIndian,
    Channel,
    Purpose,
    Locale,
    Minutes,
    Seconds,
    Tenant,
    Reference,
    IdempotencyKey,
    Amount,
    Currency,
    Payee,
    Parameter(&'static str),
}

const NAMES: &[(&str, Variable)] = &[
    ("code", Variable::Code),
    ("code_spelled", Variable::CodeSpelled),
    ("text", Variable::Text),
    ("to", Variable::To),
    ("to_digits", Variable::ToDigits),
    ("to_indian", Variable::ToIndian),
    ("channel", Variable::Channel),
    ("purpose", Variable::Purpose),
    ("locale", Variable::Locale),
    ("minutes", Variable::Minutes),
    ("seconds", Variable::Seconds),
    ("tenant", Variable::Tenant),
    ("reference", Variable::Reference),
    ("idempotency_key", Variable::IdempotencyKey),
    ("amount", Variable::Amount),
    ("currency", Variable::Currency),
    ("payee", Variable::Payee),
];

impl Placeholder for Variable {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(parameter) = name.strip_prefix("parameters.").filter(|rest| !rest.is_empty()) {
            // A `RequestError` names a parameter by a text that lives as long as the process. Leaking it is bounded: there
            // are as many names as the operator wrote.
            return Ok(Self::Parameter(String::leak(parameter.to_owned())));
        }
        named(NAMES, name).map_err(|message| format!("{message}, parameters.NAME"))
    }
}

/// What a name stands for.
pub(super) fn named<V: Copy>(names: &[(&str, V)], name: &str) -> Result<V, String> {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, variable)| *variable).ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("names what there is not; there are: {}", names.join(", "))
    })
}

impl Variable {
    /// The name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Parameter(name) => name,
            _ => NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name),
        }
    }

    fn value(self, delivery: &Delivery) -> Result<Secret<String>, RequestError> {
        let call = &delivery.context;
        let transaction = || call.transaction.as_ref().ok_or(RequestError::MissingParameter("transaction"));
        let text = match self {
            Self::Code => return Ok(context::message(delivery)?.code.clone()),
            Self::CodeSpelled => code::spelled(context::message(delivery)?.code.expose()),
            Self::Text => return Ok(context::message(delivery)?.text.clone()),
            Self::Parameter(name) => {
                return call.parameters.get(name).cloned().ok_or(RequestError::MissingParameter(name));
            }
            Self::To => match &call.destination {
                Destination::Phone(number) => number.expose().to_owned(),
                Destination::Email(mailbox) => mailbox.expose().to_owned(),
                Destination::OnFile => return Err(RequestError::Unsupported("destination")),
            },
            Self::ToDigits => context::phone_digits(call)?.to_owned(),
            Self::ToIndian => {
                let mobile = context::indian_mobile(context::phone(call)?);
                mobile.ok_or(RequestError::InvalidParameter("destination"))?.to_owned()
            }
            Self::Channel => call.channel.name().to_owned(),
            Self::Purpose => call.purpose.name().to_owned(),
            Self::Locale => call.locale.clone(),
            Self::Minutes => whole_minutes(delivery.code_life).to_string(),
            Self::Seconds => delivery.code_life.as_secs().to_string(),
            Self::Tenant => call.tenant.as_str().to_owned(),
            Self::Reference => call.challenge.as_str().to_owned(),
            Self::IdempotencyKey => delivery.idempotency_key.clone(),
            Self::Amount => transaction()?.amount.decimal(),
            Self::Currency => transaction()?.amount.currency.clone(),
            Self::Payee => transaction()?.payee.clone(),
        };
        Ok(Secret::new(text))
    }
}

/// The values of variables in one delivery.
pub(super) struct Values(BTreeMap<Variable, Secret<String>>);

impl Values {
    /// The values of these variables.
    ///
    /// # Errors
    /// The delivery has no such value.
    pub(super) fn of(variables: &BTreeSet<Variable>, delivery: &Delivery) -> Result<Self, RequestError> {
        let value = |variable: &Variable| Ok((*variable, variable.value(delivery)?));
        variables.iter().map(value).collect::<Result<_, _>>().map(Self)
    }

    /// The value of one of them.
    pub(super) fn get(&self, variable: Variable) -> &str {
        self.0.get(&variable).map_or("", |value| value.expose())
    }
}
