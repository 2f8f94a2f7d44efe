//! The two times of the embedded store.
//!
//! Times to live are judged by the store's time. A new store reads it once from the clock of the machine, and from then on it
//! passes as time really passes: a clock that leaps a day ahead and back makes nothing expire.
//!
//! By the time of day, [`witness`](StoreTime::witness), the clock of the machine is judged. It passes in the same way, and
//! follows the clock where that was set for good: what the clock has told for a minute without a leap is believed.
//!
//! Both are kept on the disk, and the next process goes on with them as far apart as they were. Between the two processes as
//! much time has passed as the time of day tells. So a store's time that is wrong, since the clock was when the store was made,
//! or since the machine slept, shortens no life at a restart. A clock that is earlier at a restart counts as no time: what is
//! stored then lives longer by as much as the process was stopped.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{domain::time::Timestamp, ports::clock::Clock};

/// How long a clock that was set must go on without a leap until it is believed.
const STEADY_FOR: Duration = Duration::from_secs(60);
/// What counts as a leap.
const LEAP_MS: i64 = 1_000;

/// The store's own time.
#[derive(Clone)]
pub struct StoreTime {
    opened_at: Timestamp,
    elapsed: Arc<dyn Fn() -> Duration + Send + Sync>,
    machine: Option<Arc<Machine>>,
}

/// The clock of the machine, and how far it is believed.
struct Machine {
    clock: Arc<dyn Clock>,
    belief: Mutex<Belief>,
}

/// Both times at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BothTimes {
    /// The store's time.
    pub(super) store: Timestamp,
    /// The time of day.
    pub(super) day: Timestamp,
}

impl BothTimes {
    /// The store's time is the time of day.
    pub(super) fn equal(time: Timestamp) -> Self {
        Self { store: time, day: time }
    }

    /// Whether two times are as far apart as these, but for less than a leap.
    pub(super) fn as_far_apart(self, other: Self) -> bool {
        is_same(self.ahead_ms(), other.ahead_ms())
    }

    /// How far the time of day is ahead.
    fn ahead_ms(self) -> i64 {
        between(self.store, self.day)
    }
}

/// How far the clock of the machine is ahead of the store's time, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Belief {
    /// As it is believed.
    ahead_ms: i64,
    /// As it has been told since then, by the time since the store was opened.
    told: Option<(i64, Duration)>,
}

impl StoreTime {
    /// Starts at the time of the clock, which is judged from then on.
    pub fn starting_at(clock: Arc<dyn Clock>) -> Self {
        let (opened_at, start) = (clock.now(), clock.monotonic());
        let machine = Some(Arc::new(Machine { clock: Arc::clone(&clock), belief: Mutex::default() }));
        Self { opened_at, elapsed: Arc::new(move || clock.monotonic().saturating_sub(start)), machine }
    }

    /// Starts at a time, and is as much later as `elapsed` tells. No clock is judged.
    pub fn with_elapsed(opened_at: Timestamp, elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { opened_at, elapsed: Arc::new(elapsed), machine: None }
    }

    /// Goes on from the last times of the process before. A clock that was earlier than those at the start is judged by them,
    /// as one that was set back.
    pub(super) fn going_on_from(mut self, last: BothTimes) -> Self {
        if let Some(machine) = &self.machine {
            self.opened_at = last.store.plus(self.opened_at.since(last.day));
            let belief = Belief { ahead_ms: last.ahead_ms(), told: None };
            *machine.belief.lock().unwrap_or_else(PoisonError::into_inner) = belief;
        }
        self
    }

    /// The store's time, for times to live.
    pub(super) fn now(&self) -> Timestamp {
        self.opened_at.plus((self.elapsed)())
    }

    /// The time of day, by which the clock of the machine is judged.
    pub(super) fn witness(&self) -> Timestamp {
        self.both().day
    }

    /// The store's time and the time of day. Asked with every batch and with every look at the clock of the machine: each time
    /// the clock is heard.
    pub(super) fn both(&self) -> BothTimes {
        let elapsed = (self.elapsed)();
        let store = self.opened_at.plus(elapsed);
        let Some(machine) = &self.machine else { return BothTimes::equal(store) };
        let told = between(store, machine.clock.now());
        let mut belief = machine.belief.lock().unwrap_or_else(PoisonError::into_inner);
        belief.hear(told, elapsed);
        BothTimes { store, day: Timestamp::from_millis(store.as_millis().saturating_add_signed(belief.ahead_ms)) }
    }
}

impl Belief {
    fn hear(&mut self, ahead_ms: i64, at: Duration) {
        match self.told {
            Some((told, since)) if is_same(told, ahead_ms) => {
                if at.saturating_sub(since) < STEADY_FOR {
                    return;
                }
                if !is_same(self.ahead_ms, ahead_ms) {
                    let by_ms = ahead_ms.saturating_sub(self.ahead_ms);
                    tracing::warn!(by_ms, "the clock of this machine was set a minute ago: it is believed from now on");
                }
                *self = Self { ahead_ms, told: Some((ahead_ms, at)) };
            }
            _ => self.told = Some((ahead_ms, at)),
        }
    }
}

fn is_same(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= LEAP_MS.unsigned_abs()
}

/// Milliseconds from one time to another; negative where that is earlier.
fn between(from: Timestamp, to: Timestamp) -> i64 {
    let signed = |time: Timestamp| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    signed(to).saturating_sub(signed(from))
}

impl fmt::Debug for StoreTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StoreTime").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    const NOON: u64 = 1_893_456_000_000;
    const HOUR_MS: u64 = 3_600_000;

    /// Both clocks in milliseconds: what passes moves both, a leap the time of day alone.
    struct TwoClocks {
        wall: AtomicU64,
        monotonic: AtomicU64,
    }

    impl TwoClocks {
        fn at(wall: u64) -> Arc<Self> {
            Arc::new(Self { wall: AtomicU64::new(wall), monotonic: AtomicU64::new(5_000) })
        }

        fn leap_to(&self, wall: u64) {
            self.wall.store(wall, Relaxed);
        }

        /// Asks once a second; how long it takes until the clock is believed.
        fn until_believed(&self, time: &StoreTime) -> u64 {
            for second in 0..200 {
                if time.witness().as_millis().abs_diff(self.wall.load(Relaxed)) <= 1_000 {
                    return second;
                }
                self.wall.fetch_add(1_000, Relaxed);
                self.monotonic.fetch_add(1_000, Relaxed);
            }
            panic!("never");
        }
    }

    impl Clock for TwoClocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.wall.load(Relaxed))
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.monotonic.load(Relaxed))
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_after_a_minute() {
        for wall in [NOON + HOUR_MS, NOON - HOUR_MS, NOON + 1_500] {
            let clocks = TwoClocks::at(NOON);
            let time = StoreTime::starting_at(clocks.clone());
            assert_eq!(clocks.until_believed(&time), 0);
            clocks.leap_to(wall);
            assert_eq!(clocks.until_believed(&time), 60);
            // Times to live go on as if nothing were.
            assert_eq!(time.now().as_millis(), NOON + 60_000);
        }
    }

    #[test]
    fn a_clock_that_leaps_again_and_again_is_never_believed() {
        let clocks = TwoClocks::at(NOON);
        let time = StoreTime::starting_at(clocks.clone());
        for round in 1..10 {
            clocks.leap_to(NOON + HOUR_MS * round);
            for _ in 0..59 {
                assert!(clocks.now().since(time.witness()) > Duration::from_secs(1_800), "round {round}");
                clocks.monotonic.fetch_add(1_000, Relaxed);
                clocks.wall.fetch_add(1_000, Relaxed);
            }
        }
    }

    #[test]
    fn a_clock_that_leaps_back_is_right_at_once() {
        let clocks = TwoClocks::at(NOON);
        let time = StoreTime::starting_at(clocks.clone());
        clocks.leap_to(NOON + HOUR_MS);
        assert_eq!(time.witness().as_millis(), NOON);
        clocks.leap_to(NOON);
        assert_eq!(clocks.until_believed(&time), 0);
    }

    #[test]
    fn a_start_before_the_last_write_is_believed_after_a_minute() {
        let clocks = TwoClocks::at(NOON);
        let last = |ms| BothTimes::equal(Timestamp::from_millis(ms));
        let time = StoreTime::starting_at(clocks.clone()).going_on_from(last(NOON + HOUR_MS));
        assert_eq!(time.now().as_millis(), NOON + HOUR_MS);
        assert_eq!(clocks.until_believed(&time), 60);
        let later = StoreTime::starting_at(clocks.clone()).going_on_from(last(NOON));
        assert_eq!(clocks.until_believed(&later), 0);
    }

    /// A store that was made by a wrong clock, in both directions, goes on with its own time; the time of day is right at once.
    #[test]
    fn the_times_stay_as_far_apart_from_start_to_start() {
        for made_at in [1_000, NOON + 24 * HOUR_MS] {
            let clocks = TwoClocks::at(made_at);
            let time = StoreTime::starting_at(clocks.clone());
            clocks.leap_to(NOON);
            assert_eq!(clocks.until_believed(&time), 60);
            let last = time.both();
            assert_eq!((last.store.as_millis(), last.day), (made_at + 60_000, clocks.now()));
            // Stopped for an hour.
            clocks.leap_to(clocks.now().as_millis() + HOUR_MS);
            let next = StoreTime::starting_at(clocks.clone()).going_on_from(last);
            assert_eq!(next.both().store.as_millis(), made_at + 60_000 + HOUR_MS);
            assert_eq!(clocks.until_believed(&next), 0);
        }
        // A store that is new.
        let clocks = TwoClocks::at(NOON);
        let first = StoreTime::starting_at(clocks).going_on_from(BothTimes::default());
        assert_eq!(first.both(), BothTimes::equal(Timestamp::from_millis(NOON)));
    }
}
