//! Servers of the test's own: the real binary, on ports that the system chooses, in a throw-away folder.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use otpd::ports::clock::Deadline;
use serde_json::Value;

use crate::redis_server::RedisServer;

/// Two keys for rings.
pub(crate) const KEY_1: &str = "1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
pub(crate) const KEY_2: &str = "2:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// What servers on one store share: settings, and the file that the console provider appends to.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// A message as the console provider has recorded it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) destination: String,
    pub(crate) code: String,
    pub(crate) text: String,
}

impl Site {
    /// One server with a store of its own.
    pub(crate) fn embedded() -> Self {
        let site = Self::bare();
        let store = format!("embedded:{}", site.folder.path().join("store").display());
        site.with("OTPD__STORE__URL", &store)
    }

    /// Servers that share a Redis.
    pub(crate) fn on(redis: &RedisServer) -> Self {
        Self::at(&redis.url())
    }

    /// Servers that share a store at this address.
    pub(crate) fn at(url: &str) -> Self {
        Self::bare().with("OTPD__STORE__URL", url).with("OTPD_MASTER_KEYS", KEY_1)
    }

    fn bare() -> Self {
        let folder = tempfile::Builder::new().prefix("otpd-api-").tempdir().expect("a temporary folder");
        let messages = folder.path().join("messages");
        Self { folder, environment: Vec::new() }
            .with("OTPD__SERVER__LISTEN", "127.0.0.1:0")
            .with("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0")
            .with("OTPD__SERVER__DRAIN_DELAY", "0s")
            .with("OTPD__LOG__FORMAT", "json")
            .with("OTPD__PROVIDERS__CONSOLE__FILE", messages.to_str().expect("a path in UTF-8"))
    }

    /// With another setting; the last one of a name wins.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value);
        self
    }

    /// With a file of settings; the variables win over it.
    pub(crate) fn configured(mut self, text: &str) -> Self {
        self.configure(text);
        self
    }

    /// From the next start on.
    pub(crate) fn configure(&mut self, text: &str) {
        let path = self.path("otpd.toml");
        fs::write(&path, text).expect("the file is written");
        self.set("OTPD_CONFIG", path.to_str().expect("a path in UTF-8"));
    }

    /// From the next start on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.retain(|(present, _)| present != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Starts a server.
    pub(crate) fn start(&self) -> Server {
        self.start_on(Stdio::null())
    }

    /// Starts a server with this standard output.
    pub(crate) fn start_on(&self, stdout: Stdio) -> Server {
        Server::start(self.otpd(&["serve"]).stdout(stdout))
    }

    /// Starts a server that serves gRPC on this port of the loopback.
    pub(crate) fn start_at(&self, port: u16) -> Server {
        let mut otpd = self.otpd(&["serve"]);
        Server::start(otpd.env("OTPD__SERVER__LISTEN", format!("127.0.0.1:{port}")).stdout(Stdio::null()))
    }

    /// Starts a server from a shell that does this before: sets limits, ignores signals.
    pub(crate) fn start_after(&self, shell: &str) -> Server {
        self.try_start_after(shell).unwrap_or_else(|log| panic!("otpd did not start: {log}"))
    }

    /// The same, or what a server that ends before it serves has logged.
    pub(crate) fn try_start_after(&self, shell: &str) -> Result<Server, String> {
        let otpd = self.otpd(&["serve"]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{shell}; exec \"$0\" serve")]).arg(otpd.get_program()).env_clear();
        command.envs(otpd.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Server::try_start(command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()))
    }

    /// Runs a server that is expected to end by itself.
    pub(crate) fn run(&self) -> Output {
        self.command(&["serve"])
    }

    /// Runs the binary with these arguments to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.otpd(arguments).output().expect("the binary")
    }

    fn otpd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_otpd"));
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        command.args(arguments).env_clear().envs(environment).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// All messages so far. A line that a kill has cut in half is none.
    pub(crate) fn messages(&self) -> Vec<Message> {
        let text = fs::read_to_string(self.path("messages")).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let messages = lines.map(|line| {
            let field = |name: &str| line[name].as_str().expect("a text").to_owned();
            Message { destination: field("destination"), code: field("code"), text: field("text") }
        });
        messages.collect()
    }

    /// The codes sent to a destination, oldest first.
    pub(crate) fn codes(&self, destination: &str) -> Vec<String> {
        let messages = self.messages().into_iter().filter(|message| message.destination == destination);
        messages.map(|message| message.code).collect()
    }

    /// The code sent last to a destination.
    pub(crate) fn code(&self, destination: &str) -> String {
        self.codes(destination).pop().expect("a message was sent")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> &str {
        let store = self.environment.iter().find(|(name, _)| name == "OTPD__STORE__URL");
        store.map(|(_, value)| value.as_str()).expect("each site has a store")
    }

    /// The folder that all is in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A server that runs. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it serves gRPC.
    pub(crate) grpc: String,
    probes: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        Self::try_start(command).unwrap_or_else(|log| panic!("otpd did not start: {log}"))
    }

    fn try_start(command: &mut Command) -> Result<Self, String> {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut text = String::new();
        let started = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                return Err(text);
            };
            text.push_str(&line);
            text.push('\n');
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if parsed["message"] == "otpd serves" {
                break parsed;
            }
        };
        let address = |field: &str| started[field].as_str().expect("an address").to_owned();
        let log = Arc::new(Mutex::new(text));
        let follows = Arc::clone(&log);
        // Read to the end, so that the server never waits for its log; the thread ends with the server.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut text = follows.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        Ok(Self { child, grpc: address("grpc"), probes: address("operations"), log })
    }

    /// Ends it at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Asks it to look at its certificates.
    pub(crate) fn hang_up(&self) {
        let status = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Where operators call, if not where all do.
    pub(crate) fn admin(&self) -> String {
        let started = self.log().lines().find(|line| line.contains("otpd serves")).map(str::to_owned);
        let started: Value = serde_json::from_str(&started.expect("it has started")).expect("a line of JSON");
        started["admin"].as_str().expect("a listener of its own").to_owned()
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        let deadline = Deadline::after(Duration::from_secs(30));
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(!deadline.remaining().is_zero(), "the server does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The status code of a probe.
    pub(crate) fn probe(&self, path: &str) -> String {
        self.answer(path).split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// The text that is answered.
    pub(crate) fn get(&self, path: &str) -> String {
        self.answer(path).split_once("\r\n\r\n").map(|(_, text)| text.to_owned()).unwrap_or_default()
    }

    fn answer(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.probes).expect("the operations server");
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: otpd\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let end: Vec<&str> = log.lines().rev().filter(|line| !line.contains("\"INFO\"")).take(20).collect();
            println!("what {} has logged last, the newest first:\n{}", self.grpc, end.join("\n"));
        }
        self.kill();
    }
}

/// Asks again and again, at most 20 s, until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(20));
    while !is_so().await {
        assert!(!deadline.remaining().is_zero(), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The answer to a call. On a busy machine calls are shed before any work, and repeated here.
pub(crate) async fn served<F: Future<Output = String>>(mut call: impl FnMut() -> F) -> String {
    let deadline = Deadline::after(Duration::from_secs(20));
    loop {
        let word = call().await;
        if word != "ResourceExhausted OVERLOADED" || deadline.remaining().is_zero() {
            return word;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
