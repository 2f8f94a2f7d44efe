//! Backups of the embedded store: made while it works, whole or not there at all.

use std::{
    fs,
    io::Read,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use otpd::{
    ports::{
        clock::{Clock, SystemClock},
        store::{
            Acquired::{Before, Now},
            Store,
        },
    },
    stores::embedded::{Census, Embedded, StoreTime, back_up},
};
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::task::TaskTracker;

use crate::harness::{Easy, HOUR, Outcome, soon, until, window};

const LANES: u64 = 4;

async fn open(folder: &Path) -> Arc<Embedded> {
    let time = StoreTime::starting_at(Arc::new(SystemClock));
    Arc::new(Embedded::open(folder, time, &TaskTracker::new()).await.unwrap())
}

/// Makes a backup as another process would, but for the lock, which this process has; the error, if it fails.
async fn backed_up(from: &Path, to: &Path) -> Result<(), String> {
    let (from, to) = (from.to_owned(), to.to_owned());
    let backup = spawn_blocking(move || back_up(&from, &to, SystemClock.now())?.finish()).await.unwrap();
    backup.map_err(|error| error.to_string())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Writes two records of a lane onwards, and a use of its quota, and says how far it is.
async fn write_on(store: Arc<Embedded>, lane: u64, acknowledged: Arc<AtomicU64>) {
    let store = Easy(store);
    store.commit(lane, &[(0, None, Some(0)), (1, None, Some(0))]).await;
    for n in 0.. {
        assert_eq!(store.acquire(lane, n + 1, &[window(10_000, HOUR)], 5_000_000).await, Now);
        let onwards = [(0, Some(n), Some(n + 1)), (1, Some(n), Some(n + 1))];
        assert_eq!(store.commit(lane, &onwards).await, Outcome::Done);
        acknowledged.store(n + 1, Ordering::SeqCst);
    }
}

/// While lanes write: what was acknowledged before is in the copy, no commit is there in part, and the store goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_works_is_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("copy"));
    let store = open(&from).await;
    assert_eq!(mode(&from.join("backup.sock")), 0o600);
    let mut lanes = JoinSet::new();
    let acknowledged: Vec<Arc<AtomicU64>> = (0..LANES).map(|_| Arc::default()).collect();
    for (lane, acknowledged) in (0..).zip(&acknowledged) {
        lanes.spawn(write_on(store.clone(), lane, acknowledged.clone()));
    }
    let steps = || acknowledged.iter().map(|steps| steps.load(Ordering::SeqCst)).collect::<Vec<u64>>();
    until("each lane has more than a page of uses", || async { steps().iter().all(|steps| *steps > 50) }).await;
    let before = steps();
    backed_up(&from, &to).await.unwrap();
    let after = steps();
    until("the lanes go on", || async { steps().iter().zip(&after).all(|(now, then)| now > then) }).await;
    lanes.shutdown().await;
    store.close(soon()).await;
    assert!(!from.join("backup.sock").exists());

    assert_eq!(mode(&to), 0o700);
    let copy = open(&to).await;
    let easy = Easy(copy.clone());
    let mut uses = 0;
    for (lane, (before, after)) in (0..).zip(before.into_iter().zip(after)) {
        let present = easy.read(lane, &[0, 1]).await;
        let n = present[0].expect("a record that was acknowledged before the backup");
        assert_eq!(present, [Some(n), Some(n)], "a commit that was copied in part");
        assert!((before..=after + 1).contains(&n), "{n} of {before} to {after}");
        assert_eq!(easy.acquire(lane, n, &[window(10_000, HOUR)], 5_000_000).await, Before);
        let counted = easy.usage(lane, &[window(10_000, HOUR)], 5_000_000).await[0];
        // The use of the next step may be there already.
        assert!((n..=n + 1).contains(&u64::from(counted)), "{counted} uses after {n} steps");
        uses += u64::from(counted);
        // The copy works as the store does.
        assert_eq!(easy.commit(lane, &[(0, Some(n), Some(7)), (2, None, Some(8))]).await, Outcome::Done);
    }
    let expected = Census { records: 3 * LANES, index: 0, quotas: LANES, uses, expiries: 4 * LANES };
    assert_eq!(copy.census(soon()).await.unwrap(), expected);
    copy.close(soon()).await;
}

#[tokio::test]
async fn a_store_that_no_process_has_is_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("copy"));
    assert!(backed_up(&from, &to).await.unwrap_err().ends_with("no store is there"));
    assert!(!from.exists() && !to.exists(), "a backup makes no store");
    let store = open(&from).await;
    Easy(store.clone()).claim(1, 7, HOUR).await;
    Easy(store.clone()).commit(7, &[(1, None, Some(10))]).await;
    store.close(soon()).await;
    // An empty folder is as good as none.
    fs::create_dir(&to).unwrap();
    backed_up(&from, &to).await.unwrap();
    for folder in [&from, &to] {
        let store = open(folder).await;
        let (of, _, records) = Easy(store.clone()).locate(1, &[1]).await.unwrap();
        assert_eq!((of, records), (7, vec![Some(10)]));
        store.close(soon()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("copy"));
    let _store = open(&from).await;
    fs::create_dir(&to).unwrap();
    fs::write(to.join("file"), "mine").unwrap();
    assert!(backed_up(&from, &to).await.unwrap_err().ends_with("the folder is not empty"));
    let beside = folder.path().join("other.new");
    fs::create_dir(&beside).unwrap();
    assert!(backed_up(&from, &folder.path().join("other")).await.is_err(), "the folder beside is not of a backup");
    assert!(backed_up(&from, &folder.path().join("none/copy")).await.is_err());
    assert!(backed_up(&from, &folder.path().join("..")).await.unwrap_err().ends_with("names no folder"));
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
    assert!(backed_up(&from, &link).await.unwrap_err().ends_with("must be a folder, and no link"));
    fs::remove_file(link).unwrap();
    // Nothing can be moved there, even where it is empty.
    assert!(backed_up(&from, Path::new("/proc")).await.unwrap_err().contains("is the root of a file system"));
    assert_eq!(fs::read_to_string(to.join("file")).unwrap(), "mine");
    let left: usize = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "nothing else is left");
}

/// A process that was killed while it made a backup left a part of it beside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_interrupted_backup_left_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("copy"));
    let store = open(&from).await;
    Easy(store.clone()).commit(1, &[(1, None, Some(10))]).await;
    let draft = folder.path().join("copy.new");
    fs::create_dir_all(draft.join("data/keyspaces")).unwrap();
    fs::write(draft.join("unfinished-backup"), "").unwrap();
    fs::write(draft.join("data/0.jnl"), "half").unwrap();
    let mark = fs::File::open(draft.join("unfinished-backup")).unwrap();
    mark.lock().unwrap();
    assert!(backed_up(&from, &to).await.unwrap_err().ends_with("another backup is being made there"));
    drop(mark);
    backed_up(&from, &to).await.unwrap();
    assert!(!draft.exists() && !to.join("unfinished-backup").exists());
    let copy = open(&to).await;
    assert_eq!(Easy(copy.clone()).read(1, &[1]).await, [Some(10)]);
}

/// The process that has the store ends in the middle, is of another version, loses keys, or says nothing that is known.
#[tokio::test]
async fn half_a_backup_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("copy"));
    fs::create_dir_all(from.join("data")).unwrap();
    let lock = fs::File::create(from.join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(backed_up(&from, &to).await.unwrap_err().contains("in use by a process that sends no backup"));

    let listener = UnixListener::bind(from.join("backup.sock")).unwrap();
    let first = [b"otpd backup 1\n".as_slice(), &5_u64.to_be_bytes()].concat();
    let first = first.as_slice();
    let key = [&[0, 3, 0, 0, 0, 1][..], b"ikx", b"v"].concat();
    let end = |keys: u8| [&[0, 0, 0, 0, 0, 8][..], &[0, 0, 0, 0, 0, 0, 0, keys]].concat();
    for (sent, told) in [
        (vec![], "another version"),
        ([first, &key, &key[..5]].concat(), "stopped sending"),
        ([first, &key].concat(), "stopped sending"),
        ([first, &key, &end(2)].concat(), "keys are missing"),
        ([first, &[0, 1, 255, 0, 0, 0]].concat(), "too long"),
        ([first, &[0, 1, 0, 0, 0, 0], b"z", &end(1)].concat(), "no known kind"),
    ] {
        let sending = {
            let listener = listener.try_clone().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                std::io::Write::write_all(&mut stream, &sent).unwrap();
            })
        };
        let error = backed_up(&from, &to).await.unwrap_err();
        assert!(error.contains(told), "{error}");
        sending.join().unwrap();
        assert!(!to.exists() && !folder.path().join("copy.new").exists());
    }
}

/// Who asks for a backup and does not read it holds up neither the store nor its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_read_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let easy = Easy(store.clone());
    // More than a socket takes unread.
    for of in 0..3_000 {
        easy.commit(of, &[(1, None, Some(1)), (2, None, Some(2)), (3, None, Some(3)), (4, None, Some(4))]).await;
    }
    let mut stalled = UnixStream::connect(folder.path().join("backup.sock")).unwrap();
    let begun = spawn_blocking(move || {
        let mut line = [0; 14];
        stalled.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"otpd backup 1\n");
        stalled
    });
    let _stalled = begun.await.unwrap();
    assert_eq!(easy.commit(0, &[(1, Some(1), Some(2))]).await, Outcome::Done);
    assert_eq!(easy.read(0, &[1]).await, [Some(2)]);
    store.close(soon()).await;
    let again = open(folder.path()).await;
    assert_eq!(Easy(again).read(0, &[1]).await, [Some(2)]);
}
