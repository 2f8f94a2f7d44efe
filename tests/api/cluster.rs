//! Two servers on a cluster of three masters: what 200 people at once are told while masters are killed, paused and promoted,
//! and slots move.

use std::{fs, ops::Range, process::Child, time::Duration};

use otpd::grpc::proto::CreateChallengeRequest;
use tempfile::NamedTempFile;
use tokio::task::block_in_place;

use crate::{
    caller::{Caller, login, verify, wrong},
    crowd::Crowd,
    redis_cluster::{Cluster, Moving, SLOTS},
    redis_server::{Program, RedisServer, wait},
    site::{Server, Site, until},
    words::{created, verified},
};

/// How long after a new master is visible service may take to be back, on a machine that does much else. On an idle one it is
/// a tenth of it.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// What was acknowledged so long before a master was lost has reached its replica.
const REPLICATION: Duration = Duration::from_secs(1);

/// A crowd at work on a cluster. Dropped first to last: the crowd, the servers, and the store behind them.
struct Stage {
    crowd: Crowd,
    servers: Vec<Server>,
    cluster: Cluster,
    /// When something may have been lost.
    moments: Vec<Range<Duration>>,
    /// Whether replicas confirm all that is told.
    is_confirmed: bool,
}

impl Stage {
    async fn start(program: Program, is_confirmed: bool, seed: u64) -> Self {
        let cluster = block_in_place(|| Cluster::start(program));
        let site = Crowd::settings(Site::at(&cluster.url()));
        let site = if is_confirmed { site.with("OTPD__STORE__WAIT_REPLICAS", "1") } else { site };
        let servers = vec![site.start(), site.start()];
        let crowd = Crowd::start(site, &servers, seed).await;
        Self { crowd, servers, cluster, moments: Vec::new(), is_confirmed }
    }

    /// Waits until service is back since then, and says how long it took.
    async fn back(&self, what: &str, since: Duration) {
        let took = self.crowd.wait_quiet(since).await;
        println!("{what}: service was back {took:?} later");
        assert!(took < BACK_WITHIN, "{what}: service was back only {took:?} later");
        self.crowd.wait_busy().await;
    }

    /// A master is killed whose replica has not had the last moment, and the replica is promoted. It comes back as a replica of
    /// that one.
    async fn kill_a_master(&mut self) {
        let (slot, from) = (0, self.crowd.now());
        let killed = self.cluster.master_of(slot).unwrap();
        block_in_place(|| self.cluster.node(killed).cut_replication());
        self.crowd.wait_busy().await;
        self.cluster.kill(killed);
        block_in_place(|| self.cluster.wait_failover(slot, killed));
        let mut since = self.crowd.now();
        self.moments.push(from..since);
        if self.is_confirmed {
            // Without a replica nothing can be confirmed.
            block_in_place(|| self.cluster.restart(killed));
            block_in_place(|| self.cluster.wait_whole());
            since = self.crowd.now();
            self.back("a replica of the new master", since).await;
            return;
        }
        self.back("a killed master", since).await;
        let since = self.crowd.now();
        block_in_place(|| self.cluster.restart(killed));
        block_in_place(|| self.cluster.wait_whole());
        self.back("a node that came back", since).await;
    }

    /// Slots go to another master while they are in use.
    async fn move_slots(&self) {
        let before = self.crowd.troubles();
        let mut keys = 0;
        let (from, first) = (self.cluster.master_of(SLOTS - 1).unwrap(), SLOTS - 300);
        let to = self.cluster.masters().into_iter().find(|master| *master != from).unwrap();
        block_in_place(|| {
            self.cluster.move_slots(first..=SLOTS - 1, from, to, |_, step| keys += usize::from(step == Moving::Key));
        });
        println!("{keys} keys moved, with trouble {} times", self.crowd.troubles() - before);
        assert!(keys > 0, "nothing was in the slots");
        block_in_place(|| self.cluster.wait_whole());
        let moved = self.crowd.now();
        self.back("moved slots", moved).await;
        self.crowd.wait_busy().await;
    }

    /// A master hangs, its replica is promoted, and it comes to again, believing for a moment that it is still the master.
    async fn pause_a_master(&mut self) {
        let (slot, from) = (SLOTS / 2, self.crowd.now().saturating_sub(REPLICATION));
        let paused = self.cluster.master_of(slot).unwrap();
        self.cluster.pause(paused);
        block_in_place(|| self.cluster.wait_failover(slot, paused));
        let mut since = self.crowd.now();
        if !self.is_confirmed {
            self.back("a master that hangs", since).await;
        }
        self.cluster.resume(paused);
        block_in_place(|| self.cluster.wait_whole());
        since = self.crowd.now();
        self.moments.push(from..since);
        self.back("a master that came to", since).await;
    }

    /// Most masters hang: nobody can be promoted, and the cluster is down until they come to.
    async fn lose_the_majority(&mut self) {
        let from = self.crowd.now().saturating_sub(REPLICATION);
        let masters = self.cluster.masters();
        for master in &masters[..2] {
            self.cluster.pause(*master);
        }
        block_in_place(|| self.cluster.wait_down(masters[2]));
        for server in &self.servers {
            until("not ready", async || server.probe("/readyz") == "503").await;
        }
        for master in &masters[..2] {
            self.cluster.resume(*master);
        }
        block_in_place(|| self.cluster.wait_whole());
        let since = self.crowd.now();
        self.moments.push(from..since);
        self.back("a majority that came to", since).await;
        for server in &self.servers {
            until("ready", async || server.probe("/readyz") == "200").await;
        }
    }

    /// Ends the crowd. Something was lost exactly where nothing was confirmed.
    async fn judge(self) {
        let moments = if self.is_confirmed { Vec::new() } else { self.moments };
        let verdict = self.crowd.judge(&moments).await;
        assert_eq!(verdict.lost.is_empty(), self.is_confirmed, "of {} challenges", verdict.visits);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_last_moment_is_lost() {
    let mut stage = Stage::start(Program::Redis, false, 1).await;
    stage.kill_a_master().await;
    stage.move_slots().await;
    stage.pause_a_master().await;
    stage.lose_the_majority().await;
    stage.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_that_replicas_confirm() {
    let mut stage = Stage::start(Program::Redis, true, 2).await;
    stage.kill_a_master().await;
    stage.pause_a_master().await;
    stage.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_valkey() {
    let Some(program) = Program::valkey() else { return };
    let mut stage = Stage::start(program, false, 3).await;
    stage.kill_a_master().await;
    stage.move_slots().await;
    stage.judge().await;
}

/// A server that knows the challenge makes one trip, to the one node that has the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verification_is_one_trip_to_one_node() {
    let cluster = block_in_place(|| Cluster::start(Program::Redis));
    let site = Site::at(&cluster.url());
    let server = site.start();
    let caller = Caller::of(&server).await;
    let monitors: Vec<Monitor> =
        cluster.masters().into_iter().map(|master| Monitor::start(cluster.node(master))).collect();
    let asked = || block_in_place(|| monitors.iter().map(Monitor::commands).collect::<Vec<_>>());
    for n in 0..10 {
        let (challenge, number) = (format!("c{n}"), format!("+1415555010{n}"));
        let create = CreateChallengeRequest { send_otp: true, ..login(&challenge, &challenge, &number) };
        assert_eq!(created(&caller.create(create).await), "success with success");
        let code = site.code(&number);
        // The first run of a script loads it on that node.
        assert_eq!(verified(&caller.verify(verify("w", &challenge, &wrong(&code, 0))).await), "otp_not_matched");
        let before = asked();
        assert_eq!(verified(&caller.verify(verify("x", &challenge, &wrong(&code, 0))).await), "otp_not_matched");
        let after = asked();
        let mut trips: Vec<usize> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
        trips.sort_unstable();
        assert_eq!(trips, [0, 0, 1]);
    }
}

/// What clients ask of a server, as MONITOR shows it.
struct Monitor<'a> {
    server: &'a RedisServer,
    child: Child,
    shown: NamedTempFile,
}

impl<'a> Monitor<'a> {
    fn start(server: &'a RedisServer) -> Self {
        let shown = NamedTempFile::new().unwrap();
        let child = server.cli_command(&["MONITOR"]).stdout(shown.reopen().unwrap()).spawn().unwrap();
        let monitor = Self { server, child, shown };
        wait("the monitor", || monitor.text().starts_with("OK"));
        monitor
    }

    fn text(&self) -> String {
        fs::read_to_string(self.shown.path()).unwrap()
    }

    /// How many commands about lockouts, index entries and quotas there were: no call asks for a challenge without its lockout,
    /// and no health check for either. What scripts ask is left out.
    fn commands(&self) -> usize {
        let mark = self.text().len().to_string();
        self.server.ask::<String>(&["ECHO", &mark]).unwrap();
        wait("the mark", || self.text().contains(&format!("\"ECHO\" \"{mark}\"")));
        let is_ours =
            |line: &&str| ["}:l\"", "otp:i:", "otp:q:"].iter().any(|key| line.contains(key)) && !line.contains(" lua]");
        self.text().lines().filter(is_ours).count()
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}
