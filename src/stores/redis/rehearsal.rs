//! Tries every command and script on keys that are gone soon: what a server or its access control list denies shows at
//! start and in the health check, by name, and not in the middle of a call.

use redis::{Cmd, RedisError, RedisResult, Value, cmd};

use super::{
    confirmation,
    connection::{Connection, Master},
    fault::{self, LinkHealth},
    keys::{RedisKey, Rehearsed},
    scripts::{ACQUIRE, CLAIM, COMMIT, LOCATE},
};
use crate::{
    domain::time::Timestamp,
    ports::store::{Sealed, StoreError},
    stores::Confirmation,
};

/// How long what is written lives, in milliseconds.
const LIFE: u64 = 1_000;
/// What the scripts and we ourselves ask, so that it can be named. Each takes a key that must be of the kind beside it.
const COMMANDS: [(&str, Option<Rehearsed>, &[&str]); 19] = [
    ("EVALSHA", None, &["0000000000000000000000000000000000000000", "0"]),
    ("EVAL", None, &["return 1", "0"]),
    ("GET", Some(Rehearsed::Record), &[]),
    ("MGET", Some(Rehearsed::Record), &[]),
    ("GETRANGE", Some(Rehearsed::Record), &["0", "1"]),
    ("EXISTS", Some(Rehearsed::Record), &[]),
    ("SET", Some(Rehearsed::Record), &["", "PX", "1000"]),
    ("PTTL", Some(Rehearsed::Record), &[]),
    ("PEXPIRE", Some(Rehearsed::Record), &["1000"]),
    ("UNLINK", Some(Rehearsed::Record), &[]),
    ("ZSCORE", Some(Rehearsed::Quota), &["x"]),
    ("ZCOUNT", Some(Rehearsed::Quota), &["0", "0"]),
    ("ZADD", Some(Rehearsed::Quota), &["XX", "0", "x"]),
    ("ZREM", Some(Rehearsed::Quota), &["x"]),
    ("ZREMRANGEBYSCORE", Some(Rehearsed::Quota), &["0", "0"]),
    ("ZREMRANGEBYRANK", Some(Rehearsed::Quota), &["0", "0"]),
    ("TIME", None, &[]),
    ("SCAN", None, &["0", "COUNT", "1"]),
    ("PING", None, &[]),
];

/// A rehearsal failed.
pub(super) struct Failed {
    pub(super) error: StoreError,
    /// The server answered that it cannot now, as when its memory is full. It may read all the same.
    pub(super) is_busy: bool,
}

/// Rehearses on one master, and names what it denies.
pub(super) async fn run(
    connection: &mut Connection,
    master: &Master,
    wanted: Confirmation,
) -> Result<Timestamp, Failed> {
    let error = match rehearse(connection, master, wanted).await {
        Ok(time) => return Ok(time),
        Err(error) => error,
    };
    let denied = if fault::is_refusal(&error) { missing(connection, master, wanted).await } else { Vec::new() };
    if denied.is_empty() {
        let is_busy = fault::health(&error) == LinkHealth::Healthy && !fault::is_refusal(&error);
        return Err(Failed { error: fault::while_connecting(&error), is_busy });
    }
    Err(Failed { error: refused(&denied), is_busy: false })
}

/// Rehearses on one master; its time.
pub(super) async fn rehearse(
    connection: &mut Connection,
    master: &Master,
    wanted: Confirmation,
) -> RedisResult<Timestamp> {
    let key = |kind| RedisKey::Rehearsal(master.number, kind);
    let time = connection.ask(master, &cmd("TIME")).await?;
    let time = time_of(&time).ok_or_else(|| RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no time")))?;

    if let Some(wait) = confirmation::rehearsed(wanted) {
        connection.ask(master, &wait).await?;
    }
    if matches!(connection, Connection::Cluster(..)) {
        // What is asked of a node to which a slot is moving.
        connection.ask(master, &cmd("ASKING")).await?;
    }

    // Each way through the scripts that asks for other commands.
    for life in [LIFE, 2 * LIFE] {
        let add = |command: &mut Cmd| {
            command.arg(key(Rehearsed::Index)).arg("check").arg(life);
        };
        CLAIM.run(connection, 0, 1, add).await?;
    }
    let add = |command: &mut Cmd| {
        command.arg(key(Rehearsed::Index));
    };
    LOCATE.run(connection, 0, 1, add).await?;

    let record = [0; Sealed::VERSION_OFFSET + Sealed::VERSION_LENGTH + 1];
    let version = [0; Sealed::VERSION_LENGTH];
    for (expected, life) in [(&[][..], LIFE), (&version, 1), (&version, LIFE + 1_000), (&[], LIFE)] {
        let add = |command: &mut Cmd| {
            command.arg(key(Rehearsed::Record)).arg(expected).arg(&record[..]).arg(life);
        };
        COMMIT.run(connection, record.len(), 1, add).await?;
    }
    ask(connection, cmd("MGET").arg(key(Rehearsed::Record))).await?;
    ask(connection, cmd("UNLINK").arg(key(Rehearsed::Record))).await?;

    let now = time.as_millis();
    for (usage, longest) in [("a", LIFE), ("b", LIFE), ("b", 2 * LIFE)] {
        let add = |command: &mut Cmd| {
            command.arg(key(Rehearsed::Quota)).arg(usage).arg(now).arg(longest).arg(0).arg(8);
            command.arg(8).arg(format!("({}", now.saturating_sub(longest)));
        };
        ACQUIRE.run(connection, 0, 1, add).await?;
    }
    ask(connection, cmd("ZCOUNT").arg(key(Rehearsed::Quota)).arg(0).arg("+inf")).await?;
    ask(connection, cmd("ZREM").arg(key(Rehearsed::Quota)).arg("a")).await?;
    ask(connection, cmd("UNLINK").arg(key(Rehearsed::Quota))).await?;
    Ok(time)
}

async fn ask(connection: &mut Connection, command: &Cmd) -> RedisResult<Value> {
    command.query_async(connection).await
}

/// What is missing, by name. Lasts until somebody gives the permission.
pub(super) fn refused(denied: &[&str]) -> StoreError {
    StoreError::lasting("check", format!("the server lacks, or its user may not use: {}", denied.join(", ")))
}

/// The commands that are denied or not there.
pub(super) async fn missing(connection: &mut Connection, master: &Master, wanted: Confirmation) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let plain = COMMANDS.into_iter().map(|(name, kind, arguments)| {
        let mut command = cmd(name);
        if let Some(kind) = kind {
            command.arg(RedisKey::Rehearsal(master.number, kind));
        }
        command.arg(arguments);
        (name, command)
    });
    let wait = confirmation::rehearsed(wanted).map(|wait| (confirmation::name(wanted.disk), wait));
    let asking = matches!(connection, Connection::Cluster(..)).then(|| ("ASKING", cmd("ASKING")));
    for (name, command) in plain.chain(wait).chain(asking) {
        let Err(error) = connection.ask(master, &command).await else { continue };
        if fault::is_about_keys(&error) {
            return vec!["the keys otp:*"];
        }
        missing.extend(fault::is_denial(&error).then_some(name));
    }
    missing
}

/// The answer to `TIME`: seconds, and microseconds within the second.
fn time_of(answer: &Value) -> Option<Timestamp> {
    let Value::Array(parts) = answer else { return None };
    let number = |part: &Value| match part {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let [seconds, micros] = parts.as_slice() else { return None };
    Some(Timestamp::from_millis(number(seconds)?.checked_mul(1_000)?.checked_add(number(micros)? / 1_000)?))
}
