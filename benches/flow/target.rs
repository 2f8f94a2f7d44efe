//! What is measured: otpd or the bare server, on a store.

use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Read},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{
    bare,
    caller::{self, Client, Codes, Load, Step, Taken},
    child::{Server, free_port},
    redis_server::RedisServer,
    report::Measured,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Otpd,
    Bare,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Embedded,
    RedisSocket,
    RedisTcp,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Embedded, Self::RedisSocket, Self::RedisTcp];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::RedisSocket => "redis-socket",
            Self::RedisTcp => "redis-tcp",
        }
    }
}

pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    server: Server,
    clients: Vec<Client>,
    /// The number of its first flow: targets may share a store.
    base: u64,
    messages: Option<BufReader<File>>,
    codes: Arc<Codes>,
    _folder: tempfile::TempDir,
    _log: tempfile::TempDir,
}

impl Target {
    /// Starts the server, and waits until it serves.
    pub(crate) async fn start(kind: Kind, place: Place, base: u64, redis: &RedisServer, load: Load) -> Self {
        let folder = tempfile::Builder::new().prefix("otpd-bench-").tempdir().expect("a temporary folder");
        let log = tempfile::Builder::new().prefix("otpd-bench-").tempdir_in(memory()).expect("a temporary folder");
        let store = match place {
            Place::Embedded => format!("embedded:{}", folder.path().join("data").display()),
            Place::RedisSocket => redis.url(),
            Place::RedisTcp => redis.tcp_url(),
        };
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let messages = log.path().join("messages");
        let mut command = match kind {
            Kind::Otpd => otpd(port, &store, &messages),
            Kind::Bare => bare(port, &store),
        };
        command.stderr(File::create(log.path().join("log")).expect("a log"));
        let (server, start) = started(&mut command, kind, &url).await;
        let clients = caller::connect(&url, load.connections).await;
        let messages = (kind == Kind::Otpd).then(|| BufReader::new(File::open(messages).expect("the messages")));
        let target =
            Self { kind, place, server, clients, base, messages, codes: Arc::default(), _folder: folder, _log: log };
        if kind == Kind::Otpd {
            let (name, start, resident) = (target.name(), start.as_millis(), target.server.resident());
            println!("{name}: serving {start} ms after the start; {resident:.1} MiB resident");
        }
        target
    }

    pub(crate) fn name(&self) -> String {
        match self.kind {
            Kind::Otpd => format!("otpd, {}", self.place.name()),
            Kind::Bare => format!("bare, {}", self.place.name()),
        }
    }

    /// The first flow; on Redis also what it leaves in memory.
    pub(crate) async fn first_flow(&mut self, redis: &RedisServer) {
        let load = Load { connections: 1, in_flight: 1 };
        for step in Step::ALL {
            self.run(step, 0..=0, load).await;
        }
        if self.kind == Kind::Otpd && self.place != Place::Embedded {
            let usage = |key: &str| redis.cli(&["MEMORY", "USAGE", key]).parse::<u64>().unwrap_or_default();
            let of = |kind: &str| {
                let mut bytes: Vec<u64> = redis.cli(&["KEYS", kind]).lines().map(usage).collect();
                bytes.sort_unstable();
                bytes
            };
            // Of the two records the challenge is the larger one.
            println!(
                "{}: bytes in Redis after one flow: records {:?}, quotas {:?}",
                self.name(),
                of("otp:r:*"),
                of("otp:q:*")
            );
            // So that the next target on this Redis starts with nothing.
            redis.cli(&["FLUSHDB"]);
        }
    }

    pub(crate) fn print_memory_after(&self) {
        println!("{}: {:.1} MiB resident after all", self.name(), self.server.resident());
    }

    /// Takes a step of many flows.
    pub(crate) async fn run(&mut self, step: Step, flows: RangeInclusive<u64>, load: Load) -> Taken {
        let flows = self.base + flows.start()..=self.base + flows.end();
        let taken = caller::walk(&self.clients, load.in_flight, step, flows, &self.codes).await;
        self.server.assert_runs();
        if step == Step::Send {
            self.codes = Arc::new(self.read_codes());
        }
        taken
    }

    /// As [`run`](Self::run), with what the servers say of it.
    pub(crate) async fn measure(
        &mut self,
        step: Step,
        flows: RangeInclusive<u64>,
        load: Load,
        redis: &RedisServer,
    ) -> Measured {
        let before = (self.server.cpu(), operations(redis));
        let began = redis_cpu(redis);
        let taken = self.run(step, flows, load).await;
        let redis_cpu = redis_cpu(redis).saturating_sub(began);
        Measured {
            taken,
            cpu: self.server.cpu().saturating_sub(before.0),
            redis_cpu,
            operations: operations(redis) - before.1,
        }
    }

    /// The codes that the console provider has written since the last time.
    fn read_codes(&mut self) -> Codes {
        let lines = self.messages.iter_mut().flat_map(|messages| messages.by_ref().lines());
        let texts = lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("a message"));
        let text = |message: &serde_json::Value, name: &str| {
            message.get(name).and_then(serde_json::Value::as_str).expect("a text").to_owned()
        };
        texts.map(|message: serde_json::Value| (text(&message, "destination"), text(&message, "code"))).collect()
    }
}

/// A folder in memory where there is one: messages and logs must cost as little as they can.
fn memory() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { env::temp_dir() }
}

fn otpd(port: u16, store: &str, messages: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otpd"));
    command
        .env_clear()
        .env("OTPD__SERVER__LISTEN", format!("127.0.0.1:{port}"))
        .env("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0")
        .env("OTPD__STORE__URL", store)
        .env("OTPD__PROVIDERS__CONSOLE__FILE", messages)
        .env("OTPD_MASTER_KEYS", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    command
}

fn bare(port: u16, store: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.env_clear().env(bare::ROLE, format!("{port} {store}"));
    command
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
async fn started(command: &mut Command, kind: Kind, url: &str) -> (Server, Duration) {
    let began = Instant::now();
    let mut server = Server::spawn(command);
    while began.elapsed() < Duration::from_secs(10) {
        server.assert_runs();
        if serves(kind, url).await {
            return (server, began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the server does not serve");
}

async fn serves(kind: Kind, url: &str) -> bool {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
    let Ok(channel) = endpoint.connect().await else { return false };
    let service = "otp.v1.OtpService".to_owned();
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service }).await;
    // The bare server has no health service.
    kind == Kind::Bare || answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// Operations that Redis was asked for. Each begins with exactly one of these reads, be it a script or a plain load.
fn operations(redis: &RedisServer) -> u64 {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let counts = matches!(name, "get" | "getrange" | "zscore");
        counts.then(|| rest.split(',').next()?.parse::<u64>().ok()).flatten()
    };
    stats.lines().filter_map(calls).sum()
}

fn redis_cpu(redis: &RedisServer) -> Duration {
    let info = redis.cli(&["INFO", "cpu"]);
    let seconds = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        Duration::from_secs_f64(value.trim().parse().expect("seconds"))
    };
    seconds("used_cpu_sys:") + seconds("used_cpu_user:")
}
