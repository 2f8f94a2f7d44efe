//! Limits the open connections of a listener. When all permits are taken, connections that do nothing give way to new
//! ones: those that say nothing, or are idle, never keep out those that have something to ask.

use std::{
    cmp::Reverse,
    collections::HashMap,
    future::poll_fn,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{signal::Signal, untaken::UntakenAnswers};
use crate::ports::{
    clock::{Clock, SystemClock},
    observer::{ListenerName, ListenerObserver},
};

/// So many at once of those that may give way do so, of a full listener: finding them takes a look at all.
const AT_ONCE: usize = 64;
/// Calls open at once on all connections, from their headers to the last byte of their answers. One takes about 5 KiB.
const MAX_CALLS: usize = 8192;
/// A connection is refused a call only where it has so many times more than there is room for: one alone may have all that
/// HTTP/2 lets it open, and of a hundred that want all, each leaves some for the next.
const SHARE_OF_ROOM: usize = 4;

/// So many calls are never refused to a connection.
const FEW_CALLS: usize = 64;
/// Answers that wait, and calls abandoned since it was last asked, of a connection that burdens the process: a caller who
/// takes its answers has fewer, however much it asks.
const MANY_UNTAKEN: usize = 128;
const MANY_ABANDONED: usize = 16;
/// Answers that nobody takes, of a connection that may be closed for them: those of a good caller wait for a moment, too.
const HEAVY: usize = 8;

/// Which connections give way to new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivesWay {
    /// Every one, the longest silent first. For HTTP/1, whose clients connect anew at any time.
    Silent,
    /// Those without a call at work: first those that have never made one, then those of the address with the most
    /// connections, the longest idle first.
    Idle,
}

/// The connections of one listener.
pub(crate) struct ConnectionLimit(Arc<Listened>);

struct Listened {
    max: usize,
    gives_way: GivesWay,
    permits: Arc<Semaphore>,
    open: Mutex<Vec<Weak<OpenConnection>>>,
    /// Calls open on all of them, in whatever state.
    calls: AtomicUsize,
    /// Answers that wait on all of them.
    untaken: Arc<AtomicUsize>,
    observer: Option<ConnectionObserver>,
}

/// Who is told of the connections of which listener.
pub(crate) type ConnectionObserver = (ListenerName, Arc<dyn ListenerObserver>);

/// One of them.
pub(crate) struct OpenConnection {
    limit: Weak<Listened>,
    gives_way: GivesWay,
    peer: Option<IpAddr>,
    /// Taken away when it gives way, or closes.
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    /// When it was last heard, and once it is used, when it last made a call; in microseconds of the monotonic clock.
    heard: AtomicU64,
    used: AtomicBool,
    /// Calls that are open, in whatever state.
    calls: AtomicUsize,
    /// Those of them that HTTP/2 has the whole answer of, and that end with its next flush.
    leaving: AtomicUsize,
    /// Those of them that are worked on.
    at_work: AtomicUsize,
    /// Calls that ended without an answer.
    abandoned: AtomicUsize,
    /// Streams that stay open: of health and reflection.
    streams: AtomicUsize,
    untaken: UntakenAnswers,
    pauses: AtomicBool,
    closing: Signal,
    observer: Option<ConnectionObserver>,
}

impl ConnectionLimit {
    pub(crate) fn new(max: usize, gives_way: GivesWay, observer: Option<ConnectionObserver>) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        let permits = Arc::new(Semaphore::new(max));
        Self(Arc::new(Listened {
            max,
            gives_way,
            permits,
            open: Mutex::default(),
            calls: AtomicUsize::new(0),
            untaken: Arc::default(),
            observer,
        }))
    }

    /// A permit for a new connection; `None` where all are taken by connections that do not give way.
    pub(crate) fn admit(&self, peer: Option<IpAddr>) -> Option<Arc<OpenConnection>> {
        let admitted = self.try_admit(peer);
        if let Some((listener, observer)) = &self.0.observer {
            match admitted {
                Some(_) => observer.connection_opened(*listener),
                None => observer.connection_refused(*listener),
            }
        }
        admitted
    }

    fn try_admit(&self, peer: Option<IpAddr>) -> Option<Arc<OpenConnection>> {
        let shared = &*self.0;
        let mut open = lock(&shared.open);
        let permit = Arc::clone(&shared.permits).try_acquire_owned().ok();
        let permit = permit.or_else(|| shared.make_room(&open))?;
        if open.len() >= 2 * shared.max {
            open.retain(|connection| connection.strong_count() > 0);
        }
        let connection = Arc::new(OpenConnection {
            limit: Arc::downgrade(&self.0),
            gives_way: shared.gives_way,
            peer,
            permit: Mutex::new(Some(permit)),
            heard: AtomicU64::new(now()),
            used: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            at_work: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            untaken: UntakenAnswers::among(&shared.untaken),
            pauses: AtomicBool::new(false),
            closing: Signal::default(),
            observer: shared.observer.clone(),
        });
        open.push(Arc::downgrade(&connection));
        Some(connection)
    }

    /// Answers that wait on all connections.
    #[cfg(test)]
    pub(super) fn untaken(&self) -> usize {
        self.0.untaken.load(Ordering::Relaxed)
    }
}

impl Listened {
    /// Closes some that do nothing, and passes on the permit of the first.
    fn make_room(&self, open: &[Weak<OpenConnection>]) -> Option<OwnedSemaphorePermit> {
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        let mut idle = Vec::new();
        for connection in open.iter().filter_map(Weak::upgrade).filter(|connection| !connection.is_closing()) {
            if let Some(peer) = connection.peer {
                *by_address.entry(peer).or_default() += 1;
            }
            if connection.may_give_way() {
                idle.push(connection);
            }
        }
        idle.sort_by_cached_key(|connection| {
            let is_used = self.gives_way == GivesWay::Idle && connection.used.load(Ordering::Relaxed);
            let neighbours = connection.peer.and_then(|peer| by_address.get(&peer)).copied();
            let neighbours = if self.gives_way == GivesWay::Idle { neighbours.unwrap_or(0) } else { 0 };
            (is_used, Reverse(neighbours), connection.heard.load(Ordering::Relaxed))
        });
        let count = (self.max / AT_ONCE).max(1);
        let mut permits: Vec<_> = idle.iter().take(count).filter_map(|connection| connection.give_way()).collect();
        permits.pop()
    }

    /// Closes the connection with the most answers that nobody takes; of several, the one that is idle the longest.
    fn close_the_heaviest(&self) {
        let open = lock(&self.open);
        let candidates = open.iter().filter_map(Weak::upgrade).filter(|connection| !connection.is_closing());
        let weight = |connection: &Arc<OpenConnection>| {
            (connection.untaken.count(), Reverse(connection.heard.load(Ordering::Relaxed)))
        };
        let heaviest = candidates.max_by_key(weight);
        if let Some(heaviest) = heaviest.filter(|connection| connection.untaken.count() >= HEAVY) {
            tracing::warn!(target: "otpd::wire", answers = heaviest.untaken.count(), "closed: answers are not taken");
            drop(heaviest.give_way());
        }
    }
}

impl OpenConnection {
    /// The machine at the other end; `None`: over a Unix socket.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// It makes a call, which is open until the guard is dropped; `None` where too many are.
    pub(crate) fn open_call(self: &Arc<Self>) -> Option<OpenCall> {
        self.used.store(true, Ordering::Relaxed);
        self.heard.store(now(), Ordering::Relaxed);
        let limit = self.limit.upgrade()?;
        let room = MAX_CALLS.saturating_sub(limit.calls.load(Ordering::Relaxed));
        if self.calls() >= room.saturating_mul(SHARE_OF_ROOM).max(FEW_CALLS) {
            self.pause();
            return None;
        }
        limit.calls.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(1, Ordering::Relaxed);
        Some(OpenCall { connection: Arc::clone(self), answered: false })
    }

    /// Calls that are open.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Nothing is read for a while: the other side asks for more than there is room for.
    pub(crate) fn pause(&self) {
        self.pauses.store(true, Ordering::Relaxed);
    }

    /// Whether it is to pause, told once.
    pub(crate) fn takes_pause(&self) -> bool {
        self.pauses.load(Ordering::Relaxed) && self.pauses.swap(false, Ordering::Relaxed)
    }

    /// Whether it asks for more than it takes: answers wait, or calls have been abandoned since this was last asked.
    pub(super) fn is_burden(&self) -> bool {
        let abandoned = self.abandoned.swap(0, Ordering::Relaxed);
        abandoned >= MANY_ABANDONED || self.untaken.count() >= MANY_UNTAKEN
    }

    /// The other side has said something. That alone does not keep a connection that calls are made on.
    pub(crate) fn mark_heard(&self) {
        if self.gives_way == GivesWay::Silent || !self.used.load(Ordering::Relaxed) {
            self.heard.store(now(), Ordering::Relaxed);
        }
    }

    /// A call is worked on until the guard is dropped.
    pub(crate) fn work(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    /// Calls at work.
    pub(crate) fn at_work(&self) -> usize {
        self.at_work.load(Ordering::Relaxed)
    }

    /// A stream that stays open until the guard is dropped; `None` where there are `max` already.
    pub(crate) fn stream(self: &Arc<Self>, max: usize) -> Option<OpenStream> {
        let opened = OpenStream(Arc::clone(self));
        if self.streams.fetch_add(1, Ordering::Relaxed) < max {
            return Some(opened);
        }
        if self.calls() > 4 * max {
            self.pause();
        }
        None
    }

    /// Closes it.
    pub(crate) fn close(&self) {
        drop(self.give_way());
    }

    /// Whether it has to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_raised()
    }

    /// Waits until it has to end.
    pub(crate) async fn closing(&self) {
        poll_fn(|cx| self.poll_closing(cx)).await;
    }

    /// Ready when it has to end.
    pub(super) fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        self.closing.poll(cx)
    }

    /// It has ended.
    pub(super) fn end(&self) {
        drop(lock(&self.permit).take());
    }

    /// All that was to be written is written.
    pub(super) fn note_flushed(&self) {
        self.untaken.note_flushed();
        if self.leaving.load(Ordering::Relaxed) != 0 {
            self.end_calls(self.leaving.swap(0, Ordering::Relaxed));
        }
    }

    fn end_calls(&self, count: usize) {
        self.calls.fetch_sub(count, Ordering::Relaxed);
        if let Some(limit) = self.limit.upgrade() {
            limit.calls.fetch_sub(count, Ordering::Relaxed);
        }
    }

    pub(super) fn untaken(&self) -> &UntakenAnswers {
        &self.untaken
    }

    pub(super) fn close_the_heaviest(&self) {
        if let Some(limit) = self.limit.upgrade() {
            limit.close_the_heaviest();
        }
    }

    fn may_give_way(&self) -> bool {
        self.gives_way == GivesWay::Silent || self.at_work() == 0
    }

    fn give_way(&self) -> Option<OwnedSemaphorePermit> {
        self.closing.raise();
        self.untaken.forget();
        lock(&self.permit).take()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if let Some((listener, observer)) = &self.observer {
            observer.connection_closed(*listener);
        }
        self.untaken.forget();
        self.end_calls(self.calls());
    }
}

/// A call that is open, until its answer is written.
pub(crate) struct OpenCall {
    connection: Arc<OpenConnection>,
    answered: bool,
}

impl OpenCall {
    pub(crate) fn connection(&self) -> &Arc<OpenConnection> {
        &self.connection
    }

    /// There is an answer. Without one, the other side has abandoned the call.
    pub(crate) fn mark_answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.connection.leaving.fetch_add(1, Ordering::Relaxed);
        if !self.answered {
            self.connection.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A call at work on a connection, which does not give way meanwhile.
pub(crate) struct AtWork(Arc<OpenConnection>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that stays open.
pub(crate) struct OpenStream(Arc<OpenConnection>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn now() -> u64 {
    let now: Duration = SystemClock.monotonic();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
