//! The embedded store against what happens to its folder while it is stopped: bytes flipped, files cut, deleted or older.
//! The start is refused, or every acknowledged record is there; with `accept_loss` it goes on with what is left.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use otpd::{
    ports::{
        clock::{Clock, SystemClock},
        store::{Change, Partition, Sealed, Store, StoreError, Write},
    },
    stores::embedded::{Embedded, EmbeddedOptions, StoreTime, back_up},
};
use tokio_util::task::TaskTracker;

use crate::{
    dice::Dice,
    harness::{Easy, HOUR, ManualClock, Outcome, name, partition, soon, until},
};

/// Records of the fixture live in partitions of their own, with this name.
const RECORD: u64 = 1;

/// The last bytes of each batch in a journal.
const TRAILER: [u8; 4] = [b'F', b'J', b'L', 3];

/// A record of some size, whose content tells its number.
fn large(n: u64, length: usize) -> Sealed {
    let mut dice = Dice(n);
    Sealed::from_bytes((0..length / 8).flat_map(|_| dice.next().to_be_bytes()).collect()).unwrap()
}

/// Partitions begin with any byte, as real ones do: what is unreadable costs what begins as it does.
fn spread(n: u64) -> Partition {
    partition(n.swap_bytes())
}

async fn open(folder: &Path, accept_loss: bool) -> Result<Embedded, StoreError> {
    let options = EmbeddedOptions { accept_loss, ..EmbeddedOptions::default() };
    Embedded::open_with(folder, StoreTime::starting_at(Arc::new(SystemClock)), &TaskTracker::new(), options).await
}

async fn refusal(folder: &Path) -> String {
    let refused = open(folder, false).await.err().expect("a refusal");
    assert!(refused.is_final && refused.cause.contains("has lost data: "), "{refused}");
    assert!(refused.cause.contains("store.accept_loss"), "{refused}");
    refused.cause
}

/// A folder in which this many records were acknowledged, each with `length` bytes.
struct Fixture {
    folder: tempfile::TempDir,
    records: u64,
    length: usize,
}

impl Fixture {
    /// Writes records until it is so.
    async fn written(length: usize, enough: impl Fn(&Path, u64) -> bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path(), false).await.unwrap();
        let mut records = 0;
        while !enough(folder.path(), records) {
            let write = Write { record: large(records, length), ttl: HOUR };
            let change = Change { name: name(RECORD), expected: None, write: Some(write) };
            store.commit(spread(records), &[change], soon()).await.unwrap();
            records += 1;
        }
        store.close(soon()).await;
        Self { folder, records, length }
    }

    /// With tables, and one journal.
    async fn small() -> Self {
        Self::written(60_000, |_, records| records == 400).await
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_folder(self.folder.path(), copy.path());
        copy
    }

    /// How many records are not there. All others are whole.
    async fn missing(&self, store: &Embedded) -> u64 {
        let mut missing = 0;
        for n in 0..self.records {
            let found = store.read(spread(n), &[name(RECORD)], soon()).await.unwrap();
            match &found[0] {
                Some(record) => assert_eq!(record.as_bytes(), large(n, self.length).as_bytes(), "a torn record"),
                None => missing += 1,
            }
        }
        missing
    }

    /// Refused with clear words, or nothing is missing. Whether it was refused.
    async fn refused_or_whole(&self, folder: &Path, what: &str) -> bool {
        match open(folder, false).await {
            Ok(store) => {
                assert_eq!(self.missing(&store).await, 0, "{what}: acknowledged records are missing, silently");
                store.close(soon()).await;
                false
            }
            Err(refused) => {
                let clear =
                    refused.is_final && refused.cause.contains("lost data") || refused.cause.contains("gave up");
                assert!(clear, "{what}: {refused}");
                true
            }
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// All files of a folder but the locks, relative to it and sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("lock") {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn journals(folder: &Path) -> Vec<PathBuf> {
    let all = files(folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    all.map(|path| folder.join(path)).collect()
}

/// How far a file is written: journals are long and empty at the end.
fn written(path: &Path) -> u64 {
    let bytes = fs::read(path).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn flip(path: &Path, at: u64, bit: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
}

/// One random thing to one random file.
fn damage(folder: &Path, path: &Path, dice: &mut Dice) -> String {
    let file = folder.join(path);
    let length = written(&file).max(1);
    match dice.below(4) {
        0 => {
            fs::remove_file(&file).unwrap();
            format!("{} deleted", path.display())
        }
        1 => {
            let left = dice.below(length);
            File::options().write(true).open(&file).unwrap().set_len(left).unwrap();
            format!("{} cut to {left} of {length}", path.display())
        }
        _ => {
            let (at, bit) = (dice.below(length), dice.below(8));
            flip(&file, at, bit);
            format!("{} bit {bit} of byte {at} of {length} flipped", path.display())
        }
    }
}

/// How often each file is damaged, where it is not often enough. A campaign takes 50.
const DAMAGES: &str = "OTPD_TEST_DAMAGES";

/// Every file in turn, again and again.
#[tokio::test]
async fn random_damage_is_refused_or_harmless() {
    let (fixture, mut dice, mut refused, mut rounds) = (Fixture::small().await, Dice(41), 0, 0);
    let files = files(fixture.folder.path());
    assert!(files.iter().any(|path| path.starts_with("data/keyspaces/1/tables")), "{files:?}");
    let damages = std::env::var_os(DAMAGES).map_or(4, |damages| damages.to_str().unwrap().parse().unwrap());
    println!("seed 41, {damages} damages of each file");
    for _ in 0..damages {
        for path in &files {
            let copy = fixture.copy();
            let what = damage(copy.path(), path, &mut dice);
            println!("round {rounds}: {what}");
            refused += u32::from(fixture.refused_or_whole(copy.path(), &what).await);
            rounds += 1;
        }
    }
    assert!(refused > rounds / 2, "{refused} of {rounds}: the damage does not reach what matters");
}

/// With two journals, as there are while the older one is full and its records are on their way into tables.
#[tokio::test]
async fn damage_to_an_older_journal_is_noticed() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let (older, newer) = (fixture.folder.path().join("data/0.jnl"), fixture.folder.path().join("data/1.jnl"));
    let bytes = fs::read(&older).unwrap();
    let ends: Vec<usize> = (4..bytes.len()).filter(|at| bytes[at - 4..*at] == TRAILER).collect();
    let (first, second) = bytes.split_at(ends[11]);
    fs::write(&older, first).unwrap();
    fs::write(&newer, second).unwrap();
    assert!(!fixture.refused_or_whole(fixture.copy().path(), "nothing").await, "undamaged, and refused");
    let mut dice = Dice(42);
    for _ in 0..20 {
        let (copy, at) = (fixture.copy(), dice.below(first.len() as u64));
        flip(&copy.path().join("data/0.jnl"), at, dice.below(8));
        let what = format!("byte {at} of {} flipped", first.len());
        fixture.refused_or_whole(copy.path(), &what).await;
    }
    for cut in [0, 1, first.len() as u64 / 2] {
        let copy = fixture.copy();
        File::options().write(true).open(copy.path().join("data/0.jnl")).unwrap().set_len(cut).unwrap();
        assert!(fixture.refused_or_whole(copy.path(), "cut").await, "cut to {cut}");
    }
    let copy = fixture.copy();
    fs::remove_file(copy.path().join("data/0.jnl")).unwrap();
    assert!(refusal(copy.path()).await.contains("a journal is missing: batches 1 to 12"));
    let store = open(copy.path(), true).await.unwrap();
    assert_eq!(fixture.missing(&store).await, 12);
    store.close(soon()).await;
    // What was let pass once is no loss any more.
    let store = open(copy.path(), false).await.unwrap();
    assert_eq!(fixture.missing(&store).await, 12);
}

/// A number of the engine's within a batch decides which of two values is newer, and no checksum of the engine's covers it.
#[tokio::test]
async fn batches_out_of_order_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Easy(Arc::new(open(folder.path(), false).await.unwrap()));
    assert_eq!(store.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    assert_eq!(store.commit(1, &[(1, Some(10), Some(11))]).await, Outcome::Done);
    store.0.close(soon()).await;
    let journal = &journals(folder.path())[0];
    let bytes = fs::read(journal).unwrap();
    // The second start of a batch: after the first trailer.
    let second = bytes.windows(4).position(|window| window == TRAILER).unwrap() as u64 + 4;
    let mut engine = [0; 8];
    let file = File::options().read(true).write(true).open(journal).unwrap();
    file.read_exact_at(&mut engine, second + 5).unwrap();
    assert!(u64::from_le_bytes(engine) < 256);
    file.write_all_at(&[0; 8], second + 5).unwrap();
    assert!(refusal(folder.path()).await.contains("a batch is out of order"));
}

/// What a crash or a power cut leaves behind the last batch was never acknowledged: it is no damage.
#[tokio::test]
async fn a_torn_tail_that_was_not_acknowledged_is_no_loss() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let journal = |copy: &tempfile::TempDir| journals(copy.path()).remove(0);
    for garbage in [vec![1, 9, 0], vec![0xA5; 5_000]] {
        let copy = fixture.copy();
        let path = journal(&copy);
        let end = written(&path);
        File::options().write(true).open(&path).unwrap().write_all_at(&garbage, end).unwrap();
        assert!(!fixture.refused_or_whole(copy.path(), "garbage at the end").await);
    }
    // A batch of which one block did not reach the disk: the engine alone would refuse it.
    let copy = fixture.copy();
    let before = fs::read(copy.path().join("acknowledged")).unwrap();
    let store = Easy(Arc::new(open(copy.path(), false).await.unwrap()));
    assert_eq!(store.commit(900, &[(1, None, Some(10))]).await, Outcome::Done);
    store.0.close(soon()).await;
    let path = journal(&copy);
    flip(&path, written(&path) - 60, 3);
    fs::write(copy.path().join("acknowledged"), before).unwrap();
    assert!(!fixture.refused_or_whole(copy.path(), "a torn batch").await);
}

/// Something that is done to a folder.
type Damage<'a> = Box<dyn Fn(&Path) + 'a>;

#[tokio::test]
async fn a_missing_or_older_part_is_refused_until_it_is_accepted() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let older = tempfile::tempdir().unwrap();
    copy_folder(fixture.folder.path(), older.path());
    // The folder goes on by a record, and then gets the database of before.
    let store = Easy(Arc::new(open(fixture.folder.path(), false).await.unwrap()));
    assert_eq!(store.commit(900, &[(1, None, Some(10))]).await, Outcome::Done);
    store.0.close(soon()).await;
    let swap = |folder: &Path| {
        fs::remove_dir_all(folder.join("data")).unwrap();
        copy_folder(older.path(), &folder.join("older"));
        fs::rename(folder.join("older/data"), folder.join("data")).unwrap();
    };
    let remove = |path: &'static str| move |folder: &Path| fs::remove_dir_all(folder.join(path)).unwrap();
    let delete = |path: &'static str| move |folder: &Path| fs::remove_file(folder.join(path)).unwrap();
    let cases: [(&str, u64, Damage); 8] = [
        ("21 batches were acknowledged, and 20 are there", 0, Box::new(swap)),
        ("the folder `data` is missing", 20, Box::new(|folder| fs::remove_dir_all(folder.join("data")).unwrap())),
        ("the file `acknowledged` is missing", 0, Box::new(delete("acknowledged"))),
        (
            "the file `acknowledged` is damaged",
            0,
            Box::new(|folder| fs::write(folder.join("acknowledged"), "").unwrap()),
        ),
        ("keyspaces/0/current is missing", 0, Box::new(delete("data/keyspaces/0/current"))),
        ("data/version is missing", 0, Box::new(delete("data/version"))),
        ("keyspaces/2/current is missing", 0, Box::new(remove("data/keyspaces/2"))),
        ("keyspaces/4/current is missing", 0, Box::new(remove("data/keyspaces/4"))),
    ];
    for (words, missing, damage) in cases {
        let copy = fixture.copy();
        damage(copy.path());
        for _ in 0..2 {
            let refused = refusal(copy.path()).await;
            assert!(refused.contains(words), "{refused}");
        }
        let store = open(copy.path(), true).await.unwrap();
        assert_eq!(fixture.missing(&store).await, missing, "{words}");
        assert_eq!(store.census(soon()).await.unwrap().expiries, store.census(soon()).await.unwrap().records);
        store.close(soon()).await;
        let store = Easy(Arc::new(open(copy.path(), false).await.unwrap()));
        assert_eq!(store.commit(901, &[(1, None, Some(10))]).await, Outcome::Done);
        store.0.close(soon()).await;
        assert!(open(copy.path(), false).await.is_ok());
    }
}

/// One table with a flipped byte: the rest is copied.
#[tokio::test]
async fn what_can_be_read_is_left_where_a_loss_is_accepted() {
    let fixture = Fixture::small().await;
    let copy = fixture.copy();
    let tables = files(copy.path()).into_iter().filter(|path| path.starts_with("data/keyspaces/1/tables"));
    let table =
        copy.path().join(tables.max_by_key(|path| fs::metadata(copy.path().join(path)).unwrap().len()).unwrap());
    flip(&table, fs::metadata(&table).unwrap().len() / 2, 1);
    let table = format!("tables/{} is damaged", table.file_name().unwrap().display());
    assert!(refusal(copy.path()).await.contains(&table));
    let store = open(copy.path(), true).await.unwrap();
    let missing = fixture.missing(&store).await;
    assert!((1..fixture.records / 2).contains(&missing), "{missing} of {}", fixture.records);
    let census = store.census(soon()).await.unwrap();
    assert_eq!((census.records, census.expiries), (fixture.records - missing, fixture.records - missing));
    let kept = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("data.damaged-")).count(), 1);
}

/// A table that is missing, or of which not even the end can be read: the others are copied.
#[tokio::test]
async fn a_table_that_cannot_be_opened_costs_no_other() {
    let fixture = Fixture::small().await;
    for cut in [None, Some(1_000)] {
        let copy = fixture.copy();
        let tables = files(copy.path()).into_iter().filter(|path| path.starts_with("data/keyspaces/1/tables"));
        let tables: Vec<_> = tables.map(|table| copy.path().join(table)).collect();
        assert!(tables.len() > 1);
        match cut {
            None => fs::remove_file(&tables[0]).unwrap(),
            Some(length) => File::options().write(true).open(&tables[0]).unwrap().set_len(length).unwrap(),
        }
        refusal(copy.path()).await;
        let store = open(copy.path(), true).await.unwrap();
        let missing = fixture.missing(&store).await;
        assert!((1..fixture.records / 2).contains(&missing), "{missing} of {}", fixture.records);
        store.close(soon()).await;
    }
}

/// A journal with a flipped byte: what comes before it and all tables are copied, and the damaged database stays as it is.
#[tokio::test]
async fn a_damaged_journal_costs_what_comes_after_the_damage() {
    let fixture = Fixture::small().await;
    let copy = fixture.copy();
    let journal = journals(copy.path()).remove(0);
    flip(&journal, written(&journal) - 100_000, 3);
    refusal(copy.path()).await;
    let before = contents(&copy.path().join("data"));
    let store = open(copy.path(), true).await.unwrap();
    assert_eq!(fixture.missing(&store).await, 2);
    store.close(soon()).await;
    let kept = fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.filter(|path| path.to_str().unwrap().contains("data.damaged-")).collect::<Vec<_>>();
    assert!(contents(&kept[0]) == before, "the damaged database was changed");
    assert!(!copy.path().join("data.draft").exists());
}

/// The files of a folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(folder.join(path)).unwrap())).collect()
}

/// The engine would write tables from the journals behind the gap, until the gap shows no more.
#[tokio::test]
async fn a_refused_start_changes_nothing() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let data = fixture.folder.path().join("data");
    let bytes = fs::read(data.join("0.jnl")).unwrap();
    let ends: Vec<usize> = (4..bytes.len()).filter(|at| bytes[at - 4..*at] == TRAILER).collect();
    // The first part of three is missing.
    fs::write(data.join("1.jnl"), &bytes[ends[6]..ends[13]]).unwrap();
    // And the last one has a torn tail, which would be cut off.
    fs::write(data.join("2.jnl"), [&bytes[ends[13]..], &[1, 9, 0]].concat()).unwrap();
    fs::remove_file(data.join("0.jnl")).unwrap();
    let before = contents(&data);
    for _ in 0..10 {
        assert!(refusal(fixture.folder.path()).await.contains("a journal is missing: batches 1 to 7"));
        let after = contents(&data);
        let names = |contents: &[(PathBuf, Vec<u8>)]| contents.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before));
        assert!(after == before, "the database was changed");
    }
}

/// The first batch of a journal is torn, in a new store and in one whose batches are all in tables.
#[tokio::test]
async fn a_torn_first_batch_is_no_loss() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    // In the middle of a record: the engine alone would refuse it.
    let mut torn = fs::read(&journals(fixture.folder.path())[0]).unwrap();
    torn.truncate(torn.windows(4).position(|window| window == TRAILER).unwrap() + 4);
    torn[1_200] ^= 1;
    let new = Fixture::written(2_000, |_, records| records == 0).await;
    fs::write(&journals(new.folder.path())[0], &torn).unwrap();
    assert!(!new.refused_or_whole(new.folder.path(), "new").await);
    let restored = new.folder.path().join("restored");
    back_up(fixture.folder.path(), &restored, SystemClock.now()).unwrap().finish().unwrap();
    fs::write(&journals(&restored)[0], &torn).unwrap();
    assert!(!fixture.refused_or_whole(&restored, "restored").await);
}

/// The engine does not make its empty lock file anew.
#[tokio::test]
async fn a_missing_lock_is_no_loss() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    fs::remove_file(fixture.folder.path().join("data/lock")).unwrap();
    assert!(!fixture.refused_or_whole(fixture.folder.path(), "no lock").await);
}

/// What cannot be looked at may be whole: it is not let pass.
#[tokio::test]
async fn what_cannot_be_looked_at_is_no_loss() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let version = fixture.folder.path().join("data/version");
    let aside = fixture.folder.path().join("aside");
    fs::rename(&version, &aside).unwrap();
    // It names itself.
    std::os::unix::fs::symlink("version", &version).unwrap();
    for accept_loss in [false, true] {
        let refused = open(fixture.folder.path(), accept_loss).await.err().expect("a refusal");
        assert!(!refused.cause.contains("lost data"), "{refused}");
    }
    fs::rename(&aside, &version).unwrap();
    assert!(!fixture.refused_or_whole(fixture.folder.path(), "looked at again").await);
}

#[tokio::test]
async fn a_store_of_another_layout_is_refused() {
    let fixture = Fixture::written(2_000, |_, records| records == 20).await;
    let side_record = File::options().write(true).open(fixture.folder.path().join("acknowledged")).unwrap();
    for at in [7, 4_096 + 7] {
        side_record.write_all_at(&[77], at).unwrap();
    }
    for accept_loss in [false, true] {
        let refused = open(fixture.folder.path(), accept_loss).await.err().expect("a refusal");
        assert!(refused.is_final && refused.cause.contains("with another layout, 77"), "{refused}");
    }
}

/// The engine's background work fails, as it does without a file descriptor or room: the store says so, and loses nothing.
#[tokio::test]
async fn a_failure_in_the_background_ends_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path(), false).await.unwrap());
    let (tables, aside) = (folder.path().join("data/keyspaces/1/tables"), folder.path().join("aside"));
    fs::rename(&tables, &aside).unwrap();
    let mut records = 0;
    let failed = loop {
        let write = Write { record: large(records, 60_000), ttl: HOUR };
        let change = Change { name: name(RECORD), expected: None, write: Some(write) };
        match store.commit(spread(records), &[change], soon()).await {
            Ok(_) => records += 1,
            Err(failed) => break failed,
        }
        assert!(records < 2_000, "the engine does not mind");
    };
    assert!(failed.is_final, "{failed}");
    assert_eq!(store.failed().await.cause, failed.cause);
    drop(store);
    fs::rename(&aside, &tables).unwrap();
    let fixture = Fixture { folder, records, length: 60_000 };
    until("the folder is free", || async {
        match open(fixture.folder.path(), false).await {
            Ok(store) => {
                assert_eq!(fixture.missing(&store).await, 0);
                true
            }
            Err(error) => {
                assert!(!error.cause.contains("lost data") || error.cause.contains("Locked"), "{error}");
                false
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_folder_where_anyone_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = open(folder.path(), false).await.err().unwrap();
    assert!(refused.is_final && refused.cause.ends_with("`chmod o-w`"), "{refused}");
}

/// A machine that starts with a clock before the last write is judged by that write: the store's time is not earlier.
#[tokio::test]
async fn the_time_of_the_last_write_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::starting();
    clock.pass(2 * HOUR);
    let open = async || Embedded::open(folder.path(), StoreTime::starting_at(clock.clone()), &TaskTracker::new()).await;
    let store = Arc::new(open().await.unwrap());
    Easy(store.clone()).commit(1, &[(1, None, Some(10))]).await;
    let written = clock.now();
    store.close(soon()).await;
    clock.back(HOUR);
    let again = open().await.unwrap();
    assert!(again.check(soon()).await.unwrap() >= written);
}
