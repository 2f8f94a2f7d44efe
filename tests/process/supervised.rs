//! What a supervisor such as systemd is told: the test listens in its stead.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::otpd;

/// The socket of a supervisor.
pub(super) struct Told(UnixDatagram);

impl Told {
    /// Listens on a path.
    pub(super) fn at(path: &std::path::Path) -> io::Result<Self> {
        Self::on(UnixDatagram::bind(path)?)
    }

    fn on(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(socket))
    }

    /// The next message.
    pub(super) fn next(&self) -> io::Result<String> {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message)?;
        Ok(String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned())
    }

    /// Waits for a message, past others.
    pub(super) fn until(&self, expected: &str) -> io::Result<()> {
        while self.next()? != expected {}
        Ok(())
    }
}

/// Asks a process to end, and waits for it.
pub(super) fn end(child: &mut Child) -> io::Result<Option<i32>> {
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    Ok(child.wait()?.code())
}

fn start(store: &str, variables: &[(&str, &str)]) -> io::Result<Child> {
    let mut environment = vec![
        ("OTPD__SERVER__LISTEN", "127.0.0.1:0"),
        ("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0"),
        ("OTPD__SERVER__DRAIN_DELAY", "0s"),
        ("OTPD__STORE__URL", store),
    ];
    environment.extend_from_slice(variables);
    otpd(&["serve"], &environment).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[test]
fn a_supervisor_is_told_of_start_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let told = Told::at(&path).unwrap();
    let socket = path.display().to_string();
    let store = format!("embedded:{}", folder.path().join("store").display());
    let mut child = start(&store, &[("NOTIFY_SOCKET", &socket), ("WATCHDOG_USEC", "200000")]).unwrap();

    let first = told.next().unwrap();
    assert!(first.starts_with("READY=1\nSTATUS="), "{first}");
    if first != "READY=1\nSTATUS=serving" {
        told.until("STATUS=serving").unwrap();
    }
    told.until("WATCHDOG=1").unwrap();
    told.until("WATCHDOG=1").unwrap();
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    told.until("STOPPING=1\nSTATUS=draining").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// Whoever starts after otpd is not kept waiting for a store that is away.
#[test]
fn a_store_that_is_away_shows_in_the_status_of_a_server_that_has_started() {
    let name = format!("otpd-supervised-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let told = Told::on(UnixDatagram::bind_addr(&address).unwrap()).unwrap();
    let socket = format!("@{name}");
    let key = ("OTPD_MASTER_KEYS", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    // Another process is to tell the watchdog.
    let watchdog = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let variables = [("NOTIFY_SOCKET", socket.as_str()), key, watchdog[0], watchdog[1]];
    let mut child = start("redis://127.0.0.1:1", &variables).unwrap();
    assert_eq!(told.next().unwrap(), "READY=1\nSTATUS=not ready: starting");
    assert_eq!(end(&mut child).unwrap(), Some(0));
    assert_eq!(told.next().unwrap(), "STOPPING=1\nSTATUS=draining");
}

#[test]
fn a_supervisor_that_cannot_be_told_is_no_reason_not_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let (store, nobody) = (folder.path().join("store"), folder.path().join("nobody"));
    let environment = [
        ("OTPD__SERVER__LISTEN", "127.0.0.1:0"),
        ("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0"),
        ("OTPD__SERVER__DRAIN_DELAY", "0s"),
        ("OTPD__STORE__URL", &format!("embedded:{}", store.display())),
        ("NOTIFY_SOCKET", nobody.to_str().unwrap()),
    ];
    let mut child = otpd(&["serve"], &environment).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let read = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    let is_told = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        read().contains("NOTIFY_SOCKET cannot be used")
    });
    assert!(is_told && read().contains("otpd serves"), "{}", read());
    assert_eq!(end(&mut child).unwrap(), Some(0));
}
