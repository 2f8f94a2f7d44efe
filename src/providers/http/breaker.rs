//! The breaker: a provider that keeps failing is left alone for a while, then tried by one call.
//!
//! Our own, because the kept crates read their own clock and let every waiting call through at once when the pause ends.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::domain::time::Timestamp;

/// The longest pause; each failed trial doubles the pause up to it.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Counts failures in a row.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_to_open: u32,
    first_pause: Duration,
    state: Mutex<State>,
    trials: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Calls go through.
    Closed { failures: u32 },
    /// None does, until then.
    Open { until: Timestamp, pause: Duration },
    /// One is on trial; where it never ends, another is let through then.
    Trial { until: Timestamp, pause: Duration, call: u64 },
}

/// Lets one call through, and says at its end which call it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// One of many.
    Usual,
    /// The one on trial. Only its end decides: calls from before the breaker opened may still be under way.
    Trial(u64),
}

/// What a call's end did to the breaker, for the operator's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing.
    None,
    /// It opened.
    Opened,
    /// It closed.
    Closed,
}

impl Breaker {
    /// Opens after so many failures in a row, at first for so long.
    pub(super) fn new(failures_to_open: u32, first_pause: Duration) -> Self {
        Self {
            failures_to_open,
            first_pause,
            state: Mutex::new(State::Closed { failures: 0 }),
            trials: AtomicU64::new(0),
        }
    }

    /// Whether a call would be let through now.
    pub(super) fn would_admit(&self, now: Timestamp) -> bool {
        self.with(|state| match *state {
            State::Closed { .. } => true,
            State::Open { until, .. } | State::Trial { until, .. } => now >= until,
        })
    }

    /// Lets a call through, or says how long to stay away. Of those that come when a trial is due, one is let through.
    pub(super) fn admit(&self, now: Timestamp) -> Result<Pass, Duration> {
        self.with(|state| match *state {
            State::Closed { .. } => Ok(Pass::Usual),
            State::Open { until, .. } | State::Trial { until, .. } if now < until => Err(until.since(now)),
            State::Open { pause, .. } | State::Trial { pause, .. } => {
                let call = self.trials.fetch_add(1, Ordering::Relaxed);
                *state = State::Trial { until: now.plus(pause), pause, call };
                Ok(Pass::Trial(call))
            }
        })
    }

    /// A call has ended well.
    pub(super) fn succeeded(&self, pass: Pass) -> Turn {
        self.with(|state| match *state {
            State::Closed { .. } => {
                *state = State::Closed { failures: 0 };
                Turn::None
            }
            State::Trial { call, .. } if pass == Pass::Trial(call) => {
                *state = State::Closed { failures: 0 };
                Turn::Closed
            }
            State::Open { .. } | State::Trial { .. } => Turn::None,
        })
    }

    /// A call has failed.
    pub(super) fn failed(&self, pass: Pass, now: Timestamp) -> Turn {
        self.with(|state| match *state {
            State::Closed { failures } if failures + 1 < self.failures_to_open => {
                *state = State::Closed { failures: failures + 1 };
                Turn::None
            }
            State::Closed { .. } => {
                *state = State::Open { until: now.plus(self.first_pause), pause: self.first_pause };
                Turn::Opened
            }
            State::Trial { pause, call, .. } if pass == Pass::Trial(call) => {
                let pause = (pause * 2).min(LONGEST_PAUSE);
                *state = State::Open { until: now.plus(pause), pause };
                Turn::None
            }
            State::Open { .. } | State::Trial { .. } => Turn::None,
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

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_trial_closes_it() {
        let breaker = Breaker::new(3, PAUSE);
        let fail = |seconds| breaker.failed(Pass::Usual, at(seconds));
        assert_eq!(fail(0), Turn::None);
        assert_eq!(breaker.succeeded(Pass::Usual), Turn::None);
        assert_eq!((fail(0), fail(0)), (Turn::None, Turn::None));
        assert_eq!(fail(1), Turn::Opened);
        assert_eq!(fail(1), Turn::None, "calls that were under way");
        assert_eq!(breaker.admit(at(2)), Err(Duration::from_secs(4)));
        assert!(!breaker.would_admit(at(5)) && breaker.would_admit(at(6)));
        let trial = breaker.admit(at(6)).unwrap();
        assert!(breaker.admit(at(6)).is_err(), "one trial at a time");
        assert_eq!(breaker.succeeded(trial), Turn::Closed);
        assert_eq!(breaker.admit(at(6)), Ok(Pass::Usual));
    }

    #[test]
    fn each_failed_trial_doubles_the_pause_up_to_a_minute() {
        let breaker = Breaker::new(1, PAUSE);
        breaker.failed(Pass::Usual, at(0));
        let mut now = 5;
        for pause in [10, 20, 40, 60, 60] {
            let trial = breaker.admit(at(now)).unwrap();
            breaker.failed(trial, at(now));
            assert_eq!(breaker.admit(at(now)), Err(Duration::from_secs(pause)));
            now += pause;
        }
    }

    #[test]
    fn a_trial_that_never_ends_is_followed_by_another_and_only_that_one_decides() {
        let breaker = Breaker::new(1, PAUSE);
        breaker.failed(Pass::Usual, at(0));
        let first = breaker.admit(at(5)).unwrap();
        assert!(breaker.admit(at(9)).is_err());
        let second = breaker.admit(at(10)).unwrap();
        for late in [Pass::Usual, first] {
            assert_eq!(breaker.succeeded(late), Turn::None);
            assert_eq!(breaker.failed(late, at(10)), Turn::None);
        }
        assert_eq!(breaker.admit(at(11)), Err(Duration::from_secs(4)), "still on trial, with its pause");
        assert_eq!(breaker.succeeded(second), Turn::Closed);
    }
}
