//! A real Redis of the test's own: on a unix socket in a throw-away folder, and on a free port of the loopback.
//!
//! Included by the test binaries and benchmarks that need one, with `#[path]`.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

/// A running server. Ends when dropped.
pub(crate) struct RedisServer {
    folder: tempfile::TempDir,
    port: u16,
    options: Vec<String>,
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
        let folder = tempfile::Builder::new().prefix("otpd-redis-").tempdir().expect("a temporary folder");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        // Another process may take the port between finding it free and using it.
        for _ in 0..10 {
            let port = free_port();
            let mut child = spawn(folder.path(), port, &options);
            if wait_ready(folder.path(), &mut child) {
                return Self { folder, port, options, child: Mutex::new(child) };
            }
            drop((child.kill(), child.wait()));
        }
        panic!("redis-server did not start: {}", log(folder.path()));
    }

    /// The address of its socket.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", socket(self.folder.path()).display())
    }

    /// The address of its port.
    pub(crate) fn tcp_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
        let mut child = spawn(self.folder.path(), self.port, &self.options);
        let ready = wait_ready(self.folder.path(), &mut child);
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = child;
        assert!(ready, "redis-server did not start again: {}", log(self.folder.path()));
    }

    /// Runs a command and returns what `redis-cli` prints, without the last line break.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.arg("-s").arg(socket(self.folder.path())).args(arguments);
        let output = command.output().unwrap_or_else(|error| missing("redis-cli", &error));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn signal(&self, signal: &str) {
        let id = self.child.lock().unwrap_or_else(PoisonError::into_inner).id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("the kill command");
        assert!(status.success(), "kill {signal} {id}: {status}");
    }
}

// Not every test binary uses all of it.
const _: [fn(&RedisServer); 4] = [RedisServer::pause, RedisServer::resume, RedisServer::kill, RedisServer::restart];
const _: [fn(&RedisServer) -> String; 2] = [RedisServer::url, RedisServer::tcp_url];
const _: [fn() -> RedisServer; 2] = [RedisServer::start, RedisServer::start_durable];
const _: fn(&RedisServer, &[&str]) -> String = RedisServer::cli;

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, port: u16, options: &[String]) -> Child {
    drop(std::fs::remove_file(socket(folder)));
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .arg("--unixsocket")
        .arg(socket(folder))
        .arg("--dir")
        .arg(folder)
        .arg("--logfile")
        .arg(folder.join("log"))
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| missing("redis-server", &error))
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!(
        "cannot run {program} ({error}): these tests need it, and are never skipped. apt-get install redis-server, or run scripts/test"
    )
}

/// Asks until the server has loaded its data and answers; false if it ended.
fn wait_ready(folder: &Path, child: &mut Child) -> bool {
    for _ in 0..1_000 {
        if child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        if ping(folder).is_ok_and(|answer| answer.starts_with(b"+PONG")) {
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

fn socket(folder: &Path) -> PathBuf {
    folder.join("redis.sock")
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
