//! Where a file that is there has come to: its first and its last line. What a crash has left after the last one is cut off.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::chain::{Chain, Line, MAX_LINE};
use crate::ports::files;

/// How often a file is opened that is replaced meanwhile.
const MAX_OPENS: u32 = 10;
/// How much is read at once.
const BLOCK: usize = 2 * MAX_LINE;
/// Digits of the number at the end of a rotated file's name: as many lines as nobody writes.
const DIGITS: usize = 12;

/// A file, as it can be gone on with.
pub(super) struct Tail {
    /// The number of its first line; `None`: it is empty.
    pub(super) first: Option<u64>,
    /// The chain after its last line; `None`: it is empty.
    pub(super) chain: Option<Chain>,
    /// Whether its last line is a seal; so is what is empty.
    pub(super) is_sealed: bool,
    /// Its length up to and with the last whole line.
    pub(super) length: u64,
    /// How much stands after it: the part of a line that was written when the machine stopped.
    pub(super) torn: u64,
}

/// Opens a file to write behind its end, for this process alone.
///
/// # Errors
/// It cannot be opened, or another process writes it.
pub(super) fn open(path: &Path) -> io::Result<File> {
    for _ in 0..MAX_OPENS {
        let file = open_once(path)?;
        // The process before may have rotated it after it was opened and before it was locked.
        let (opened, named) = (file.metadata()?, fs::metadata(path)?);
        if files::is_same(&opened, &named) {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, format!("{}: another process rotates it", path.display())))
}

fn open_once(path: &Path) -> io::Result<File> {
    let file = files::append_to(path, None)?;
    if file.metadata()?.is_file() {
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::WouldBlock, format!("{}: another process writes it", path.display()))
            }
            fs::TryLockError::Error(error) => error,
        })?;
    }
    Ok(file)
}

/// Looks at a file.
///
/// # Errors
/// It cannot be read, or is no audit of otpd's.
pub(super) fn look(file: &File) -> io::Result<Tail> {
    let whole = file.metadata()?.len();
    let written = without_zeros(file, whole)?;
    let block = block_before(file, written)?;
    let breaks = || block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(index, _)| index);
    let Some(end) = breaks().next() else {
        return if block.len() < MAX_LINE {
            Ok(Tail { first: None, chain: None, is_sealed: true, length: 0, torn: whole })
        } else {
            Err(foreign("has no whole line at its end"))
        };
    };
    let start = breaks().nth(1).map_or(0, |before| before + 1);
    let last =
        block.get(start..end).and_then(Line::parse).ok_or_else(|| foreign("ends with a line that is not otpd's"))?;
    let length = written - size(block.len() - end - 1);
    let head = block_at(file, 0, length)?;
    let first = head.split(|byte| *byte == b'\n').next().and_then(Line::parse);
    let first = first.ok_or_else(|| foreign("begins with a line that is not otpd's"))?.seq;
    let (chain, is_sealed) = (Some(Chain::after(&last)), last.seal().is_some());
    Ok(Tail { first: Some(first), chain, is_sealed, length, torn: whole - length })
}

/// Rotated files of a path, oldest first.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name().to_string_lossy().into_owned();
        let number = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        if number.is_some_and(|number| number.len() == DIGITS && number.bytes().all(|byte| byte.is_ascii_digit())) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The name of a file once it is rotated.
pub(super) fn rotated_name(path: &Path, first: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{first:0DIGITS$}"));
    name.into()
}

/// Blocks that were given to a file, and never written, read as zeros.
fn without_zeros(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let block = block_before(file, end)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(end - size(block.len() - last - 1));
        }
        end -= size(block.len());
    }
    Ok(0)
}

fn block_before(file: &File, end: u64) -> io::Result<Vec<u8>> {
    block_at(file, end.saturating_sub(size(BLOCK)), end)
}

fn block_at(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(end - start).unwrap_or(BLOCK).min(BLOCK);
    let mut block = vec![0; length];
    file.read_exact_at(&mut block, start)?;
    Ok(block)
}

fn foreign(why: &str) -> io::Error {
    let text = format!("{why}; see `otpd audit verify`, and move the file away");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
