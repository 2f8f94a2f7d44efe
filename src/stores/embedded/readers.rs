//! The threads that read. They are the store's own, so that a read waits for reads alone, whatever else of the process waits
//! for files, names or terminals.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::ports::{clock::Deadline, store::StoreError};

/// Reads that may be at the disk at the same time.
const THREADS: usize = 4;
/// Reads that may be at the disk or wait for a thread. More wait to be queued, within their deadlines.
const READS_MAX: u32 = 64;

/// The threads, which end when this is dropped.
pub(super) struct Readers {
    permits: Arc<Semaphore>,
    queue: Arc<ReadQueue>,
}

/// Lets one read be queued. It is waited for when the store closes.
pub(super) struct ReadPermit {
    _permit: OwnedSemaphorePermit,
}

type Read = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct ReadQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    reads: VecDeque<Read>,
    ended: bool,
}

impl Readers {
    pub(super) fn spawn() -> Result<Self, StoreError> {
        let readers = Self { permits: Arc::new(Semaphore::new(READS_MAX as usize)), queue: Arc::default() };
        for _ in 0..THREADS {
            let queue = Arc::clone(&readers.queue);
            let thread = thread::Builder::new().name("otpd-store-read".to_owned());
            thread.spawn(move || queue.work()).map_err(|cause| StoreError::new("open", cause))?;
        }
        Ok(readers)
    }

    /// Waits until a read may be queued. `None`: none begins any more.
    pub(super) async fn permit(&self) -> Option<ReadPermit> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.ok().map(|permit| ReadPermit { _permit: permit })
    }

    /// Has a thread read, unless the deadline has passed when its turn comes. An error is the word that it did not.
    pub(super) fn read<T: Send + 'static>(
        &self,
        permit: ReadPermit,
        deadline: Deadline,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, answer) = oneshot::channel();
        self.queue.push(Box::new(move || {
            // A caller whose deadline has passed waits no longer.
            let found = (!deadline.remaining().is_zero()).then(read);
            // In this order: a closing store that has all permits knows that no read has the database.
            drop(permit);
            if let Some(found) = found {
                // The caller may have stopped waiting.
                drop(sender.send(found));
            }
        }));
        answer
    }

    /// Waits for all reads; none begins any more.
    pub(super) async fn close(&self) {
        if let Ok(all) = self.permits.acquire_many(READS_MAX).await {
            all.forget();
        }
        self.permits.close();
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.lock().ended = true;
        self.queue.changed.notify_all();
    }
}

impl ReadQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, read: Read) {
        self.lock().reads.push_back(read);
        self.changed.notify_one();
    }

    /// Reads until the end.
    fn work(&self) {
        while let Some(read) = self.next() {
            // Whoever asked is told nothing, and asks no more of this read; the thread goes on.
            if catch_unwind(AssertUnwindSafe(read)).is_err() {
                tracing::error!("a read of the embedded store ended in a panic");
            }
        }
    }

    fn next(&self) -> Option<Read> {
        let idle = |waiting: &mut Waiting| waiting.reads.is_empty() && !waiting.ended;
        let waited = self.changed.wait_while(self.lock(), idle);
        waited.unwrap_or_else(PoisonError::into_inner).reads.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin, sync::mpsc, task::Poll, time::Duration};

    use tokio::task::JoinSet;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[tokio::test]
    async fn a_read_that_panics_ends_no_thread() {
        let readers = Readers::spawn().unwrap();
        for _ in 0..3 * THREADS {
            let permit = readers.permit().await.unwrap();
            assert!(readers.read(permit, soon(), || panic!("as it should")).await.is_err());
        }
        let permit = readers.permit().await.unwrap();
        assert_eq!(readers.read(permit, soon(), || 1).await, Ok(1));
    }

    /// All threads are busy: what is queued is read once they are not, or not at all when its deadline has passed.
    #[tokio::test]
    async fn reads_wait_for_a_thread_and_closing_waits_for_reads() {
        let readers = Readers::spawn().unwrap();
        let (go_on, busy) = mpsc::channel::<()>();
        let busy = Arc::new(Mutex::new(busy));
        let mut reads = JoinSet::new();
        for _ in 0..THREADS {
            let (permit, busy) = (readers.permit().await.unwrap(), Arc::clone(&busy));
            let read = readers.read(permit, soon(), move || busy.lock().unwrap().recv().is_ok());
            reads.spawn(read);
        }
        let (permit, late) = (readers.permit().await.unwrap(), readers.permit().await.unwrap());
        reads.spawn(readers.read(permit, soon(), || true));
        let passed = readers.read(late, Deadline::after(Duration::ZERO), || true);
        let mut closing = pin!(readers.close());
        assert!(poll_fn(|context| Poll::Ready(closing.as_mut().poll(context).is_pending())).await);
        for _ in 0..THREADS {
            go_on.send(()).unwrap();
        }
        assert_eq!(reads.join_all().await, vec![Ok(true); THREADS + 1]);
        assert!(passed.await.is_err());
        closing.await;
        assert!(readers.permit().await.is_none());
    }
}
