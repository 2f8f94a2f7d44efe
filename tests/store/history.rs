//! Random histories against a model of a few lines.
//!
//! `OTPD_SEED` replays one. Time does not pass within a history, so that it is the same over every store.

use std::collections::BTreeMap;

use otpd::{domain::quota::Window, ports::store::Store};

use crate::harness::{Easy, HOUR, Harness, Swap, window};

const STEPS: u32 = 3_000;

/// The store as it should be.
#[derive(Default)]
struct Model {
    records: BTreeMap<u64, u64>,
    takes: BTreeMap<u64, BTreeMap<u64, u64>>,
}

impl Model {
    fn insert(&mut self, n: u64, new: u64) -> Option<u64> {
        let present = self.records.get(&n).copied();
        self.records.entry(n).or_insert(new);
        present
    }

    fn swap(&mut self, n: u64, read: u64, new: u64) -> Swap {
        match self.records.get_mut(&n) {
            None => Swap::Missing,
            Some(present) if *present == read => {
                *present = new;
                Swap::Done
            }
            Some(present) => Swap::Stale(*present),
        }
    }

    fn take(&mut self, quota: u64, take: u64, windows: &[Window], now: u64) -> bool {
        let takes = self.takes.entry(quota).or_default();
        let longest = windows.iter().map(|window| millis(*window)).max().unwrap();
        takes.retain(|_, at| *at + longest > now);
        let room =
            |window: &Window| takes.values().filter(|at| **at + millis(*window) > now).count() < window.max as usize;
        let fits = takes.contains_key(&take) || windows.iter().all(room);
        if fits {
            takes.entry(take).or_insert(now);
        }
        fits
    }
}

fn millis(window: Window) -> u64 {
    u64::try_from(window.per.as_millis()).unwrap()
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
        let context = || format!("step {step}");
        let n = random.below(5);
        match random.below(12) {
            0..2 => assert_eq!(store.load(n).await, model.records.get(&n).copied(), "{}", context()),
            2..4 => {
                let new = random.below(1_000);
                assert_eq!(store.insert(n, new, HOUR).await, model.insert(n, new), "{}", context());
            }
            4..7 => {
                let (guess, new) = (random.below(1_000), random.below(1_000));
                let read = if random.below(4) == 0 { guess } else { model.records.get(&n).copied().unwrap_or(guess) };
                assert_eq!(store.swap(n, read, new, HOUR).await, model.swap(n, read, new), "{}", context());
            }
            7..11 => {
                now += random.below(20_000);
                let quota = n % 3;
                let windows = &quotas[usize::try_from(quota).unwrap()];
                let take = random.below(50);
                let expected = model.take(quota, take, windows, now);
                assert_eq!(store.take(quota, take, windows, now).await, expected, "{}", context());
            }
            _ => {
                let take = random.below(50);
                store.give_back(n % 3, take).await;
                model.takes.entry(n % 3).or_default().remove(&take);
            }
        }
    }
    matches(&*store.0, &model).await;
}

async fn matches(store: &dyn Store, model: &Model) {
    for n in 0..5 {
        let loaded = store.load(crate::harness::name(n), crate::harness::soon()).await.unwrap();
        assert_eq!(loaded.map(|record| crate::harness::content(&record)), model.records.get(&n).copied());
    }
}

fn random_bytes() -> [u8; 8] {
    use std::hash::{BuildHasher, RandomState};
    // The standard library seeds its hashers from the operating system.
    RandomState::new().hash_one(0).to_be_bytes()
}
