//! Limits the calls in flight: a call whose message is there is admitted or shed at once. Nothing queues.
//!
//! A connection that is alone may have all permits. Where several have calls at work, each has its share only, and a few more
//! permits are reserved for those that have few: however many ask for everything, others are served. Calls are shed as well
//! while this process is late: when calls have waited too long for their first turn, and have done so for a while, more
//! work would only be done too late.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::method::Method;
use crate::{
    ports::{clock::Stopwatch, observer::PermitPoolUse},
    streams::{
        limit::{AtWork, OpenConnection},
        turn::Busy,
    },
};

/// Among others, a connection is admitted a call as long as it has fewer at work than this many times the permits that are
/// free: of twenty that want all, each leaves some for the next.
const SHARE_OF_FREE: usize = 4;
/// One permit more is reserved for so many of all, for connections with few open calls.
const RESERVE: usize = 8;
/// Open calls of a connection that the reserve is for. A flood opens more before the first of them is looked at.
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
pub(crate) type CallPermit = Arc<(OwnedSemaphorePermit, AtWork)>;

/// The permits of the server.
#[derive(Clone, Debug)]
pub(crate) struct CallPermits {
    common: PermitPool,
    /// A cancel ends work and guesses, so a flood of other calls must not keep it out: cancels have as many permits of
    /// their own.
    cancel: PermitPool,
    lateness: Arc<Lateness>,
}

#[derive(Clone, Debug)]
struct PermitPool {
    max: usize,
    shared: Arc<Semaphore>,
    /// For connections with few open calls.
    reserve: Arc<Semaphore>,
}

impl PermitPool {
    fn new(max: usize) -> Self {
        Self { max, shared: Arc::new(Semaphore::new(max)), reserve: Arc::new(Semaphore::new(max / RESERVE)) }
    }

    fn in_use(&self) -> usize {
        self.max.saturating_sub(self.shared.available_permits())
    }

    fn acquire(&self, connection: &OpenConnection) -> Option<OwnedSemaphorePermit> {
        let at_work = connection.at_work();
        let is_alone = at_work >= self.in_use();
        let share = self.shared.available_permits().saturating_mul(SHARE_OF_FREE);
        if (is_alone || at_work < share)
            && let Ok(permit) = Arc::clone(&self.shared).try_acquire_owned()
        {
            return Some(permit);
        }
        let has_few = connection.calls() <= RESERVE_CALLS;
        if has_few { Arc::clone(&self.reserve).try_acquire_owned().ok() } else { None }
    }
}

impl CallPermits {
    pub(crate) fn new(max_in_flight: usize) -> Self {
        let max = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self { common: PermitPool::new(max), cancel: PermitPool::new(max), lateness: Arc::new(Lateness::start()) }
    }

    /// A permit for a call on a connection; `None` where none is left for it.
    pub(crate) fn admit(&self, method: Method, connection: &Arc<OpenConnection>) -> Option<CallPermit> {
        let pool = if method == Method::CancelChallenge { &self.cancel } else { &self.common };
        let permit = pool.acquire(connection)?;
        Some(Arc::new((permit, connection.work())))
    }

    /// Whether a call that has waited so long for its first turn is shed. Callers with few calls are spared: shedding
    /// theirs would help little. From the others nothing more is read for a moment.
    pub(crate) fn is_too_late(&self, waited: Duration, connection: &OpenConnection) -> bool {
        let sheds = self.lateness.note(waited) && connection.calls() > FEW_CALLS;
        if sheds {
            connection.pause();
        }
        sheds
    }
}

impl CallPermits {
    /// How many permits there are, and how many are in use.
    pub(super) fn usage(&self) -> Vec<PermitPoolUse> {
        let of = |pool: &PermitPool, name| PermitPoolUse { pool: name, limit: pool.max, in_use: pool.in_use() };
        vec![of(&self.common, "common"), of(&self.cancel, "cancel")]
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
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::streams::limit::{ConnectionLimit, GivesWay};

    fn connection() -> Arc<OpenConnection> {
        ConnectionLimit::new(1, GivesWay::Idle).admit(None).unwrap()
    }

    #[test]
    fn without_a_permit_all_but_cancels_are_shed() {
        let (permits, connection) = (CallPermits::new(1), connection());
        let permit = permits.admit(Method::VerifyOtp, &connection).expect("a permit on an idle server");
        assert!(permits.admit(Method::VerifyOtp, &connection).is_none());
        assert!(permits.admit(Method::CancelChallenge, &connection).is_some());
        let work_that_goes_on = Arc::clone(&permit);
        drop(permit);
        assert!(permits.admit(Method::VerifyOtp, &connection).is_none());
        drop(work_that_goes_on);
        assert!(permits.admit(Method::VerifyOtp, &connection).is_some());
    }

    #[test]
    fn one_alone_may_have_all_and_a_newcomer_is_served() {
        let (permits, sidecar, newcomer) = (CallPermits::new(100), connection(), connection());
        let admitted = |connection| permits.admit(Method::VerifyOtp, connection);
        let mut taken: Vec<_> = std::iter::from_fn(|| admitted(&sidecar)).take(100).collect();
        assert_eq!(taken.len(), 100);
        let _first = admitted(&newcomer).expect("a permit of the reserve");
        // Not alone any longer, it leaves what is free to the newcomer.
        taken.truncate(90);
        let _rest: Vec<_> = (0..10).map(|_| admitted(&newcomer).expect("a free permit")).collect();
    }

    #[test]
    fn however_many_want_all_one_with_few_calls_is_served() {
        for connections in [1, 2, 20, 50, 100] {
            let (permits, limit) = (CallPermits::new(100), ConnectionLimit::new(200, GivesWay::Idle));
            let greedy: Vec<_> = (0..connections).map(|_| limit.admit(None).unwrap()).collect();
            let few = limit.admit(None).unwrap();
            let open = greedy.iter().flat_map(|connection| (0..=RESERVE_CALLS).map(|_| connection.open_call()));
            let _open: Vec<_> = open.collect::<Option<_>>().unwrap();
            let mut taken = Vec::new();
            for answered in 0..1_000 {
                taken.extend(greedy.iter().filter_map(|connection| permits.admit(Method::VerifyOtp, connection)));
                let at_work: Option<Vec<_>> = (0..12).map(|_| permits.admit(Method::VerifyOtp, &few)).collect();
                assert!(at_work.is_some(), "{connections}: {answered}");
                if taken.len() > 90 {
                    // They are answered in any order, and ask again.
                    drop(taken.swap_remove(answered * 7 % taken.len()));
                }
            }
            assert!(taken.len() > 70, "{connections}: {}", taken.len());
        }
    }

    #[test]
    fn two_calls_make_the_server_busy() {
        let (permits, connection) = (CallPermits::new(10), connection());
        let first = permits.admit(Method::VerifyOtp, &connection);
        assert!(!permits.is_busy());
        let second = permits.admit(Method::VerifyOtp, &connection);
        assert!(permits.is_busy());
        drop((first, second));
        assert!(!permits.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_shed_once_all_have_waited_too_long_for_a_while() {
        let (permits, few, limit) = (CallPermits::new(1), connection(), ConnectionLimit::new(1, GivesWay::Idle));
        let many = limit.admit(None).unwrap();
        let _open: Vec<_> = (0..=FEW_CALLS).map(|_| many.open_call().unwrap()).collect();
        let is_shed = |waited| permits.is_too_late(waited, &many);
        advance(LATE_AFTER).await;
        assert!(!is_shed(MAX_WAIT));
        advance(LATE_AFTER / 2).await;
        assert!(!is_shed(MAX_WAIT));
        // One that did not wait long: it was a burst.
        assert!(!is_shed(MAX_WAIT / 2));
        advance(LATE_AFTER / 2).await;
        assert!(!is_shed(MAX_WAIT));
        advance(LATE_AFTER).await;
        assert!(is_shed(MAX_WAIT));
        assert!(!permits.is_too_late(10 * MAX_WAIT, &few));
        assert!(!is_shed(MAX_WAIT / 2));
        assert!(!is_shed(MAX_WAIT));
    }
}
