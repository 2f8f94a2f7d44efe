//! The audit of the whole binary: what stands in it, what does not, and what happens while it cannot be written.

use std::{collections::BTreeSet, fs, io, path::Path, process::Command};

use serde_json::Value;
use tokio::task::block_in_place;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    caller::{Caller, TENANT, login, verify, wrong},
    redis_cluster::Cluster,
    redis_server::{Program, RedisServer},
    secrecy::{ACCOUNT, NUMBER, all_calls, find_none, secrets},
    site::{KEY_1, KEY_2, Site, until},
    words::{sent, verified},
};

fn audited(site: Site) -> (Site, String) {
    let path = site.folder().join("audit").display().to_string();
    (site.with("OTPD__AUDIT__FILE", &path), path)
}

/// The lines of a file that are no seals.
fn events(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    events.filter(|event: &Value| event["event"] != "seal").collect()
}

fn names(events: &[Value]) -> Vec<String> {
    let words = |event: &Value| {
        let words = ["event", "outcome", "scope", "by", "reason"].map(|name| event[name].as_str());
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    events.iter().map(words).collect()
}

fn fifo(folder: &Path) -> String {
    let path = folder.join("pipe").display().to_string();
    assert!(Command::new("mkfifo").args(["-m", "600", &path]).status().unwrap().success());
    path
}

#[tokio::test]
async fn file_and_stream_have_every_decision_once_and_nothing_secret() {
    let redis = RedisServer::start();
    let site = Site::on(&redis)
        .with("OTPD__POLICY__RESEND_GAPS", "[]")
        .with("OTPD__POLICY__CODE_DIGITS", "10")
        .with("OTPD__AUDIT__REQUIRED", "true")
        .with("OTPD__AUDIT__STREAM", "audit-of-the-tests");
    let (site, path) = audited(site);
    let mut server = site.start();
    let (_, codes) = all_calls(&site, &Caller::of(&server).await).await;
    // Each answer has waited for its events.
    let told = events(&path);
    assert_eq!(
        names(&told),
        [
            "configuration",
            "challenge success",
            "send accepted",
            "send accepted",
            "attempt otp_not_matched",
            "attempt invalid_identifier",
            "look account",
            "lock account operator a test",
            "attempt account_locked",
            "quota_clear account a test",
            "unlock account a test",
            "look contact",
            "challenge success",
            "send accepted",
            "attempt otp_not_matched",
        ]
    );
    let values = |name: &str, range: &[usize]| -> BTreeSet<String> {
        range.iter().map(|index| told[*index][name].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(values("tenant", &[1, 6, 14]).into_iter().collect::<Vec<_>>(), [TENANT]);
    assert_eq!(values("challenge", &[1, 2, 3, 4, 5, 8]).len(), 1);
    assert_eq!(values("account", &[1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14]).len(), 1);
    assert_eq!(values("contact", &[12, 13, 14]).len(), 1);
    assert!(told.iter().skip(1).all(|event| event["x_request_id"].is_string()));
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));

    let stream = redis.cli(&["XRANGE", "audit-of-the-tests", "-", "+"]);
    let lines = stream.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let streamed: Vec<Value> = lines.filter(Value::is_object).collect();
    assert_eq!(names(&streamed), names(&told));
    let secrets = secrets(codes);
    find_none("the file", &fs::read(&path).unwrap(), &secrets);
    find_none("the stream", stream.as_bytes(), &secrets);
    find_none("the log", server.log().as_bytes(), &secrets);

    // Support finds a person's lines.
    let tag = |arguments: &[&str]| {
        let printed = site.command(&[&["tag"], arguments].concat());
        assert!(printed.status.success(), "{printed:?}");
        String::from_utf8(printed.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(tag(&["account", TENANT, ACCOUNT]), told[1]["account"]);
    assert_eq!(tag(&["challenge", TENANT, "registration"]), told[12]["challenge"]);
    assert_eq!(tag(&["contact", TENANT, NUMBER]), told[11]["contact"]);
    assert!(!site.command(&["tag", "contact", TENANT, "+1"]).status.success());
}

#[tokio::test]
async fn verify_says_whether_files_are_whole_and_where_not() {
    let (mut site, path) = audited(Site::embedded().with("OTPD_MASTER_KEYS", KEY_1));
    for round in 0..2 {
        let mut server = site.start();
        Caller::of(&server).await.sent(&format!("c{round}"), ACCOUNT, NUMBER).await;
        server.terminate();
        assert_eq!(server.exit_code().await, Some(0));
    }
    let whole = fs::read_to_string(&path).unwrap();
    let report = |site: &Site| {
        let verified = site.command(&["audit", "verify", &path]);
        let text = String::from_utf8([verified.stdout, verified.stderr].concat()).unwrap();
        (verified.status.code(), text)
    };
    let (code, text) = report(&site);
    let last: Value = serde_json::from_str(whole.lines().last().unwrap()).unwrap();
    assert!(text.contains(&format!("last: 8 {}", last["hash"].as_str().unwrap())), "{text}");
    assert!(text.contains("seals: 2 of 2 are right; lines after the last: 0\nwhole\n"), "{text}");
    assert_eq!(code, Some(0));
    for (changed, told) in [
        (whole.replacen("accepted", "rejected", 1), "audit:3: the line was changed"),
        (
            whole.split_inclusive('\n').filter(|line| !line.contains("\"seq\":3,")).collect(),
            "audit:3: this is line 4 of the chain, and 3 to 3 are missing",
        ),
        (whole[..whole.len() - 3].to_owned(), "audit:8: the line is cut off"),
    ] {
        fs::write(&path, changed).unwrap();
        let (code, text) = report(&site);
        assert!(text.contains(told) && text.contains("NOT WHOLE"), "{text}");
        assert_eq!(code, Some(1));
    }
    fs::write(&path, whole).unwrap();
    site.set("OTPD_MASTER_KEYS", &KEY_2.replace("2:", "1:"));
    assert!(report(&site).1.contains("the seal was not made with these keys"));
    site.set("OTPD_MASTER_KEYS", &format!("{KEY_2},{KEY_1}"));
    assert_eq!(report(&site).0, Some(0));
    assert_eq!(site.command(&["audit", "verify", "nowhere"]).status.code(), Some(1));
}

#[tokio::test]
async fn what_must_be_kept_and_cannot_be_is_not_told_until_it_is() {
    let site = Site::embedded().with("OTPD__AUDIT__REQUIRED", "true");
    let pipe = fifo(site.folder());
    let site = site.with("OTPD__AUDIT__FILE", &pipe);
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", ACCOUNT, NUMBER).await;
    // A pipe takes some 64 KiB that nobody reads.
    let mut status = None;
    for _ in 0..1000 {
        if let Err(refused) = caller.account("somebody").await {
            status = Some(refused);
            break;
        }
    }
    let status = status.expect("a refusal");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "STORE_UNAVAILABLE");
    assert!(status.get_details_retry_info().is_some());
    until("not ready", async || server.get("/readyz").contains("audit")).await;
    // Refused before any work: the attempt is not used up.
    let code = site.code(NUMBER);
    let guess = || caller.verify(verify("v", "c", &wrong(&code, 0)));
    assert_eq!(verified(&guess().await), "Unavailable STORE_UNAVAILABLE");
    assert!(caller.challenge("c").await.is_err());

    let mut reader = fs::File::open(&pipe).unwrap();
    let (sender, read) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut block = [0; 4096];
        while let Ok(length) = io::Read::read(&mut reader, &mut block) {
            text.extend_from_slice(&block[..length]);
            if sender.send(text.clone()).is_err() || length == 0 {
                return;
            }
        }
    });
    until("ready", async || server.get("/readyz").contains("serving")).await;
    assert_eq!(verified(&guess().await), "otp_not_matched");
    assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 1);
    let mut text = Vec::new();
    until("the event", async || {
        text = read.try_iter().last().unwrap_or_else(|| text.clone());
        String::from_utf8_lossy(&text).contains("otp_not_matched")
    })
    .await;
    // What could not be told was decided all the same, and is there.
    let text = String::from_utf8(text).unwrap();
    assert!(text.lines().filter(|line| line.contains("\"event\":\"look\"")).count() > 50);
    assert!(!text.contains("\"event\":\"gap\""));
}

#[tokio::test]
async fn a_disk_that_is_full_stops_only_what_must_be_kept() {
    for required in ["true", "false"] {
        let site = Site::embedded().with("OTPD__AUDIT__REQUIRED", required).with("OTPD__AUDIT__FILE", "/dev/full");
        let server = site.start();
        let caller = Caller::of(&server).await;
        let failed = "otp_audit_events_total{sink=\"file\",outcome=\"failed\"} ";
        until("a failed write", async || !server.get("/metrics").contains(&format!("{failed}0"))).await;
        assert!(server.get("/metrics").contains("otp_audit_failing{sink=\"file\"} 1"));
        let created = caller.create(login("c", ACCOUNT, NUMBER)).await;
        if required == "true" {
            assert_eq!(created.unwrap_err().code(), Code::Unavailable);
            until("not ready", async || server.get("/readyz").contains("audit")).await;
        } else {
            assert!(created.is_ok());
            assert_eq!(sent(&caller.send(crate::caller::send("s", "c")).await), "success");
            assert!(server.get("/readyz").contains("serving"));
        }
    }
}

/// A file that may not grow: the last write stops in the middle of a line.
#[tokio::test]
async fn what_was_written_by_half_is_cut_off_and_written_again() {
    let redis = RedisServer::start();
    let (site, path) = audited(Site::on(&redis).with("OTPD__AUDIT__REQUIRED", "true"));
    let mut server = site.start_after("trap '' XFSZ");
    let may_have = |bytes: &str| {
        let limit =
            Command::new("prlimit").args(["--pid", &server.id().to_string(), &format!("--fsize={bytes}")]).status();
        assert!(limit.unwrap().success());
    };
    // The limit is within the next event.
    let length = fs::metadata(&path).unwrap().len();
    may_have(&format!("{}:unlimited", length + 100));
    let caller = Caller::of(&server).await;
    assert_eq!(caller.account("somebody").await.unwrap_err().code(), Code::Unavailable);
    // Each new try cuts it off and stops there again.
    until("the beginning of a line", async || fs::metadata(&path).unwrap().len() == length + 100).await;
    may_have("unlimited");
    until("calls are answered again", async || caller.account("somebody").await.is_ok()).await;
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    assert!(site.command(&["audit", "verify", &path]).status.success());
    let looks = events(&path).iter().filter(|event| event["event"] == "look").count();
    assert!(looks >= 2, "the one that was not answered as well: {looks}");
}

#[tokio::test]
async fn a_stream_stays_about_as_long_as_it_may() {
    let redis = RedisServer::start();
    let site = Site::on(&redis).with("OTPD__AUDIT__STREAM", "{audit}").with("OTPD__AUDIT__STREAM_MAX_LENGTH", "100");
    let server = site.start();
    let caller = Caller::of(&server).await;
    for _ in 0..500 {
        drop(caller.account("somebody").await);
    }
    let last = "otp_audit_events_total{sink=\"stream\",outcome=\"written\"} 501";
    until("all are written", async || server.get("/metrics").contains(last)).await;
    let length: u32 = redis.cli(&["XLEN", "{audit}"]).trim().parse().unwrap();
    assert!((100..=300).contains(&length), "{length}");
}

#[test]
fn settings_that_cannot_be_kept_are_mistakes() {
    for (settings, told) in [
        (
            &[("OTPD__AUDIT__REQUIRED", "true")][..],
            "audit.required (OTPD__AUDIT__REQUIRED): needs a file: set audit.file",
        ),
        (&[("OTPD__AUDIT__STREAM", "audit")], "audit.stream (OTPD__AUDIT__STREAM): needs a Redis"),
        (&[("OTPD__AUDIT__STREAM", "two words")], "audit.stream (OTPD__AUDIT__STREAM): must be 1 to 100 of"),
        (
            &[("OTPD__AUDIT__MAX_FILE_BYTES", "1000")],
            "audit.max_file_bytes (OTPD__AUDIT__MAX_FILE_BYTES): must be 1048576 to",
        ),
    ] {
        let site = settings.iter().fold(Site::embedded(), |site, (name, value)| site.with(name, value));
        let told_of = String::from_utf8(site.command(&["check-config"]).stderr).unwrap();
        assert!(told_of.contains(told), "{told_of}");
    }
    // A file that cannot be had ends the start.
    let site = Site::embedded().with("OTPD__AUDIT__FILE", "/nowhere/audit");
    let ended = site.run();
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8(ended.stderr).unwrap().contains("audit: /nowhere/audit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_in_a_cluster_is_in_one_slot() {
    let cluster = block_in_place(|| Cluster::start(Program::Redis));
    let site = Site::at(&cluster.url()).with("OTPD__AUDIT__STREAM", "audit");
    let server = site.start();
    let caller = Caller::of(&server).await;
    caller.sent("c", ACCOUNT, NUMBER).await;
    let last = "otp_audit_events_total{sink=\"stream\",outcome=\"written\"} 3";
    until("all are written", async || server.get("/metrics").contains(last)).await;
    let lengths = cluster.masters().into_iter().map(|master| cluster.cli(master, &["XLEN", "audit"]));
    assert_eq!(lengths.filter(|length| length.trim() == "3").count(), 1);
}
