//! Which certificates replace the one in use, and when.

use std::{
    fs,
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

const DAY: i64 = 86_400;
const NOW: i64 = 1_800_000_000;

struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap() * 1000)
    }
}

/// Whether each reload was a success.
#[derive(Default)]
struct Reloads(Mutex<Vec<bool>>);

impl ListenerObserver for Reloads {
    fn connection_opened(&self, _: ListenerName) {}
    fn connection_closed(&self, _: ListenerName) {}
    fn connection_refused(&self, _: ListenerName) {}
    fn certificate_expires(&self, _: ListenerName, _: Timestamp) {}
    fn certificates_reloaded(&self, is_loaded: bool) {
        self.0.lock().unwrap().push(is_loaded);
    }
}

struct Folder {
    folder: tempfile::TempDir,
    clock: Arc<SetClock>,
    reloads: Arc<Reloads>,
}

impl Folder {
    fn new() -> Self {
        let clock = Arc::new(SetClock(AtomicI64::new(NOW)));
        Self { folder: tempfile::tempdir().unwrap(), clock, reloads: Arc::default() }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate that is valid from and until so many days from now.
    fn write(&self, from: i64, until: i64) {
        let at = |days: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(NOW + days * DAY).unwrap());
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (at(from), at(until));
        let key = KeyPair::generate().unwrap();
        fs::write(self.file("key"), key.serialize_pem()).unwrap();
        fs::write(self.file("pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    }

    fn load(&self) -> Certificates {
        let files =
            ServerTlsFiles { certificate_file: self.file("pem"), key_file: self.file("key"), client_ca_file: None };
        Certificates::load(&files, self.clock.clone()).unwrap()
    }

    /// Looks once. What is in use then, by its digest.
    fn look(&self, certificates: &mut Certificates, is_asked: bool) -> [u8; 32] {
        let watch = CertificateWatch { listeners: Vec::new(), observer: self.reloads.clone(), asked: Arc::default() };
        let looked = look(&certificates.files, certificates.digest);
        certificates.note(looked, is_asked, &watch);
        certificates.digest
    }
}

#[test]
fn a_change_is_served_when_it_is_seen_twice_or_asked_for() {
    let folder = Folder::new();
    folder.write(-1, 30);
    let mut certificates = folder.load();
    let first = certificates.digest;

    // Each look finds something else, as between two writes.
    for _ in 0..3 {
        folder.write(-1, 30);
        assert_eq!(folder.look(&mut certificates, false), first);
    }
    let second = folder.look(&mut certificates, false);
    assert_ne!(second, first);

    // What was seen once, and then not, counts as new.
    folder.write(-1, 30);
    let (key, pem) = (fs::read(folder.file("key")).unwrap(), fs::read(folder.file("pem")).unwrap());
    assert_eq!(folder.look(&mut certificates, false), second);
    fs::write(folder.file("pem"), "half").unwrap();
    assert_eq!(folder.look(&mut certificates, false), second);
    fs::write(folder.file("key"), key).unwrap();
    fs::write(folder.file("pem"), pem).unwrap();
    assert_eq!(folder.look(&mut certificates, false), second);
    let third = folder.look(&mut certificates, false);
    assert_ne!(third, second);

    folder.write(-1, 30);
    assert_ne!(folder.look(&mut certificates, true), third);
    assert_eq!(*folder.reloads.0.lock().unwrap(), [true; 3]);
}

#[test]
fn a_certificate_that_is_not_valid_does_not_replace_one_that_is() {
    // From and until which day the one in use and the new one are valid, and whether it is replaced.
    for (current, new, expected) in [
        ((-1, 30), (-1, 60), true),
        ((-1, 30), (1, 60), false),
        ((-1, 30), (-60, -1), false),
        ((-60, -1), (1, 60), true),
        ((-60, -1), (-60, -2), true),
        ((1, 30), (2, 60), true),
    ] {
        let folder = Folder::new();
        folder.write(current.0, current.1);
        let mut certificates = folder.load();
        let before = certificates.digest;
        folder.write(new.0, new.1);
        for is_asked in [false, false, true] {
            folder.look(&mut certificates, is_asked);
        }
        assert_eq!(certificates.digest != before, expected, "{current:?} {new:?}");
        assert_eq!(*folder.reloads.0.lock().unwrap(), [expected], "told once: {current:?} {new:?}");
    }
}

#[test]
fn a_certificate_that_was_written_early_is_served_from_its_first_second() {
    let folder = Folder::new();
    folder.write(-1, 30);
    let mut certificates = folder.load();
    let before = certificates.digest;
    folder.write(1, 60);
    for _ in 0..3 {
        assert_eq!(folder.look(&mut certificates, false), before);
    }
    folder.clock.0.fetch_add(DAY, Ordering::SeqCst);
    folder.look(&mut certificates, false);
    assert_ne!(folder.look(&mut certificates, false), before);
    assert_eq!(*folder.reloads.0.lock().unwrap(), [false, true]);
}
