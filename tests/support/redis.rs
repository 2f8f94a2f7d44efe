//! A real Redis or Valkey of the test's own: on a unix socket in a throw-away folder, and on a port of the loopback.
//!
//! Included by the test binaries and benchmarks that need one, with `#[path]`.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use ::redis::{Client, FromRedisValue, RedisResult};
use otpd::ports::clock::Deadline;

#[path = "program.rs"]
mod program;

pub(crate) use program::{Port, Program};

/// A running server. Ends when dropped.
pub(crate) struct RedisServer {
    folder: tempfile::TempDir,
    program: Program,
    port: Port,
    arguments: Vec<String>,
    /// What the default user must show, if anything.
    password: Option<String>,
    child: Mutex<Child>,
}

impl RedisServer {
    /// Starts a server without persistence.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server that keeps its data over a kill.
    pub(crate) fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with more options of its command line.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_as(Program::Redis, options)
    }

    /// Starts this program, with more options of its command line.
    pub(crate) fn start_as(program: Program, options: &[&str]) -> Self {
        let password = options.iter().skip_while(|&&option| option != "--requirepass").nth(1).copied();
        Self::launch(program, password, |folder, port| {
            let mut arguments = usual_arguments(folder, port);
            arguments.extend(options.iter().map(|&option| option.to_owned()));
            arguments
        })
    }

    /// Starts this program in a new folder and on a new port, with the command line that is made for these. It must listen
    /// to [`socket`] too, where it may ask for a password.
    pub(crate) fn launch(
        program: Program,
        password: Option<&str>,
        arguments: impl FnOnce(&Path, u16) -> Vec<String>,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("otpd-redis-").tempdir().expect("a temporary folder");
        let port = Port::reserve();
        let arguments = arguments(folder.path(), port.number());
        let password = password.map(str::to_owned);
        let mut child = spawn(program, folder.path(), &arguments);
        let ready = wait_ready(folder.path(), &mut child);
        let server = Self { folder, program, port, arguments, password, child: Mutex::new(child) };
        assert!(ready, "{program:?} did not start: {}", server.log());
        server
    }

    /// The address of its socket.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", socket(self.folder.path()).display())
    }

    /// The address of its port.
    pub(crate) fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder that it runs in.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops it without ending it: it accepts connections and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// Ends the pause.
    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    /// Kills it at once.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        drop((child.kill(), child.wait()));
    }

    /// Starts it again after [`kill`](Self::kill), with the same folder, socket, port and options.
    pub(crate) fn restart(&self) {
        self.kill();
        let mut child = spawn(self.program, self.folder.path(), &self.arguments);
        let ready = wait_ready(self.folder.path(), &mut child);
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = child;
        assert!(ready, "{:?} did not start again: {}", self.program, self.log());
    }

    /// Runs a command and returns what `redis-cli` prints, without the last line break.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = self.cli_command(arguments).output().unwrap_or_else(|error| Program::Redis.missing(&error));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The same, to be run.
    pub(crate) fn cli_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(socket(self.folder.path()));
        if let Some(password) = &self.password {
            command.args(["--no-auth-warning", "-a", password]);
        }
        command.args(arguments);
        command
    }

    /// Asks one command within two seconds, on a connection of its own.
    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        const LIMIT: Duration = Duration::from_secs(2);
        let password = self.password.as_ref().map(|password| format!("?pass={password}")).unwrap_or_default();
        let client = Client::open(format!("{}{password}", self.url()))?;
        let mut connection = client.get_connection_with_timeout(LIMIT)?;
        connection.set_read_timeout(Some(LIMIT))?;
        let (command, arguments) = words.split_first().expect("a command");
        ::redis::cmd(command).arg(arguments).query(&mut connection)
    }

    /// Lets its replicas have nothing from now on, until it ends. To all others it is as before.
    pub(crate) fn cut_replication(&self) {
        for words in
            [&["ACL", "SETUSER", "default", "-psync", "-sync", "-replconf"][..], &["CLIENT", "KILL", "TYPE", "replica"]]
        {
            self.ask::<()>(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        }
    }

    /// A line of one section of INFO.
    pub(crate) fn info(&self, section: &str, field: &str) -> RedisResult<String> {
        let text: String = self.ask(&["INFO", section])?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.unwrap_or_default().to_owned())
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        let id = self.child.lock().unwrap_or_else(PoisonError::into_inner).id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("the kill command");
        assert!(status.success(), "kill {signal} {id}: {status}");
    }
}

// Not every test binary uses all of it.
const _: [fn(&RedisServer); 5] =
    [RedisServer::pause, RedisServer::resume, RedisServer::kill, RedisServer::restart, RedisServer::cut_replication];
const _: [fn(&RedisServer) -> String; 3] = [RedisServer::url, RedisServer::tcp_url, RedisServer::log];
const _: [fn() -> RedisServer; 2] = [RedisServer::start, RedisServer::start_durable];
const _: fn(&RedisServer, &[&str]) -> String = RedisServer::cli;
const _: fn(&RedisServer, &str, &str) -> RedisResult<String> = RedisServer::info;
const _: fn(&RedisServer) -> &Path = RedisServer::folder;
const _: fn() -> Option<Program> = Program::valkey;
const _: fn(&str, fn() -> bool) = wait;

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The options that every server of a test has: it keeps nothing over its end.
pub(crate) fn usual_arguments(folder: &Path, port: u16) -> Vec<String> {
    let (port, folder, log) =
        (port.to_string(), folder.display().to_string(), folder.join("log").display().to_string());
    let socket = socket(Path::new(&folder)).display().to_string();
    let options = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--unixsocket", &socket];
    let files = ["--dir", &folder, "--logfile", &log];
    options.into_iter().chain(files).map(str::to_owned).collect()
}

/// The socket of a server in a folder.
pub(crate) fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

/// Asks again and again until it is so, at most a minute: tests run on machines that do much else.
pub(crate) fn wait(what: &str, is_so: impl FnMut() -> bool) {
    wait_or_tell(what, is_so, String::new);
}

/// The same, and tells what there is instead.
pub(crate) fn wait_or_tell(what: &str, mut is_so: impl FnMut() -> bool, tell: impl Fn() -> String) {
    let deadline = Deadline::after(Duration::from_secs(60));
    while !is_so() {
        assert!(!deadline.remaining().is_zero(), "not in time: {what}\n{}", tell());
        thread::sleep(Duration::from_millis(10));
    }
}

fn spawn(program: Program, folder: &Path, arguments: &[String]) -> Child {
    drop(std::fs::remove_file(socket(folder)));
    let mut command = program.command();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| program.missing(&error))
}

/// Asks until the server has loaded its data and answers; false if it ended.
fn wait_ready(folder: &Path, child: &mut Child) -> bool {
    for _ in 0..1_000 {
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        // One that asks for a password is ready, too.
        if ping(folder).is_ok_and(|answer| [*b"+PONG", *b"-NOAU"].contains(&answer)) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn ping(folder: &Path) -> std::io::Result<[u8; 5]> {
    let mut stream = UnixStream::connect(socket(folder))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
