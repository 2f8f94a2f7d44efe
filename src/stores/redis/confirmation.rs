//! Confirmation by replicas, and by disks: what is told has reached as many as the settings ask for.
//!
//! `WAIT` blocks the connection that asks it. Operations that must be confirmed therefore have connections of their own, and
//! each waits only for those before it on the same one. The operation and its `WAIT` leave together on one connection: that
//! they concerned the same server is what makes the answer worth something.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use redis::{Cmd, FromRedisValue, Value};

use super::{
    connection::{Connection, Master},
    connector::Connector,
    keys::{RedisKey, Rehearsed},
    layout::Layout,
    link::Link,
    scripts::{READ, Script},
};
use crate::{
    domain::time::millis,
    ports::{clock::Deadline, store::StoreError},
    stores::Confirmation,
};

/// Connections for confirmed operations.
pub(super) struct Confirmed {
    links: Vec<Link>,
    next: AtomicUsize,
    wanted: Confirmation,
    /// The connection by whose health these were judged last.
    followed: AtomicU64,
}

impl Confirmed {
    /// So many connections for one server, and half as many to each node of a cluster.
    const CONNECTIONS: usize = 8;

    /// `None` where the settings ask for no confirmation. The first connection is made now, if it can be.
    pub(super) async fn open(connector: impl Fn() -> Connector, wanted: Confirmation) -> Option<Self> {
        if !wanted.is_wanted() {
            return None;
        }
        let connector = || connector().untold().unexamined();
        let first = connector();
        let count = if first.is_cluster() { Self::CONNECTIONS / 2 } else { Self::CONNECTIONS };
        let opened = first.connect().await.ok();
        let first = Link::keep(first, opened);
        let others = (1..count).map(|_| Link::keep(connector(), None));
        let links = std::iter::once(first).chain(others).collect();
        Some(Self { links, next: AtomicUsize::new(0), wanted, followed: AtomicU64::new(1) })
    }

    /// Connects anew where the connection that is watched, and has this number, was made anew: to the same server.
    pub(super) fn follow(&self, generation: u64) {
        if generation > 0 && self.followed.swap(generation, Ordering::Relaxed) != generation {
            self.links.iter().for_each(Link::renew);
        }
    }

    /// Connects to the cluster anew where other nodes are masters now.
    pub(super) fn follow_layout(&self, now: &Layout) {
        self.links.iter().for_each(|link| link.follow(now));
    }

    /// Runs a script over so many keys, the last of which is the mark, and tells its answer once it is confirmed.
    pub(super) async fn run(
        &self,
        operation: &'static str,
        deadline: Deadline,
        script: &Script,
        keys: usize,
        add: impl Fn(&mut Cmd) + Send + Sync,
    ) -> Result<Value, StoreError> {
        let link = self.link(operation)?;
        let wait = &self.wait(deadline.at_most(link.operation_timeout()));
        let asked = |mut connection: Connection| async move { script.run_and(&mut connection, keys, add, wait).await };
        let (answer, confirmed) = link.ask(operation, deadline, asked).await?;
        self.judge(operation, &confirmed)?;
        Ok(answer)
    }

    /// Whether a master's writes are confirmed, as the next commit's would have to be.
    pub(super) async fn check(&self, master: &Master, deadline: Deadline) -> Result<(), StoreError> {
        let add = |command: &mut Cmd| {
            let key = |kind| RedisKey::Rehearsal(master.number, kind);
            command.arg(key(Rehearsed::Record)).arg(key(Rehearsed::Mark));
        };
        self.run("check", deadline, &READ, 2, add).await.map(drop)
    }

    /// The next connection that is up.
    fn link(&self, operation: &'static str) -> Result<&Link, StoreError> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.links.len().max(1);
        let mut links = (0..count).filter_map(|n| self.links.get((first + n) % count));
        let up = links.find(|link| link.is_up());
        let any = || self.links.first().ok_or_else(|| StoreError::new(operation, "no connection"));
        up.map_or_else(any, Ok)
    }

    /// The command that waits, for no longer than there is time.
    fn wait(&self, deadline: Deadline) -> Cmd {
        // The answer needs a part of the time that the operation has.
        let time = self.wanted.timeout.min(deadline.remaining() / 4 * 3);
        wait(self.wanted.disk, self.wanted.replicas, time)
    }

    fn judge(&self, operation: &'static str, confirmed: &Value) -> Result<(), StoreError> {
        let senseless = || StoreError::new(operation, "an answer that makes no sense");
        let (disks, replicas) = if self.wanted.disk {
            <(u32, u32)>::from_redis_value_ref(confirmed).map_err(|_| senseless())?
        } else {
            (1, u32::from_redis_value_ref(confirmed).map_err(|_| senseless())?)
        };
        if disks >= 1 && replicas >= self.wanted.replicas {
            return Ok(());
        }
        let wanted = self.wanted.replicas;
        let disk = if disks == 0 { ", and not on the master's disk" } else { "" };
        Err(StoreError::new(operation, format!("confirmed by {replicas} of {wanted} replicas in time{disk}")))
    }

    /// Gives the connections up for good.
    pub(super) fn close(&self) {
        self.links.iter().for_each(Link::close);
    }
}

/// The command that confirms, for a rehearsal: with nothing to wait for. `None` where no confirmation is wanted.
pub(super) fn rehearsed(wanted: Confirmation) -> Option<Cmd> {
    wanted.is_wanted().then(|| {
        let mut command = redis::cmd(name(wanted.disk));
        if wanted.disk {
            command.arg(0);
        }
        command.arg(0).arg(1);
        command
    })
}

/// The name of the command that confirms.
pub(super) fn name(disk: bool) -> &'static str {
    if disk { "WAITAOF" } else { "WAIT" }
}

fn wait(disk: bool, replicas: u32, time: Duration) -> Cmd {
    let mut wait = redis::cmd(name(disk));
    if disk {
        wait.arg(1);
    }
    // Zero would wait without end.
    wait.arg(replicas).arg(millis(time).max(1));
    wait
}
