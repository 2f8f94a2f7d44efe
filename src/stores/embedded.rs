//! The embedded store: durable on one machine, for one process.
//!
//! One writer thread owns the database and commits in groups, each synced before it is answered, so that an acknowledged
//! write survives `kill -9` and a power cut. Loads go to the database directly, which shows a batch only once it is synced.
//!
//! The engine is fjall. Measured against redb 4.6 with this very design (350 B swaps over 200,000 names, group commit with
//! `fdatasync`, 2 cores shared with the clients, 10 s): fjall 85,000 swaps/s with 64 in flight (p50 0.6 ms, p99 4.1 ms)
//! and 17,000 with one; redb 37,000 (1.7 ms, 2.8 ms) and 7,300.
//!
//! A time to live ends by the clock handed in. Expired records are absent to every operation at once, and a sweeper removes
//! them in small chunks.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    domain::{quota::Window, time::Timestamp},
    ports::{
        clock::{Clock, Deadline},
        store::{Inserted, Name, Sealed, Store, StoreError, Swapped, TakeId, Taken, Version},
    },
};

mod batch;
mod command;
mod disk;
mod takes;
mod writer;

pub use command::Census;
use command::{Ask, Command, Reply};
use disk::{Disk, Record};
use writer::Failed;

/// Operations that may wait for the writer. More wait for their turn to wait, within their deadlines.
const QUEUE_MAX: usize = 1_024;
/// Loads that may be at the disk at the same time.
const LOADS_MAX: usize = 4;
/// How often the sweeper looks for expired records.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// The store in a directory. See the module.
pub struct Embedded {
    commands: mpsc::Sender<Command>,
    /// Absent once closed, so that the database can be opened again.
    keyspace: RwLock<Option<fjall::Keyspace>>,
    loads: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    failed: Failed,
    tracker: TaskTracker,
    writer: Mutex<Option<Writer>>,
    sweeper: CancellationToken,
    _sweeper_ends_on_drop: DropGuard,
}

/// The writer thread, and word of its end.
struct Writer {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Embedded {
    /// Opens the store in a directory, which is made (for this user alone) if need be.
    pub async fn open(directory: &Path, clock: Arc<dyn Clock>, tracker: &TaskTracker) -> Result<Self, StoreError> {
        let directory = directory.to_owned();
        let opened = tracker.spawn_blocking(move || batch::State::load(Disk::open(&directory)?)).await;
        let state = opened.map_err(|_| StoreError::new("open", "the database gave up"))??;
        let keyspace = state.disk.keyspace.clone();

        let (commands, queue) = mpsc::channel(QUEUE_MAX);
        let failed = Failed::default();
        let writer = Writer::spawn(state, Arc::clone(&clock), queue, failed.clone())?;
        let sweeper = CancellationToken::new();
        tracker.spawn(sweep(commands.downgrade(), sweeper.clone()));
        Ok(Self {
            commands,
            keyspace: RwLock::new(Some(keyspace)),
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            clock,
            failed,
            tracker: tracker.clone(),
            writer: Mutex::new(Some(writer)),
            _sweeper_ends_on_drop: sweeper.clone().drop_guard(),
            sweeper,
        })
    }

    /// Counts the keys on the disk, one by one.
    pub async fn census(&self, deadline: Deadline) -> Result<Census, StoreError> {
        self.ask("census", deadline, |reply| Ask::Census { reply }).await
    }

    /// Has the writer do something, and waits for its answer until the deadline.
    async fn ask<T>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        ask: impl FnOnce(Reply<T>) -> Ask,
    ) -> Result<T, StoreError> {
        self.failed.check(operation)?;
        let closed = || {
            // The writer drops what nobody can be waiting for any more.
            let late = deadline.remaining().is_zero();
            if late { StoreError::timed_out(operation) } else { StoreError::new(operation, "the store is closed") }
        };
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.commands.send(Command { deadline, ask: ask(reply) }).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        timeout_at(deadline.instant(), asked).await.unwrap_or_else(|_| Err(StoreError::timed_out(operation)))
    }

    /// Reads from the database on a thread that may wait for the disk.
    async fn read(&self, name: Name) -> Result<Option<Sealed>, StoreError> {
        let closed = || StoreError::new("load", "the store is closed");
        let permit = Arc::clone(&self.loads).acquire_owned().await.map_err(|_| closed())?;
        let keyspace = self.keyspace.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let value = self.tracker.spawn_blocking(move || {
            let value = disk::get(&keyspace, "load", &disk::record_key(name));
            // In this order: whoever holds all permits knows that nobody holds the database.
            drop(keyspace);
            drop(permit);
            value
        });
        let Some(value) = value.await.map_err(|_| StoreError::new("load", "the database gave up"))?? else {
            return Ok(None);
        };
        let record = Record::decode(&value).ok_or_else(|| StoreError::new("load", "not in a known format"))?;
        Ok(Some(record).filter(|record| record.expires_at > self.clock.now()).map(|record| record.sealed))
    }
}

impl Writer {
    fn spawn(
        state: batch::State,
        clock: Arc<dyn Clock>,
        queue: mpsc::Receiver<Command>,
        failed: Failed,
    ) -> Result<Self, StoreError> {
        let (end, ended) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("otpd-store".to_owned())
            .spawn(move || {
                writer::run(state, &*clock, queue, &failed);
                drop(end);
            })
            .map_err(|cause| StoreError::new("open", cause))?;
        Ok(Self { thread, ended })
    }
}

/// Reminds the writer to sweep, until the store is closed or dropped.
async fn sweep(commands: mpsc::WeakSender<Command>, ended: CancellationToken) {
    loop {
        tokio::select! {
            () = ended.cancelled() => return,
            () = sleep(SWEEP_EVERY) => {}
        }
        let Some(commands) = commands.upgrade() else { return };
        // A full queue means that the writer is busy; the next round will do.
        drop(commands.try_send(Command { deadline: Deadline::after(SWEEP_EVERY), ask: Ask::Sweep }));
    }
}

#[async_trait]
impl Store for Embedded {
    async fn load(&self, name: Name, deadline: Deadline) -> Result<Option<Sealed>, StoreError> {
        self.failed.check("load")?;
        let read = timeout_at(deadline.instant(), self.read(name)).await;
        read.unwrap_or_else(|_| Err(StoreError::timed_out("load")))
    }

    async fn insert(
        &self,
        name: Name,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Inserted, StoreError> {
        let record = record.clone();
        self.ask("insert", deadline, |reply| Ask::Insert { name, record, ttl, reply }).await
    }

    async fn swap(
        &self,
        name: Name,
        read: Version,
        record: &Sealed,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<Swapped, StoreError> {
        let record = record.clone();
        self.ask("swap", deadline, |reply| Ask::Swap { name, read, record, ttl, reply }).await
    }

    async fn take(
        &self,
        quota: Name,
        take: TakeId,
        windows: &[Window],
        now: Timestamp,
        deadline: Deadline,
    ) -> Result<Taken, StoreError> {
        let windows = windows.to_vec();
        self.ask("take", deadline, |reply| Ask::Take { quota, take, windows, now, reply }).await
    }

    async fn give_back(&self, quota: Name, take: TakeId, deadline: Deadline) -> Result<(), StoreError> {
        self.ask("give back", deadline, |reply| Ask::GiveBack { quota, take, reply }).await
    }

    /// Asks the writer, which is stuck if the disk is. Writes nothing: a disk that is full shows at the next write.
    async fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.ask("check", deadline, |reply| Ask::Check { reply }).await
    }

    async fn close(&self, deadline: Deadline) {
        self.sweeper.cancel();
        let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let closing = async {
            self.loads.acquire_many(u32::try_from(LOADS_MAX).unwrap_or(1)).await.ok()?.forget();
            self.loads.close();
            drop(self.keyspace.write().unwrap_or_else(PoisonError::into_inner).take());
            self.commands.send(Command { deadline, ask: Ask::Close }).await.ok()?;
            // An error is the word that the writer has ended, and the database and its lock with it.
            writer.ended.await.err()
        };
        match timeout_at(deadline.instant(), closing).await {
            Ok(_) if writer.thread.join().is_ok() => {}
            Ok(_) => tracing::error!("the writer of the embedded store ended in a panic"),
            Err(_) => tracing::warn!("the embedded store is still busy; it is left to itself"),
        }
    }
}
