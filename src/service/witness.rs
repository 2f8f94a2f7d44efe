//! The witness: compares the clock of this machine with the store's, and looks whether the store is still the one that the
//! keys belong to. Opens and closes the [`Gate`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    canaries::{Canaries, WrongKeys},
    gate::{ClockReading, Gate, GateClosed, MAX_SKEW_MS, signed},
};
use crate::{
    domain::time::{Timestamp, millis},
    keys::ring::KeyRing,
    ports::{
        clock::Deadline,
        entropy::Entropy,
        observer::StoreObserver,
        store::{Store, StoreError},
    },
};

/// What a witness needs from outside.
pub struct WitnessPorts {
    pub store: Arc<dyn Store>,
    pub keys: Arc<KeyRing>,
    pub entropy: Arc<dyn Entropy>,
    pub observer: Arc<dyn StoreObserver>,
}

/// See the module.
pub struct Witness {
    store: Arc<dyn Store>,
    gate: Arc<Gate>,
    canaries: Canaries,
    observer: Arc<dyn StoreObserver>,
    clock_is_off: AtomicBool,
}

/// What an examination has shown of a store that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// How far the clock of this machine is ahead of the store's, in milliseconds, at least.
    pub skew_ms: i64,
    /// Why the keys are not those of the store.
    pub wrong_keys: Option<WrongKeys>,
}

impl Examination {
    /// Whether the clock may date nothing.
    pub fn is_clock_off(&self) -> bool {
        is_off(self.skew_ms)
    }
}

impl Witness {
    /// A witness that opens and closes this gate.
    pub fn new(ports: WitnessPorts, gate: Arc<Gate>) -> Self {
        let WitnessPorts { store, keys, entropy, observer } = ports;
        let canaries = Canaries::new(Arc::clone(&store), keys, entropy, Arc::clone(&observer));
        Self { store, gate, canaries, observer, clock_is_off: AtomicBool::new(false) }
    }

    /// Examines store and clock, and opens or closes the gate by what is found. While the store does not answer the gate stays
    /// as it is.
    ///
    /// # Errors
    /// The store does not answer, or cannot serve.
    pub async fn examine(&self, deadline: Deadline) -> Result<Examination, StoreError> {
        let (compared, found) = tokio::join!(self.compare(deadline), self.canaries.read(deadline));
        self.observer.store_examined(compared.is_ok() && found.is_ok());
        let (reading, time, skew_ms) = compared?;
        self.tell_skew(skew_ms);
        if is_off(skew_ms) {
            self.gate.close(GateClosed::Clock);
        }
        let wrong_keys = self.canaries.judge(&found?, time, deadline).await?.err();
        match &wrong_keys {
            Some(_) => self.gate.close(GateClosed::Keys),
            None if is_off(skew_ms) => {}
            None => self.gate.open(reading),
        }
        Ok(Examination { skew_ms, wrong_keys })
    }

    /// The clock as it was right after the store had told its time, that time, and how far ahead the clock is at least: the
    /// store read its own clock at some moment of the trip.
    async fn compare(&self, deadline: Deadline) -> Result<(ClockReading, Timestamp, i64), StoreError> {
        let asked = self.gate.read();
        let time = self.store.check(deadline).await?;
        let answered = self.gate.read();
        let latest = signed(answered.time.as_millis());
        let earliest = latest.saturating_sub(signed(millis(answered.since(&asked))));
        let told = signed(time.as_millis());
        Ok((answered, time, earliest.saturating_sub(told).max(0) + latest.saturating_sub(told).min(0)))
    }

    fn tell_skew(&self, skew_ms: i64) {
        self.observer.clock_compared(skew_ms);
        let is_off = is_off(skew_ms);
        if self.clock_is_off.swap(is_off, Ordering::Relaxed) != is_off {
            if is_off {
                tracing::error!(
                    skew_ms,
                    "the clock of this machine is off: by the store's clock it is ahead by this much"
                );
            } else {
                tracing::info!(skew_ms, "the clock of this machine is right again");
            }
        }
    }
}

fn is_off(skew_ms: i64) -> bool {
    skew_ms.abs() > MAX_SKEW_MS
}
