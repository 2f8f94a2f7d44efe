//! What the servers' answers mean, and how spans are written for them.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::Value;

use crate::{
    domain::time::{Timestamp, millis},
    ports::store::{Partition, Sealed, StoreError},
};

pub(super) fn senseless(operation: &'static str) -> StoreError {
    StoreError::new(operation, "an answer that makes no sense")
}

pub(super) fn list(operation: &'static str, value: Value) -> Result<Vec<Value>, StoreError> {
    if let Value::Array(values) = value { Ok(values) } else { Err(senseless(operation)) }
}

pub(super) fn records(operation: &'static str, value: Value) -> Result<Vec<Option<Sealed>>, StoreError> {
    list(operation, value)?.into_iter().map(|value| record(operation, value)).collect()
}

pub(super) fn record(operation: &'static str, value: Value) -> Result<Option<Sealed>, StoreError> {
    let bytes = match value {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => Sealed::from_bytes(bytes),
        _ => None,
    };
    bytes.map(Some).ok_or_else(|| StoreError::new(operation, "what is stored is not a record"))
}

pub(super) fn partition_of(value: &Value) -> Option<Partition> {
    let Value::BulkString(text) = value else { return None };
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(Partition)
}

/// A time to live as Redis takes it: at least a millisecond, and not so long that adding the time of day overflows.
pub(super) fn lifetime(ttl: Duration) -> u64 {
    millis(ttl).clamp(1, Timestamp::MAX.as_millis())
}

/// What is later than `per` before `now`, as a bound of scores. No use is earlier than the epoch.
pub(super) fn after(now: Timestamp, per: Duration) -> String {
    match now.as_millis().checked_sub(millis(per)) {
        Some(time) => format!("({time}"),
        None => "0".to_owned(),
    }
}
