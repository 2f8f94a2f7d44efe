//! `deploy/systemd`: systemd accepts the unit, and what it starts serves with the settings and secrets beside it.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use otpd::config::{Config, Source};

use super::{
    otpd,
    supervised::{Told, end},
};

const UNIT: &str = include_str!("../../deploy/systemd/otpd.service");
const SETTINGS: &str = include_str!("../../deploy/systemd/otpd.toml");

/// The values of a setting of the unit, in their order.
fn values<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// What systemd calls `%d`, with the files that `LoadCredential` names.
fn credentials(folder: &Path) -> io::Result<()> {
    let key = otpd(&["generate-key"], &[]).output()?.stdout;
    fs::write(folder.join("master-keys"), key)?;
    fs::write(folder.join("sms-auth-token"), "secret\n")
}

/// A text of `deploy/systemd` with the test's own paths and ports.
fn of_the_test(text: &str, folder: &Path) -> String {
    let folder = folder.display().to_string();
    let replaced = text.replace("/usr/local/bin/otpd", env!("CARGO_BIN_EXE_otpd"));
    let replaced = replaced.replace("/etc/otpd/", &format!("{folder}/")).replace("%d/", &format!("{folder}/"));
    let replaced = replaced.replace("/var/lib/otpd", &format!("{folder}/store"));
    replaced.replace("/var/log/otpd", &folder).replace("127.0.0.1:50051", "127.0.0.1:0")
}

#[test]
fn what_the_unit_starts_serves_in_production_and_tells_so() {
    let folder = tempfile::tempdir().unwrap();
    credentials(folder.path()).unwrap();
    let unit = of_the_test(UNIT, folder.path());
    fs::write(folder.path().join("otpd.toml"), of_the_test(SETTINGS, folder.path())).unwrap();
    let told = Told::at(&folder.path().join("notify")).unwrap();
    let socket = folder.path().join("notify").display().to_string();
    let mut environment: Vec<(&str, &str)> =
        values(&unit, "Environment").into_iter().filter_map(|pair| pair.split_once('=')).collect();
    environment.extend([("NOTIFY_SOCKET", socket.as_str()), ("OTPD__OPERATIONS__LISTEN", "127.0.0.1:0")]);
    environment.push(("OTPD__SERVER__DRAIN_DELAY", "0s"));
    let command: Vec<&str> = values(&unit, "ExecStart")[0].split(' ').collect();

    let checked = otpd(&[&command[1..], &["check-config"]].concat(), &environment).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("profile: production") && complained.is_empty(), "{said}{complained}");
    let mut child = otpd(&command[1..], &environment).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(told.next().unwrap().starts_with("READY=1\n"));
    let reload = values(&unit, "ExecReload")[0].replace("$MAINPID", &child.id().to_string());
    let reload: Vec<&str> = reload.split(' ').collect();
    assert!(Command::new(reload[0]).args(&reload[1..]).status().unwrap().success());
    assert_eq!(end(&mut child).unwrap(), Some(0));
    assert!(folder.path().join("audit.jsonl").exists());
}

#[test]
fn every_credential_of_the_unit_is_used_and_every_one_used_is_loaded() {
    let loaded = values(UNIT, "LoadCredential").into_iter().filter_map(|value| value.split_once(':'));
    let loaded: Vec<&str> =
        loaded.inspect(|(name, path)| assert!(path.ends_with(name))).map(|(name, _)| name).collect();
    let used: Vec<&str> = values(UNIT, "Environment")
        .into_iter()
        .filter_map(|value| value.split_once("%d/"))
        .map(|(_, name)| name)
        .collect();
    assert_eq!(loaded, used);
    assert_eq!(loaded.len(), 2);
}

#[test]
fn the_unit_leaves_the_drain_its_time() {
    let settings = SETTINGS.replace("from = ", "auth_token = \"secret\"\nfrom = ");
    let key = ("OTPD_MASTER_KEYS".to_owned(), "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned());
    let source = Source { file: Some(("otpd.toml".to_owned(), settings)), environment: vec![key] };
    let server = Config::load(&source).unwrap().server;
    let seconds: u64 = values(UNIT, "TimeoutStopSec")[0].parse().unwrap();
    // What comes after the drain takes 10 s at most: docs/operations.md, "Rollout".
    assert!(Duration::from_secs(seconds) > server.drain_delay + server.drain_timeout + Duration::from_secs(10));
}

/// `systemd-analyze` is of systemd's package. Its measure of what a service could do goes from 0 to 10.
#[test]
fn systemd_accepts_the_unit_and_finds_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("otpd.service");
    fs::write(&unit, UNIT.replace("/usr/local/bin/otpd", env!("CARGO_BIN_EXE_otpd"))).unwrap();
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    let verified = match analyze(&["verify", "--man=no"]) {
        Ok(verified) => verified,
        Err(error) if super::is_continuous_integration() => panic!("systemd-analyze: {error}"),
        Err(error) => return eprintln!("skipped: systemd-analyze: {error}"),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // Other units that ours waits for may have faults of their own on this machine.
    let said = text(&verified.stderr);
    assert!(verified.status.success() && !said.contains("otpd.service"), "{said}");
    // In tenths.
    let measured = analyze(&["security", "--offline=true", "--no-pager", "--threshold=15"]).unwrap();
    assert!(measured.status.success(), "{}{}", text(&measured.stdout), text(&measured.stderr));
}
