//! Credentials that run out: fetched when they are needed, by one call at a time, and kept until shortly before their end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex as Flight, time::timeout_at};

use super::authority::{Denied, Outside};

/// Credentials are renewed this long before they end, or after three quarters of a life that is shorter than four times as
/// much: a request may be on its way for that long, and clocks differ.
const MARGIN: Duration = Duration::from_secs(60);

/// How long a failure to renew is remembered while the old credentials still hold.
const PAUSE: Duration = Duration::from_secs(5);

/// Credentials that somebody gives out for a while.
pub(in crate::providers) struct Renewable<T> {
    kept: Mutex<Option<Kept<T>>>,
    /// Whoever holds this renews.
    flight: Flight<Option<Failed>>,
}

/// The last failure to renew.
#[derive(Clone, Copy)]
struct Failed {
    /// On the monotonic clock.
    at: Duration,
    denied: Denied,
    /// Whether the deadline of the call that renewed is why: a call with more time may fetch them.
    was_late: bool,
}

struct Kept<T> {
    value: T,
    number: u64,
    /// On the monotonic clock.
    renew_at: Duration,
    ends_at: Duration,
}

/// Credentials as they were given out, and how long they last.
pub(in crate::providers) struct Issued<T> {
    pub(in crate::providers) value: T,
    pub(in crate::providers) life: Duration,
}

impl<T: Clone> Renewable<T> {
    pub(in crate::providers) fn new() -> Self {
        Self { kept: Mutex::new(None), flight: Flight::new(None) }
    }

    /// The credentials and their number. Of the calls that find none, one fetches them, and the others wait for it. They fail as it
    /// fails, unless its time ran out: then the next of them fetches, within its own time.
    pub(in crate::providers) async fn get(
        &self,
        outside: &Outside<'_>,
        fetch: impl AsyncFnOnce() -> Result<Issued<T>, Denied>,
    ) -> Result<(T, u64), Denied> {
        let since = outside.monotonic();
        if let Some(fresh) = self.kept(|kept| since < kept.renew_at) {
            return Ok(fresh);
        }
        let mut flight = match self.kept(|kept| since < kept.ends_at) {
            // Another call renews them, or has just failed to.
            Some(still_good) => match self.flight.try_lock() {
                Ok(flight) if flight.is_none_or(|failed| since >= failed.at.saturating_add(PAUSE)) => flight,
                _ => return Ok(still_good),
            },
            None => timeout_at(outside.deadline().instant(), self.flight.lock())
                .await
                .map_err(|_| Denied::Unavailable("no credentials in time"))?,
        };
        if let Some(fetched) = self.kept(|kept| outside.monotonic() < kept.renew_at) {
            return Ok(fetched);
        }
        if let Some(failed) = flight.filter(|failed| !failed.was_late && failed.at > since) {
            return Err(failed.denied);
        }
        match fetch().await {
            Ok(issued) => {
                *flight = None;
                Ok(self.keep(issued, outside.monotonic()))
            }
            Err(denied) => {
                let was_late = outside.deadline().remaining().is_zero();
                *flight = Some(Failed { at: outside.monotonic(), denied, was_late });
                self.kept(|kept| outside.monotonic() < kept.ends_at).ok_or(denied)
            }
        }
    }

    /// Forgets the credentials of this number, which were refused: the next call fetches others.
    pub(in crate::providers) fn forget(&self, number: u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refused) = kept.as_mut().filter(|kept| kept.number == number) {
            (refused.renew_at, refused.ends_at) = (Duration::ZERO, Duration::ZERO);
        }
    }

    fn kept(&self, fits: impl FnOnce(&Kept<T>) -> bool) -> Option<(T, u64)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| fits(kept)).map(|kept| (kept.value.clone(), kept.number))
    }

    fn keep(&self, issued: Issued<T>, now: Duration) -> (T, u64) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let number = kept.as_ref().map_or(0, |kept| kept.number + 1);
        let (ends_at, margin) = (now.saturating_add(issued.life), MARGIN.min(issued.life / 4));
        let value = issued.value.clone();
        *kept = Some(Kept { value: issued.value, number, renew_at: ends_at.saturating_sub(margin), ends_at });
        (value, number)
    }
}
