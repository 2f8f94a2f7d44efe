//! The engine's trees of tables, checked byte by byte before the engine opens them.
//!
//! The engine reads most of a table only when it is asked for, trusts its list of tables without its checksum, and deletes
//! tables that a damaged list no longer names. So the files are compared with the checksums that the engine wrote beside
//! them: `current` holds that of the list `vN`, and the list those of all tables. This reads the whole store once.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use lsm_tree::{AbstractTree, SeqNo, SequenceNumberCounter};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::disk::{KEYSPACES, SEQUENCE_KEY, decode_sequence};

const BUFFER: usize = 1 << 18;

/// Why the trees cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum TreeError {
    /// Without this the engine would start anew, and delete what is there.
    #[error("{0} is missing")]
    Missing(String),
    /// A list cannot be trusted, and with it nothing.
    #[error("{0} is damaged")]
    List(String),
    /// A table is damaged, the others may be well.
    #[error("{0} is damaged")]
    Table(String),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// A table of a list.
struct ListedTable {
    id: u64,
    checksum: u128,
    engine: u64,
}

/// Levels of runs of tables.
type Levels = Vec<Vec<Vec<ListedTable>>>;

/// How far a keyspace is in its tables, without the journals.
pub(super) struct Persisted {
    /// The engine's number of the newest batch in them.
    pub(super) engine: Option<SeqNo>,
    /// The number of that batch in this store; 0: there is none.
    pub(super) sequence: u64,
}

/// How far the keyspaces are in their tables. The engine would already change what it opens: it writes tables from journals.
/// This opens the trees alone, which leaves them as they are.
pub(super) fn persisted(data: &Path) -> Result<Vec<Persisted>, fjall::Error> {
    let of_tree = |tree: String| {
        let counter = SequenceNumberCounter::default;
        let tree = lsm_tree::Config::new(data.join("keyspaces").join(tree), counter(), counter()).open()?;
        let sequence = decode_sequence(tree.get(SEQUENCE_KEY, SeqNo::MAX)?);
        Ok(Persisted { engine: tree.get_highest_persisted_seqno(), sequence })
    };
    trees().skip(1).map(of_tree).collect()
}

/// Compares all files of a database with their checksums; how many bytes that were.
pub(super) fn verify(data: &Path) -> Result<u64, TreeError> {
    let keyspaces = data.join("keyspaces");
    for needed in [data.join("version"), keyspaces.clone()] {
        if !needed.try_exists().map_err(|error| TreeError::Io(shown(&needed), error))? {
            return Err(TreeError::Missing(shown(&needed)));
        }
    }
    for entry in fs::read_dir(&keyspaces).map_err(|error| TreeError::Io(shown(&keyspaces), error))? {
        let path = entry.map_err(|error| TreeError::Io(shown(&keyspaces), error))?.path();
        // The engine does not expect anything else here, and ends in a panic.
        if !trees().any(|tree| path.ends_with(tree)) {
            return Err(TreeError::List(shown(&path)));
        }
    }
    trees().try_fold(0, |bytes, tree| Ok(bytes + verify_tree(&keyspaces.join(tree))?))
}

/// The tree of the engine itself, which names the others, and one for each keyspace.
fn trees() -> impl Iterator<Item = String> {
    (0..=KEYSPACES.len()).map(|number| number.to_string())
}

fn verify_tree(tree: &Path) -> Result<u64, TreeError> {
    let current = tree.join("current");
    let bytes = fs::read(&current).map_err(|error| unreadable(&current, error))?;
    let (version, checksum) = decode_current(&bytes).ok_or_else(|| TreeError::List(shown(&current)))?;
    let list = tree.join(format!("v{version}"));
    let (found, mut total) = hash(&list).map_err(|error| unreadable(&list, error))?;
    if found != checksum {
        return Err(TreeError::List(shown(&list)));
    }
    let levels = levels(&list).map_err(|error| unreadable(&list, error))?;
    for ListedTable { id, checksum, .. } in levels.into_iter().flatten().flatten() {
        let path = tree.join("tables").join(id.to_string());
        let (found, length) = hash(&path).map_err(|error| unreadable(&path, error))?;
        if found != checksum {
            return Err(TreeError::Table(shown(&path)));
        }
        total += length;
    }
    Ok(total)
}

/// The number of the list, its checksum, and the kind of the checksum.
fn decode_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (kind == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

/// Makes, from what is there of a damaged tree, one that the engine can open: of the tables that its list names, those that
/// are there, or only those that are whole. They are the same files. `false`: not even the list can be read.
pub(super) fn link_readable(damaged: &Path, to: &Path, whole_only: bool) -> io::Result<bool> {
    let Some((version, list)) = last_list(damaged)? else { return Ok(false) };
    let (Ok(archive), Ok(levels)) = (sfa::Reader::new(&list), levels(&list)) else { return Ok(false) };
    fs::remove_dir_all(to)?;
    fs::create_dir_all(to.join("tables"))?;
    let mut readable = Levels::new();
    for level in levels {
        let mut runs = Vec::new();
        for run in level {
            let mut tables = Vec::new();
            for table in run {
                let name = Path::new("tables").join(table.id.to_string());
                let path = damaged.join(&name);
                if path.try_exists()? && (!whole_only || hash(&path)?.0 == table.checksum) {
                    fs::hard_link(&path, to.join(name))?;
                    tables.push(table);
                }
            }
            if !tables.is_empty() {
                runs.push(tables);
            }
        }
        readable.push(runs);
    }
    let mut writer = sfa::Writer::from_writer(Cursor::new(Vec::new()));
    for section in archive.toc().iter() {
        writer.start(section.name())?;
        if section.name() == b"tables" {
            writer.write_all(&encode_levels(&readable))?;
        } else {
            io::copy(&mut section.buf_reader(&list)?, &mut writer)?;
        }
    }
    let bytes = writer.into_inner().map_err(io::Error::other)?.into_inner();
    let current = [&version.to_le_bytes()[..], &xxh3_128(&bytes).to_le_bytes(), &[0]].concat();
    fs::write(to.join(format!("v{version}")), bytes)?;
    fs::write(to.join("current"), current)?;
    Ok(true)
}

/// The list that `current` names, or else the newest one, and its number.
fn last_list(tree: &Path) -> io::Result<Option<(u64, PathBuf)>> {
    if let Some((version, _)) = present(fs::read(tree.join("current")))?.and_then(|bytes| decode_current(&bytes)) {
        let list = tree.join(format!("v{version}"));
        if list.try_exists()? {
            return Ok(Some((version, list)));
        }
    }
    let Some(entries) = present(fs::read_dir(tree))? else { return Ok(None) };
    let mut newest = None;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let version: Option<u64> = name.and_then(|name| name.strip_prefix('v')).and_then(|number| number.parse().ok());
        newest = newest.max(version.map(|version| (version, path)));
    }
    Ok(newest)
}

/// `None`: it is not there.
fn present<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// The tables of a list.
fn levels(list: &Path) -> io::Result<Levels> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let archive = sfa::Reader::new(list).map_err(|_| invalid())?;
    let section = archive.toc().section(b"tables").ok_or_else(invalid)?;
    let mut reader = section.buf_reader(list)?;
    let mut levels = Vec::new();
    for _ in 0..next::<1>(&mut reader)?[0] {
        let mut runs = Vec::new();
        for _ in 0..next::<1>(&mut reader)?[0] {
            let mut run = Vec::new();
            for _ in 0..u32::from_le_bytes(next(&mut reader)?) {
                let id = u64::from_le_bytes(next(&mut reader)?);
                let [_kind] = next(&mut reader)?;
                let checksum = u128::from_le_bytes(next(&mut reader)?);
                run.push(ListedTable { id, checksum, engine: u64::from_le_bytes(next(&mut reader)?) });
            }
            runs.push(run);
        }
        levels.push(runs);
    }
    Ok(levels)
}

/// See [`levels`]. A run is shorter than the one that was read, so that its numbers fit.
fn encode_levels(levels: &Levels) -> Vec<u8> {
    let mut bytes = vec![u8::try_from(levels.len()).unwrap_or(u8::MAX)];
    for runs in levels {
        bytes.push(u8::try_from(runs.len()).unwrap_or(u8::MAX));
        for run in runs {
            bytes.extend(u32::try_from(run.len()).unwrap_or(u32::MAX).to_le_bytes());
            for ListedTable { id, checksum, engine } in run {
                bytes.extend(id.to_le_bytes());
                bytes.push(0);
                bytes.extend(checksum.to_le_bytes());
                bytes.extend(engine.to_le_bytes());
            }
        }
    }
    bytes
}

fn next<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The checksum of a file, and its length.
fn hash(path: &Path) -> io::Result<(u128, u64)> {
    let (mut file, mut hasher, mut length) = (File::open(path)?, Xxh3Default::new(), 0);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hasher.digest128(), length));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        length += u64::try_from(read).unwrap_or_default();
    }
}

fn unreadable(path: &Path, error: io::Error) -> TreeError {
    match error.kind() {
        io::ErrorKind::NotFound => TreeError::Missing(shown(path)),
        _ => TreeError::Io(shown(path), error),
    }
}

/// The path within the database.
fn shown(path: &Path) -> String {
    let parts: PathBuf = path.components().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect();
    parts.display().to_string()
}
