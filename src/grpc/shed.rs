//! Limits the calls in flight: a call whose message is there is admitted or shed at once. Nothing queues.
//!
//! Callers share the permits: a known one has one share however many connections it has, and the connections of others have one
//! each. Who is alone may have all permits. Where several have calls at work, each has its share only, and a few more permits
//! are reserved for those that have few: however many ask for everything, others are served. Calls are shed as well
//! while this process is late: there are fewer permits then (`call_limit`), and when calls have waited too long for their
//! first turn, and have done so for a while, those of callers with many are shed unseen.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{call_limit::CallLimit, method::Method};
use crate::{
    ports::{
        clock::Stopwatch,
        observer::{PermitPoolUse, ShedCause},
    },
    streams::{
        limit::{AtWork, OpenConnection},
        turn::Busy,
    },
};

/// Among others, a caller is admitted a call as long as it has fewer at work than this many times the permits that are
/// free: of twenty that want all, each leaves some for the next.
const SHARE_OF_FREE: usize = 4;
/// One permit more is reserved for so many of all, for callers with few open calls.
const RESERVE: usize = 8;
/// Open calls of a caller that the reserve is for. A flood opens more before the first of them is looked at. Those of a
/// known caller are counted by themselves: it may share its connection with others behind one proxy.
const RESERVE_CALLS: usize = 32;
/// How long a call may wait for its first turn. On a healthy machine it is microseconds.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// How long waits must have been too long before calls are shed: a burst is no overload. Both as in CoDel (RFC 8289),
/// whose target is 5 % of its interval; here a call is worth more, and a turn shorter.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// Open calls of a caller that has few.
const FEW_CALLS: usize = 128;

/// One of the calls in flight. Held until the work has ended, even when the caller has long gone: otherwise callers that
/// hang up would leave work behind without bound.
pub(crate) type CallPermit = Arc<PermitParts>;

/// What a permit counts for, until it is dropped.
pub(crate) struct PermitParts {
    _pool: Counted,
    _connection: AtWork,
    _caller: Option<Counted>,
}

/// One of the calls that something counts.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more, if that makes no more than `limit`.
fn count(counter: &Arc<AtomicUsize>, limit: usize) -> Option<Counted> {
    let more = |count: usize| (count < limit).then_some(count + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
    Some(Counted(Arc::clone(counter)))
}

/// The calls of one known caller, on whatever connections.
#[derive(Debug, Default)]
pub(crate) struct CallerCalls {
    /// At most so many at work; `None`: as many as there are permits.
    max: Option<NonZeroUsize>,
    at_work: Arc<AtomicUsize>,
    /// Those that are not answered yet, at work or not.
    open: Arc<AtomicUsize>,
    /// Cancels at work, which have permits of their own.
    cancels: Arc<AtomicUsize>,
}

impl CallerCalls {
    /// Of a caller that may have at most so many at work.
    pub(crate) fn at_most(max: Option<u32>) -> Self {
        let max = max.and_then(|max| NonZeroUsize::new(usize::try_from(max).unwrap_or(usize::MAX)));
        Self { max, ..Self::default() }
    }

    /// A call of it has arrived, and is open until this is dropped.
    pub(super) fn opened(&self) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.open))
    }

    /// Calls of it that are open.
    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn of(&self, method: Method) -> &Arc<AtomicUsize> {
        if method == Method::CancelChallenge { &self.cancels } else { &self.at_work }
    }

    /// The quota bounds cancels as well, apart: a caller that has used it up can cancel.
    fn max(&self) -> usize {
        self.max.map_or(usize::MAX, NonZeroUsize::get)
    }
}

/// The permits of the server.
#[derive(Clone, Debug)]
pub(crate) struct CallPermits {
    common: PermitPool,
    /// A cancel ends work and guesses, so a flood of other calls must not keep it out: cancels have as many permits of
    /// their own.
    cancel: PermitPool,
    max: usize,
    limit: Arc<CallLimit>,
    lateness: Arc<Lateness>,
}

#[derive(Clone, Debug, Default)]
struct PermitPool {
    in_use: Arc<AtomicUsize>,
    /// For callers with few open calls.
    of_reserve: Arc<AtomicUsize>,
}

impl PermitPool {
    fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Relaxed)
    }

    /// A permit of at most `limit` for a caller with so many calls at work.
    fn acquire(&self, limit: usize, at_work: usize, has_few: bool) -> Option<Counted> {
        let in_use = self.in_use();
        let is_alone = at_work >= in_use;
        let share = limit.saturating_sub(in_use).saturating_mul(SHARE_OF_FREE);
        if (is_alone || at_work < share)
            && let Some(permit) = count(&self.in_use, limit)
        {
            return Some(permit);
        }
        if has_few { count(&self.of_reserve, limit / RESERVE) } else { None }
    }

    fn usage(&self, pool: &'static str, limit: usize) -> PermitPoolUse {
        PermitPoolUse { pool, limit, in_use: self.in_use() + self.of_reserve.load(Ordering::Relaxed) }
    }
}

impl CallPermits {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let max = max_in_flight.max(1);
        let (common, cancel) = (PermitPool::default(), PermitPool::default());
        let (limit, lateness) = (Arc::new(CallLimit::new(max)), Arc::new(Lateness::start()));
        Self { common, cancel, max, limit, lateness }
    }

    /// A permit for a call on a connection, of a caller if it is known.
    ///
    /// # Errors
    /// None is left for it.
    pub(crate) fn admit(
        &self,
        method: Method,
        connection: &Arc<OpenConnection>,
        caller: Option<&CallerCalls>,
    ) -> Result<CallPermit, ShedCause> {
        let of_caller = match caller {
            Some(caller) => Some(count(caller.of(method), caller.max()).ok_or(ShedCause::Caller)?),
            None => None,
        };
        // Itself not counted.
        let of_this_caller = caller.map(|caller| caller.of(method).load(Ordering::Relaxed).saturating_sub(1));
        let at_work = of_this_caller.unwrap_or_else(|| connection.at_work());
        let has_few = caller.map_or_else(|| connection.calls(), CallerCalls::open) <= RESERVE_CALLS;
        let of_pool = if method == Method::CancelChallenge {
            self.cancel.acquire(self.max, at_work, has_few)
        } else {
            let permit = self.common.acquire(self.limit.get(), at_work, has_few);
            if permit.is_none() {
                self.limit.note_shed();
            }
            permit
        };
        let of_pool = of_pool.ok_or(ShedCause::Permits)?;
        Ok(Arc::new(PermitParts { _pool: of_pool, _connection: connection.work(), _caller: of_caller }))
    }

    /// Whether a call that has waited so long for its first turn is shed. Callers with few calls are spared: shedding
    /// theirs would help little. From the connections of others nothing more is read for a moment, but for those of known
    /// callers, which may be shared.
    pub(crate) fn is_too_late(
        &self,
        waited: Duration,
        connection: &OpenConnection,
        caller: Option<&CallerCalls>,
    ) -> bool {
        if !self.lateness.note(waited) {
            return false;
        }
        if let Some(caller) = caller {
            return caller.open() > FEW_CALLS;
        }
        let sheds = connection.calls() > FEW_CALLS;
        if sheds {
            connection.pause();
        }
        sheds
    }
}

impl CallPermits {
    /// How many permits there are, at present: fewer than the setting while the process is late. And how many are in use.
    pub(super) fn usage(&self) -> Vec<PermitPoolUse> {
        vec![self.common.usage("common", self.limit.get()), self.cancel.usage("cancel", self.max)]
    }
}

impl Busy for CallPermits {
    /// With two more calls in flight, more answers follow soon.
    fn is_busy(&self) -> bool {
        self.common.in_use() >= 2
    }
}

/// Since when calls have waited too long.
#[derive(Debug)]
struct Lateness {
    started: Stopwatch,
    /// Milliseconds after the start; zero while they do not.
    since: AtomicU64,
}

impl Lateness {
    fn start() -> Self {
        Self { started: Stopwatch::start(), since: AtomicU64::new(0) }
    }

    fn note(&self, waited: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        if waited < MAX_WAIT {
            // Nearly always: nothing is written.
            if since != 0 {
                self.since.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        if since == 0 {
            self.since.store(now, Ordering::Relaxed);
            return false;
        }
        u128::from(now.saturating_sub(since)) >= LATE_AFTER.as_millis()
    }
}

#[cfg(test)]
mod tests;
