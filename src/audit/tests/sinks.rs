//! Sinks that are full, stuck or away.

use super::*;
use crate::ports::store::StoreError;

#[tokio::test]
async fn a_device_that_is_full_stops_what_must_be_kept_and_nothing_else() {
    let full = Path::new("/dev/full");
    for required in [true, false] {
        let (audit, counts) = audit(FileOptions { required, ..options(full) });
        let (audit, call) = (audit.unwrap(), call());
        attempt(&audit, &call);
        // Each try counts, so that an alert on a rise does not end while the trouble goes on.
        while counts.of(AuditOutcome::Failed) < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(counts.state(AuditSink::File).is_failing);
        attempt(&audit, &call);
        let kept = match audit.keeping() {
            Some(keeping) => keeping.await.is_ok(),
            None => true,
        };
        assert_eq!((kept, audit.accepts()), (!required, !required));
        assert_eq!(counts.of(AuditOutcome::Written), 0);
    }
}

/// Nobody reads it, and it takes no more than some 64 KiB.
fn unread_pipe(folder: &Path) -> PathBuf {
    let path = folder.join("pipe");
    let made = std::process::Command::new("mkfifo").arg("-m").arg("600").arg(&path).status().unwrap();
    assert!(made.success());
    path
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_drops_what_is_too_much_and_says_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = unread_pipe(folder.path());
    let (audit, counts) = audit(FileOptions { required: false, ..options(&path) });
    let (audit, call) = (audit.unwrap(), call());
    let pushed = 50_000;
    (0..pushed).for_each(|_| attempt(&audit, &call));
    let dropped = counts.of(AuditOutcome::Dropped);
    assert!(dropped > 0);
    assert!(counts.state(AuditSink::File).waiting > 30_000);
    // Where nothing must be kept, no answer waits for it.
    assert!(call.unkept.get().is_none());
    // Somebody reads now: the next event is behind a line that says how many are missing.
    let mut reader = fs::File::open(&path).unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let mut block = vec![0; 1 << 16];
        while !text.contains(r#""event":"gap""#) {
            let length = io::Read::read(&mut reader, &mut block).unwrap();
            text.push_str(std::str::from_utf8(&block[..length]).unwrap());
        }
        text
    });
    while counts.of(AuditOutcome::Written) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while !reading.is_finished() {
        attempt(&audit, &call);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let text = reading.join().unwrap();
    let gap = text.lines().find(|line| line.contains(r#""event":"gap""#)).unwrap();
    let gap: serde_json::Value = serde_json::from_str(gap).unwrap();
    assert!(gap["missing"].as_u64().unwrap() >= dropped);
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_refuses_what_must_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = unread_pipe(folder.path());
    let (audit, _) = audit(options(&path));
    let (audit, call) = (audit.unwrap(), call());
    (0..1000).for_each(|_| attempt(&audit, &call));
    let keeping = audit.keeping().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), keeping).await.is_err());
    while audit.accepts() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It takes lines again, and all is well.
    let mut reader = fs::File::open(&path).unwrap();
    std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    audit.keeping().unwrap().await.unwrap();
    assert!(audit.accepts());
}

/// A call is told of its own decision alone, whatever others have pushed since.
#[tokio::test]
async fn a_call_whose_decision_was_dropped_knows_it_when_others_are_accepted_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = unread_pipe(folder.path());
    let (audit, counts) = audit(options(&path));
    let (audit, first) = (audit.unwrap(), call());
    while counts.of(AuditOutcome::Dropped) == 0 {
        attempt(&audit, &first);
    }
    assert!(first.unkept.get().is_some());
    let mut reader = fs::File::open(&path).unwrap();
    std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()));
    while counts.state(AuditSink::File).waiting > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = call();
    attempt(&audit, &second);
    if let Some(keeping) = audit.keeping() {
        keeping.await.unwrap();
    }
    assert!(first.unkept.get().is_some() && second.unkept.get().is_none());
}

/// Takes events once it is told to.
#[derive(Default)]
struct Taking {
    taken: Mutex<Vec<Vec<u8>>>,
    failures: AtomicU64,
}

#[async_trait::async_trait]
impl EventStream for Taking {
    async fn append(&self, events: &[Vec<u8>], _deadline: Deadline) -> Result<(), StoreError> {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::new("audit", "away"));
        }
        self.taken.lock().unwrap().extend_from_slice(events);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_gets_every_event_in_order_also_after_trouble() {
    let stream = Arc::new(Taking { failures: 3.into(), ..Taking::default() });
    let observer = Arc::new(Counts::default());
    let (clock, keys): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Arc::clone(&KEYS[0]));
    let ports = AuditPorts { clock, keys, observer: observer.clone(), instance: 7 };
    let audit = Audit::start(ports, &start(), None, Some(stream.clone()), &TaskTracker::new()).unwrap();
    let call = call();
    (0..1000).for_each(|_| attempt(&audit, &call));
    assert!(audit.keeping().is_none() && audit.accepts());
    close(&audit).await;
    let taken = stream.taken.lock().unwrap();
    let numbers: Vec<u64> = taken
        .iter()
        .map(|event| serde_json::from_slice::<serde_json::Value>(event).unwrap()["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=1001).collect::<Vec<u64>>());
    assert_eq!(observer.of(AuditOutcome::Written), 1001);
    assert_eq!(observer.state(AuditSink::Stream), AuditSinkState::default());
    assert!(observer.of(AuditOutcome::Failed) > 2 * 256, "each of three tries counts");
}
