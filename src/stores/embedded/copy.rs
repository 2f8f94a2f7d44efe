//! Makes a copy of a store, from which a process can start: of a running one through its socket, of any other from its files.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, BufReader},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use super::{
    acknowledged::{self, Acknowledged, AcknowledgedFile, SideRecord},
    backup::{Received, SOCKET, STALLED},
    disk::{self, Disk},
    opening::was_written,
    time::BothTimes,
};
use crate::{domain::time::Timestamp, ports::store::StoreError};

/// In a folder that is not a whole copy yet, or was left behind by a process that was killed.
const UNFINISHED: &str = "unfinished-backup";

/// A copy that is whole, but not yet where it belongs. What is not finished is removed when this is dropped.
pub struct UnfinishedBackup {
    draft: PathBuf,
    to: PathBuf,
    /// Locked, so that no other backup clears the folder meanwhile.
    _mark: File,
}

/// Copies the store of a folder as it is at one moment. The copy comes to be in `to`, which must not exist or be empty. `now`
/// is the time of day.
///
/// # Errors
/// There is no store, it cannot be read, or the copy cannot be written.
pub fn back_up(directory: &Path, to: &Path, now: Timestamp) -> Result<UnfinishedBackup, StoreError> {
    if !directory.join("data").exists() && !was_written(directory) {
        return Err(failed(directory, "no store is there"));
    }
    let backup = UnfinishedBackup::begin(to)?;
    // A new store with what this one has: files of a running database change under whoever copies them.
    let copy = Disk::open(&backup.draft, false, now)?;
    let last = if let Some(lock) = disk::lock(directory)? {
        let source = Disk::open_locked(directory, lock, false, now)?;
        copy.fill(source.last.sequence, source.tables.moment().all("back up"))?;
        source.last
    } else {
        let received = received(directory)?;
        let last = Acknowledged { sequence: received.sequence, times: last_times(directory)? };
        copy.fill(last.sequence, received)?;
        last
    };
    // So that the copy is known to be whole, and nothing is missed in it that it never had.
    let side_record = AcknowledgedFile::create(&backup.draft, last);
    side_record.map_err(|cause| failed(&backup.draft, cause))?;
    Ok(backup)
}

/// The times of the store that a running process has, which a process over the copy goes on with.
fn last_times(directory: &Path) -> Result<BothTimes, StoreError> {
    match acknowledged::read(directory).map_err(|cause| failed(directory, cause))? {
        SideRecord::Tells(last) => Ok(last.times),
        SideRecord::Absent | SideRecord::Damaged | SideRecord::OtherLayout(_) => Ok(BothTimes::default()),
    }
}

fn received(directory: &Path) -> Result<Received<BufReader<UnixStream>>, StoreError> {
    let path = directory.join(SOCKET);
    let connected = || {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(STALLED))?;
        Received::new(BufReader::new(stream))
    };
    connected().map_err(|cause| failed(directory, format!("in use by a process that sends no backup: {cause}")))
}

impl UnfinishedBackup {
    /// The folder beside the one that is wanted, empty.
    fn begin(to: &Path) -> Result<Self, StoreError> {
        let name = to.file_name().ok_or_else(|| failed(to, "names no folder"))?;
        check_movable(to)?;
        let occupied = match fs::read_dir(to) {
            Ok(mut entries) => entries.next().is_some(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => false,
            Err(cause) => return Err(failed(to, cause)),
        };
        if occupied {
            return Err(failed(to, "the folder is not empty"));
        }
        let mut draft_name = name.to_owned();
        draft_name.push(".new");
        let draft = to.with_file_name(draft_name);
        let mark = clear(&draft)?;
        Ok(Self { draft, to: to.to_owned(), _mark: mark })
    }

    /// The folder of the copy until it is finished, for what belongs to it besides the store.
    pub fn folder(&self) -> &Path {
        &self.draft
    }

    /// Moves the copy to where it belongs, once all of it is on the disk.
    ///
    /// # Errors
    /// It cannot be synced or moved; then there is none.
    pub fn finish(self) -> Result<(), StoreError> {
        let finished = || {
            keep(&self.draft)?;
            fs::rename(&self.draft, &self.to)?;
            File::open(parent(&self.to))?.sync_all()
        };
        finished().map_err(|cause| failed(&self.to, cause))
    }
}

impl Drop for UnfinishedBackup {
    fn drop(&mut self) {
        // It is there no longer when it is finished.
        let _ = remove(&self.draft);
    }
}

/// Refuses a folder to which the one beside it cannot be moved, before all is copied.
fn check_movable(to: &Path) -> Result<(), StoreError> {
    let found = match fs::symlink_metadata(to) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|cause| failed(to, cause))?,
    };
    if found.is_symlink() {
        return Err(failed(to, "must be a folder, and no link"));
    }
    let beside = fs::metadata(parent(to)).map_err(|cause| failed(to, cause))?;
    if found.dev() != beside.dev() {
        return Err(failed(to, "is the root of a file system: name a folder in it"));
    }
    Ok(())
}

fn parent(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Takes the mark off a folder once all of it is on the disk: whatever ends the process before leaves it marked.
fn keep(draft: &Path) -> io::Result<()> {
    sync_all(draft)?;
    fs::remove_file(draft.join(UNFINISHED))?;
    File::open(draft)?.sync_all()
}

/// Removes a folder, the mark after all else.
fn remove(draft: &Path) -> io::Result<()> {
    empty(draft)?;
    fs::remove_dir_all(draft)
}

/// Removes all in a folder but the mark.
fn empty(draft: &Path) -> io::Result<()> {
    for entry in fs::read_dir(draft)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != UNFINISHED {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes a folder, without what an earlier backup left there, and marks it.
fn clear(draft: &Path) -> Result<File, StoreError> {
    let mark = draft.join(UNFINISHED);
    match DirBuilder::new().mode(0o700).create(draft) {
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && mark.exists() => {
            let file = File::open(&mark).map_err(|cause| failed(&mark, cause))?;
            file.try_lock().map_err(|_| failed(draft, "another backup is being made there"))?;
            remove(draft).map_err(|cause| failed(draft, cause))?;
            DirBuilder::new().mode(0o700).create(draft).map_err(|cause| failed(draft, cause))?;
        }
        made => made.map_err(|cause| failed(draft, cause))?,
    }
    let file = File::create(&mark).map_err(|cause| failed(&mark, cause))?;
    file.try_lock().map_err(|cause| failed(&mark, cause))?;
    Ok(file)
}

/// Has the disk keep a folder and all that is in it.
fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, cause: impl std::fmt::Display) -> StoreError {
    StoreError::new("back up", format!("{}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process may end at any step: what is left beside the mark is known to be unfinished.
    #[test]
    fn the_mark_is_put_first_and_removed_last() {
        let folder = tempfile::tempdir().unwrap();
        let draft = folder.path().join("copy.new");
        let mark = clear(&draft).unwrap();
        fs::create_dir_all(draft.join("data/keyspaces")).unwrap();
        fs::write(draft.join("data/0.jnl"), "").unwrap();
        // What cannot be synced.
        std::os::unix::fs::symlink("nowhere", draft.join("link")).unwrap();
        keep(&draft).unwrap_err();
        assert!(draft.join(UNFINISHED).exists());
        empty(&draft).unwrap();
        let left: Vec<_> = fs::read_dir(&draft).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [UNFINISHED]);
        drop(mark);
        clear(&draft).unwrap();
        keep(&draft).unwrap();
        assert!(!draft.join(UNFINISHED).exists());
        remove(&draft).unwrap();
        assert!(!draft.exists());
    }
}
