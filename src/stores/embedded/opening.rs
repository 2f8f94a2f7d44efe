//! Opens the database, and notices before it serves whether what was acknowledged is there.
//!
//! What is missing is refused, with words that say what and where; `store.accept_loss` lets it pass knowingly. Then all that
//! can be read is copied to a new database, so that no damage stays behind, and the damaged one is kept beside it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use super::{
    acknowledged::{self, Acknowledged, AcknowledgedFile, LAYOUT, SideRecord},
    disk::{Tables, engine},
    failure::BATCH_TIMEOUT,
    journal::{self, JournalError, Journaled},
    salvage,
    time::BothTimes,
    trees::{self, Persisted, TreeError},
};
use crate::{
    domain::time::{Timestamp, millis},
    ports::{clock::Stopwatch, store::StoreError},
};

/// How the embedded store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// Whether to go on with what is left, where less is there than was acknowledged.
    pub accept_loss: bool,
    /// How long one batch may be under way before the store fails.
    pub batch_timeout: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { accept_loss: false, batch_timeout: BATCH_TIMEOUT }
    }
}

/// Whether a store was ever written in a folder. What cannot be told counts as written.
pub fn was_written(directory: &Path) -> bool {
    match acknowledged::read(directory) {
        Ok(acknowledged::SideRecord::Absent) => false,
        Ok(acknowledged::SideRecord::Tells(told)) => told.sequence > 0,
        Ok(acknowledged::SideRecord::Damaged | acknowledged::SideRecord::OtherLayout(_)) | Err(_) => true,
    }
}

/// What was opened.
pub(super) struct OpenedDatabase {
    pub(super) tables: Tables,
    pub(super) side_record: AcknowledgedFile,
    /// The last batch of the database, and the times when the last one was acknowledged.
    pub(super) last: Acknowledged,
}

/// Why a database is not what was acknowledged.
#[derive(Debug, thiserror::Error)]
enum Loss {
    /// A part of it is damaged or missing.
    #[error("{0}")]
    Certain(String),
    /// Nobody knows: it cannot be read now, for want of a permission, a file descriptor, room. Never accepted.
    #[error("{0}")]
    Unknown(String),
}

impl From<TreeError> for Loss {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Table(_) | TreeError::Missing(_) | TreeError::List(_) => Self::Certain(error.to_string()),
            TreeError::Io(..) => Self::Unknown(error.to_string()),
        }
    }
}

impl From<JournalError> for Loss {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Damaged(..) => Self::Certain(error.to_string()),
            JournalError::Io(_) => Self::Unknown(error.to_string()),
        }
    }
}

impl From<fjall::Error> for Loss {
    fn from(error: fjall::Error) -> Self {
        if is_damage(&error) { Self::Certain(error.to_string()) } else { Self::Unknown(error.to_string()) }
    }
}

impl From<io::Error> for Loss {
    fn from(error: io::Error) -> Self {
        Self::Unknown(error.to_string())
    }
}

/// Whether an error of the engine tells of its files, not of what surrounds it.
pub(super) fn is_damage(error: &fjall::Error) -> bool {
    match error {
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => {
            use io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
            matches!(cause.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof)
        }
        fjall::Error::Locked | fjall::Error::Poisoned => false,
        _ => true,
    }
}

/// Opens the database `data` of a folder, or makes an empty one if there has never been one. `now` is the time of day.
pub(super) fn open(directory: &Path, accept_loss: bool, now: Timestamp) -> Result<OpenedDatabase, StoreError> {
    let failed = |cause: io::Error| StoreError::new("open", format!("{}: {cause}", directory.display()));
    let data = directory.join("data");
    let told = acknowledged::read(directory).map_err(failed)?;
    let exists = data.try_exists().map_err(failed)?;
    let never_written = match told {
        SideRecord::Absent => true,
        SideRecord::Damaged => false,
        SideRecord::OtherLayout(layout) => return Err(other_layout(directory, layout)),
        SideRecord::Tells(told) => told.sequence == 0,
    };
    if !exists && never_written {
        return create(directory, &data).map_err(failed_to_open(directory));
    }
    let loss = match whole(directory, &data, exists, told) {
        Ok(opened) => return Ok(opened),
        Err(Loss::Unknown(cause)) => return Err(failed_to_open(directory)(cause)),
        Err(loss) => loss,
    };
    if accept_loss {
        tracing::warn!(%loss, "store.accept_loss: what is missing in the embedded store is let pass");
        return accept(directory, &data, now);
    }
    let advice =
        "stop here and restore the folder from a backup, or set store.accept_loss = true to go on with what is left";
    Err(StoreError::lasting("open", format!("{} has lost data: {loss}; {advice}", directory.display())))
}

fn other_layout(directory: &Path, layout: u8) -> StoreError {
    let words = format!("was written by a version of otpd with another layout, {layout}; this one has {LAYOUT}");
    StoreError::lasting("open", format!("{} {words}", directory.display()))
}

fn failed_to_open(directory: &Path) -> impl Fn(String) -> StoreError {
    move |cause| StoreError::new("open", format!("{}: {cause}", directory.display()))
}

/// Opens a database that must hold all that was acknowledged.
fn whole(directory: &Path, data: &Path, exists: bool, told: SideRecord) -> Result<OpenedDatabase, Loss> {
    let told = match told {
        SideRecord::Tells(told) => told,
        SideRecord::Absent => return Err(Loss::Certain("the file `acknowledged` is missing".to_owned())),
        SideRecord::Damaged | SideRecord::OtherLayout(_) => {
            return Err(Loss::Certain("the file `acknowledged` is damaged".to_owned()));
        }
    };
    if !exists {
        return Err(Loss::Certain("the folder `data` is missing".to_owned()));
    }
    let watch = Stopwatch::start();
    let bytes = trees::verify(data)?;
    let journaled = journal::read_all(data)?;
    let persisted = trees::persisted(data)?;
    gapless(&persisted, &journaled)?;
    let in_tables = || persisted.iter().map(|keyspace| keyspace.sequence).min().unwrap_or_default();
    complete(journaled.last.map_or_else(in_tables, |last| last.sequence), told.sequence)?;
    // Nothing is changed before it is known that nothing is missing.
    journaled.cut_torn_tail()?;
    // Empty, and the engine does not make it anew.
    File::options().create(true).append(true).open(data.join("lock"))?;
    let tables = engine(data)?;
    let sequence = tables.sequence()?;
    complete(sequence, told.sequence)?;
    let side_record = AcknowledgedFile::open(directory)?;
    let ms = millis(watch.elapsed());
    tracing::info!(bytes, ms, batches = sequence, "the embedded store is whole");
    Ok(OpenedDatabase { tables, side_record, last: Acknowledged { sequence, times: told.times } })
}

fn complete(present: u64, acknowledged: u64) -> Result<(), Loss> {
    if present >= acknowledged {
        return Ok(());
    }
    Err(Loss::Certain(format!("{acknowledged} batches were acknowledged, and {present} are there")))
}

/// Whether the first batch of the journals follows the last one in the tables of each keyspace.
fn gapless(persisted: &[Persisted], journaled: &Journaled) -> Result<(), Loss> {
    let Some(first) = journaled.first else { return Ok(()) };
    for keyspace in persisted {
        if keyspace.engine.is_some_and(|number| number >= first.engine) {
            continue;
        }
        let next = keyspace.sequence + 1;
        if next != first.sequence {
            let gap = format!("batches {next} to {}", first.sequence.saturating_sub(1));
            return Err(Loss::Certain(format!("a journal is missing: {gap}")));
        }
    }
    Ok(())
}

/// Makes an empty database beside where it belongs and moves it there when it is whole: the engine cannot open what it was
/// killed while creating.
fn create(directory: &Path, data: &Path) -> Result<OpenedDatabase, String> {
    let said = |cause: io::Error| cause.to_string();
    let new = directory.join("data.new");
    remove(&new).map_err(said)?;
    drop(engine(&new).map_err(|cause| cause.to_string())?);
    // First, so that a database without a side record is never what a crash has left.
    let last = Acknowledged::default();
    let side_record = AcknowledgedFile::create(directory, last).map_err(said)?;
    rename(directory, &new, data).map_err(said)?;
    let tables = engine(data).map_err(|cause| cause.to_string())?;
    Ok(OpenedDatabase { tables, side_record, last })
}

/// Copies what can be read to a new database and goes on with it. The damaged one is kept under another name.
fn accept(directory: &Path, data: &Path, now: Timestamp) -> Result<OpenedDatabase, StoreError> {
    let failed = failed_to_open(directory);
    let said = |cause: io::Error| failed(cause.to_string());
    let (new, copied) = (directory.join("data.new"), directory.join("data.copied"));
    // Killed between the two renames below: the copy is there, and the damaged database has gone.
    if data.try_exists().map_err(said)? || !copied.try_exists().map_err(said)? {
        remove(&new).map_err(said)?;
        remove(&copied).map_err(said)?;
        let tables = engine(&new).map_err(|cause| failed(cause.to_string()))?;
        salvage::salvage(data, &directory.join("data.draft"), &tables)?;
        drop(tables);
        rename(directory, &new, &copied).map_err(said)?;
    }
    if data.try_exists().map_err(said)? {
        let kept = directory.join(format!("data.damaged-{}", now.as_millis()));
        tracing::warn!(kept = %kept.display(), "the damaged database is kept; remove it when it is of no more use");
        rename(directory, data, &kept).map_err(said)?;
    }
    rename(directory, &copied, data).map_err(said)?;
    let tables = engine(data).map_err(|cause| failed(cause.to_string()))?;
    let sequence = tables.sequence().map_err(|cause| failed(cause.to_string()))?;
    // What is left lives on by the time of the store that has written it, where that is known.
    let times = match acknowledged::read(directory).map_err(said)? {
        SideRecord::Tells(told) => told.times,
        SideRecord::Absent | SideRecord::Damaged | SideRecord::OtherLayout(_) => BothTimes::equal(now),
    };
    let last = Acknowledged { sequence, times };
    let side_record = AcknowledgedFile::create(directory, last).map_err(said)?;
    Ok(OpenedDatabase { tables, side_record, last })
}

/// Removes a folder if it is there.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

fn rename(directory: &Path, from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    File::open(directory)?.sync_all()
}

/// Refuses a folder in which anyone may replace files.
pub(super) fn check_mode(directory: &Path) -> Result<(), StoreError> {
    let failed = |cause: String| StoreError::lasting("open", format!("{}: {cause}", directory.display()));
    let mode = fs::metadata(directory).map_err(|cause| failed(cause.to_string()))?.permissions().mode();
    if mode & 0o002 == 0 {
        return Ok(());
    }
    Err(failed("anyone may write to the folder; take that away with `chmod o-w`".to_owned()))
}
