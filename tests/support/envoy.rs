//! A real Envoy of the test's own, which runs a file of deploy/envoy on ports of the loopback.
//!
//! The file is run as it is shipped, but for ports, addresses, names, paths and spans. Each of these is there exactly once, or the test fails.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use otpd::ports::clock::Deadline;

use crate::redis_server::Port;

/// Before all replicas.
pub(crate) const FRONT: &str = "front.yaml";
/// Beside one of them.
pub(crate) const SIDECAR: &str = "sidecar.yaml";

/// Texts of a shipped file, and what stands there in their stead.
pub(crate) type Edits<'a> = &'a [(&'a str, &'a str)];

/// Replicas are asked for their health so often that a test need not wait for it.
pub(crate) const CHECKED_OFTEN: Edits = &[
    ("- interval: 1s", "- interval: 0.25s"),
    ("no_traffic_interval: 1s", "no_traffic_interval: 0.25s"),
    ("unhealthy_interval: 1s", "unhealthy_interval: 0.25s"),
];
/// Replicas are asked for their health once, and what goes to and fro afterwards are the test's own calls.
pub(crate) const CHECKED_ONCE: Edits = &[
    ("- interval: 1s", "- interval: 3600s"),
    ("no_traffic_interval: 1s", "no_traffic_interval: 3600s"),
    ("unhealthy_interval: 1s", "unhealthy_interval: 3600s"),
];

/// Where an otpd with a sidecar listens.
pub(crate) enum Beside {
    Port(u16),
    Socket(PathBuf),
}

/// A running Envoy. Ends when dropped.
pub(crate) struct Envoy {
    child: Child,
    callers: Port,
    admin: Port,
    folder: tempfile::TempDir,
}

impl Envoy {
    /// Starts one before these replicas; nothing where `SKIP_ENVOY=1` says that its tests are left out. A missing program is no
    /// reason to leave them out: they fail, and say what to do.
    pub(crate) fn front(replicas: [u16; 2], edits: Edits) -> Option<Self> {
        let folder = folder();
        let files = files_of_front(folder.path());
        let [one, two] = replicas.map(port);
        let own = [("port_value: 50051", one.as_str()), ("port_value: 50053", two.as_str())];
        let edits = [&borrowed(&files), &own[..], edits].concat();
        Self::start(FRONT, text_of(FRONT), "port_value: 8080", folder, &edits)
    }

    /// The same, with what stands in its comments for encryption on both sides: it shows `tls.pem` of a folder, and to the replicas,
    /// which are `localhost` and signed by `ca.pem`, that of the folder's folder `front`.
    pub(crate) fn encrypted_front(replicas: [u16; 2], certificates: &Path) -> Option<Self> {
        let folder = folder();
        let files = [files_of_front(folder.path()), files_of_encryption(certificates)].concat();
        let [one, two] = replicas.map(port);
        let own = [("port_value: 50051", one.as_str()), ("port_value: 50053", two.as_str())];
        let edits = [&borrowed(&files), &own[..], CHECKED_OFTEN].concat();
        Self::start(FRONT, uncommented(&text_of(FRONT)), "port_value: 8080", folder, &edits)
    }

    /// Starts one beside an otpd, which shows `tls.pem` of a folder and asks for certificates of `ca.pem`.
    pub(crate) fn sidecar(otpd: &Beside, certificates: &Path) -> Option<Self> {
        let address = match otpd {
            Beside::Port(number) => format!("{{socket_address: {{address: 127.0.0.1, port_value: {number}}}}}"),
            Beside::Socket(path) => format!("{{pipe: {{path: {}}}}}", path.display()),
        };
        let files = files_of_sidecar(certificates);
        let own = ("{socket_address: {address: 127.0.0.1, port_value: 50051}}", address.as_str());
        Self::start(SIDECAR, text_of(SIDECAR), "port_value: 8443", folder(), &[&borrowed(&files)[..], &[own]].concat())
    }

    fn start(file: &str, text: String, listens: &str, folder: tempfile::TempDir, edits: Edits) -> Option<Self> {
        if is_skipped() {
            return None;
        }
        let (callers, admin) = (Port::reserve(), Port::reserve());
        let ports = [port(callers.number()), port(admin.number())];
        let [at_callers, at_admin] = ports.each_ref().map(String::as_str);
        let own = [(listens, at_callers), ("port_value: 9901", at_admin), ("address: 0.0.0.0", "address: 127.0.0.1")];
        let path = write(file, text, folder.path(), &[&own, edits].concat());
        let create = |name: &str| fs::File::create(folder.path().join(name)).expect("a file");
        let mut command = Command::new(program());
        command.arg("-c").arg(&path).args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        // So that a test need not wait 10 s for the line of a call.
        command.args(["--file-flush-interval-msec", "50"]);
        command.stdin(Stdio::null()).stdout(create("access")).stderr(create("log"));
        let child = command.spawn().unwrap_or_else(|error| missing(&error));
        let mut envoy = Self { child, callers, admin, folder };
        envoy.wait_ready();
        Some(envoy)
    }

    /// Where callers connect to.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// The port of that.
    pub(crate) fn port(&self) -> u16 {
        self.callers.number()
    }

    /// A number of its statistics, of the replicas: such as `membership_healthy`.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let name = format!("cluster.otpd.{name}");
        let answer = self.ask(&format!("/stats?filter=^{name}$"));
        let line = answer.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}: {answer}"))
    }

    fn wait_ready(&mut self) {
        let deadline = Deadline::after(Duration::from_secs(30));
        while !self.ask("/ready").starts_with("HTTP/1.1 200") {
            let has_ended = self.child.try_wait().expect("a child").is_some();
            assert!(!has_ended && !deadline.remaining().is_zero(), "Envoy did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its access log: an object for each call.
    pub(crate) fn access(&self) -> String {
        fs::read_to_string(self.folder.path().join("access")).unwrap_or_default()
    }

    fn ask(&self, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.admin.number()))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nhost: envoy\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}

/// What Envoy itself says of a shipped file, in which nothing is replaced but where its files are. Nothing where its tests are left
/// out.
pub(crate) fn validate(file: &str, certificates: &Path) -> Option<Output> {
    if is_skipped() {
        return None;
    }
    let folder = folder();
    let files = if file == FRONT { files_of_front(folder.path()) } else { files_of_sidecar(certificates) };
    let path = write(file, text_of(file), folder.path(), &borrowed(&files));
    let mut command = Command::new(program());
    Some(command.args(["--mode", "validate", "-c"]).arg(path).output().unwrap_or_else(|error| missing(&error)))
}

/// The descriptor set comes from the binary, as its users get it.
fn files_of_front(folder: &Path) -> Vec<(String, String)> {
    let described = Command::new(env!("CARGO_BIN_EXE_otpd")).arg("descriptor").output().expect("the binary");
    assert!(described.status.success(), "{described:?}");
    let set = folder.join("otpd.binpb");
    fs::write(&set, described.stdout).expect("the file is written");
    let script = |name: &str| (format!("/etc/envoy/{name}}}"), format!("{}}}", shipped(name).display()));
    let set = ("proto_descriptor: /etc/envoy/otpd.binpb".to_owned(), format!("proto_descriptor: {}", set.display()));
    vec![script("requests.lua"), script("errors.lua"), set]
}

fn files_of_sidecar(certificates: &Path) -> Vec<(String, String)> {
    vec![
        named_file(certificates, "certificate_chain", "tls.pem", "tls.pem"),
        named_file(certificates, "private_key", "tls.key", "tls.key"),
        named_file(certificates, "trusted_ca", "callers-ca.pem", "ca.pem"),
    ]
}

fn files_of_encryption(certificates: &Path) -> Vec<(String, String)> {
    let name = |text: &str| (text.replace("NAME", "otpd.example.org"), text.replace("NAME", "localhost"));
    vec![
        named_file(certificates, "certificate_chain", "tls.pem", "tls.pem"),
        named_file(certificates, "private_key", "tls.key", "tls.key"),
        named_file(certificates, "certificate_chain", "front.pem", "front/tls.pem"),
        named_file(certificates, "private_key", "front.key", "front/tls.key"),
        named_file(certificates, "trusted_ca", "replicas-ca.pem", "ca.pem"),
        name("sni: NAME"),
        name("{exact: NAME}"),
    ]
}

/// What a file of /etc/envoy is for, and the file of a folder that is used in its stead.
fn named_file(folder: &Path, key: &str, shipped: &str, own: &str) -> (String, String) {
    let line = |path: &str| format!("{key}: {{filename: {path}}}");
    (line(&format!("/etc/envoy/{shipped}")), line(&folder.join(own).display().to_string()))
}

fn borrowed(edits: &[(String, String)]) -> Vec<(&str, &str)> {
    edits.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect()
}

fn port(number: u16) -> String {
    format!("port_value: {number}")
}

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("otpd-envoy-").tempdir().expect("a temporary folder")
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/envoy").join(name)
}

fn text_of(file: &str) -> String {
    fs::read_to_string(shipped(file)).expect("a file of deploy/envoy")
}

/// With each block that a comment `# transport_socket:` begins, as whoever uses it would have it.
fn uncommented(text: &str) -> String {
    let (mut lines, mut is_inside, mut blocks) = (Vec::new(), false, 0);
    for line in text.lines() {
        let begins = line.trim_start() == "# transport_socket:";
        is_inside = begins || is_inside && line.trim_start().starts_with("#   ");
        blocks += usize::from(begins);
        lines.push(if is_inside { line.replacen("# ", "", 1) } else { line.to_owned() });
    }
    assert_eq!(blocks, 2, "towards callers, and towards replicas");
    lines.join("\n")
}

fn write(file: &str, text: String, folder: &Path, edits: Edits) -> PathBuf {
    for (from, _) in edits {
        assert_eq!(text.matches(from).count(), 1, "{from} in {file}");
    }
    let text = edits.iter().fold(text, |text, (from, to)| text.replace(from, to));
    let path = folder.join(file);
    fs::write(&path, text).expect("the file is written");
    path
}

fn is_skipped() -> bool {
    variable("SKIP_ENVOY").as_deref() == Some("1")
}

/// Of `ENVOY_SERVER`, else the one that scripts/test has fetched, else of the system.
fn program() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/envoy");
    let named = variable("ENVOY_SERVER").map(PathBuf::from);
    named.or_else(|| fetched.exists().then_some(fetched)).unwrap_or_else(|| PathBuf::from("envoy"))
}

fn missing(error: &std::io::Error) -> ! {
    let advice =
        "run scripts/test, which fetches it; or name it in ENVOY_SERVER; or leave its tests out with SKIP_ENVOY=1";
    panic!("cannot run Envoy ({error}): these tests need it. {advice}")
}

#[expect(clippy::disallowed_methods, reason = "where a program of the tests is, is no setting of otpd")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
