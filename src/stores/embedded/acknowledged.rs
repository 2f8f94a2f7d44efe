//! The side record: how many batches this store has acknowledged and its times, kept beside the database.
//!
//! The database holds the number of its last batch itself. What was acknowledged and is not there, since a file was damaged,
//! cut or deleted, shows when the store opens: the database then knows of fewer batches than the side record.
//!
//! The file is written before a batch is answered, and synced a second later at most. So `kill -9` never makes it lag behind
//! what was told; after a power cut it lags by a second at most, and what it does not tell is not missed.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use xxhash_rust::xxh3::xxh3_64;

use super::time::BothTimes;
use crate::{
    domain::time::Timestamp,
    ports::{clock::Stopwatch, files},
};

const FILE: &str = "acknowledged";
/// Seven bytes, and the layout of the keys and values of the database.
const MAGIC: &[u8; 8] = &[b'o', b't', b'p', b'd', b'a', b'c', b'k', LAYOUT];
/// The layout that this version reads and writes. Another one gets another number.
pub(super) const LAYOUT: u8 = 1;
/// Magic, number of the batch, the two times, checksum.
const LENGTH: usize = 40;
/// The two records of the file are this far apart, so that a write that is cut short damages one of them.
const DISTANCE: u64 = SLOT as u64;
const SLOT: usize = 4_096;
/// How long a write may wait to be synced.
const SYNC_AFTER: Duration = Duration::from_millis(900);

/// What was acknowledged last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Acknowledged {
    /// The number of the last batch; 0: none.
    pub(super) sequence: u64,
    /// The times when it was written or later, with which the next process goes on.
    pub(super) times: BothTimes,
}

/// What the side record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SideRecord {
    /// There is none.
    Absent,
    /// It cannot be read.
    Damaged,
    /// It is that of another version, whose database has this layout.
    OtherLayout(u8),
    /// This.
    Tells(Acknowledged),
}

/// The file while the store is open.
pub(super) struct AcknowledgedFile {
    file: File,
    /// Since the first write that is not synced.
    unsynced: Option<Stopwatch>,
}

fn path(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

/// Reads the side record of a folder.
pub(super) fn read(directory: &Path) -> io::Result<SideRecord> {
    let file = match File::open(path(directory)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SideRecord::Absent),
        Err(error) => return Err(error),
    };
    let found = [0, 1].into_iter().filter_map(|slot| read_slot(&file, slot));
    let last = found.max_by_key(|found| (found.sequence, found.times.store));
    let unread = || other_layout(&file).map_or(SideRecord::Damaged, SideRecord::OtherLayout);
    Ok(last.map_or_else(unread, SideRecord::Tells))
}

/// The layout that both records name, where it is another one. What else is in them may be different then.
fn other_layout(file: &File) -> Option<u8> {
    let layout = |slot: u64| {
        let mut bytes = [0; MAGIC.len()];
        file.read_exact_at(&mut bytes, slot * DISTANCE).ok()?;
        let (layout, magic) = bytes.split_last()?;
        (MAGIC.strip_suffix(&[LAYOUT]) == Some(magic) && *layout != LAYOUT).then_some(*layout)
    };
    layout(0).filter(|first| layout(1) == Some(*first))
}

fn read_slot(file: &File, slot: u64) -> Option<Acknowledged> {
    let mut bytes = [0; LENGTH];
    file.read_exact_at(&mut bytes, slot * DISTANCE).ok()?;
    let (content, checksum) = bytes.split_last_chunk()?;
    let (magic, numbers) = content.split_first_chunk()?;
    let mut numbers = numbers.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let (sequence, store, day) = (numbers.next()?, numbers.next()?, numbers.next()?);
    let times = BothTimes { store: Timestamp::from_millis(store), day: Timestamp::from_millis(day) };
    let whole = magic == MAGIC && xxh3_64(content) == u64::from_be_bytes(*checksum);
    whole.then_some(Acknowledged { sequence, times })
}

fn encode(told: Acknowledged) -> Vec<u8> {
    let BothTimes { store, day } = told.times;
    let numbers = [told.sequence, store.as_millis(), day.as_millis()].map(u64::to_be_bytes).concat();
    let content = [MAGIC, numbers.as_slice()].concat();
    [content.as_slice(), &xxh3_64(&content).to_be_bytes()].concat()
}

impl AcknowledgedFile {
    /// Replaces the side record as a whole. It is on the disk when this returns.
    pub(super) fn create(directory: &Path, told: Acknowledged) -> io::Result<Self> {
        let record = encode(told);
        let between = [0; SLOT - LENGTH];
        let file = files::replace(directory, FILE, &[record.as_slice(), &between, &record].concat())?;
        Ok(Self { file, unsynced: None })
    }

    /// Opens the side record that is there.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path(directory))?;
        Ok(Self { file, unsynced: None })
    }

    /// Tells of one batch more, before it is answered.
    pub(super) fn tell(&mut self, told: Acknowledged) -> io::Result<()> {
        self.write(told, told.sequence % 2)
    }

    /// Tells of other times, without a batch. The record of the last batch stays beside it, should this write be cut short.
    pub(super) fn tell_times(&mut self, told: Acknowledged) -> io::Result<()> {
        self.write(told, (told.sequence + 1) % 2)
    }

    fn write(&mut self, told: Acknowledged, slot: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(told), slot * DISTANCE)?;
        let unsynced = self.unsynced.get_or_insert_with(Stopwatch::start);
        if unsynced.elapsed() < SYNC_AFTER { Ok(()) } else { self.sync() }
    }

    /// Syncs what was written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.take().is_some() { self.file.sync_data() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sequence: u64) -> Acknowledged {
        let store = Timestamp::from_millis(sequence * 1_000);
        Acknowledged { sequence, times: BothTimes { store, day: store.plus(Duration::from_secs(9)) } }
    }

    #[test]
    fn the_last_one_told_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Absent);
        let mut file = AcknowledgedFile::create(folder.path(), told(0)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(0)));
        for sequence in 1..=5 {
            file.tell(told(sequence)).unwrap();
            assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(sequence)));
        }
        file.sync().unwrap();
        let mut again = AcknowledgedFile::open(folder.path()).unwrap();
        again.tell(told(6)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(6)));
    }

    /// Whatever else is in it.
    #[test]
    fn another_layout_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = AcknowledgedFile::create(folder.path(), told(1)).unwrap().file;
        file.write_all_at(&[LAYOUT + 1], 7).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(1)));
        file.write_all_at(&[LAYOUT + 1], DISTANCE + 7).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::OtherLayout(LAYOUT + 1));
    }

    #[test]
    fn later_times_are_told_beside_the_last_batch() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AcknowledgedFile::create(folder.path(), told(0)).unwrap();
        (1..=2).for_each(|sequence| file.tell(told(sequence)).unwrap());
        for store in [2_001, 2_002] {
            let later = BothTimes { store: Timestamp::from_millis(store), day: Timestamp::default() };
            let later = Acknowledged { sequence: 2, times: later };
            file.tell_times(later).unwrap();
            assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(later));
        }
        file.file.write_all_at(b"half", DISTANCE + 20).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(2)));
        file.tell(told(3)).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(3)));
    }

    #[test]
    fn one_record_that_was_cut_short_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = AcknowledgedFile::create(folder.path(), told(0)).unwrap();
        (1..=2).for_each(|sequence| file.tell(told(sequence)).unwrap());
        file.file.write_all_at(b"half", 20).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Tells(told(1)));
        file.file.write_all_at(b"half", DISTANCE + 20).unwrap();
        assert_eq!(read(folder.path()).unwrap(), SideRecord::Damaged);
    }
}
