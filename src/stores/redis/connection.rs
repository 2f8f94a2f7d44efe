//! An open connection: to one server, or to all nodes of a cluster.

use std::sync::Arc;

use redis::{
    Cmd, ErrorKind, Pipeline, RedisFuture, RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{RoutingInfo, SingleNodeRoutingInfo},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    layout::{ClusterNode, Layout},
    stream::Heard,
};

/// A connection that many tasks share. redis-rs sends each command to a cluster's node by the slot of its key.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    /// With the masters that there were when it was opened.
    Cluster(ClusterConnection, Arc<Layout>),
}

/// An open connection, and what lives as long as it does.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// The task that reads and writes, where it is ours. Without it, a silent server would keep it for ever.
    pub(super) driver: Option<AbortOnDropHandle<()>>,
    /// What it has brought. Of a cluster nothing is counted.
    pub(super) heard: Heard,
}

/// A master: the one server, or a node of a cluster.
#[derive(Clone)]
pub(super) struct Master {
    /// `None`: the one server.
    node: Option<ClusterNode>,
    /// A number that makes the keys of a rehearsal belong to this master.
    pub(super) number: u32,
}

impl Connection {
    /// All masters.
    pub(super) fn masters(&self) -> Vec<Master> {
        match self {
            Self::One(_) => vec![Master::one()],
            Self::Cluster(_, layout) => layout.masters(),
        }
    }

    /// Asks a command of a master, whatever its keys are.
    pub(super) async fn ask(&mut self, master: &Master, command: &Cmd) -> RedisResult<Value> {
        let answer = match (self, &master.node) {
            (Self::Cluster(cluster, _), Some(node)) => cluster.route_command(command.clone(), node.routing()).await,
            (Self::Cluster(cluster, _), None) => cluster.req_packed_command(command).await,
            (Self::One(one), _) => one.req_packed_command(command).await,
        };
        answer.and_then(Value::extract_error)
    }
}

impl Connection {
    /// Asks commands of a master, whatever their keys are; all answers in order.
    pub(super) async fn ask_all(&mut self, master: &Master, commands: Pipeline) -> RedisResult<Vec<Value>> {
        let count = commands.len();
        let answers = match (self, &master.node) {
            (Self::Cluster(cluster, _), Some(node)) => {
                cluster.route_pipeline(commands, 0, count, node.single_routing()).await?
            }
            (connection, _) => connection.req_packed_commands(&commands, 0, count).await?,
        };
        answers.into_iter().map(Value::extract_error).collect()
    }

    /// The masters of the cluster as any of its nodes knows them now.
    pub(super) async fn layout_now(cluster: &mut ClusterConnection, seed: &str) -> RedisResult<Layout> {
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        let answer = cluster.route_command(slots, any).await.and_then(Value::extract_error)?;
        let layout = Layout::parse(&answer, seed).filter(|layout| !layout.is_empty());
        layout.ok_or_else(|| (ErrorKind::Client, "no node serves any slot").into())
    }
}

impl Master {
    pub(super) fn of_cluster(node: ClusterNode, number: u32) -> Self {
        Self { node: Some(node), number }
    }

    /// The one server.
    pub(super) fn one() -> Self {
        Self { node: None, number: 0 }
    }

    /// Names the node among the others.
    pub(super) fn name(&self) -> String {
        self.node.as_ref().map_or_else(String::new, |node| format!("{}:{}", node.host, node.port))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(command),
            Self::Cluster(cluster, _) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster, _) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster, _) => cluster.get_db(),
        }
    }
}
