//! The engine's journals, read before the engine reads them.
//!
//! The engine takes a journal up to the first thing in it that is not whole, cuts off the rest, and goes on: right for the
//! tail of the last journal, which a crash may have cut short, but silent where a byte was flipped or a journal is missing.
//! Here each batch must follow the one before it: its first item is the batch's number in this store (`disk.rs`).
//!
//! Format of fjall 3, numbers little endian:
//!
//! | part | bytes |
//! | --- | --- |
//! | start | 1, items `u32`, the engine's number `u64` |
//! | item | 2, kind `u8`, compression `u8`, keyspace `u64`, key length `u16`, value length `u32` twice, key, value |
//! | end | 3, checksum of all items `u64`, `FJL` and 3 |

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3Default;

use super::disk::SEQUENCE_KEY;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];
const ITEM_HEADER: usize = 20;
/// A value is at most a record; a longer one is damage.
const MAX_VALUE: usize = 1 << 20;

/// The batches of the journals.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    /// The first one, unless there is none.
    pub(super) first: Option<Numbered>,
    /// The last one.
    pub(super) last: Option<Numbered>,
    /// What a crash has left behind it.
    torn: Option<TornTail>,
}

/// A batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    /// Its number in this store: one more than that of the batch before.
    pub(super) sequence: u64,
    /// Its number in the engine, by which values replace each other.
    pub(super) engine: u64,
}

/// Why the journals cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// They cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They are not as the engine has written them.
    #[error("{0}: {1}")]
    Damaged(String, &'static str),
}

/// The last journal, as far as it is whole.
#[derive(Debug)]
struct TornTail {
    path: PathBuf,
    whole: u64,
}

impl Journaled {
    /// Cuts off what a crash has left behind the last batch: the engine would not open it. Only once it is known that all
    /// that was acknowledged is there.
    pub(super) fn cut_torn_tail(&self) -> io::Result<()> {
        let Some(TornTail { path, whole }) = &self.torn else { return Ok(()) };
        let file = File::options().write(true).open(path)?;
        file.set_len(*whole)?;
        file.sync_all()
    }
}

/// Reads all journals of a database.
pub(super) fn read_all(data: &Path) -> Result<Journaled, JournalError> {
    let paths = paths(data)?;
    let mut journaled = Journaled::default();
    for (at, path) in paths.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let damaged = |what| JournalError::Damaged(name.clone(), what);
        let mut journal = Journal::open(path)?;
        loop {
            match journal.next_batch()? {
                Found::Batch(batch) => follow(&mut journaled, batch).map_err(damaged)?,
                Found::End => break,
                // Only the end of the last one may have been cut short.
                Found::Broken if at + 1 < paths.len() => return Err(damaged("a byte is not as it was written")),
                Found::Broken => {
                    journaled.torn = Some(TornTail { path: path.clone(), whole: journal.whole });
                    break;
                }
            }
        }
    }
    Ok(journaled)
}

/// Copies what is whole of the journals of a damaged database into another one: each journal up to the first batch that is
/// not as it was written. `false`: there is none.
pub(super) fn copy_whole(damaged: &Path, to: &Path) -> io::Result<bool> {
    let mut last: Option<Numbered> = None;
    let mut copied = false;
    for (number, path) in numbered(damaged)? {
        let mut journal = Journal::open(&path)?;
        let mut whole = 0;
        while let Found::Batch(batch) = journal.next_batch()? {
            // Batches may be missing before it. But the engine's number has no checksum, and says which value is newer.
            if last.is_some_and(|last| batch.sequence <= last.sequence || batch.engine <= last.engine) {
                break;
            }
            last = Some(batch);
            whole = journal.whole;
        }
        if whole > 0 {
            let mut copy = File::create(to.join(format!("{number}.jnl")))?;
            io::copy(&mut File::open(&path)?.take(whole), &mut copy)?;
            copied = true;
        }
    }
    Ok(copied)
}

/// The journals whose names can be read, from the oldest to the newest.
fn numbered(data: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
        {
            numbered.push((number, path));
        }
    }
    numbered.sort();
    Ok(numbered)
}

/// The journals from the oldest to the newest. Each has the number after that of the one before.
fn paths(data: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let mut numbered = Vec::new();
    for entry in fs::read_dir(data)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
            let unknown = || JournalError::Damaged(path.display().to_string(), "is not the name of a journal");
            numbered.push((number.ok_or_else(unknown)?, path));
        }
    }
    numbered.sort();
    let gap = numbered.windows(2).any(|pair| matches!(pair, [(one, _), (next, _)] if one + 1 != *next));
    if gap {
        return Err(JournalError::Damaged(data.display().to_string(), "a journal is missing"));
    }
    if numbered.is_empty() {
        return Err(JournalError::Damaged(data.display().to_string(), "the journal is missing"));
    }
    Ok(numbered.into_iter().map(|(_, path)| path).collect())
}

fn follow(journaled: &mut Journaled, batch: Numbered) -> Result<(), &'static str> {
    if let Some(last) = journaled.last {
        if batch.sequence != last.sequence + 1 {
            return Err("batches are missing between two others");
        }
        if batch.engine <= last.engine {
            return Err("a batch is out of order");
        }
    }
    journaled.first.get_or_insert(batch);
    journaled.last = Some(batch);
    Ok(())
}

/// What follows in a journal.
enum Found {
    Batch(Numbered),
    /// Nothing: the end of the file, or zeros to its end, which are room made in advance.
    End,
    /// Something that is not whole.
    Broken,
}

struct Journal {
    file: BufReader<File>,
    /// Up to here there are whole batches.
    whole: u64,
    read: u64,
}

/// Takes `None` as something that is not whole.
macro_rules! whole {
    ($part:expr) => {
        match $part {
            Some(part) => part,
            None => return Ok(Found::Broken),
        }
    };
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 17, File::open(path)?), whole: 0, read: 0 })
    }

    /// The next bytes; `None` at the end of the file.
    fn bytes<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => self.read += u64::try_from(N).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(bytes))
    }

    fn next_batch(&mut self) -> io::Result<Found> {
        let Some([tag]) = self.bytes()? else { return Ok(Found::End) };
        if tag == 0 {
            return self.zeros();
        }
        let start: [u8; 12] = whole!(self.bytes()?);
        let (items, engine) = whole!(start.split_first_chunk());
        let (items, engine) = (u32::from_le_bytes(*items), number(engine));
        if tag != START || items == 0 {
            return Ok(Found::Broken);
        }
        let mut hasher = Xxh3Default::new();
        let mut sequence = None;
        for item in 0..items {
            let (key, value) = whole!(self.item(&mut hasher)?);
            if item == 0 {
                sequence = (key == SEQUENCE_KEY).then(|| value.try_into().ok().map(u64::from_be_bytes)).flatten();
            }
        }
        let end: [u8; 13] = whole!(self.bytes()?);
        let (checksum, trailer) = whole!(end.split_last_chunk().map(|(head, trailer)| (head, *trailer)));
        let as_written = checksum.first() == Some(&END)
            && checksum.get(1..).map(number) == Some(hasher.digest())
            && trailer == TRAILER;
        let sequence = whole!(sequence.filter(|_| as_written));
        self.whole = self.read;
        Ok(Found::Batch(Numbered { sequence, engine }))
    }

    /// The key and value of an item; `None` where it is not whole.
    fn item(&mut self, hasher: &mut Xxh3Default) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
        let Some([tag]) = self.bytes()? else { return Ok(None) };
        let Some(header) = self.bytes::<ITEM_HEADER>()? else { return Ok(None) };
        let lengths: Option<([u8; 2], [u8; 4], [u8; 4])> = header.get(10..).and_then(|rest| {
            let (key, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_first_chunk()?;
            Some((*key, *value, *rest.first_chunk()?))
        });
        let Some((key, value, stored)) = lengths else { return Ok(None) };
        let (key, value) = (usize::from(u16::from_le_bytes(key)), u32::from_le_bytes(value));
        if tag != ITEM || value != u32::from_le_bytes(stored) {
            return Ok(None);
        }
        let Some(value) = usize::try_from(value).ok().filter(|length| *length <= MAX_VALUE) else { return Ok(None) };
        let (Some(key), Some(value)) = (self.vector(key)?, self.vector(value)?) else { return Ok(None) };
        for part in [&[tag], header.as_slice(), &key, &value] {
            hasher.update(part);
        }
        Ok(Some((key, value)))
    }

    fn vector(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => self.read += u64::try_from(length).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(bytes))
    }

    fn zeros(&mut self) -> io::Result<Found> {
        let mut bytes = vec![0; 1 << 17];
        loop {
            let read = self.file.read(&mut bytes)?;
            if read == 0 {
                return Ok(Found::End);
            }
            if bytes.iter().take(read).any(|byte| *byte != 0) {
                return Ok(Found::Broken);
            }
        }
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.try_into().map(u64::from_le_bytes).unwrap_or_default()
}
