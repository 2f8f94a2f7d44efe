//! Limits the open connections of a listener. When all permits are taken, a new connection gets the permit of the one that
//! has been silent the longest, which is closed: connections that say nothing never keep out those that do.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::ports::clock::Stopwatch;

/// Which connections give way to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivesWay {
    /// Every one, the longest silent first. For HTTP/1, whose clients connect anew at any time.
    Silent,
    /// Those that have made no call, the longest silent first.
    Unused,
}

/// The connections of one listener.
pub(crate) struct ConnectionLimit {
    max: usize,
    gives_way: GivesWay,
    permits: Arc<Semaphore>,
    open: Mutex<Vec<Weak<OpenConnection>>>,
}

/// One of them.
pub(crate) struct OpenConnection {
    gives_way: GivesWay,
    /// Taken away when it gives way, or closes.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// Since it was last heard.
    silence: Mutex<Stopwatch>,
    used: AtomicBool,
    closing: CancellationToken,
}

impl ConnectionLimit {
    pub(crate) fn new(max: usize, gives_way: GivesWay) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self { max, gives_way, permits: Arc::new(Semaphore::new(max)), open: Mutex::default() }
    }

    /// A permit for a new connection; `None` where all are taken by connections that do not give way.
    pub(crate) fn admit(&self) -> Option<Arc<OpenConnection>> {
        let mut open = lock(&self.open);
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok();
        let permit = permit.or_else(|| longest_silent(&open)?.give_way())?;
        if open.len() >= 2 * self.max {
            open.retain(|connection| connection.strong_count() > 0);
        }
        let connection = Arc::new(OpenConnection {
            gives_way: self.gives_way,
            permit: Mutex::new(Some(permit)),
            silence: Mutex::new(Stopwatch::start()),
            used: AtomicBool::new(false),
            closing: CancellationToken::new(),
        });
        open.push(Arc::downgrade(&connection));
        Some(connection)
    }
}

fn longest_silent(open: &[Weak<OpenConnection>]) -> Option<Arc<OpenConnection>> {
    let candidates = open.iter().filter_map(Weak::upgrade).filter(|connection| connection.may_give_way());
    candidates.max_by_key(|connection| lock(&connection.silence).elapsed())
}

impl OpenConnection {
    /// It has made a call.
    pub(crate) fn mark_used(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// The other side has said something.
    pub(crate) fn mark_heard(&self) {
        *lock(&self.silence) = Stopwatch::start();
    }

    /// Whether it may be asked to give way, now or later.
    pub(crate) fn may_give_way(&self) -> bool {
        let kept = self.gives_way == GivesWay::Unused && self.used.load(Ordering::Relaxed);
        !kept && !self.closing.is_cancelled()
    }

    /// Whether it has to give way.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Ends when it has to give way.
    pub(crate) fn closing(&self) -> WaitForCancellationFutureOwned {
        self.closing.clone().cancelled_owned()
    }

    /// Gives the permit back.
    pub(crate) fn close(&self) {
        drop(lock(&self.permit).take());
    }

    fn give_way(&self) -> Option<OwnedSemaphorePermit> {
        self.closing.cancel();
        lock(&self.permit).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_silent_gives_way() {
        let limit = ConnectionLimit::new(2, GivesWay::Silent);
        let first = limit.admit().unwrap();
        advance(Duration::from_secs(1)).await;
        let second = limit.admit().unwrap();
        advance(Duration::from_secs(1)).await;
        first.mark_heard();
        let third = limit.admit().unwrap();
        assert!(second.closing.is_cancelled() && !first.closing.is_cancelled());
        // The one that gave way has no permit left to give back.
        second.close();
        assert_eq!(limit.permits.available_permits(), 0);
        third.close();
        assert_eq!(limit.permits.available_permits(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_used_stays_where_only_the_unused_give_way() {
        let limit = ConnectionLimit::new(2, GivesWay::Unused);
        let (used, unused) = (limit.admit().unwrap(), limit.admit().unwrap());
        used.mark_used();
        let newcomer = limit.admit().unwrap();
        assert!(unused.closing.is_cancelled() && !used.closing.is_cancelled());
        newcomer.mark_used();
        assert!(limit.admit().is_none());
    }

    #[tokio::test]
    async fn connections_that_are_gone_are_forgotten() {
        let limit = ConnectionLimit::new(2, GivesWay::Unused);
        for _ in 0..100 {
            limit.admit().unwrap().close();
        }
        assert!(lock(&limit.open).len() <= 4);
    }
}
