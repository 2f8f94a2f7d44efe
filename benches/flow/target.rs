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
    caller::{self, Client, Codes, Load, Measured, Step, Timing},
    child::{Server, free_port},
    records,
    redis_server::RedisServer,
};

/// How long challenges are opened in advance, at most.
const OPENING_MAX: Duration = Duration::from_secs(600);
/// The first of those challenges, above every flow that is measured.
const OPEN_BASE: u64 = 10_000_000;

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Otpd,
    /// Another build of otpd, by the path of its binary.
    Other(PathBuf),
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
    pub(crate) async fn start(kind: Kind, place: Place, base: u64, store: &str, load: Load) -> Self {
        let folder = tempfile::Builder::new().prefix("otpd-bench-").tempdir().expect("a temporary folder");
        let log = tempfile::Builder::new().prefix("otpd-bench-").tempdir_in(memory()).expect("a temporary folder");
        let store = match place {
            Place::Embedded => format!("embedded:{}", folder.path().join("data").display()),
            Place::RedisSocket | Place::RedisTcp => store.to_owned(),
        };
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let messages = log.path().join("messages");
        let mut command = match &kind {
            Kind::Otpd => otpd(Path::new(env!("CARGO_BIN_EXE_otpd")), port, &store, &messages),
            Kind::Other(binary) => otpd(binary, port, &store, &messages),
            Kind::Bare => bare(port, &store),
        };
        command.stderr(File::create(log.path().join("log")).expect("a log"));
        let (server, start) = started(&mut command, &kind, &url).await;
        let clients = caller::connect(&url, load.connections).await;
        let messages = (kind != Kind::Bare).then(|| BufReader::new(File::open(messages).expect("the messages")));
        let target =
            Self { kind, place, server, clients, base, messages, codes: Arc::default(), _folder: folder, _log: log };
        if target.kind != Kind::Bare {
            let (name, start, resident) = (target.name(), start.as_millis(), target.server.resident());
            println!("{name}: serving {start} ms after the start; {resident:.1} MiB resident");
        }
        target
    }

    pub(crate) fn name(&self) -> String {
        match self.kind {
            Kind::Otpd => format!("otpd, {}", self.place.name()),
            Kind::Other(_) => format!("other build, {}", self.place.name()),
            Kind::Bare => format!("bare, {}", self.place.name()),
        }
    }

    /// The first flow; on Redis also what it leaves in memory.
    pub(crate) async fn first_flow(&mut self, redis: &RedisServer) {
        let load = Load { connections: 1, in_flight: 1 };
        for step in Step::ALL {
            self.run(step, 0..=0, load).await;
            if step == Step::Send && self.kind == Kind::Otpd && self.place != Place::Embedded {
                // So that there is a lockout.
                let client = self.clients.first_mut().expect("a connection");
                caller::guess_wrong(client, self.base).await;
                println!("{}: bytes in Redis, one challenge open: {:?}", self.name(), records::by_kind(redis));
            }
        }
        // So that the next target on this Redis starts with nothing.
        redis.cli(&["FLUSHDB"]);
    }

    /// Opens challenges until there are so many, for at most [`OPENING_MAX`]. Tells how many there are.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    pub(crate) async fn open(&mut self, from: u64, to: u64, load: Load) -> u64 {
        let began = Instant::now();
        let mut opened = from;
        while opened < to && began.elapsed() < OPENING_MAX {
            let next = to.min(opened + 20_000);
            self.run(Step::Create, OPEN_BASE + opened..=OPEN_BASE + next - 1, load).await;
            opened = next;
        }
        println!("{}: {opened} challenges open, {:.1} MiB resident", self.name(), self.server.resident());
        opened
    }

    /// Knows the codes that another replica has sent.
    pub(crate) fn adopt_codes(&mut self, other: &Self) {
        self.codes = Arc::clone(&other.codes);
    }

    pub(crate) fn print_memory_after(&self) {
        println!("{}: {:.1} MiB resident after all", self.name(), self.server.resident());
    }

    /// Makes a step of many flows.
    pub(crate) async fn run(&mut self, step: Step, flows: RangeInclusive<u64>, load: Load) -> Timing {
        let flows = self.base + flows.start()..=self.base + flows.end();
        let timing = caller::walk(&self.clients, load.in_flight, step, flows, &self.codes).await;
        self.server.assert_runs();
        if step == Step::Send {
            self.codes = Arc::new(self.read_codes());
        }
        timing
    }

    /// As [`run`](Self::run), with what the servers say of it.
    pub(crate) async fn measure(
        &mut self,
        step: Step,
        flows: RangeInclusive<u64>,
        load: Load,
        redis: &RedisServer,
    ) -> Measured {
        let before = (self.server.cpu(), records::cpu(redis));
        let timing = self.run(step, flows, load).await;
        let redis_cpu = records::cpu(redis).saturating_sub(before.1);
        Measured { timing, cpu: self.server.cpu().saturating_sub(before.0), redis_cpu }
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

fn otpd(binary: &Path, port: u16, store: &str, messages: &Path) -> Command {
    let mut command = Command::new(binary);
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
async fn started(command: &mut Command, kind: &Kind, url: &str) -> (Server, Duration) {
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

async fn serves(kind: &Kind, url: &str) -> bool {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("an address");
    let Ok(channel) = endpoint.connect().await else { return false };
    let service = "otp.v1.OtpService".to_owned();
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service }).await;
    // The bare server has no health service.
    *kind == Kind::Bare || answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}
