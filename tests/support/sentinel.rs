//! A real master with replicas, and three sentinels that look after it, of the test's own.
//!
//! Included with `#[path]`, beside `redis.rs` as `redis_server`.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::redis_server::{Program, RedisServer, socket, wait};

/// The name of the master at the sentinels.
pub(crate) const SERVICE: &str = "otp";

/// Passwords that the servers and the sentinels ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passwords {
    /// Of the master and its replicas.
    pub(crate) servers: Option<&'static str>,
    /// Of the sentinels.
    pub(crate) sentinels: Option<&'static str>,
}

/// Servers under sentinels. All end when dropped. The first server is the master at the start.
pub(crate) struct SentinelSet {
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    /// The servers that are killed or paused.
    stopped: Mutex<BTreeSet<usize>>,
    passwords: Passwords,
}

impl SentinelSet {
    /// Starts a master, so many replicas, and three sentinels.
    pub(crate) fn start(program: Program, replicas: usize) -> Self {
        Self::start_with(program, replicas, Passwords::default(), &[])
    }

    /// The same with passwords, and more options of the servers' command line.
    pub(crate) fn start_with(program: Program, replicas: usize, passwords: Passwords, options: &[&str]) -> Self {
        let mut servers: Vec<RedisServer> = Vec::new();
        for _ in 0..=replicas {
            let master = servers.first().map(|master| master.port().to_string());
            let mut own = vec!["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
            if let Some(password) = passwords.servers {
                own.extend(["--requirepass", password, "--masterauth", password]);
            }
            if let Some(master) = &master {
                own.extend(["--replicaof", "127.0.0.1", master]);
            }
            own.extend(options);
            servers.push(RedisServer::start_as(program, &own));
        }
        let master = &servers[0];
        wait("the replicas are linked", || online(master) == replicas);
        let sentinels = (0..3).map(|_| start_sentinel(program, master.port(), passwords)).collect();
        let set = Self { servers, sentinels, stopped: Mutex::default(), passwords };
        set.wait_whole();
        set
    }

    /// The address of the sentinels, as a setting of otpd. Passwords of sentinels are a setting of their own.
    pub(crate) fn url(&self) -> String {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
        let password = self.passwords.servers.map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis-sentinel://{password}{}/{SERVICE}", sentinels.join(","))
    }

    /// A server.
    pub(crate) fn server(&self, index: usize) -> &RedisServer {
        &self.servers[index]
    }

    /// The master, as most sentinels say.
    pub(crate) fn master(&self) -> Option<usize> {
        let told: Vec<usize> = self.sentinels.iter().filter_map(|sentinel| self.master_by(sentinel)).collect();
        let most = |index: &usize| told.iter().filter(|other| *other == index).count() * 2 > self.sentinels.len();
        told.iter().copied().find(most)
    }

    /// Kills the master at once. Returns its number.
    pub(crate) fn kill_master(&self) -> usize {
        let master = self.master().expect("a master");
        self.stopped().insert(master);
        self.servers[master].kill();
        master
    }

    /// Stops the master without ending it. Returns its number.
    pub(crate) fn pause_master(&self) -> usize {
        let master = self.master().expect("a master");
        self.stopped().insert(master);
        self.servers[master].pause();
        master
    }

    /// Ends a pause.
    pub(crate) fn resume(&self, index: usize) {
        self.servers[index].resume();
        self.stopped().remove(&index);
    }

    /// Starts a server again after a kill. It has no data, and says what it was at its start; the sentinels then make it a
    /// replica.
    pub(crate) fn restart(&self, index: usize) {
        self.servers[index].restart();
        self.stopped().remove(&index);
    }

    /// Waits until most sentinels name another master than this one, and it says so itself. Returns its number.
    pub(crate) fn wait_failover(&self, from: usize) -> usize {
        let mut promoted = from;
        wait("another master", || {
            let Some(master) = self.master().filter(|master| *master != from) else { return false };
            promoted = master;
            self.servers[master].info("replication", "role").is_ok_and(|role| role == "master")
        });
        promoted
    }

    /// Waits until all servers that run replicate the master, and all sentinels know all of them and agree.
    pub(crate) fn wait_whole(&self) {
        let replicas = self.servers.len() - 1;
        wait("the sentinels know all", || {
            let Some(master) = self.master() else { return false };
            let running = replicas - self.stopped().len();
            let agrees = |sentinel| self.master_by(sentinel) == Some(master) && knows(sentinel, replicas);
            online(&self.servers[master]) == running && self.sentinels.iter().all(agrees)
        });
    }

    fn master_by(&self, sentinel: &RedisServer) -> Option<usize> {
        let told: Vec<String> = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).ok()?;
        let port: u16 = told.get(1)?.parse().ok()?;
        self.servers.iter().position(|server| server.port() == port)
    }

    fn stopped(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a sentinel knows so many replicas and both other sentinels, and has nothing to say against the master.
fn knows(sentinel: &RedisServer, replicas: usize) -> bool {
    let words: Vec<String> = sentinel.ask(&["SENTINEL", "MASTER", SERVICE]).unwrap_or_default();
    let is = |name: &str, value: &str| words.chunks(2).any(|pair| pair[0] == name && pair[1] == value);
    is("flags", "master") && is("num-slaves", &replicas.to_string()) && is("num-other-sentinels", "2")
}

/// How many replicas of a master are in line.
fn online(master: &RedisServer) -> usize {
    let replication: String = master.ask(&["INFO", "replication"]).unwrap_or_default();
    replication.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
}

fn start_sentinel(program: Program, master: u16, passwords: Passwords) -> RedisServer {
    RedisServer::launch(program, passwords.sentinels, |folder, port| {
        let mut settings = vec![
            format!("sentinel monitor {SERVICE} 127.0.0.1 {master} 2"),
            format!("sentinel down-after-milliseconds {SERVICE} 1000"),
            format!("sentinel failover-timeout {SERVICE} 5000"),
            format!("sentinel parallel-syncs {SERVICE} 1"),
        ];
        settings.extend(passwords.servers.map(|password| format!("sentinel auth-pass {SERVICE} {password}")));
        settings.extend(
            passwords.sentinels.map(|password| format!("requirepass {password}\nsentinel sentinel-pass {password}")),
        );
        settings.push(format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nlogfile {}",
            folder.display(),
            folder.join("log").display()
        ));
        settings.push(format!("unixsocket {}\n", socket(folder).display()));
        let file = folder.join("sentinel.conf");
        // A sentinel keeps what it learns in the same file.
        fs::write(&file, settings.join("\n")).expect("the file is written");
        vec![file.display().to_string(), "--sentinel".to_owned()]
    })
}
