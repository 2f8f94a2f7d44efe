//! The engine's trees of tables, checked byte by byte before the engine opens them.
//!
//! The engine reads most of a table only when it is asked for, trusts its list of tables without its checksum, and deletes
//! tables that a damaged list no longer names. So the files are compared with the checksums that the engine wrote beside
//! them: `current` holds that of the list `vN`, and the list those of all tables. This reads the whole store once.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3Default;

use super::disk::KEYSPACES;

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
}

/// Compares all files of a database with their checksums; how many bytes that were.
pub(super) fn verify(data: &Path) -> Result<u64, TreeError> {
    let keyspaces = data.join("keyspaces");
    for needed in [data.join("version"), keyspaces.clone()] {
        if !needed.exists() {
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
    let tables = tables(&list).map_err(|error| unreadable(&list, error))?;
    for ListedTable { id, checksum } in tables {
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

/// The tables of a list: levels of runs of tables.
fn tables(list: &Path) -> io::Result<Vec<ListedTable>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let archive = sfa::Reader::new(list).map_err(|_| invalid())?;
    let section = archive.toc().section(b"tables").ok_or_else(invalid)?;
    let mut reader = section.buf_reader(list)?;
    let mut listed = Vec::new();
    for _ in 0..next::<1>(&mut reader)?[0] {
        for _ in 0..next::<1>(&mut reader)?[0] {
            for _ in 0..u32::from_le_bytes(next(&mut reader)?) {
                let id = u64::from_le_bytes(next(&mut reader)?);
                let [_kind] = next(&mut reader)?;
                let checksum = u128::from_le_bytes(next(&mut reader)?);
                let _engine_number: [u8; 8] = next(&mut reader)?;
                listed.push(ListedTable { id, checksum });
            }
        }
    }
    Ok(listed)
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
