//! What an event of the audit costs: encoding it where it is decided, writing and chaining it, and verifying it.
//!
//! `cargo bench --bench audit` writes a million events to a throw-away folder.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and fails by panicking")]

use std::{
    fs, slice,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use otpd::{
    audit::{Audit, AuditPorts, FileOptions, verify::verify},
    domain::{
        destination::Channel,
        ids::{RequestId, SupportTag, Tenant},
        purpose::Purpose,
        time::Timestamp,
    },
    keys::{generate::generate, ring::KeyRing},
    ports::{
        call::CallRecord,
        clock::{Deadline, Stopwatch, SystemClock},
        decisions::{ConfigurationStart, DecisionEvent, DecisionKind, DecisionObserver},
        entropy::SystemEntropy,
        observer::{AuditObserver, AuditOutcome, AuditSink},
    },
};
use tokio_util::task::TaskTracker;

const EVENTS: u32 = 1_000_000;
/// So many may wait, or they would be dropped.
const WAITING: u64 = 16_000;

#[derive(Default)]
struct Written(AtomicU64);

impl AuditObserver for Written {
    fn audited(&self, _sink: AuditSink, outcome: AuditOutcome, events: u64) {
        assert_eq!(outcome, AuditOutcome::Written);
        self.0.fetch_add(events, Ordering::Relaxed);
    }
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let keys = Arc::new(KeyRing::parse(&generate(1, &SystemEntropy).unwrap(), false).unwrap());
    let kept = Arc::new(Written::default());
    let start = ConfigurationStart {
        version: "1",
        profile: "production",
        policy_digest: "0123456789abcdef",
        providers: &[],
        callers: &[],
        key_ids: &[1],
    };
    let ports =
        AuditPorts { clock: Arc::new(SystemClock), keys: Arc::clone(&keys), observer: kept.clone(), instance: 7 };
    let file = FileOptions { path: path.clone(), required: false, max_bytes: u64::MAX, max_files: None };
    let audit = Audit::start(ports, &start, Some(file), None, &TaskTracker::new()).unwrap();
    let call = CallRecord {
        tenant: Tenant::parse("acme").unwrap().into(),
        request_id: RequestId::parse("0af7651916cd43dd8448eb211c80319c").unwrap().into(),
        challenge: SupportTag([1; 8]).into(),
        account: SupportTag([2; 8]).into(),
        ..CallRecord::default()
    };
    let (purpose, channel, outcome) = (Purpose::Login, Some(Channel::Sms), "otp_not_matched");
    let decision = DecisionKind::Attempt { purpose, channel, provider: "sms", outcome };
    let event =
        DecisionEvent { at: Timestamp::from_millis(1_700_000_000_123), call: &call, is_overdue: false, decision };
    let (all, mut deciding) = (Stopwatch::start(), Duration::ZERO);
    for group_number in 1..=u64::from(EVENTS / 1000) {
        let group = Stopwatch::start();
        (0..1000).for_each(|_| audit.decided(&event));
        deciding += group.elapsed();
        while group_number * 1000 > kept.0.load(Ordering::Relaxed) + WAITING {
            thread::sleep(Duration::from_micros(100));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(audit.close(Deadline::after(Duration::from_secs(60))));
    let (written, verifying) = (all.elapsed(), Stopwatch::start());
    let report = verify(slice::from_ref(&path), Some(&keys)).unwrap();
    let verified = verifying.elapsed();
    assert!(report.faults.is_empty() && report.lines > u64::from(EVENTS));
    let length = fs::metadata(&path).unwrap().len() / report.lines;
    let micros = |span: Duration| span.as_secs_f64() * 1e6 / f64::from(EVENTS);
    println!("an event of {length} bytes: {:.2} µs where it is decided", micros(deciding));
    println!("{:.2} µs until all are written, {:.2} µs to verify", micros(written), micros(verified));
}
