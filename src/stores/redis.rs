//! The store on one Redis (6.2 or later) or Valkey. Each operation is exactly one command.
//!
//! Redis answers before its replicas, and by default before its disk, have the write: a failover may lose the last moments.
//! What that means, and which settings bound it, is for the operator's manual.

use std::time::Duration;

use async_trait::async_trait;
use redis::{
    Client, IntoConnectionInfo, Value,
    io::tcp::{TcpSettings, socket2::TcpKeepalive},
};
use tokio::time::timeout_at;
use tokio_util::task::TaskTracker;

use super::StoreConfig;
use crate::{
    domain::{
        quota::Window,
        time::{Timestamp, millis},
    },
    ports::{
        clock::Deadline,
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
};

mod fault;
mod keys;
mod link;
mod scripts;
mod server;

use link::{Connector, Link, Live};

/// The store on a server. See the module.
pub struct Redis {
    link: Link,
}

impl Redis {
    /// Connects and examines the server. The task that keeps the connection up runs on `tracker`.
    pub async fn open(config: &StoreConfig, tracker: &TaskTracker) -> Result<Self, StoreError> {
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
        };
        let mut connection = connector.connect().await.map_err(failed)?;
        let limit = Deadline::after(config.connect_timeout).instant();
        let examined = timeout_at(limit, server::examine(&mut connection, config.require_noeviction)).await;
        examined.unwrap_or_else(|_| Err(StoreError::timed_out("open")))?;
        Ok(Self { link: Link::keep(connector, connection, tracker) })
    }
}

#[async_trait]
impl Store for Redis {
    async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Sealed>, StoreError> {
        let Live { mut connection, generation } = self.link.live("load")?;
        let mut get = redis::cmd("GET");
        get.arg(keys::record(name));
        let asked = get.query_async(&mut connection);
        match self.link.bounded("load", deadline, generation, asked).await? {
            Value::Nil => Ok(None),
            value => sealed("load", value).map(Some),
        }
    }

    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Inserted, StoreError> {
        let Live { mut connection, generation } = self.link.live("insert")?;
        let mut script = scripts::INSERT.key(keys::record(name));
        script.arg(record.as_bytes()).arg(lifetime(ttl));
        let asked = script.invoke_async(&mut connection);
        match self.link.bounded("insert", deadline, generation, asked).await? {
            Value::Int(1) => Ok(Inserted::Done),
            value => sealed("insert", value).map(Inserted::Exists),
        }
    }

    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Swapped, StoreError> {
        let Live { mut connection, generation } = self.link.live("swap")?;
        let mut script = scripts::SWAP.key(keys::record(name));
        script.arg(&read.0[..]).arg(record.as_bytes()).arg(lifetime(ttl));
        let asked = script.invoke_async(&mut connection);
        match self.link.bounded("swap", deadline, generation, asked).await? {
            Value::Int(1) => Ok(Swapped::Done),
            Value::Int(0) => Ok(Swapped::Missing),
            value => sealed("swap", value).map(Swapped::Stale),
        }
    }

    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Taken, StoreError> {
        let Live { mut connection, generation } = self.link.live("take")?;
        let longest = windows.iter().map(|window| window.per).max().unwrap_or_default();
        let mut script = scripts::TAKE.key(keys::quota(quota));
        script.arg(&take.0[..]).arg(now.as_millis()).arg(bound("", now, longest)).arg(lifetime(longest));
        for window in windows {
            script.arg(window.max).arg(bound("(", now, window.per));
        }
        let asked = script.invoke_async(&mut connection);
        match self.link.bounded("take", deadline, generation, asked).await? {
            Value::Int(1) => Ok(Taken::Done),
            Value::Int(0) => Ok(Taken::Refused),
            _ => Err(StoreError::new("take", "an answer that makes no sense")),
        }
    }

    async fn give_back(&self, quota: Name, take: TakeId, deadline: Deadline) -> Result<(), StoreError> {
        let Live { mut connection, generation } = self.link.live("give back")?;
        let mut remove = redis::cmd("ZREM");
        remove.arg(keys::quota(quota)).arg(&take.0[..]);
        let asked = remove.query_async::<()>(&mut connection);
        self.link.bounded("give back", deadline, generation, asked).await
    }

    /// Writes a key that is gone a second later: a server that is demoted or full answers a `PING` as if nothing were.
    async fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        let Live { mut connection, generation } = self.link.live("check")?;
        let asked = link::probe(&mut connection);
        self.link.bounded("check", deadline, generation, asked).await
    }

    /// Nothing is queued here: each operation waits for its own answer.
    async fn close(&self, _deadline: Deadline) {
        self.link.close();
    }
}

fn sealed(operation: &'static str, value: Value) -> Result<Sealed, StoreError> {
    let bytes = if let Value::BulkString(bytes) = value { Sealed::from_bytes(bytes) } else { None };
    bytes.ok_or_else(|| StoreError::new(operation, "what is stored is not a record"))
}

/// A time to live as Redis takes it: at least a millisecond, and not so long that adding the time of day overflows.
fn lifetime(ttl: Duration) -> u64 {
    millis(ttl).clamp(1, Timestamp::MAX.as_millis())
}

/// The time `per` before `now`, as a bound of a range of scores. No take is earlier than the epoch.
fn bound(exclusive: &str, now: Timestamp, per: Duration) -> String {
    match now.as_millis().checked_sub(millis(per)) {
        Some(after) => format!("{exclusive}{after}"),
        None => "-1".to_owned(),
    }
}
