//! The store on Redis (6.2 or later) or Valkey: one server, the master that sentinels name, or a cluster. Each operation
//! touches one slot.
//!
//! Redis answers before its replicas, and by default before its disk, have the write: a failover may lose the last moments.
//! What that means, and which settings bound it, is for the operator's manual; `confirmation.rs` waits for replicas.

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, FromRedisValue, Value};
use tokio::{task::JoinSet, time::timeout_at};
use tokio_util::task::TaskTracker;

use super::{Confirmation, StoreConfig};
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

mod answers;
mod confirmation;
mod connection;
mod connector;
pub(super) mod event_stream;
mod fault;
mod keys;
mod layout;
mod link;
mod probe;
mod rehearsal;
mod scan;
mod scripts;
mod server;
mod stream;
mod tls;

use answers::{after, lifetime, list, partition_of, record, records, senseless};
use confirmation::Confirmed;
use connection::Connection;
use connector::Connector;
use keys::{PartitionText, RecordText, RedisKey};
use link::Link;
use scripts::Script;

/// How much longer than its longest window a quota is kept: a use may be dated by a clock a second ahead, and counted by one
/// a second behind.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// The store on servers. See the module.
pub(super) struct Redis {
    link: Link,
    /// Examines the nodes of a cluster: asking for one that is gone makes redis-rs connect to all of them anew.
    probe: Option<Link>,
    /// Runs what must be confirmed, where the settings ask for it.
    confirmed: Option<Arc<Confirmed>>,
    wanted: Confirmation,
    is_cluster: bool,
    /// How many masters of the cluster did not serve at the last check.
    troubled: AtomicUsize,
}

/// A script to be run: over how many keys, and how many bytes of records are among its arguments.
struct Run<'a> {
    operation: &'static str,
    script: &'a Script,
    keys: usize,
    records: usize,
    /// Written with it where it must be confirmed. `None`: it need not be.
    mark: Option<RedisKey>,
}

impl Redis {
    /// Connects and examines the servers. The tasks that keep the connections up run on `tracker`.
    ///
    /// Servers that are not there, or not ready yet, are connected to later.
    pub(super) async fn open(config: &StoreConfig, tracker: &TaskTracker) -> Result<Self, StoreError> {
        let servers = config.url.servers().ok_or_else(|| StoreError::lasting("open", "not a redis address"))?;
        // Only the first call in a process has an effect, and any provider will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let connector = || Connector::new(config, servers, tracker);
        let open = async |connector: &Connector| match connector.connect().await {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if error.is_final => Err(StoreError { operation: "open", ..error }),
            Err(_) => Ok(None),
        };
        let confirmed = Confirmed::open(connector, config.confirmation).await.map(Arc::new);
        let (wanted, troubled) = (config.confirmation, AtomicUsize::new(0));
        let (first, is_cluster) = (connector(), connector().is_cluster());
        if !is_cluster {
            let opened = open(&first).await?;
            return Ok(Self { link: Link::keep(first, opened), probe: None, confirmed, wanted, is_cluster, troubled });
        }
        let (probe, calls) = (first.untold(), connector().unexamined());
        let opened = open(&probe).await?;
        let probe = Some(Link::keep(probe, opened));
        let opened = open(&calls).await?;
        Ok(Self { link: Link::keep(calls, opened), probe, confirmed, wanted, is_cluster, troubled })
    }

    /// Asks one command.
    async fn ask<T: FromRedisValue>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        command: &Cmd,
    ) -> Result<T, StoreError> {
        let asked = |mut connection: Connection| async move { command.query_async(&mut connection).await };
        self.link.ask(operation, deadline, asked).await
    }

    /// Asks commands of a cluster side by side: a master that is away keeps those for the others from nothing.
    async fn refund_apart(&self, commands: impl Iterator<Item = Cmd>, deadline: Deadline) -> Result<(), StoreError> {
        let connection = self.link.connection("refund")?;
        let mut asked = JoinSet::new();
        for command in commands {
            let mut connection = connection.clone();
            asked.spawn(async move {
                let answer = timeout_at(deadline.instant(), command.query_async::<()>(&mut connection)).await;
                let answer = answer.map_err(|_| StoreError::timed_out("refund"))?;
                answer.map_err(|error| StoreError::new("refund", fault::words(&error)).by(fault::kind(&error)))
            });
        }
        let mut all = Ok(());
        while let Some(answer) = asked.join_next().await {
            let answer = answer.map_err(|cause| StoreError::new("refund", cause)).flatten();
            all = answer.and(all);
        }
        all
    }

    /// Runs a script. `add_keys` and `add_arguments` add both to the command.
    async fn run(
        &self,
        run: Run<'_>,
        deadline: Deadline,
        add_keys: impl Fn(&mut Cmd) + Send + Sync,
        add_arguments: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, StoreError> {
        let Run { operation, script, keys, records, mark } = run;
        if let (Some(confirmed), Some(mark)) = (&self.confirmed, mark) {
            let add = |command: &mut Cmd| {
                add_keys(command);
                command.arg(mark);
                add_arguments(command);
            };
            return confirmed.run(operation, deadline, script, keys + 1, add).await;
        }
        let add = |command: &mut Cmd| {
            add_keys(command);
            add_arguments(command);
        };
        let asked = |mut connection: Connection| async move { script.run(&mut connection, records, keys, add).await };
        self.link.ask(operation, deadline, asked).await
    }
}

#[async_trait]
impl Store for Redis {
    async fn locate(&self, index: Name, names: &[Name], deadline: Deadline) -> Result<Option<Located>, StoreError> {
        // A cluster keeps the records on another node, or in another slot. That an entry is there needs no confirmation.
        let (names, mark) = if self.is_cluster { (&[][..], None) } else { (names, Some(RedisKey::IndexMark(index))) };
        let run = Run { operation: "locate", script: &scripts::LOCATE, keys: 1, records: 0, mark };
        let add_names = |command: &mut Cmd| {
            for name in names {
                command.arg(RecordText(*name));
            }
        };
        let located = self.run(run, deadline, key(RedisKey::Index(index)), add_names);
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
        Ok(Some(Located { partition, life, records: (!self.is_cluster).then_some(records) }))
    }

    async fn claim(
        &self,
        index: Name,
        partition: Partition,
        life: Duration,
        deadline: Deadline,
    ) -> Result<Claimed, StoreError> {
        let mark = Some(RedisKey::IndexMark(index));
        let run = Run { operation: "claim", script: &scripts::CLAIM, keys: 1, records: 0, mark };
        let add_arguments = |command: &mut Cmd| {
            command.arg(PartitionText(partition)).arg(lifetime(life));
        };
        let claimed = self.run(run, deadline, key(RedisKey::Index(index)), add_arguments);
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
        let add_keys = |command: &mut Cmd| {
            for name in names {
                command.arg(RedisKey::Record(partition, *name));
            }
        };
        if self.confirmed.is_some() {
            let mark = Some(RedisKey::PartitionMark(partition));
            let run = Run { operation: "read", script: &scripts::READ, keys: names.len(), records: 0, mark };
            return records("read", self.run(run, deadline, add_keys, |_| ()).await?);
        }
        let mut get = redis::cmd("MGET");
        add_keys(&mut get);
        records("read", self.ask("read", deadline, &get).await?)
    }

    async fn commit(
        &self,
        partition: Partition,
        changes: &[Change],
        deadline: Deadline,
    ) -> Result<Committed, StoreError> {
        let written = |change: &Change| change.write.as_ref().map_or(0, |write| write.record.as_bytes().len());
        let records_written = changes.iter().map(written).sum();
        let mark = Some(RedisKey::PartitionMark(partition));
        let (script, keys) = (&scripts::COMMIT, changes.len());
        let run = Run { operation: "commit", script, keys, records: records_written, mark };
        let add_keys = |command: &mut Cmd| {
            for change in changes {
                command.arg(RedisKey::Record(partition, change.name));
            }
        };
        let add_arguments = |command: &mut Cmd| {
            for change in changes {
                let expected = change.expected.as_ref().map_or(&[][..], |version| &version.0);
                match &change.write {
                    Some(write) => command.arg(expected).arg(write.record.as_bytes()).arg(lifetime(write.ttl)),
                    None => command.arg(expected).arg("").arg(0),
                };
            }
        };
        match self.run(run, deadline, add_keys, add_arguments).await? {
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
        let run = Run { operation: "acquire", script: &scripts::ACQUIRE, keys: 1, records: 0, mark: None };
        let add_arguments = |command: &mut Cmd| {
            command.arg(&usage.0[..]).arg(now.as_millis()).arg(lifetime(longest));
            command.arg(millis(CLOCK_MARGIN)).arg(Window::MAX_USES);
            for window in windows {
                command.arg(window.max).arg(after(now, window.per));
            }
        };
        let acquired = self.run(run, deadline, key(RedisKey::Quota(quota)), add_arguments);
        match acquired.await? {
            Value::Int(0) => Ok(Acquired::Refused),
            Value::Int(1) => Ok(Acquired::Now),
            Value::Int(2) => Ok(Acquired::Before),
            _ => Err(senseless("acquire")),
        }
    }

    async fn refund(&self, uses: &[(Name, Token)], deadline: Deadline) -> Result<(), StoreError> {
        let remove = |(quota, usage): &(Name, Token)| {
            let mut remove = redis::cmd("ZREM");
            remove.arg(RedisKey::Quota(*quota)).arg(&usage.0[..]);
            remove
        };
        if self.is_cluster {
            return self.refund_apart(uses.iter().map(remove), deadline).await;
        }
        if uses.is_empty() {
            return Ok(());
        }
        let mut removes = redis::pipe();
        for used in uses {
            removes.add_command(remove(used)).ignore();
        }
        let removes = &removes;
        let asked = |mut connection: Connection| async move { removes.query_async(&mut connection).await };
        self.link.ask("refund", deadline, asked).await
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
        let counts = &counts;
        let asked = |mut connection: Connection| async move { counts.query_async(&mut connection).await };
        self.link.ask("usage", deadline, asked).await
    }

    async fn clear(&self, quota: Name, deadline: Deadline) -> Result<(), StoreError> {
        let mut remove = redis::cmd("UNLINK");
        remove.arg(RedisKey::Quota(quota));
        self.ask("clear", deadline, &remove).await
    }

    /// Rehearses every command: a server that is demoted or full answers a `PING` as if nothing were.
    async fn check(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        if self.is_cluster { self.check_cluster(deadline).await } else { self.check_one(deadline).await }
    }

    async fn scan(&self, from: Option<Cursor>, deadline: Deadline) -> Result<ScanPage, StoreError> {
        self.scan_page(from.as_ref(), deadline).await
    }

    /// Nothing is queued here: each operation waits for its own answer.
    async fn close(&self, _deadline: Deadline) {
        self.link.close();
        if let Some(probe) = &self.probe {
            probe.close();
        }
        if let Some(confirmed) = &self.confirmed {
            confirmed.close();
        }
    }
}

/// Adds one key to a command.
fn key(key: RedisKey) -> impl Fn(&mut Cmd) + Send + Sync {
    move |command| {
        command.arg(key);
    }
}
