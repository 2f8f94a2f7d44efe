//! What the tests' own clusters, sentinels and servers can do: without these events the tests that run on them would show
//! nothing.

use redis::{RedisResult, Value};

use crate::{
    redis_cluster::{Cluster, Moving, SLOTS},
    redis_sentinel::{Passwords, SentinelSet},
    redis_server::{Program, RedisServer},
};

fn programs() -> impl Iterator<Item = Program> {
    [Some(Program::Redis), Program::valkey()].into_iter().flatten()
}

fn error_of(answer: RedisResult<Value>) -> String {
    answer.err().and_then(|error| error.code().map(str::to_owned)).unwrap_or_default()
}

/// The slot of a key, as a node says.
fn slot(cluster: &Cluster, key: &str) -> u16 {
    cluster.node(0).ask(&["CLUSTER", "KEYSLOT", key]).unwrap()
}

#[test]
fn valkey_is_valkey_9() {
    let Some(program) = Program::valkey() else { return };
    let server = RedisServer::start_as(program, &[]);
    assert_eq!(server.info("server", "server_name").unwrap(), "valkey");
    let version = server.info("server", "valkey_version").unwrap();
    assert!(version.starts_with("9."), "{version}");
}

#[test]
fn slots_move_by_steps() {
    for program in programs() {
        let cluster = Cluster::start(program);
        let moved = slot(&cluster, "{a}1");
        let from = cluster.master_of(moved).unwrap();
        let to = cluster.masters().into_iter().find(|master| *master != from).unwrap();
        for key in ["{a}1", "{a}2"] {
            cluster.node(from).ask::<()>(&["SET", key, "1"]).unwrap();
        }
        let mut told = Vec::new();
        cluster.move_slots(moved..=moved, from, to, |_, step| {
            let of_one = error_of(cluster.node(from).ask(&["GET", "{a}3"]));
            let of_both = error_of(cluster.node(from).ask(&["MGET", "{a}1", "{a}2"]));
            told.push((step, of_one, of_both));
        });
        let steps = |step, of_one: &str, of_both: &str| (step, of_one.to_owned(), of_both.to_owned());
        let expected = [
            steps(Moving::Open(2), "ASK", ""),
            steps(Moving::Key, "ASK", "TRYAGAIN"),
            steps(Moving::Key, "ASK", "ASK"),
        ];
        assert_eq!(told, expected, "{program:?}");
        assert_eq!(error_of(cluster.node(from).ask(&["GET", "{a}1"])), "MOVED");
        assert_eq!(cluster.node(to).ask::<String>(&["GET", "{a}1"]).unwrap(), "1");
        assert_eq!(cluster.master_of(moved), Some(to));
        cluster.wait_whole();
        cluster.clear();
        assert!(cluster.masters().iter().all(|master| cluster.cli(*master, &["DBSIZE"]) == "0"));
    }
}

#[test]
fn masters_fail_over_and_come_back() {
    for program in programs() {
        let cluster = Cluster::start(program);
        assert_eq!((cluster.masters(), cluster.indices().count()), (vec![0, 1, 2], 6));
        cluster.kill(1);
        let slot = SLOTS / 2;
        let promoted = cluster.wait_failover(slot, 1);
        assert_eq!((promoted, cluster.master_of(slot)), (4, Some(4)));
        cluster.restart(1);
        cluster.wait_whole();
        assert_eq!(cluster.node(1).info("replication", "role").unwrap(), "slave");

        if program == Program::Valkey {
            continue;
        }
        // A master that was only stopped comes back as a replica, too.
        cluster.pause(0);
        assert_eq!(cluster.wait_failover(0, 0), 3);
        cluster.resume(0);
        cluster.wait_whole();

        // Without most of its masters a cluster is down until they are back.
        for master in [2, 3] {
            cluster.pause(master);
        }
        cluster.wait_down(4);
        for master in [2, 3] {
            cluster.resume(master);
        }
        cluster.wait_whole();
    }
}

/// The sentinels take ten seconds to notice that a server has come back as what it was at its start.
#[test]
fn sentinels_promote_a_replica() {
    let passwords = Passwords { servers: Some("open"), sentinels: Some("sesame") };
    let set = SentinelSet::start_with(Program::Redis, 2, passwords, &[]);
    assert_eq!((set.master(), set.kill_master()), (Some(0), 0));
    assert_ne!(set.wait_failover(0), 0);
    set.restart(0);
    set.wait_whole();
    assert_eq!(set.server(0).info("replication", "role").unwrap(), "slave");
}

#[test]
fn sentinels_of_valkey_do_so_too() {
    let Some(program) = Program::valkey() else { return };
    let set = SentinelSet::start(program, 1);
    assert_eq!((set.master(), set.pause_master()), (Some(0), 0));
    assert_eq!(set.wait_failover(0), 1);
    set.resume(0);
    assert_eq!(set.master(), Some(1));
}
