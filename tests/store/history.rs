//! Random histories against a model of a few lines.
//!
//! `OTPD_SEED` replays one. Time does not pass within a history, so that it is the same over every store.

use std::collections::BTreeMap;

use otpd::{
    domain::{quota::Window, time::millis},
    ports::store::Acquired,
};

use crate::harness::{Easy, HOUR, Harness, Numbers, Outcome, window};

const STEPS: u32 = 3_000;
const PARTITIONS: u64 = 2;
const NAMES: u64 = 4;

/// The store as it should be.
#[derive(Default)]
struct Model {
    records: BTreeMap<(u64, u64), u64>,
    index: BTreeMap<u64, u64>,
    quotas: BTreeMap<u64, Quota>,
}

#[derive(Default)]
struct Quota {
    uses: BTreeMap<u64, u64>,
    longest: u64,
}

impl Model {
    fn read(&self, of: u64, names: &[u64]) -> Vec<Option<u64>> {
        names.iter().map(|n| self.records.get(&(of, *n)).copied()).collect()
    }

    fn commit(&mut self, to: u64, changes: &[Numbers]) -> Outcome {
        let names: Vec<u64> = changes.iter().map(|(n, ..)| *n).collect();
        let present = self.read(to, &names);
        if changes.iter().zip(&present).any(|((_, expected, _), present)| expected != present) {
            return Outcome::Conflict(present);
        }
        for (n, _, write) in changes {
            if let Some(new) = write {
                self.records.insert((to, *n), *new);
            }
        }
        Outcome::Done
    }

    fn acquire(&mut self, quota: u64, usage: u64, windows: &[Window], now: u64) -> Acquired {
        let quota = self.quotas.entry(quota).or_default();
        quota.longest = windows.iter().map(|window| millis(window.per)).fold(quota.longest, u64::max);
        let longest = quota.longest;
        quota.uses.retain(|_, at| *at + longest > now);
        if quota.uses.contains_key(&usage) {
            return Acquired::Before;
        }
        if quota.usage(windows, now).iter().zip(windows).any(|(used, window)| *used >= window.max) {
            return Acquired::Refused;
        }
        quota.uses.insert(usage, now);
        Acquired::Now
    }
}

impl Quota {
    fn usage(&self, windows: &[Window], now: u64) -> Vec<u32> {
        let count = |window: &Window| self.uses.values().filter(|at| **at + millis(window.per) > now).count();
        windows.iter().map(|window| u32::try_from(count(window)).unwrap()).collect()
    }
}

/// xorshift64*: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    /// One to three changes of different records. Most expect what is there.
    fn changes(&mut self, model: &Model, to: u64) -> Vec<Numbers> {
        let first = self.below(NAMES);
        let count = 1 + self.below(3);
        let mut change = |n: u64| {
            let present = model.records.get(&(to, n)).copied();
            let expected = match self.below(8) {
                0 => Some(self.below(1_000)),
                1 => None,
                _ => present,
            };
            let write = (self.below(4) > 0).then(|| self.below(1_000));
            (n, expected, write)
        };
        (first..first + count).map(|n| change(n % NAMES)).collect()
    }
}

#[expect(clippy::print_stderr, reason = "the test runner shows it when the test fails, however it fails")]
pub(crate) async fn random_history(harness: &impl Harness) {
    let seed = match std::env::var_os("OTPD_SEED") {
        Some(seed) => seed.to_str().unwrap().parse().unwrap(),
        None => u64::from_be_bytes(random_bytes()) | 1,
    };
    eprintln!("OTPD_SEED={seed}");
    let mut random = Random(seed);
    let store = Easy(harness.store());
    let mut model = Model::default();
    let quotas = [
        vec![window(3, HOUR)],
        vec![window(2, HOUR / 60), window(5, HOUR)],
        vec![window(1, HOUR / 360), window(2, HOUR / 60), window(3, HOUR / 2), window(6, HOUR)],
    ];
    let mut now = 1_700_000_000_000;
    for step in 0..STEPS {
        let (of, quota) = (random.below(PARTITIONS), random.below(2));
        match random.below(16) {
            0..2 => {
                let names: Vec<u64> = (0..random.below(5)).map(|_| random.below(NAMES)).collect();
                assert_eq!(store.read(of, &names).await, model.read(of, &names), "step {step}");
            }
            2..8 => {
                let changes = random.changes(&model, of);
                assert_eq!(store.commit(of, &changes).await, model.commit(of, &changes), "step {step}: {changes:?}");
            }
            8 => {
                let index = random.below(4);
                let ours = *model.index.entry(index).or_insert(of) == of;
                assert_eq!(store.claim(index, of, HOUR).await.is_some(), ours, "step {step}");
            }
            9 => {
                let index = random.below(8);
                let located = store.locate(index, &[0, 1]).await.map(|(of, _, records)| (of, records));
                let expected = model.index.get(&index).map(|of| (*of, model.read(*of, &[0, 1])));
                assert_eq!(located, expected, "step {step}");
            }
            10..14 => {
                now += random.below(20_000);
                let windows = &quotas[usize::try_from(random.below(3)).unwrap()];
                let usage = random.below(50);
                let expected = model.acquire(quota, usage, windows, now);
                assert_eq!(store.acquire(quota, usage, windows, now).await, expected, "step {step}");
            }
            14 => {
                let expected = model.quotas.entry(quota).or_default().usage(&quotas[2], now);
                assert_eq!(store.usage(quota, &quotas[2], now).await, expected, "step {step}");
            }
            _ if random.below(10) == 0 => {
                store.clear(quota).await;
                model.quotas.remove(&quota);
            }
            _ => {
                let usage = random.below(50);
                store.refund(&[(quota, usage)]).await;
                model.quotas.entry(quota).or_default().uses.remove(&usage);
            }
        }
    }
    let names: Vec<u64> = (0..NAMES).collect();
    for of in 0..PARTITIONS {
        assert_eq!(store.read(of, &names).await, model.read(of, &names));
    }
}

fn random_bytes() -> [u8; 8] {
    use std::hash::{BuildHasher, RandomState};
    // The standard library seeds its hashers from the operating system.
    RandomState::new().hash_one(0).to_be_bytes()
}
