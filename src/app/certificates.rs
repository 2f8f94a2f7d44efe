//! The server's certificate: read at the start, and again whenever its files change or somebody asks for it.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

use crate::{
    config::ServerTlsFiles,
    domain::time::Timestamp,
    grpc::tls::{LoadedTls, TlsError, TlsPem, TlsServer},
    ports::{
        clock::{Clock, Stopwatch},
        observer::{ListenerName, ListenerObserver},
    },
};

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// The largest file.
const MAX_FILE: u64 = 1024 * 1024;
/// A certificate ends soon when less than this part of its life is left, and at most [`SOON`]: others are renewed earlier.
const LAST_PART: i64 = 5;
const SOON: i64 = 14 * 86_400;
/// How often an end is warned of.
const WARN_EVERY: Duration = Duration::from_secs(86_400);

/// All that is wrong with the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateErrors(Vec<TlsError>);

impl fmt::Display for CertificateErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for CertificateErrors {}

/// Checks the files, as the start does. What is to be warned of.
///
/// # Errors
/// All that is wrong with them.
pub fn check(files: &ServerTlsFiles, clock: &dyn Clock) -> Result<Option<String>, CertificateErrors> {
    Ok(warning(&FileContents::read(files)?.load()?, seconds(clock)))
}

/// What the files hold.
struct FileContents {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

impl FileContents {
    fn read(files: &ServerTlsFiles) -> Result<Self, CertificateErrors> {
        let certificate = read("certificate_file", &files.certificate_file);
        let key = read("key_file", &files.key_file);
        let client_ca = files.client_ca_file.as_deref().map(|path| read("client_ca_file", path)).transpose();
        match (certificate, key, client_ca) {
            (Ok(certificate), Ok(key), Ok(client_ca)) => {
                Ok(Self { certificate: certificate.to_vec(), key, client_ca: client_ca.map(|text| text.to_vec()) })
            }
            (certificate, key, client_ca) => {
                Err(CertificateErrors([certificate.err(), key.err(), client_ca.err()].into_iter().flatten().collect()))
            }
        }
    }

    fn load(&self) -> Result<LoadedTls, CertificateErrors> {
        let Self { certificate, key, client_ca } = self;
        LoadedTls::of(&TlsPem { certificate, key, client_ca: client_ca.as_deref() }).map_err(CertificateErrors)
    }

    /// Tells contents apart without keeping the key.
    fn digest(&self) -> [u8; 32] {
        let parts = [Some(&self.certificate), Some(&*self.key), self.client_ca.as_ref()];
        let mut digest = Sha256::new();
        for part in parts.into_iter().flatten() {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let unread = |error: io::Error| TlsError::new(setting, format!("cannot be read: {error}"));
    let mut text = Zeroizing::new(Vec::new());
    File::open(path).map_err(unread)?.take(MAX_FILE + 1).read_to_end(&mut text).map_err(unread)?;
    let is_too_long = u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE);
    if is_too_long { Err(TlsError::new(setting, format!("holds more than {MAX_FILE} bytes"))) } else { Ok(text) }
}

/// The certificate of a server that runs.
pub(super) struct Certificates {
    files: ServerTlsFiles,
    server: Arc<TlsServer>,
    clock: Arc<dyn Clock>,
    current: LoadedTls,
    /// Of what is in use.
    digest: [u8; 32],
    /// What the last look found instead and can be used.
    found: Option<[u8; 32]>,
    /// What was found last instead and cannot be used, and whether that has been told.
    failing: Option<(Failing, bool)>,
    warned: Option<Stopwatch>,
}

/// Who is told what becomes of it.
pub(super) struct CertificateWatch {
    /// The listeners that show it.
    pub(super) listeners: Vec<ListenerName>,
    pub(super) observer: Arc<dyn ListenerObserver>,
    /// Notified when the files are to be looked at at once.
    pub(super) asked: Arc<Notify>,
}

/// What cannot be used: the same is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Failing {
    Contents([u8; 32]),
    Unread(CertificateErrors),
}

/// What came of looking at the files.
enum Looked {
    Unchanged,
    Changed(Box<LoadedTls>, [u8; 32]),
    Failed(Failing, CertificateErrors),
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(super) fn load(files: &ServerTlsFiles, clock: Arc<dyn Clock>) -> Result<Self, CertificateErrors> {
        let contents = FileContents::read(files)?;
        let (current, digest) = (contents.load()?, contents.digest());
        let server = Arc::new(TlsServer::new(&current));
        let files = files.clone();
        Ok(Self { files, server, clock, current, digest, found: None, failing: None, warned: None })
    }

    /// What connections are encrypted with.
    pub(super) fn server(&self) -> Arc<TlsServer> {
        Arc::clone(&self.server)
    }

    /// Looks at the files again and again, and at once when somebody asks for it. What cannot be used changes nothing.
    pub(super) async fn follow(mut self, watch: CertificateWatch) {
        watch.tell_expiry(&self.current);
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = ticks.tick() => false,
                () = watch.asked.notified() => true,
            };
            let (files, digest) = (self.files.clone(), self.digest);
            // Files may be on a disk that is slow, and keys are checked.
            if let Ok(looked) = spawn_blocking(move || look(&files, digest)).await {
                self.note(looked, is_asked, &watch);
            }
            self.warn();
        }
    }

    fn note(&mut self, looked: Looked, is_asked: bool, watch: &CertificateWatch) {
        let before = self.found.take();
        match looked {
            Looked::Unchanged => {
                self.failing = None;
                if is_asked {
                    tracing::info!("the files of server.tls have not changed");
                }
            }
            Looked::Changed(loaded, digest) => {
                if let Some(worse) = worse(&loaded, &self.current, seconds(self.clock.as_ref())) {
                    let errors = CertificateErrors(vec![TlsError::new("certificate_file", worse)]);
                    return self.note_failure(Failing::Contents(digest), &errors, is_asked, watch);
                }
                if !is_asked && before != Some(digest) {
                    // What stands in the files between two writes can be good, and is gone at the next look.
                    self.found = Some(digest);
                    return;
                }
                self.server.replace(&loaded);
                (self.current, self.digest, self.failing, self.warned) = (*loaded, digest, None, None);
                watch.observer.certificates_reloaded(true);
                watch.tell_expiry(&self.current);
                tracing::info!(expires_in_days = self.days_left(), "a new certificate is served to new connections");
            }
            Looked::Failed(failing, errors) => self.note_failure(failing, &errors, is_asked, watch),
        }
    }

    /// Two looks at the same, since the files of a pair are replaced one after the other; one where somebody asked.
    fn note_failure(&mut self, failing: Failing, errors: &CertificateErrors, is_asked: bool, watch: &CertificateWatch) {
        let before = self.failing.take().filter(|(before, _)| *before == failing);
        let was_told = before.as_ref().is_some_and(|(_, was_told)| *was_told);
        let is_due = !was_told && (is_asked || before.is_some());
        if is_due {
            tracing::error!(%errors, "the files of server.tls cannot be used; the certificate stays that was read before");
            watch.observer.certificates_reloaded(false);
        }
        self.failing = Some((failing, was_told || is_due));
    }

    fn warn(&mut self) {
        if self.warned.as_ref().is_some_and(|warned| warned.elapsed() < WARN_EVERY) {
            return;
        }
        if let Some(warning) = warning(&self.current, seconds(self.clock.as_ref())) {
            self.warned = Some(Stopwatch::start());
            tracing::warn!("{warning}");
        }
    }

    fn days_left(&self) -> i64 {
        (self.current.not_after - seconds(self.clock.as_ref())) / 86_400
    }
}

impl CertificateWatch {
    fn tell_expiry(&self, loaded: &LoadedTls) {
        let ends = Timestamp::from_millis(u64::try_from(loaded.not_after).unwrap_or(0).saturating_mul(1000));
        for listener in &self.listeners {
            self.observer.certificate_expires(*listener, ends);
        }
    }
}

fn look(files: &ServerTlsFiles, current: [u8; 32]) -> Looked {
    let contents = match FileContents::read(files) {
        Ok(contents) => contents,
        Err(errors) => return Looked::Failed(Failing::Unread(errors.clone()), errors),
    };
    let digest = contents.digest();
    if digest == current {
        return Looked::Unchanged;
    }
    match contents.load() {
        Ok(loaded) => Looked::Changed(Box::new(loaded), digest),
        Err(errors) => Looked::Failed(Failing::Contents(digest), errors),
    }
}

/// Why a certificate does not replace the one in use.
fn worse(loaded: &LoadedTls, current: &LoadedTls, now: i64) -> Option<&'static str> {
    let is_valid = current.not_before <= now && now < current.not_after;
    match loaded {
        _ if !is_valid => None,
        loaded if loaded.not_after <= now => Some("has expired, and the one in use has not"),
        loaded if loaded.not_before > now => Some("is not valid yet, and the one in use is"),
        _ => None,
    }
}

/// What an operator should know of the time of a certificate.
fn warning(loaded: &LoadedTls, now: i64) -> Option<String> {
    let LoadedTls { not_before, not_after, .. } = loaded;
    let soon = (not_after.saturating_sub(*not_before) / LAST_PART).min(SOON);
    let left = not_after.saturating_sub(now);
    let hours = left / 3_600;
    match left {
        _ if *not_before > now => {
            Some("server.tls.certificate_file is not valid yet: callers do not connect".to_owned())
        }
        ..=0 => Some("server.tls.certificate_file has expired: callers do not connect".to_owned()),
        left if left <= soon => Some(format!("server.tls.certificate_file expires in {hours} hours")),
        _ => None,
    }
}

fn seconds(clock: &dyn Clock) -> i64 {
    i64::try_from(clock.now().as_millis() / 1_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
