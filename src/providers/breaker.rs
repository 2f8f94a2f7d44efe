//! The breaker: a provider that keeps failing is left alone for a while (open), then probed by one call (half-open), which
//! closes the breaker or opens it for longer.
//!
//! Hand-written, because the kept crates read a clock of their own and let every waiting call through at once when the
//! breaker becomes half-open. Times are spans on the monotonic clock, so that a corrected time of day changes nothing.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::ports::provider::Failure;

/// The longest time that the breaker stays open; each failed probe doubles the time up to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Counts consecutive failures.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_to_open: u32,
    first_pause: Duration,
    state: Mutex<State>,
    probes: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Every call goes through.
    Closed { failures: u32 },
    /// No call goes through before `until`.
    Open { until: Duration, pause: Duration, fault: Fault },
    /// One call, the probe, is under way. Should it never end, the next probe goes through at `until`.
    HalfOpen { until: Duration, pause: Duration, fault: Fault, probe: u64 },
}

/// In which way the provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not answer, or has trouble or too much to do.
    Failing,
    /// It refuses our credentials or account: no call succeeds before an operator has mended that.
    Refusing,
}

impl Fault {
    /// What a call is told before `until`.
    fn refusal(self, until: Duration, now: Duration) -> Option<Failure> {
        let left = until.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(match self {
            Self::Failing => Failure::Unavailable { retry_after: Some(left) },
            Self::Refusing => Failure::Refused,
        })
    }
}

/// Lets one call through. Handed back when the call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    /// A call while the breaker was closed.
    Usual,
    /// The half-open probe of this number. While half-open only its end counts: calls that began before the breaker opened
    /// may still be under way.
    Probe(u64),
}

/// How the end of a call changed the breaker, for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    None,
    Opened,
    Closed,
}

impl Breaker {
    /// Opens after `failures_to_open` consecutive failures, at first for `first_pause`.
    pub(super) fn new(failures_to_open: u32, first_pause: Duration) -> Self {
        Self {
            failures_to_open,
            first_pause,
            state: Mutex::new(State::Closed { failures: 0 }),
            probes: AtomicU64::new(0),
        }
    }

    /// Whether a call would be let through now.
    pub(super) fn would_admit(&self, now: Duration) -> bool {
        self.refusal(now).is_none()
    }

    /// What a call now would be told without being let through.
    pub(super) fn refusal(&self, now: Duration) -> Option<Failure> {
        self.with(|state| match *state {
            State::Closed { .. } => None,
            State::Open { until, fault, .. } | State::HalfOpen { until, fault, .. } => fault.refusal(until, now),
        })
    }

    /// Lets a call through, or says what to tell its caller. Of the calls that come when a probe is due, one goes through.
    pub(super) fn admit(&self, now: Duration) -> Result<Permit, Failure> {
        self.with(|state| match *state {
            State::Closed { .. } => Ok(Permit::Usual),
            State::Open { until, pause, fault } | State::HalfOpen { until, pause, fault, .. } => {
                if let Some(failure) = fault.refusal(until, now) {
                    return Err(failure);
                }
                let probe = self.probes.fetch_add(1, Ordering::Relaxed);
                *state = State::HalfOpen { until: now.saturating_add(pause), pause, fault, probe };
                Ok(Permit::Probe(probe))
            }
        })
    }

    /// A call has ended well.
    pub(super) fn succeeded(&self, permit: Permit) -> Transition {
        self.with(|state| match *state {
            State::Closed { .. } => {
                *state = State::Closed { failures: 0 };
                Transition::None
            }
            State::HalfOpen { probe, .. } if permit == Permit::Probe(probe) => {
                *state = State::Closed { failures: 0 };
                Transition::Closed
            }
            State::Open { .. } | State::HalfOpen { .. } => Transition::None,
        })
    }

    /// A call has failed.
    pub(super) fn failed(&self, permit: Permit, fault: Fault, now: Duration) -> Transition {
        self.with(|state| match *state {
            State::Closed { failures } if failures + 1 < self.failures_to_open => {
                *state = State::Closed { failures: failures + 1 };
                Transition::None
            }
            State::Closed { .. } => {
                let pause = self.first_pause;
                *state = State::Open { until: now.saturating_add(pause), pause, fault };
                Transition::Opened
            }
            State::HalfOpen { pause, probe, .. } if permit == Permit::Probe(probe) => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                *state = State::Open { until: now.saturating_add(pause), pause, fault };
                Transition::None
            }
            State::Open { .. } | State::HalfOpen { .. } => Transition::None,
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn away(seconds: u64) -> Result<Permit, Failure> {
        Err(Failure::Unavailable { retry_after: Some(Duration::from_secs(seconds)) })
    }

    #[test]
    fn consecutive_failures_open_it_and_one_probe_closes_it() {
        let breaker = Breaker::new(3, PAUSE);
        let fail = |seconds| breaker.failed(Permit::Usual, Fault::Failing, at(seconds));
        assert_eq!(fail(0), Transition::None);
        assert_eq!(breaker.succeeded(Permit::Usual), Transition::None);
        assert_eq!((fail(0), fail(0)), (Transition::None, Transition::None));
        assert_eq!(fail(1), Transition::Opened);
        assert_eq!(fail(1), Transition::None, "calls that were under way");
        assert_eq!(breaker.admit(at(2)), away(4));
        assert!(!breaker.would_admit(at(5)) && breaker.would_admit(at(6)));
        let probe = breaker.admit(at(6)).unwrap();
        assert!(breaker.admit(at(6)).is_err(), "one probe at a time");
        assert_eq!(breaker.succeeded(probe), Transition::Closed);
        assert_eq!(breaker.admit(at(6)), Ok(Permit::Usual));
    }

    #[test]
    fn each_failed_probe_doubles_the_pause_up_to_a_minute() {
        let breaker = Breaker::new(1, PAUSE);
        breaker.failed(Permit::Usual, Fault::Failing, at(0));
        let mut now = 5;
        for pause in [10, 20, 40, 60, 60] {
            let probe = breaker.admit(at(now)).unwrap();
            breaker.failed(probe, Fault::Failing, at(now));
            assert_eq!(breaker.admit(at(now)), away(pause));
            now += pause;
        }
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another_and_only_that_one_decides() {
        let breaker = Breaker::new(1, PAUSE);
        breaker.failed(Permit::Usual, Fault::Failing, at(0));
        let first = breaker.admit(at(5)).unwrap();
        assert!(breaker.admit(at(9)).is_err());
        let second = breaker.admit(at(10)).unwrap();
        for late in [Permit::Usual, first] {
            assert_eq!(breaker.succeeded(late), Transition::None);
            assert_eq!(breaker.failed(late, Fault::Failing, at(10)), Transition::None);
        }
        assert_eq!(breaker.admit(at(11)), away(4), "still half-open, with its pause");
        assert_eq!(breaker.succeeded(second), Transition::Closed);
    }

    /// Waiting would not help the caller, so it is not told to come back when the pause ends.
    #[test]
    fn while_it_is_open_callers_are_told_what_the_last_failure_was() {
        let breaker = Breaker::new(2, PAUSE);
        breaker.failed(Permit::Usual, Fault::Failing, at(0));
        breaker.failed(Permit::Usual, Fault::Refusing, at(0));
        assert_eq!(breaker.admit(at(1)), Err(Failure::Refused));
        let probe = breaker.admit(at(5)).unwrap();
        assert_eq!(breaker.admit(at(5)), Err(Failure::Refused), "until the probe has ended");
        breaker.failed(probe, Fault::Failing, at(5));
        assert_eq!(breaker.admit(at(5)), away(10));
    }
}
