//! The store on one Redis (6.2 or later) or Valkey. Each operation is exactly one command.
//!
//! Redis answers before its replicas, and by default before its disk, have the write: a failover may lose the last moments.
//! What that means, and which settings bound it, is for the operator's manual.

use std::time::Duration;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use redis::{
    Client, Cmd, FromRedisValue, IntoConnectionInfo, Value,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::StoreConfig;
use crate::{
    domain::{
        ids::Token,
        quota::Window,
        time::{Timestamp, millis},
    },
    ports::{
        clock::Deadline,
        store::{
            Acquired, Change, Claimed, Committed, Cursor, Located, Name, Partition, ScanPage, Sealed, Store, StoreError,
        },
    },
};

mod fault;
mod keys;
mod link;
mod scripts;
mod server;
mod stream;

use keys::{PartitionText, RecordText, RedisKey};
use link::{Connector, Link, Live};
use scripts::Script;
use stream::InFlight;

/// How much longer than its longest window a quota is kept: a use may be dated by a clock a second ahead, and counted by one
/// a second behind.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// How many keys Redis looks at for one page of a scan, about.
const SCAN_COUNT: usize = 256;

/// The store on a server. See the module.
pub(super) struct Redis {
    link: Link,
}

impl Redis {
    /// Connects and examines the server. The task that keeps the connection up runs on `tracker`.
    pub(super) async fn open(config: &StoreConfig, tracker: &TaskTracker) -> Result<Self, StoreError> {
        let failed = |error| StoreError::new("open", fault::words(&error));
        let server = config.url.server().ok_or_else(|| StoreError::new("open", "not a redis address"))?;
        // Only the first call in a process has an effect, and any provider will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        // Keepalive finds a dead peer behind a quiet connection; without nodelay, small requests wait for each other.
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(30));
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        let server = server.clone().into_connection_info().map_err(failed)?.set_tcp_settings(tcp);
        let connector = Connector {
            client: Client::open(server).map_err(failed)?,
            connect_timeout: config.connect_timeout,
            operation_timeout: config.operation_timeout,
            in_flight: InFlight::new(),
            tracker: tracker.clone(),
        };
        let mut opened = connector.connect().await.map_err(failed)?;
        let limit = Deadline::after(config.connect_timeout).instant();
        let examined = timeout_at(limit, server::examine(&mut opened.connection, config.require_noeviction)).await;
        examined.unwrap_or_else(|_| Err(StoreError::timed_out("open")))?;
        Ok(Self { link: Link::keep(connector, opened) })
    }

    /// Asks one command.
    async fn ask<T: FromRedisValue>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let Live { mut connection, generation } = self.link.live(operation)?;
        let asked = command.query_async(&mut connection);
        self.link.bounded(operation, deadline, generation, asked).await
    }

    /// Runs a script over so many keys, which `add` adds to the command, and the arguments after them. `records` is how many
    /// bytes of records are among these.
    async fn run(
        &self,
        operation: &'static str,
        deadline: Deadline,
        script: &Script,
        (keys, records): (usize, usize),
        add: impl Fn(&mut Cmd) + Send,
    ) -> Result<Value, StoreError> {
        let Live { mut connection, generation } = self.link.live(operation)?;
        let asked = script.run(&mut connection, records, keys, add);
        self.link.bounded(operation, deadline, generation, asked).await
    }
}

#[async_trait]
impl Store for Redis {
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        let located = self.run("locate", deadline, &scripts::LOCATE, (1, 0), |command| {
            command.arg(RedisKey::Index(index));
            for name in names {
                command.arg(RecordText(*name));
            }
        });
        let answer = match located.await? {
            Value::Nil => return Ok(None),
            answer => list("locate", answer)?,
        };
        let mut answer = answer.into_iter();
        let (Some(Value::Int(life)), Some(partition)) = (answer.next(), answer.next()) else {
            return Err(senseless("locate"));
        };
        let partition = partition_of(&partition).ok_or_else(|| senseless("locate"))?;
        // Redis answers with a negative number for an entry without a time to live, which otpd does not write.
        let life = Duration::from_millis(u64::try_from(life).unwrap_or(0));
        let records = answer.map(|value| record("locate", value)).collect::<Result<_, _>>()?;
        Ok(Some(Located { partition, life, records: Some(records) }))
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        let claimed = self.run("claim", deadline, &scripts::CLAIM, (1, 0), |command| {
            command.arg(RedisKey::Index(index)).arg(PartitionText(partition)).arg(lifetime(life));
        });
        match claimed.await? {
            Value::Int(0) => Ok(Claimed::Elsewhere),
            Value::Int(life) => {
                let life = u64::try_from(life).map_err(|_| senseless("claim"))?;
                Ok(Claimed::Ours(Duration::from_millis(life)))
            }
            _ => Err(senseless("claim")),
        }
    }

    async fn read(
        &self,
        partition: Partition,
        names: &[Name],
        deadline: Deadline,
    ) -> Result<Vec<Option<Sealed>>, StoreError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("MGET");
        for name in names {
            get.arg(RedisKey::Record(partition, *name));
        }
        records("read", self.ask("read", deadline, &get).await?)
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        let written = |change: &Change| change.write.as_ref().map_or(0, |write| write.record.as_bytes().len());
        let size = (changes.len(), changes.iter().map(written).sum());
        let committed = self.run("commit", deadline, &scripts::COMMIT, size, |command| {
            for change in changes {
                command.arg(RedisKey::Record(partition, change.name));
            }
            for change in changes {
                let expected = change.expected.as_ref().map_or(&[][..], |version| &version.0);
                match &change.write {
                    Some(write) => command.arg(expected).arg(write.record.as_bytes()).arg(lifetime(write.ttl)),
                    None => command.arg(expected).arg("").arg(0),
                };
            }
        });
        match committed.await? {
            Value::Int(1) => Ok(Committed::Done),
            present => records("commit", present).map(Committed::Conflict),
        }
    }

    async fn acquire(
        &self,
        quota: Name,
        usage: Token,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Acquired, StoreError> {
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        let acquired = self.run("acquire", deadline, &scripts::ACQUIRE, (1, 0), |command| {
            command.arg(RedisKey::Quota(quota)).arg(&usage.0[..]).arg(now.as_millis()).arg(lifetime(longest));
            command.arg(millis(CLOCK_MARGIN)).arg(Window::MAX_USES);
            for window in windows {
                command.arg(window.max).arg(after(now, window.per));
            }
        });
        match acquired.await? {
            Value::Int(0) => Ok(Acquired::Refused),
            Value::Int(1) => Ok(Acquired::Now),
            Value::Int(2) => Ok(Acquired::Before),
            _ => Err(senseless("acquire")),
        }
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut removes = redis::pipe();
        for (quota, usage) in uses {
            removes.cmd("ZREM").arg(RedisKey::Quota(*quota)).arg(&usage.0[..]).ignore();
        }
        let Live { mut connection, generation } = self.link.live("refund")?;
        let asked = removes.query_async(&mut connection);
        self.link.bounded("refund", deadline, generation, asked).await
    }

    async fn usage(
        &self,
        quota: Name,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Vec<u32>, StoreError> {
        let mut counts = redis::pipe();
        for window in windows {
            counts.cmd("ZCOUNT").arg(RedisKey::Quota(quota)).arg(after(now, window.per)).arg("+inf");
        }
        let Live { mut connection, generation } = self.link.live("usage")?;
        let asked = counts.query_async(&mut connection);
        self.link.bounded("usage", deadline, generation, asked).await
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        let mut remove = redis::cmd("UNLINK");
        remove.arg(RedisKey::Quota(quota));
        self.ask("clear", deadline, &remove).await
    }

    /// Writes a key that is gone a second later: a server that is demoted or full answers a `PING` as if nothing were.
    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        self.ask::<()>("check", deadline, &link::probe()).await?;
        let (seconds, micros): (u64, u64) = self.ask("check", deadline, &redis::cmd("TIME")).await?;
        Ok(Timestamp::from_millis(seconds.saturating_mul(1_000).saturating_add(micros / 1_000)))
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        let from = from.and_then(|Cursor(bytes)| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        let mut scan = redis::cmd("SCAN");
        scan.arg(from).arg("MATCH").arg(keys::RECORDS).arg("COUNT").arg(SCAN_COUNT);
        let (next, found): (u64, Vec<Vec<u8>>) = self.ask("scan", deadline, &scan).await?;
        let found: Vec<_> = found.iter().filter_map(|key| keys::decode_record_key(key)).collect();
        if found.is_empty() {
            return Ok(ScanPage { records: Vec::new(), next: cursor(next) });
        }
        let mut get = redis::cmd("MGET");
        for (partition, name) in &found {
            get.arg(RedisKey::Record(*partition, *name));
        }
        let values = records("scan", self.ask("scan", deadline, &get).await?)?;
        let records =
            found.into_iter().zip(values).filter_map(|((partition, name), record)| Some((partition, name, record?)));
        Ok(ScanPage { records: records.collect(), next: cursor(next) })
    }

    /// Nothing is queued here: each operation waits for its own answer.
    async fn close(&self, _deadline: Deadline) {
        self.link.close();
    }
}

/// Redis ends a scan with the cursor 0.
fn cursor(next: u64) -> Option<Cursor> {
    (next != 0).then(|| Cursor(next.to_be_bytes().to_vec()))
}

fn senseless(operation: &'static str) -> StoreError {
    StoreError::new(operation, "an answer that makes no sense")
}

fn list(operation: &'static str, value: Value) -> Result<Vec<Value>, StoreError> {
    if let Value::Array(values) = value { Ok(values) } else { Err(senseless(operation)) }
}

fn records(operation: &'static str, value: Value) -> Result<Vec<Option<Sealed>>, StoreError> {
    list(operation, value)?.into_iter().map(|value| record(operation, value)).collect()
}

fn record(operation: &'static str, value: Value) -> Result<Option<Sealed>, StoreError> {
    let bytes = match value {
        Value::Nil => return Ok(None),
        Value::BulkString(bytes) => Sealed::from_bytes(bytes),
        _ => None,
    };
    bytes.map(Some).ok_or_else(|| StoreError::new(operation, "what is stored is not a record"))
}

fn partition_of(value: &Value) -> Option<Partition> {
    let Value::BulkString(text) = value else { return None };
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    bytes.try_into().ok().map(Partition)
}

/// A time to live as Redis takes it: at least a millisecond, and not so long that adding the time of day overflows.
fn lifetime(ttl: Duration) -> u64 {
    millis(ttl).clamp(1, Timestamp::MAX.as_millis())
}

/// What is later than `per` before `now`, as a bound of scores. No use is earlier than the epoch.
fn after(now: Timestamp, per: Duration) -> String {
    match now.as_millis().checked_sub(millis(per)) {
        Some(time) => format!("({time}"),
        None => "0".to_owned(),
    }
}
