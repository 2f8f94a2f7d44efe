//! Start, health, probes, and the end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStderr, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{otpd, run};

/// A server that runs, on ports of its own, in a folder of its own.
pub(super) struct Server {
    child: Child,
    environment: Vec<(&'static str, String)>,
    probes: String,
    /// Held open: the server goes on writing to it.
    _log: BufReader<ChildStderr>,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(drain_delay: &str) -> io::Result<Self> {
        Self::start_in(tempfile::tempdir()?, drain_delay)
    }

    /// Starts on the store of a folder.
    pub(super) fn start_in(folder: tempfile::TempDir, drain_delay: &str) -> io::Result<Self> {
        let any = || "127.0.0.1:0".to_owned();
        let mut environment = vec![
            ("OTPD__SERVER__LISTEN", any()),
            ("OTPD__OPERATIONS__LISTEN", any()),
            ("OTPD__SERVER__DRAIN_DELAY", drain_delay.to_owned()),
            ("OTPD__STORE__URL", format!("embedded:{}", folder.path().display())),
            ("OTPD__LOG__FORMAT", "json".to_owned()),
        ];
        let mut command = otpd(&["serve"], &plain(&environment));
        let mut child = command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let started = started(&mut log)?;
        let address = |field: &str| text(&started, field).to_owned();
        let probes = address("operations");
        for ((_, value), bound) in environment.iter_mut().zip([address("grpc"), probes.clone()]) {
            *value = bound;
        }
        Ok(Self { child, environment, probes, _log: log, folder })
    }

    /// Runs another command in the same environment.
    pub(super) fn command(&self, arguments: &[&str]) -> io::Result<(Option<i32>, String, String)> {
        run(arguments, &plain(&self.environment))
    }

    /// Ends as asked, and leaves the store behind.
    pub(super) fn stop(mut self) -> io::Result<tempfile::TempDir> {
        self.signal("TERM")?;
        self.exit_code()?;
        Ok(std::mem::replace(&mut self.folder, tempfile::tempdir()?))
    }

    fn grpc(&self) -> &str {
        self.environment.first().map_or("", |(_, address)| address)
    }

    fn probe(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.probes)?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: otpd\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
    }

    /// Waits until the probe answers so.
    pub(super) fn until(&self, status: &str) -> bool {
        let is = || self.probe("/readyz").is_ok_and(|answered| answered == status);
        (0..500).any(|_| {
            is() || {
                sleep(Duration::from_millis(10));
                false
            }
        })
    }

    fn health(&self, arguments: &[&str]) -> io::Result<Option<i32>> {
        Ok(run(arguments, &plain(&self.environment))?.0)
    }

    fn signal(&self, name: &str) -> io::Result<()> {
        Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().map(drop)
    }

    fn exit_code(&mut self) -> io::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }
}

/// The line of the log that says where the server listens.
pub(super) fn started(log: &mut impl BufRead) -> io::Result<serde_json::Value> {
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(&line?)?;
        if text(&line, "message") == "otpd serves" {
            return Ok(line);
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

pub(super) fn text<'a>(line: &'a serde_json::Value, field: &str) -> &'a str {
    line.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
}

fn plain<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn serves_answers_probes_and_drains_on_each_signal() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start("0s").unwrap();
        assert!(server.until("200"));
        assert_eq!(server.probe("/livez").unwrap(), "200");
        assert_eq!(server.probe("/metrics").unwrap(), "200");
        assert_eq!(server.health(&["health"]).unwrap(), Some(0));
        assert_eq!(server.health(&["health", "--live"]).unwrap(), Some(0));
        server.signal(signal).unwrap();
        assert_eq!(server.exit_code().unwrap(), Some(0));
        assert_eq!(server.health(&["health"]).unwrap(), Some(1));
    }
}

#[test]
fn keeps_serving_while_it_drains_and_a_second_signal_ends_it() {
    let mut server = Server::start("60s").unwrap();
    assert!(server.until("200"));
    server.signal("TERM").unwrap();
    assert!(server.until("503"));
    assert_eq!(server.probe("/livez").unwrap(), "200");
    assert_eq!(server.health(&["health"]).unwrap(), Some(1));
    server.signal("TERM").unwrap();
    assert_eq!(server.exit_code().unwrap(), Some(1));
}

#[test]
fn a_port_that_is_taken_fails_the_start() {
    let server = Server::start("0s").unwrap();
    assert!(server.until("200"));
    let mut environment = plain(&server.environment);
    environment.retain(|(name, _)| *name != "OTPD__STORE__URL");
    let folder = tempfile::tempdir().unwrap();
    let ended = otpd(&[], &environment).current_dir(folder.path()).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("server.listen: cannot listen on 127.0.0.1:"));
}

/// gRPC clients that check health keep one such stream open for as long as they live.
#[tokio::test]
async fn a_watched_health_does_not_hold_up_the_drain() {
    let mut server = Server::start("0s").unwrap();
    assert!(server.until("200"));
    let channel = Endpoint::from_shared(format!("http://{}", server.grpc())).unwrap().connect().await.unwrap();
    let request = HealthCheckRequest { service: "otp.v1.OtpService".to_owned() };
    let mut watched = HealthClient::new(channel).watch(request).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    server.signal("TERM").unwrap();
    let told = watched.message().await.unwrap().map(|answer| answer.status());
    assert_eq!(told, Some(ServingStatus::NotServing));
    assert_eq!(watched.message().await.unwrap(), None);
    let ended = tokio::task::spawn_blocking(move || server.exit_code());
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the drain takes its whole time-out");
    assert_eq!(ended.unwrap().unwrap(), Some(0));
}
