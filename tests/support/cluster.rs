//! A real Redis or Valkey Cluster of the test's own: masters with a replica each, on ports of the loopback. Its nodes can be
//! killed, paused and started again, and its slots moved, while a test looks on.
//!
//! Included with `#[path]`, beside `redis.rs` as `redis_server`.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::redis_server::{Port, Program, RedisServer, usual_arguments, wait, wait_or_tell};

/// How many slots a cluster has.
pub(crate) const SLOTS: u16 = 16_384;

/// A running cluster. Ends when dropped. Nodes are numbered from zero: the first were masters at its start, and replica
/// `n` of these has the number of its master and as many more as there are masters.
pub(crate) struct Cluster {
    nodes: Vec<ClusterNode>,
    masters: usize,
    /// The nodes that are killed or paused, and cannot be asked.
    stopped: Mutex<BTreeSet<usize>>,
}

struct ClusterNode {
    server: RedisServer,
    bus: Port,
}

/// What one node says of itself.
struct NodeState {
    index: usize,
    is_master: bool,
    epoch: u64,
    slots: Vec<RangeInclusive<u16>>,
    /// How many nodes it knows that are connected and not failing, itself among them.
    known: usize,
    /// It shakes hands with nobody.
    settled: bool,
}

/// Where the move of a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moving {
    /// Both nodes know of the move, and so many keys are still to be moved.
    Open(usize),
    /// One more key has been moved.
    Key,
}

impl Cluster {
    /// Starts three masters with a replica each.
    pub(crate) fn start(program: Program) -> Self {
        Self::start_with(program, 3, &[])
    }

    /// Starts so many masters with a replica each, with more options of their command line.
    pub(crate) fn start_with(program: Program, masters: usize, options: &[&str]) -> Self {
        let nodes = (0..masters * 2).map(|_| ClusterNode::start(program, options)).collect();
        let cluster = Self { nodes, masters, stopped: Mutex::default() };
        cluster.form();
        cluster.wait_whole();
        cluster
    }

    fn form(&self) {
        let first = &self.nodes[0];
        for (index, node) in self.nodes.iter().enumerate() {
            node.done(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < self.masters {
                let bound = |n: usize| usize::from(SLOTS) * n / self.masters;
                let (from, to) = (bound(index), bound(index + 1) - 1);
                node.done(&["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            }
            if index > 0 {
                let (port, bus) = (node.server.port().to_string(), node.bus.number().to_string());
                first.done(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let all = self.nodes.len();
        wait("all nodes know each other", || {
            self.states().iter().filter(|state| state.settled && state.known == all).count() == all
        });
        for index in self.masters..all {
            let id: String = self.node(index - self.masters).ask(&["CLUSTER", "MYID"]).expect("an id");
            self.nodes[index].done(&["CLUSTER", "REPLICATE", &id]);
        }
    }

    /// The address of all nodes, as a setting of otpd.
    pub(crate) fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.server.port())).collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// A node.
    pub(crate) fn node(&self, index: usize) -> &RedisServer {
        &self.nodes[index].server
    }

    /// The numbers of all nodes.
    pub(crate) fn indices(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    /// Runs a command on a node and returns what `redis-cli` prints.
    pub(crate) fn cli(&self, index: usize, arguments: &[&str]) -> String {
        self.node(index).cli(arguments)
    }

    /// Empties all masters.
    pub(crate) fn clear(&self) {
        for index in self.masters() {
            self.nodes[index].done(&["FLUSHALL"]);
        }
    }

    /// Kills a node at once.
    pub(crate) fn kill(&self, index: usize) {
        self.stopped().insert(index);
        self.node(index).kill();
    }

    /// Starts a node again after a kill. It has kept its name, and no data.
    pub(crate) fn restart(&self, index: usize) {
        self.node(index).restart();
        self.stopped().remove(&index);
    }

    /// Stops a node without ending it.
    pub(crate) fn pause(&self, index: usize) {
        self.stopped().insert(index);
        self.node(index).pause();
    }

    /// Ends a pause.
    pub(crate) fn resume(&self, index: usize) {
        self.node(index).resume();
        self.stopped().remove(&index);
    }

    /// The master that serves a slot, as the nodes that run say of themselves.
    pub(crate) fn master_of(&self, slot: u16) -> Option<usize> {
        let states = self.states();
        let serving = states.iter().filter(|state| state.serves(slot));
        serving.max_by_key(|state| state.epoch).map(|state| state.index)
    }

    /// The masters that run and serve slots.
    pub(crate) fn masters(&self) -> Vec<usize> {
        self.states()
            .iter()
            .filter(|state| state.is_master && !state.slots.is_empty())
            .map(|state| state.index)
            .collect()
    }

    /// Waits until another master than this one serves a slot and answers for it. Returns its number.
    pub(crate) fn wait_failover(&self, slot: u16, from: usize) -> usize {
        let mut promoted = from;
        wait("another master", || {
            let Some(master) = self.master_of(slot).filter(|master| *master != from) else { return false };
            promoted = master;
            self.is_ok(master)
        });
        promoted
    }

    /// Waits until a node says that the cluster is down.
    pub(crate) fn wait_down(&self, index: usize) {
        wait("the cluster is down", || !self.is_ok(index));
    }

    /// Waits until all nodes that run serve or replicate, and know that all of these do.
    pub(crate) fn wait_whole(&self) {
        let is_whole = || {
            let states = self.states();
            let running = self.nodes.len() - self.stopped().len();
            let masters: Vec<&NodeState> = states.iter().filter(|state| state.is_master).collect();
            let served: usize = masters.iter().flat_map(|state| &state.slots).map(ExactSizeIterator::len).sum();
            states.len() == running
                && masters.len() == self.masters
                && served == usize::from(SLOTS)
                && states.iter().all(|state| state.known == running && self.is_ok(state.index))
                && states.iter().all(|state| state.is_master || self.is_linked(state.index))
        };
        wait_or_tell("the cluster is whole", is_whole, || self.views());
    }

    /// What each node that runs says of all.
    fn views(&self) -> String {
        let views = self.states().into_iter().map(|state| {
            let view = self.node(state.index).ask::<String>(&["CLUSTER", "NODES"]).unwrap_or_default();
            format!("node {}:\n{view}", state.index)
        });
        views.collect()
    }

    /// Moves slots from one master to another, one after the other and key by key, as `redis-cli --cluster reshard` does.
    /// `between` is run at each step, and may take its time: the slot is then in the middle of its move.
    pub(crate) fn move_slots(
        &self,
        slots: RangeInclusive<u16>,
        from: usize,
        to: usize,
        mut between: impl FnMut(u16, Moving),
    ) {
        let id = |index: usize| -> String { self.node(index).ask(&["CLUSTER", "MYID"]).expect("an id") };
        let (source, target) = (id(from), id(to));
        for slot in slots {
            let text = slot.to_string();
            self.nodes[to].done(&["CLUSTER", "SETSLOT", &text, "IMPORTING", &source]);
            self.nodes[from].done(&["CLUSTER", "SETSLOT", &text, "MIGRATING", &target]);
            between(slot, Moving::Open(self.keys_of(from, slot, 1_000).len()));
            loop {
                let keys = self.keys_of(from, slot, 10);
                if keys.is_empty() {
                    break;
                }
                for key in keys {
                    let port = self.node(to).port().to_string();
                    self.nodes[from].done(&["MIGRATE", "127.0.0.1", &port, &key, "0", "1000"]);
                    between(slot, Moving::Key);
                }
            }
            // The new owner first: should the last step fail, the slot still has one.
            let masters = self.masters();
            for index in [to, from].into_iter().chain(masters.into_iter().filter(|index| ![to, from].contains(index))) {
                self.nodes[index].done(&["CLUSTER", "SETSLOT", &text, "NODE", &target]);
            }
        }
    }

    fn keys_of(&self, index: usize, slot: u16, max: usize) -> Vec<String> {
        let keys = self.node(index).ask(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), &max.to_string()]);
        keys.expect("the keys of a slot")
    }

    fn stopped(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the nodes that run say of themselves. One that does not answer is left out.
    fn states(&self) -> Vec<NodeState> {
        let stopped = self.stopped().clone();
        let running = self.indices().filter(|index| !stopped.contains(index));
        running
            .filter_map(|index| NodeState::parse(index, &self.node(index).ask::<String>(&["CLUSTER", "NODES"]).ok()?))
            .collect()
    }

    fn is_ok(&self, index: usize) -> bool {
        let told = self.node(index).ask::<String>(&["CLUSTER", "INFO"]);
        told.is_ok_and(|text| text.contains("cluster_state:ok"))
    }

    fn is_linked(&self, index: usize) -> bool {
        self.node(index).info("replication", "master_link_status").is_ok_and(|status| status == "up")
    }
}

impl ClusterNode {
    fn start(program: Program, options: &[&str]) -> Self {
        let bus = Port::reserve();
        let server = RedisServer::launch(program, None, |folder, port| {
            let bus = bus.number().to_string();
            let own = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "1500"];
            // A full copy begins at once, and a replica notices soon that its master is gone.
            let replication = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            let all = own.iter().chain(&replication).chain(options).map(|&option| option.to_owned());
            usual_arguments(folder, port).into_iter().chain(all).collect()
        });
        Self { server, bus }
    }

    /// Asks a command that answers nothing of interest.
    fn done(&self, words: &[&str]) {
        self.server.ask::<()>(words).unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", self.server.log()));
    }
}

impl NodeState {
    /// Reads the answer to CLUSTER NODES: a line for each node, of which one is the node itself.
    fn parse(index: usize, text: &str) -> Option<Self> {
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let has = |row: &[&str], flag: &str| row[2].split(',').any(|present| present == flag);
        let own = rows.iter().find(|row| has(row, "myself"))?;
        let well = |row: &&Vec<&str>| {
            has(row, "myself")
                || (row[7] == "connected" && !["fail", "fail?", "noaddr"].iter().any(|flag| has(row, flag)))
        };
        let slots = own[8..].iter().filter(|slots| !slots.starts_with('[')).map(|slots| {
            let (first, last) = slots.split_once('-').unwrap_or((slots, slots));
            first.parse().expect("a slot")..=last.parse().expect("a slot")
        });
        Some(Self {
            index,
            is_master: has(own, "master"),
            epoch: own[6].parse().expect("an epoch"),
            slots: slots.collect(),
            known: rows.iter().filter(well).count(),
            settled: !rows.iter().any(|row| has(row, "handshake")),
        })
    }

    fn serves(&self, slot: u16) -> bool {
        self.is_master && self.slots.iter().any(|slots| slots.contains(&slot))
    }
}
