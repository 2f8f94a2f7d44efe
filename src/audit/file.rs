//! The file: one thread writes what waits, chained, in batches. Where the audit is required each batch is synced to the disk.
//!
//! What cannot be written is tried again until it can be, from the same place: a batch that was written by half is cut off
//! first. A file that would become too long is renamed, and the chain goes on in a new one.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{sync::watch, time::timeout_at};

use super::{
    FileOptions,
    chain::{Chain, SEAL, push_hex},
    encode::Encoder,
    queue::{EventBatch, EventQueue},
    tail,
    unsealed::{SEAL_EVERY, UnsealedLines},
};
use crate::{
    domain::time::Timestamp,
    keys::ring::KeyRing,
    ports::{
        clock::{Clock, Deadline, Stopwatch},
        decisions::{Keeping, NotKept},
        files,
        observer::{AuditObserver, AuditOutcome, AuditSink, AuditSinkState},
    },
};

/// How long lines gather where nobody waits for them. A process that is killed loses as much.
const GATHERING: Duration = Duration::from_millis(5);
/// How much is written at once.
const CHUNK: usize = 256 * 1024;
/// While a write takes longer, the file does not work.
const LONGEST_WRITE: Duration = Duration::from_secs(2);
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// At most one line in the log in this time, and one try to rotate.
const PAUSE: Duration = Duration::from_secs(10);

/// The file, as decisions are handed to it.
pub(super) struct FileSink {
    queue: Arc<EventQueue>,
    progress: watch::Receiver<Progress>,
    observer: Arc<dyn AuditObserver>,
}

/// How far the thread has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// How many of the decisions that were ever accepted are written.
    kept: u64,
    /// The last try to write has failed.
    is_failing: bool,
    /// The thread has ended.
    is_over: bool,
}

/// The thread's own.
struct FileWriter {
    options: FileOptions,
    encoder: Encoder,
    keys: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn AuditObserver>,
    queue: Arc<EventQueue>,
    progress: watch::Sender<Progress>,
    file: File,
    /// A pipe or a device keeps nothing: it is neither read, nor cut, synced or rotated.
    is_regular: bool,
    /// The number of the first line of the file.
    first: u64,
    /// Up to here the file is as it was written.
    length: u64,
    /// There may be more than that.
    is_torn: bool,
    chain: Chain,
    unsealed: UnsealedLines,
    /// It could not be written until the end.
    is_given_up: bool,
    told: Option<Stopwatch>,
    rotation_failed: Option<Stopwatch>,
}

impl FileSink {
    /// Opens the file, goes on with its chain, and starts the thread.
    ///
    /// # Errors
    /// It cannot be opened, is another process's, or is no audit of otpd's.
    pub(super) fn start(
        options: FileOptions,
        encoder: Encoder,
        keys: Arc<KeyRing>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn AuditObserver>,
    ) -> io::Result<Self> {
        let path = options.path.clone();
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let queue = Arc::new(EventQueue::new(encoder.clone()));
        let (progress, followed) = watch::channel(Progress::default());
        let (shared, told) = (Arc::clone(&queue), Arc::clone(&observer));
        let (read, state) = (Arc::clone(&queue), followed.clone());
        let reading = move || AuditSinkState { waiting: read.waiting(), is_failing: state.borrow().is_failing };
        observer.sink_made(AuditSink::File, Box::new(reading));
        let file = tail::open(&options.path)?;
        let is_regular = file.metadata()?.is_file();
        let mut writer = FileWriter {
            options,
            encoder,
            keys,
            clock,
            observer: told,
            queue: shared,
            progress,
            file,
            is_regular,
            first: 1,
            length: 0,
            is_torn: false,
            chain: Chain::default(),
            unsealed: UnsealedLines::default(),
            is_given_up: false,
            told: None,
            rotation_failed: None,
        };
        if is_regular {
            writer.go_on().map_err(named)?;
        }
        thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run())?;
        Ok(Self { queue, progress: followed, observer })
    }

    /// Has a decision written, unless too many wait: then it is lost.
    pub(super) fn push(&self, body: &[u8], at: Timestamp) -> bool {
        let is_added = self.queue.push(body, at);
        if !is_added {
            self.observer.audited(AuditSink::File, AuditOutcome::Dropped, 1);
        }
        is_added
    }

    /// Whether what is decided now would be written soon.
    pub(super) fn accepts(&self) -> bool {
        !self.progress.borrow().is_failing && self.queue.accepts(LONGEST_WRITE)
    }

    /// Ends when all that was accepted so far is written; with an error if writing fails, though it is tried again.
    pub(super) fn keeping(&self) -> Option<Keeping> {
        let goal = self.queue.accepted();
        if self.progress.borrow().kept >= goal {
            return None;
        }
        let mut progress = self.progress.clone();
        Some(Box::pin(async move {
            let ended = progress.wait_for(|progress| progress.kept >= goal || progress.is_failing).await;
            if ended.is_ok_and(|progress| progress.kept >= goal) { Ok(()) } else { Err(NotKept) }
        }))
    }

    pub(super) async fn close(&self, now: Timestamp, deadline: Deadline) {
        self.queue.close(now);
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.is_over);
        if timeout_at(deadline.instant(), ended).await.is_err() {
            tracing::error!("the last events of the audit could not be written to its file");
        }
    }
}

impl FileWriter {
    /// Finds the end of the chain: in the file, or where that is new, in the one before.
    fn go_on(&mut self) -> io::Result<()> {
        let tail = tail::look(&self.file)?;
        let mut is_sealed = tail.is_sealed;
        let chain = match (tail.chain, tail::rotated(&self.options.path)?.last()) {
            (Some(chain), _) => Some(chain),
            (None, Some(before)) => {
                let before = tail::look(&File::open(before)?)?;
                is_sealed = before.is_sealed;
                before.chain
            }
            (None, None) => None,
        };
        self.chain = chain.unwrap_or_default();
        self.first = tail.first.unwrap_or(self.chain.next);
        self.length = tail.length;
        if tail.torn > 0 {
            tracing::warn!(bytes = tail.torn, "the file of the audit ended within a line, which is cut off");
            self.file.set_len(self.length)?;
        }
        let (mut chain, mut unsealed, mut lines) = (self.chain, UnsealedLines::default(), Vec::new());
        if !is_sealed {
            // The process before has not ended by itself. What it has left is sealed before anything follows.
            self.seal(&mut chain, &mut lines);
        }
        if tail.torn > 0 {
            let body = self.encoder.torn(self.clock.now(), tail.torn);
            chain.append(&body, &mut lines);
            unsealed.add(&body);
        }
        if !lines.is_empty() {
            self.write(&lines)?;
            (self.chain, self.unsealed) = (chain, unsealed);
        }
        Ok(())
    }

    fn run(mut self) {
        let gathers = if self.options.required { Duration::ZERO } else { GATHERING };
        loop {
            let is_over = self.queue.wait(self.unsealed.due_in(), gathers);
            let batch = self.queue.take();
            if batch.count > 0 {
                self.keep(&batch);
            }
            let is_due = is_over || self.unsealed.due_in().is_zero();
            if self.unsealed.count > 0 && is_due && !self.is_given_up {
                let (mut chain, mut lines) = (self.chain, Vec::new());
                self.seal(&mut chain, &mut lines);
                if self.persist(&lines, 0) {
                    (self.chain, self.unsealed) = (chain, UnsealedLines::default());
                }
            }
            if is_over || self.is_given_up {
                break;
            }
        }
        if self.is_regular
            && let Err(error) = self.file.sync_all()
        {
            tracing::error!(%error, "the file of the audit cannot be synced");
        }
        let Self { file, progress, .. } = self;
        // Whoever waits for the end may open the file.
        drop(file);
        progress.send_modify(|progress| progress.is_over = true);
    }

    /// Writes a batch, however long it takes. Where it is given up, what comes after is not written: a line that is missing would
    /// break the chain.
    fn keep(&mut self, batch: &EventBatch) {
        let (mut lines, mut count) = (Vec::with_capacity(CHUNK.min(2 * batch.bodies.len()) + 1024), 0);
        let (mut chain, mut unsealed) = (self.chain, self.unsealed);
        let mut left = batch.count;
        for body in batch.bodies.split(|byte| *byte == b'\n').filter(|body| !body.is_empty()) {
            if unsealed.is_old_for(body) {
                self.seal(&mut chain, &mut lines);
                unsealed = UnsealedLines::default();
            }
            chain.append(body, &mut lines);
            unsealed.add(body);
            (count, left) = (count + 1, left.saturating_sub(1));
            if unsealed.count >= SEAL_EVERY {
                self.seal(&mut chain, &mut lines);
                unsealed = UnsealedLines::default();
            }
            if left == 0 || lines.len() >= CHUNK {
                if !self.persist(&lines, count) {
                    return;
                }
                lines.clear();
                count = 0;
                (self.chain, self.unsealed) = (chain, unsealed);
            }
        }
    }

    /// Adds a seal.
    fn seal(&self, chain: &mut Chain, lines: &mut Vec<u8>) {
        let mut body = SEAL.to_vec();
        push_hex(&self.keys.audit_seal(chain.next, &chain.last), &mut body);
        body.extend_from_slice(br#"","#);
        body.extend(self.encoder.beside_a_seal(self.clock.now()));
        chain.append(&body, lines);
    }

    /// Writes lines, among them so many decisions, and tries again until they are written. `false`: it is given up.
    fn persist(&mut self, lines: &[u8], count: u64) -> bool {
        let mut back_off = BACK_OFF_MIN;
        while let Err(error) = self.write(lines) {
            self.observer.audited(AuditSink::File, AuditOutcome::Failed, count);
            self.progress.send_modify(|progress| progress.is_failing = true);
            if self.told.is_none_or(|told| told.elapsed() >= PAUSE) {
                self.told = Some(Stopwatch::start());
                tracing::error!(%error, "the file of the audit cannot be written; it is tried again");
            }
            if self.queue.is_closed() && back_off == BACK_OFF_MAX {
                tracing::error!(
                    events = self.queue.waiting(),
                    "events of the audit are lost: their file cannot be written"
                );
                self.is_given_up = true;
                return false;
            }
            thread::sleep(back_off);
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
        if self.told.take().is_some() {
            tracing::info!("the file of the audit is written again");
        }
        self.queue.written(count);
        self.observer.audited(AuditSink::File, AuditOutcome::Written, count);
        self.progress.send_modify(|progress| {
            progress.kept += count;
            progress.is_failing = false;
        });
        true
    }

    /// Writes lines behind what is there, all or none.
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.file.set_len(self.length)?;
            self.is_torn = false;
        }
        if self.is_regular {
            self.follow_name()?;
        }
        let added = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.is_regular && self.length > 0 && self.length.saturating_add(added) > self.options.max_bytes {
            self.rotate();
        }
        self.is_torn = self.is_regular;
        self.file.write_all(lines)?;
        if self.is_regular && self.options.required {
            // After a failure it is not known what is on the disk: the lines are cut off, written and synced again.
            self.file.sync_data()?;
        }
        self.is_torn = false;
        self.length += added;
        Ok(())
    }

    /// Where somebody else has moved or removed the file, the chain goes on in a new one of its name.
    fn follow_name(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        match fs::symlink_metadata(path) {
            Ok(there) if files::is_same(&self.file.metadata()?, &there) => return Ok(()),
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another file has its name")),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        let file = tail::open(path)?;
        tracing::error!("the file of the audit was moved or removed; a new one goes on with its chain");
        (self.file, self.first, self.length) = (file, self.chain.next, 0);
        Ok(())
    }

    /// Begins a new file. Where that fails, the old one grows on, which loses nothing.
    fn rotate(&mut self) {
        if self.rotation_failed.is_some_and(|failed| failed.elapsed() < PAUSE) {
            return;
        }
        self.rotation_failed = None;
        if let Err(error) = self.try_to_rotate() {
            tracing::error!(%error, "the file of the audit cannot be rotated, and grows on");
            self.rotation_failed = Some(Stopwatch::start());
        }
    }

    fn try_to_rotate(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        self.file.sync_all()?;
        let full = tail::rotated_name(path, self.first);
        if fs::symlink_metadata(&full).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is there", full.display())));
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        files::remove(Path::new(&draft))?;
        let file = tail::open(Path::new(&draft))?;
        fs::rename(path, &full)?;
        fs::rename(&draft, path)?;
        // From here on this is the file, whatever else fails.
        (self.file, self.first, self.length) = (file, self.chain.next, 0);
        if let Err(error) = self.tidy_up() {
            tracing::error!(%error, "the folder of the audit cannot be synced, or old files of it cannot be removed");
        }
        Ok(())
    }

    /// Keeps the new name, and removes what is too old.
    fn tidy_up(&self) -> io::Result<()> {
        let path = &self.options.path;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        let kept = self.options.max_files.unwrap_or(usize::MAX);
        let rotated = tail::rotated(path)?;
        rotated.iter().take(rotated.len().saturating_sub(kept)).try_for_each(|old| files::remove(old))
    }
}
