//! Tests of `audit`: the chain, its file, and what verifying finds.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    slice,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio_util::task::TaskTracker;

use super::{
    chain::Chain,
    verify::{AuditReport, FaultKind, verify},
    *,
};
use crate::{
    domain::{
        caller::CallerName,
        destination::Channel,
        ids::{RequestId, SupportTag, Tenant},
        outcome::Locked,
        purpose::Purpose,
        time::Timestamp,
    },
    keys::generate::generate,
    ports::{
        call::{CallOrigin, TraceParent},
        clock::SystemClock,
        decisions::LockScope,
        entropy::SystemEntropy,
        observer::{AuditOutcome, AuditSink, AuditSinkReading, AuditSinkState},
    },
};

mod seals;
mod sinks;

const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Counts([AtomicU64; 3], Mutex<Vec<(AuditSink, AuditSinkReading)>>);

impl Counts {
    fn state(&self, sink: AuditSink) -> AuditSinkState {
        self.1.lock().unwrap().iter().find(|(of, _)| *of == sink).unwrap().1()
    }

    fn of(&self, outcome: AuditOutcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}

impl AuditObserver for Counts {
    fn audited(&self, _sink: AuditSink, outcome: AuditOutcome, events: u64) {
        self.0[outcome as usize].fetch_add(events, Ordering::Relaxed);
    }

    fn sink_made(&self, sink: AuditSink, reading: AuditSinkReading) {
        self.1.lock().unwrap().push((sink, reading));
    }
}

/// Two rings of keys that nobody else has.
static KEYS: LazyLock<[Arc<KeyRing>; 2]> = LazyLock::new(|| {
    let ring = || Arc::new(KeyRing::parse(&generate(1, &SystemEntropy).unwrap(), false).unwrap());
    [ring(), ring()]
});

fn keys(number: usize) -> &'static KeyRing {
    &KEYS[number - 1]
}

fn start() -> ConfigurationStart<'static> {
    ConfigurationStart {
        version: "1",
        profile: "production",
        policy_digest: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        providers: &["sms"],
        callers: &["shop"],
        key_ids: &[2, 1],
    }
}

fn audit(options: FileOptions) -> (io::Result<Audit>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let ports =
        AuditPorts { clock: Arc::new(SystemClock), keys: Arc::clone(&KEYS[0]), observer: counts.clone(), instance: 7 };
    (Audit::start(ports, &start(), Some(options), None, &TaskTracker::new()), counts)
}

fn options(path: &Path) -> FileOptions {
    FileOptions { path: path.to_owned(), required: true, max_bytes: 1 << 30, max_files: None }
}

fn call() -> CallRecord {
    let origin = CallOrigin {
        x_request_id: "x-1".into(),
        trace: Some(TraceParent { trace_id: 10, span_id: 11, is_sampled: true }),
        ..CallOrigin::default()
    };
    CallRecord {
        origin: origin.into(),
        caller: CallerName::parse("shop").unwrap().into(),
        tenant: Tenant::parse("acme").unwrap().into(),
        request_id: RequestId::parse("r-1").unwrap().into(),
        challenge: SupportTag([1; 8]).into(),
        account: SupportTag([2; 8]).into(),
        ..CallRecord::default()
    }
}

fn attempt(audit: &Audit, call: &CallRecord) {
    let decision = DecisionKind::Attempt {
        purpose: Purpose::Login,
        channel: Some(Channel::Sms),
        provider: "sms",
        outcome: "otp_not_matched",
    };
    audit.decided(&DecisionEvent { at: Timestamp::from_millis(1_700_000_000_123), call, is_overdue: false, decision });
}

async fn close(audit: &Audit) {
    audit.close(Deadline::after(LONGEST_WAIT)).await;
}

/// A file of so many attempts, and how otpd writes it.
async fn written(path: &Path, attempts: u64) -> String {
    let (audit, _) = audit(options(path));
    let (audit, call) = (audit.unwrap(), call());
    (0..attempts).for_each(|_| attempt(&audit, &call));
    close(&audit).await;
    fs::read_to_string(path).unwrap()
}

fn verified(path: &Path) -> AuditReport {
    verify(&[path.to_owned()], Some(keys(1))).unwrap()
}

fn kinds(path: &Path) -> Vec<FaultKind> {
    verified(path).faults.into_iter().map(|fault| fault.kind).collect()
}

#[tokio::test]
async fn an_event_is_a_line_that_says_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let text = written(&path, 1).await;
    let line = text.lines().nth(1).unwrap();
    let (start, rest) = line.split_once(r#""instance""#).unwrap();
    assert!(start.starts_with(r#"{"v":1,"seq":2,"prev":""#));
    let (body, hash) = rest.split_once(r#","hash":""#).unwrap();
    assert_eq!(
        body,
        concat!(
            r#":"0000000000000007","policy":"0123456789abcdef","time":"2023-11-14T22:13:20.123Z","event":"attempt","#,
            r#""outcome":"otp_not_matched","caller":"shop","tenant":"acme","request_id":"r-1","x_request_id":"x-1","#,
            r#""trace_id":"0000000000000000000000000000000a","challenge":"0101010101010101","#,
            r#""account":"0202020202020202","purpose":"login","channel":"sms","provider":"sms""#
        )
    );
    assert_eq!(hash.len(), 64 + 2);
    for line in text.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"], "configuration");
    assert_eq!(first["configuration"]["key_ids"], serde_json::json!([2, 1]));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn an_operators_reason_stays_on_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let (audit, _) = audit(options(&path));
    let (audit, call) = (audit.unwrap(), call());
    let reason = format!("one\ntwo\u{7} {}", "x".repeat(300));
    let locked = Locked { until: None };
    let decision = DecisionKind::Lock { scope: LockScope::Account, locked, reason: Some(&reason) };
    audit.decided(&DecisionEvent { at: Timestamp::from_millis(0), call: &call, is_overdue: false, decision });
    close(&audit).await;
    let text = fs::read_to_string(&path).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.starts_with("one two  x"), "{reason}");
    assert_eq!(reason.chars().count(), 200);
    assert_eq!((&line["operator"], &line["by"]), (&"shop".into(), &"operator".into()));
    assert_eq!(verified(&path).faults, []);
}

#[tokio::test]
async fn every_changed_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let text = written(&path, 3).await;
    assert_eq!((kinds(&path), verified(&path).lines, verified(&path).seals), (vec![], 5, (1, 1)));
    for index in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[index] ^= if index % 2 == 0 { 1 } else { 0x20 };
        fs::write(&path, bytes).unwrap();
        assert_ne!(kinds(&path), [], "byte {index}");
    }
}

#[tokio::test]
async fn every_line_removed_doubled_moved_or_added_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let text = written(&path, 6).await;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let faults = |lines: &[&str]| {
        fs::write(&path, lines.concat()).unwrap();
        kinds(&path)
    };
    assert_eq!(faults(&lines), []);
    for index in 0..lines.len() {
        let mut changed = lines.clone();
        changed.remove(index);
        match index {
            // What is missing at either end is told by the number of the first and the last line.
            0 => assert_eq!((faults(&changed), verified(&path).first), (vec![], Some(2))),
            last if last + 1 == lines.len() => {
                assert_eq!(faults(&changed), []);
                assert_eq!(verified(&path).last.unwrap().0 + 1, lines.len() as u64);
            }
            _ => assert_ne!(faults(&changed), [], "without line {index}"),
        }
        let mut changed = lines.clone();
        changed.insert(index, lines[index]);
        assert_ne!(faults(&changed), [], "line {index} twice");
        for other in 0..index {
            let mut changed = lines.clone();
            changed.swap(index, other);
            assert_ne!(faults(&changed), [], "lines {index} and {other}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_moved_away_is_followed_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, moved) = (folder.path().join("audit"), folder.path().join("moved"));
    let (audit, _) = audit(options(&path));
    let (audit, call) = (audit.unwrap(), call());
    let keep = async || {
        attempt(&audit, &call);
        if let Some(keeping) = audit.keeping() {
            keeping.await.unwrap();
        }
    };
    keep().await;
    fs::rename(&path, &moved).unwrap();
    keep().await;
    close(&audit).await;
    let verified = verify(&[moved, path], Some(keys(1))).unwrap();
    assert_eq!((verified.faults.as_slice(), verified.lines), (&[][..], 4), "start, two attempts and the last seal");
}

#[tokio::test]
async fn a_chain_goes_on_over_restarts_and_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    for _ in 0..3 {
        let (audit, _) = audit(FileOptions { max_bytes: 64 * 1024, ..options(&path) });
        let (audit, call) = (audit.unwrap(), call());
        for _ in 0..200 {
            attempt(&audit, &call);
            if let Some(keeping) = audit.keeping() {
                keeping.await.unwrap();
            }
        }
        close(&audit).await;
    }
    let files = [tail::rotated(&path).unwrap(), vec![path.clone()]].concat();
    assert!(files.len() > 3, "{files:?}");
    let verified = verify(&files, Some(keys(1))).unwrap();
    assert_eq!((verified.faults.as_slice(), verified.lines), (&[][..], 3 * 202));
    assert_eq!(verified.last.unwrap().0, 3 * 202);
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 64 * 1024));
    // A file that is missing between is noticed; of a new current one the chain goes on from the last rotated one.
    let without_one: Vec<PathBuf> = [&files[..1], &files[2..]].concat();
    assert!(matches!(verify(&without_one, None).unwrap().faults[0].kind, FaultKind::Number { .. }));
    fs::remove_file(&path).unwrap();
    written(&path, 1).await;
    assert_eq!(verify(&files, Some(keys(1))).unwrap().faults, []);
    // Only so many are kept.
    let (audit, _) = audit(FileOptions { max_bytes: 1, max_files: Some(2), ..options(&path) });
    close(&audit.unwrap()).await;
    assert_eq!(tail::rotated(&path).unwrap().len(), 2);
}

#[tokio::test]
async fn a_line_that_a_crash_has_torn_is_cut_off_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let text = written(&path, 2).await;
    let last = text.lines().last().unwrap().len();
    let whole = text.len() - last - 1;
    for cut in [0, 1, 17, last - 1, last] {
        for zeros in [0, 5000] {
            let mut bytes = text.as_bytes()[..whole + cut].to_vec();
            bytes.resize(bytes.len() + zeros, 0);
            fs::write(&path, &bytes).unwrap();
            let now = written(&path, 1).await;
            assert_eq!(now.contains(r#""event":"torn""#), cut + zeros > 0, "{cut} {zeros}");
            assert_eq!(kinds(&path), [], "{cut} {zeros}");
        }
    }
    // A file that was torn in its first line begins anew.
    fs::write(&path, "{\"v\":1,").unwrap();
    assert!(written(&path, 1).await.starts_with(r#"{"v":1,"seq":1,"#));
    assert_eq!(kinds(&path), []);
}

#[tokio::test]
async fn a_file_that_is_none_of_otpds_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    for foreign in ["hello\n".to_owned(), "x".repeat(200_000), format!("{}\n", "0".repeat(80))] {
        fs::write(&path, &foreign).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(audit(options(&path)).0.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
    fs::remove_file(&path).unwrap();
    let first = audit(options(&path)).0.unwrap();
    let second = audit(options(&path)).0.err().unwrap().to_string();
    assert!(second.ends_with("audit: another process writes it"), "{second}");
    close(&first).await;
}
