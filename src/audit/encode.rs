//! A decision in JSON, as the inner part of an object: whoever writes it adds a number and hashes.
//!
//! Nothing secret has a field: no code, destination, account or parameter. Support tags stand for challenge, account and contact.

use std::{
    fmt::Display,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Serialize, Serializer};

use crate::{
    domain::{
        caller::CallerName,
        destination::Channel,
        ids::{RequestId, SupportTag, Tenant},
        outcome::Locked,
        time::{Timestamp, millis},
    },
    ports::{
        call::{CallRecord, TraceId, TraceParent},
        decisions::{ConfigurationStart, DecisionEvent, DecisionKind},
    },
};

/// The longest reason that is kept, in characters.
const MAX_REASON: usize = 200;
/// Stands before the time. What stands before it is digits.
const TIME: &[u8] = br#""time":""#;
/// `2023-11-14T22:13:20.123Z`
const TIME_LENGTH: usize = 24;
/// Most bodies are shorter.
const USUAL_LENGTH: usize = 640;

/// Encodes the decisions of one process.
#[derive(Clone)]
pub(super) struct Encoder {
    /// Which process it is, and by which policies it decides.
    common: String,
}

impl Encoder {
    pub(super) fn new(instance: u64, policy_digest: &str) -> Self {
        let policy = policy_digest.get(..16).unwrap_or(policy_digest);
        Self { common: format!(r#""instance":"{instance:016x}","policy":"{policy}","#) }
    }

    pub(super) fn encode(&self, event: &DecisionEvent<'_>) -> Vec<u8> {
        self.with_common(&Body::of(event))
    }

    /// That so many decisions are missing here.
    pub(super) fn gap(&self, at: Timestamp, missing: u64) -> Vec<u8> {
        self.with_common(&Body { missing: Some(missing), ..Body::named("gap", at) })
    }

    /// That the file ended within a line, of which so many bytes were removed.
    pub(super) fn torn(&self, at: Timestamp, bytes: u64) -> Vec<u8> {
        self.with_common(&Body { bytes: Some(bytes), ..Body::named("torn", at) })
    }

    /// What stands in a seal beside its MAC.
    pub(super) fn beside_a_seal(&self, at: Timestamp) -> Vec<u8> {
        format!(r#"{}"time":"{}""#, self.common, Shown(at)).into_bytes()
    }

    fn with_common(&self, body: &Body<'_>) -> Vec<u8> {
        let mut text = Vec::with_capacity(USUAL_LENGTH);
        text.extend_from_slice(self.common.as_bytes());
        let object = text.len();
        // Texts and numbers always encode.
        let _ = serde_json::to_writer(&mut text, body);
        // The braces are the line's.
        if text.get(object).is_some() {
            text.remove(object);
            text.pop();
        }
        text
    }
}

/// When a line was decided or written, by what it says.
pub(super) fn time_of(body: &[u8]) -> Option<Timestamp> {
    let start = body.windows(TIME.len()).position(|part| part == TIME)? + TIME.len();
    let text = std::str::from_utf8(body.get(start..start + TIME_LENGTH)?).ok()?;
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp::from_millis(millis(since)))
}

/// The fields, in this order.
#[derive(Default, Serialize)]
#[serde(rename_all = "snake_case")]
struct Body<'a> {
    #[serde(serialize_with = "shown")]
    time: Timestamp,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x_request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    challenge: Option<SupportTag>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    account: Option<SupportTag>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    contact: Option<SupportTag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quotas: Option<&'a [&'static str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'static str>,
    /// A lock without one ends by an operator only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    until: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overdue: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<Configuration<'a>>,
}

/// The configuration at a start.
#[derive(Serialize)]
struct Configuration<'a> {
    version: &'a str,
    profile: &'a str,
    policy_digest: &'a str,
    providers: &'a [&'a str],
    callers: &'a [&'a str],
    key_ids: &'a [u32],
}

impl<'a> Body<'a> {
    fn named(event: &'static str, time: Timestamp) -> Self {
        Self { time, event, ..Self::default() }
    }

    fn of(event: &DecisionEvent<'a>) -> Self {
        let named = Self { overdue: event.is_overdue.then_some(true), ..Self::named(event.decision.name(), event.at) };
        let body = Self::of_call(event.call, named);
        match event.decision {
            DecisionKind::Challenge { purpose, outcome, quota } => {
                Self { purpose: Some(purpose.name()), outcome: Some(outcome), quota, ..body }
            }
            DecisionKind::Send { purpose, channel, provider, outcome, quota } => Self {
                purpose: Some(purpose.name()),
                channel: Some(channel.name()),
                provider: Some(provider).filter(|provider| !provider.is_empty()),
                outcome: Some(outcome),
                quota,
                ..body
            },
            DecisionKind::Attempt { purpose, channel, provider, outcome } => Self {
                purpose: Some(purpose.name()),
                channel: channel.map(Channel::name),
                provider: Some(provider).filter(|provider| !provider.is_empty()),
                outcome: Some(outcome),
                ..body
            },
            DecisionKind::Cancel { purpose } => Self { purpose: Some(purpose.name()), ..body },
            DecisionKind::Lock { scope, locked: Locked { until }, reason } => Self {
                scope: Some(scope.word()),
                until: until.map(Shown),
                by: Some(if reason.is_some() { "operator" } else { "failures" }),
                operator: body.caller.filter(|_| reason.is_some()),
                reason: reason.map(cleaned),
                ..body
            },
            DecisionKind::Unlock { scope, reason } => {
                Self { scope: Some(scope.word()), operator: body.caller, reason: Some(cleaned(reason)), ..body }
            }
            DecisionKind::QuotaClear { scope, quotas, reason } => Self {
                scope: Some(scope.word()),
                operator: body.caller,
                quotas: Some(quotas),
                reason: Some(cleaned(reason)),
                ..body
            },
            DecisionKind::Look { scope } => Self { scope: Some(scope.word()), operator: body.caller, ..body },
            DecisionKind::InDoubt { operation } => Self { operation: Some(operation), ..body },
            DecisionKind::Configuration(start) => Self { configuration: Some(start.into()), ..body },
        }
    }

    fn of_call(call: &'a CallRecord, body: Self) -> Self {
        let origin = call.origin.get();
        let x_request_id = origin.map(|origin| &*origin.x_request_id).filter(|id| !id.is_empty());
        Self {
            caller: call.caller.get().map(CallerName::as_str),
            tenant: call.tenant.get().map(Tenant::as_str),
            request_id: call.request_id.get().map(RequestId::as_str),
            x_request_id,
            trace_id: origin.and_then(|origin| origin.trace).map(TraceParent::id),
            challenge: call.challenge.get().copied(),
            account: call.account.get().copied(),
            contact: call.contact.get().copied(),
            ..body
        }
    }
}

impl<'a> From<ConfigurationStart<'a>> for Configuration<'a> {
    fn from(start: ConfigurationStart<'a>) -> Self {
        let ConfigurationStart { version, profile, policy_digest, providers, callers, key_ids } = start;
        Self { version, profile, policy_digest, providers, callers, key_ids }
    }
}

/// An operator's words, on one line.
fn cleaned(reason: &str) -> String {
    reason.chars().take(MAX_REASON).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A time in RFC 3339, in UTC.
struct Shown(Timestamp);

impl Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What a year of four digits cannot show is no time of a decision.
        let millis = self.0.as_millis().min(253_402_300_799_999);
        humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis)).fmt(f)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn shown<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Shown(*time))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn text<S: Serializer>(value: &Option<impl Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
