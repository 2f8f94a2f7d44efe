//! The image's command line, as the Dockerfile has it: in a root that nobody can write to, as a user without privileges.
//!
//! The root holds what the base image would: the C library, which `ldd` names. It needs root, or sudo, for a mount. No engine is at work:
//! no limits of one, no seccomp profile, and no network of the container's own.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use otpd::{
    config::{Config, Source},
    grpc::proto::{
        Channel, CreateChallengeRequest, Destination, EpochTimestamp, ProtocolVersion, Purpose, RequestHeader,
        destination::Destination as To, otp_service_client::OtpServiceClient,
    },
};
use tonic::transport::Endpoint;

use super::serve::{started, text};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const SETTINGS: &str = "deploy/image/otpd.toml";

/// What a container of the image is started with.
#[derive(Default)]
struct Image {
    entrypoint: Vec<String>,
    health: Vec<String>,
    environment: Vec<(String, String)>,
    user: String,
    folder: String,
    volume: String,
    /// Files of the project, and where the image has them.
    copied: BTreeMap<String, String>,
}

impl Image {
    /// What the last stage says.
    fn read() -> Self {
        let mut image = Self::default();
        let text = DOCKERFILE.replace("\\\n", " ");
        for line in text.rsplit("\nFROM ").next().unwrap_or_default().lines() {
            let (word, rest) = line.split_once(' ').unwrap_or_default();
            let list = || serde_json::from_str(rest.get(rest.find('[').unwrap_or(0)..).unwrap_or_default());
            match word {
                "ENTRYPOINT" => image.entrypoint = list().unwrap_or_default(),
                "HEALTHCHECK" => image.health = list().unwrap_or_default(),
                "VOLUME" => image.volume = list().unwrap_or_default().concat(),
                "WORKDIR" => rest.clone_into(&mut image.folder),
                "COPY" if !rest.starts_with("--from") => {
                    let (from, to) = rest.split_once(' ').unwrap_or_default();
                    image.copied.insert(from.to_owned(), to.to_owned());
                }
                "USER" => rest.clone_into(&mut image.user),
                "ENV" => {
                    let pairs = rest.split_whitespace().filter_map(|pair| pair.split_once('='));
                    image.environment.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
                }
                _ => {}
            }
        }
        image
    }

    /// The root of a container: the binary, the libraries that it needs, and two folders for mounts.
    fn unpack(&self) -> io::Result<tempfile::TempDir> {
        let root = tempfile::tempdir()?;
        let binary = env!("CARGO_BIN_EXE_otpd");
        let listed = Command::new("ldd").arg(binary).output()?.stdout;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
        let into = |path: &str| root.path().join(path.trim_start_matches('/'));
        let program = self.entrypoint.first().map_or("", String::as_str);
        let copied = self.copied.iter().map(|(from, to)| (from.as_str(), to.as_str()));
        for (from, to) in libraries.map(|path| (path, path)).chain([(binary, program)]).chain(copied) {
            fs::create_dir_all(into(to).parent().unwrap_or(root.path()))?;
            fs::copy(from, into(to))?;
        }
        fs::create_dir(into("proc"))?;
        fs::create_dir_all(into(&self.volume))?;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
        Ok(root)
    }

    /// A command in the container, with the image's variables and those given to `docker run`.
    fn command(&self, root: &Path, arguments: &[String], variables: &[(&str, &str)]) -> Command {
        let mut command = as_root("env");
        command.args(["-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        let given = variables.iter().map(|(name, value)| format!("{name}={value}"));
        command.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")).chain(given));
        command.args(["unshare", "--mount", "sh", "-euc", CONTAINER, "sh"]);
        command.arg(root).args([&self.user, &self.folder, &self.volume]).args(arguments);
        command
    }

    fn run(&self, root: &Path, arguments: &[String], variables: &[(&str, &str)]) -> io::Result<Output> {
        self.command(root, arguments, variables).output()
    }
}

/// What a container engine does with `--read-only --cap-drop ALL --security-opt no-new-privileges`: nothing can be written to but the
/// volume, and no privilege is there or to be had. Four capabilities stay in the bounding set, for `unshare` itself; after its change
/// of user the process has none of them, and can gain none.
const CONTAINER: &str = r#"
    root=$1 user=$2 folder=$3 volume=$4
    shift 4
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    mount -t tmpfs -o "mode=0700,uid=${user%:*},gid=${user#*:},size=512m" tmpfs "$root$volume"
    exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+sys_chroot,+dac_read_search,+setgid,+setuid \
        unshare --root="$root" --wd="$folder" --setgid="${user#*:}" --setuid="${user%:*}" "$@"
"#;

/// Whether a test may mount. Where CI is set, it must.
fn may_mount() -> bool {
    let may = as_root("unshare").args(["--mount", "true"]).output().is_ok_and(|tried| tried.status.success());
    assert!(may || !super::is_continuous_integration(), "a mount needs root or sudo");
    may
}

/// A program with the rights of root.
fn as_root(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// A container that runs. Ends when dropped.
struct Container(Child);

impl Container {
    fn end(&mut self) -> io::Result<Option<i32>> {
        as_root("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        Ok(self.0.wait()?.code())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = as_root("kill").args(["-KILL", &self.0.id().to_string()]).status();
            let _ = self.0.wait();
        }
    }
}

fn login() -> CreateChallengeRequest {
    let header = RequestHeader {
        protocol_version: Some(ProtocolVersion { major: 1, ..ProtocolVersion::default() }),
        request_id: "container-1".to_owned(),
        request_timestamp: Some(EpochTimestamp { epoch_millis: 1_481_899_949_606 }),
        payment_integrator_account_id: "acme".to_owned(),
    };
    let destination = Destination {
        channel: Channel::Sms.into(),
        challenge_option_id: "sms".to_owned(),
        destination: Some(To::PhoneNumber("+14155550100".to_owned())),
    };
    CreateChallengeRequest {
        request_header: Some(header),
        account_id: "person-1".to_owned(),
        purpose: Purpose::Login.into(),
        destinations: vec![destination],
        send_otp: true,
        ..CreateChallengeRequest::default()
    }
}

#[test]
fn the_image_is_not_run_by_root_and_says_where_it_listens() {
    let image = Image::read();
    assert_eq!((image.user.as_str(), image.volume.as_str()), ("65532:65532", "/var/lib/otpd"));
    assert_eq!(image.folder, image.volume);
    let variable =
        |name: &str| image.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    // No others: they would win over a configuration file that is mounted.
    let known: Vec<&str> = image.environment.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(known, ["OTPD_CONFIG", "OTPD__PROFILE"]);
    assert_eq!(variable("OTPD__PROFILE"), Some("production"));
    assert_eq!(variable("OTPD_CONFIG"), image.copied.get(SETTINGS).map(String::as_str));
    let source =
        Source { file: Some((SETTINGS.to_owned(), fs::read_to_string(SETTINGS).unwrap())), ..Source::default() };
    let config = Config::load(&source).unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:50051");
    assert_eq!(config.operations.listen.to_string(), "0.0.0.0:9464");
    for line in ["EXPOSE 50051 9464", "STOPSIGNAL SIGTERM"] {
        assert!(DOCKERFILE.lines().any(|found| found == line), "{line}");
    }
    let manifest = include_str!("../../Cargo.toml");
    let oldest = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).unwrap();
    let builder = format!("ARG BUILDER=docker.io/library/rust:{oldest}-slim-bookworm");
    assert!(DOCKERFILE.lines().any(|line| line == builder), "{builder}");
    let release = include_str!("../../.github/workflows/release.yml");
    assert!(release.contains(&format!("container: docker.io/library/rust:{oldest}-slim-bookworm\n")));
}

#[tokio::test]
async fn the_image_serves_from_a_root_that_it_cannot_write_to() {
    if !may_mount() {
        return eprintln!("skipped: a mount needs root or sudo");
    }
    let image = Image::read();
    let root = image.unpack().unwrap();

    // Without settings it refuses what is fit for development only, and says so.
    let bare = image.run(root.path(), &image.entrypoint, &[]).unwrap();
    let complaint = String::from_utf8_lossy(&bare.stderr).into_owned();
    assert_eq!(bare.status.code(), Some(64), "{complaint}");
    assert!(complaint.contains("OTPD_MASTER_KEYS: required") && complaint.contains("providers: none"), "{complaint}");
    // Nothing but the volume can be written to.
    let trial = ("OTPD__PROFILE", "development");
    let ports = [("OTPD__SERVER__LISTEN", "0.0.0.0:0"), ("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0")];
    let elsewhere = [trial, ports[0], ports[1], ("OTPD__STORE__URL", "embedded:/elsewhere")];
    let refused = image.run(root.path(), &image.entrypoint, &elsewhere).unwrap();
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && complaint.contains("Read-only file system"), "{complaint}");

    let variables = [trial, ports[0], ports[1], ("OTPD__LOG__FORMAT", "json"), ("OTPD__SERVER__DRAIN_DELAY", "0s")];
    let mut command = image.command(root.path(), &image.entrypoint, &variables);
    let mut container = Container(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(container.0.stderr.take().unwrap());
    let address = text(&started(&mut log).unwrap(), "grpc").to_owned();
    if rustix::process::geteuid().is_root() {
        let status = fs::read_to_string(format!("/proc/{}/status", container.0.id())).unwrap();
        for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "Uid:\t65532\t65532"] {
            assert!(status.contains(line), "{line}: {status}");
        }
    }
    let reading = std::thread::spawn(move || log.read_to_end(&mut Vec::new()));

    let port = address.rsplit(':').next().unwrap();
    let here = [trial, ("OTPD__SERVER__LISTEN", address.as_str())];
    let is_healthy = (0..100).any(|_| {
        let asked = image.run(root.path(), &image.health, &here).unwrap();
        asked.status.success() || {
            sleep(Duration::from_millis(100));
            false
        }
    });
    assert!(is_healthy, "{:?} fails", image.health);

    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    let mut client = OtpServiceClient::new(endpoint.connect().await.unwrap());
    client.create_challenge(login()).await.unwrap();
    let mut printed = String::new();
    BufReader::new(container.0.stdout.take().unwrap()).read_line(&mut printed).unwrap();
    assert!(printed.starts_with("otpd console: to=+14155550100 code="), "{printed}");

    // Not on the thread of the client, whose connection is to end, too.
    drop(client);
    let ended = tokio::task::spawn_blocking(move || container.end());
    assert_eq!(ended.await.unwrap().unwrap(), Some(0));
    reading.join().unwrap().unwrap();
}

/// As docs/deployment.md, "Container", tells it: settings in place of the image's own, and the master keys in a file.
#[test]
fn the_image_takes_settings_and_secrets_that_are_mounted() {
    if !may_mount() {
        return eprintln!("skipped: a mount needs root or sudo");
    }
    let (mut image, folder) = (Image::read(), tempfile::tempdir().unwrap());
    let settings = format!(
        "[callers.shop]\nidentities = [\"token-sha256:{}\"]\ntenants = [\"acme\"]\n[tenants.acme]\n[server]\n\
         listen = \"0.0.0.0:50051\"\n[providers.console]\n[force]\nconsole_provider = true\n",
        "ab".repeat(32)
    );
    let key = super::run(&["generate-key"], &[]).unwrap().1;
    image.copied.remove(SETTINGS);
    for (name, content, place) in
        [("otpd.toml", &settings, "/etc/otpd/otpd.toml"), ("master-keys", &key, "/run/secrets/master-keys")]
    {
        fs::write(folder.path().join(name), content).unwrap();
        image.copied.insert(folder.path().join(name).display().to_string(), place.to_owned());
    }
    let root = image.unpack().unwrap();
    let command = [&image.entrypoint[..], &["check-config".to_owned()]].concat();
    let keys = ("OTPD_MASTER_KEYS_FILE", "/run/secrets/master-keys");

    let refused = image.run(root.path(), &command, &[keys]).unwrap();
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && complaint.contains("plain_tokens"), "{complaint}");
    let taken = image.run(root.path(), &command, &[keys, ("OTPD__FORCE__PLAIN_TOKENS", "true")]).unwrap();
    let said = String::from_utf8_lossy(&taken.stdout).into_owned();
    assert!(taken.status.success() && said.contains("\nprofile: production\n"), "{taken:?}");
}
