//! The witness: clocks that are off, stores that are lost, emptied or replaced, and keys that are not theirs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use otpd::{
    domain::time::Timestamp,
    keys::ring::KeyRing,
    ports::{
        clock::{Clock, Deadline},
        observer::{StoreLoss, StoreObserver},
        store::Partition,
    },
    secret::Secret,
    service::{
        gate::{Gate, GateClosed},
        witness::{Examination, Witness, WitnessPorts},
    },
};

use crate::{
    clock::TestClock,
    entropy::SeededEntropy,
    faults::{Fault, FaultyStore},
    memory::MemoryStore,
    tasks::at_once,
    world::{KEY_1, KEY_2},
};

/// As [`KEY_1`] with one letter mistyped.
const MISTYPED: &str = "1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQA=";
const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// What was told.
#[derive(Default)]
struct Told {
    skews: Mutex<Vec<i64>>,
    losses: Mutex<Vec<StoreLoss>>,
}

impl StoreObserver for Told {
    fn store_examined(&self, _: bool) {}

    fn clock_compared(&self, skew_ms: i64) {
        self.skews.lock().unwrap().push(skew_ms);
    }

    fn store_lost(&self, loss: StoreLoss) {
        self.losses.lock().unwrap().push(loss);
    }
}

/// A store and its clock.
struct Bench {
    clock: TestClock,
    memory: Arc<MemoryStore>,
    faults: Arc<FaultyStore>,
}

/// A replica that examines it.
struct Examined {
    witness: Witness,
    gate: Arc<Gate>,
    told: Arc<Told>,
}

impl Bench {
    fn new() -> Self {
        let clock = TestClock::new();
        let memory = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
        let faults = Arc::new(FaultyStore::new(memory.clone()));
        Self { clock, memory, faults }
    }

    fn replica(&self, ring: &str) -> Examined {
        self.replica_by(ring, Arc::new(self.clock.clone()))
    }

    fn replica_by(&self, ring: &str, clock: Arc<dyn Clock>) -> Examined {
        let (gate, told) = (Arc::new(Gate::new(clock)), Arc::new(Told::default()));
        let keys = Arc::new(KeyRing::parse(&Secret::new(ring.to_owned()), true).expect("ring"));
        // Different for every ring, so that no two replicas draw the same identity by accident of the seed.
        let entropy = Arc::new(SeededEntropy::new(u64::try_from(Arc::as_ptr(&gate).addr()).unwrap()));
        let ports = WitnessPorts { store: self.faults.clone(), keys, entropy, observer: told.clone() };
        Examined { witness: Witness::new(ports, Arc::clone(&gate)), gate, told }
    }
}

impl Examined {
    async fn examine(&self) -> Examination {
        self.witness.examine(soon()).await.expect("an answer")
    }

    /// Examines twice, and tells what was lost since the last time: each loss is told once.
    async fn losses(&self) -> Vec<StoreLoss> {
        for _ in 0..2 {
            assert_eq!(self.examine().await.wrong_keys, None);
            assert!(self.gate.now().is_ok());
        }
        std::mem::take(&mut *self.told.losses.lock().unwrap())
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

fn is_canary(partition: Partition) -> bool {
    partition.0.starts_with(b"otpd canary")
}

#[tokio::test]
async fn a_clock_that_is_off_closes_the_gate_until_it_is_right() {
    let bench = Bench::new();
    let clock = bench.clock.ahead(Duration::ZERO);
    let replica = bench.replica_by(KEY_1, Arc::new(clock.clone()));
    for (leap, skew_ms) in
        [(Duration::ZERO, 0), (SECOND, 1_000), (HOUR, 3_600_000), (Duration::from_millis(1_100), 1_100)]
    {
        clock.leap(leap);
        let examination = replica.examine().await;
        assert_eq!((examination.skew_ms, examination.is_clock_off()), (skew_ms, skew_ms > 1_000));
        assert_eq!(replica.gate.now().err(), (skew_ms > 1_000).then_some(GateClosed::Clock));
        assert_eq!(replica.told.skews.lock().unwrap().last(), Some(&skew_ms));
        // While the store does not answer, what was found stays.
        bench.faults.set_gone(true);
        assert!(replica.witness.examine(soon()).await.is_err());
        assert_eq!(replica.gate.now().is_ok(), skew_ms <= 1_000);
        bench.faults.set_gone(false);
    }
    clock.leap(Duration::ZERO);
    assert!(!replica.examine().await.is_clock_off());
    assert!(replica.gate.now().is_ok());
}

/// One replica an hour behind the store.
#[tokio::test]
async fn a_clock_that_is_behind_is_off_as_well() {
    let bench = Bench::new();
    let late = TestClock::new();
    late.step_back(HOUR);
    let replica = bench.replica_by(KEY_1, Arc::new(late));
    assert_eq!(replica.examine().await.skew_ms, -3_600_000);
    assert_eq!(replica.gate.now(), Err(GateClosed::Clock));
}

/// The answer of the store takes its time, and so does the process: the clock is as right as it was.
#[tokio::test]
async fn a_slow_answer_is_no_skew() {
    let bench = Bench::new();
    let replica = bench.replica_by(KEY_1, Arc::new(Slow(bench.clock.clone())));
    assert_eq!(replica.examine().await.skew_ms, 0);
    assert!(replica.gate.now().is_ok());
}

#[tokio::test]
async fn the_first_start_marks_the_store_and_others_know_it() {
    let bench = Bench::new();
    let first = bench.replica(KEY_1);
    assert_eq!(first.losses().await, []);
    assert_eq!(bench.memory.records(), 16);
    // A day later, with a key more, and with that one active.
    bench.clock.advance(HOUR * 24);
    for ring in [KEY_1.to_owned(), format!("{KEY_1},{KEY_2}"), format!("{KEY_2},{KEY_1}")] {
        assert_eq!(bench.replica(&ring).losses().await, [], "{ring}");
    }
    assert_eq!((first.losses().await, bench.memory.records()), (vec![], 16));
}

/// Replicas that start at the same moment agree, and none of them takes what the others have not written yet for lost.
#[tokio::test]
async fn replicas_that_start_together_agree() {
    for seed in 0..50 {
        let bench = Bench::new();
        bench.faults.interleave(seed, 3);
        let replicas: Vec<_> = (0..3).map(|_| Arc::new(bench.replica(KEY_1))).collect();
        let starts = replicas.iter().cloned().map(|replica| async move { replica.losses().await });
        let told = at_once(starts).await;
        assert!(told.iter().all(Vec::is_empty), "seed {seed}: {told:?}");
        bench.clock.advance(HOUR);
        for replica in &replicas {
            assert_eq!(replica.losses().await, [], "seed {seed}");
        }
        assert_eq!(bench.memory.records(), 16);
    }
}

#[tokio::test]
async fn keys_of_another_store_are_refused() {
    let bench = Bench::new();
    assert_eq!(bench.replica(KEY_1).losses().await, []);
    let cases = [
        (MISTYPED.to_owned(), "key 1 here is not the one that its records were sealed with"),
        (format!("{KEY_2},{MISTYPED}"), "key 1 here is not the one that its records were sealed with"),
    ];
    for (ring, words) in cases {
        let other = bench.replica(&ring);
        let wrong = other.examine().await.wrong_keys.expect("a refusal").to_string();
        assert_eq!(wrong, format!("the store belongs to other master keys: {words}"));
        assert_eq!(other.gate.now(), Err(GateClosed::Keys));
    }
    assert_eq!(bench.memory.records(), 16);
}

/// Whoever comes first has the right key, also where both start at the same moment.
#[tokio::test]
async fn of_two_keys_one_is_refused() {
    for seed in 0..50 {
        let bench = Bench::new();
        bench.faults.interleave(seed, 3);
        let replicas = [KEY_1, MISTYPED].map(|ring| Arc::new(bench.replica(ring)));
        at_once(replicas.iter().cloned().map(|replica| async move { replica.examine().await })).await;
        let mut open = 0;
        for replica in &replicas {
            open += u32::from(replica.examine().await.wrong_keys.is_none());
        }
        assert_eq!(open, 1, "seed {seed}");
    }
}

/// A ring without the key that names are derived from starts where it is forced. It leaves the marks to those who have the key;
/// on a store of its own its lowest key is that key, and one that is lower by number is refused later.
#[tokio::test]
async fn a_forced_ring_judges_nothing() {
    let bench = Bench::new();
    let right = bench.replica(KEY_1);
    assert_eq!(right.losses().await, []);
    assert_eq!(bench.replica(KEY_2).losses().await, []);
    assert_eq!((right.losses().await, bench.memory.records()), (vec![], 16));

    let bench = Bench::new();
    assert_eq!(bench.replica(KEY_2).losses().await, []);
    assert_eq!(bench.replica(KEY_2).losses().await, []);
    let wrong = bench.replica(&format!("{KEY_2},{KEY_1}")).examine().await.wrong_keys.expect("a refusal");
    assert!(wrong.to_string().ends_with("derived from key 2, and the lowest-numbered key here is 1"), "{wrong}");
}

#[tokio::test]
async fn an_emptied_store_is_told_once_by_everyone_and_marked_anew() {
    let bench = Bench::new();
    let (one, two) = (bench.replica(KEY_1), bench.replica(KEY_1));
    assert_eq!((one.losses().await, two.losses().await), (vec![], vec![]));
    bench.clock.advance(HOUR);
    bench.memory.lose(|_| true);
    assert_eq!((one.losses().await, bench.memory.records()), (vec![StoreLoss::All], 16));
    assert_eq!(two.losses().await, [StoreLoss::Replaced]);
    // One that starts now finds a store in order.
    assert_eq!(bench.replica(KEY_1).losses().await, []);
    assert_eq!((one.losses().await, two.losses().await), (vec![], vec![]));
}

/// A node of a cluster came back empty, or keys were evicted.
#[tokio::test]
async fn a_part_that_is_lost_is_told_once_by_everyone() {
    let is_low: fn(Partition) -> bool = |partition| is_canary(partition) && partition.0[14] < 18;
    for is_lost in [is_low, |partition| is_canary(partition) && partition.0[14] >= 18] {
        let bench = Bench::new();
        let (one, two) = (bench.replica(KEY_1), bench.replica(KEY_1));
        assert_eq!((one.losses().await, two.losses().await), (vec![], vec![]));
        bench.clock.advance(HOUR);
        bench.memory.lose(is_lost);
        assert!((1..16).contains(&bench.memory.records()));
        // Seen by a process that starts, by one that knew the store, and by one that comes when all is marked anew.
        let (late, one) = (bench.replica(KEY_1).losses().await, one.losses().await);
        assert_eq!(
            (late, one, two.losses().await),
            (vec![StoreLoss::Part], vec![StoreLoss::Part], vec![StoreLoss::Part])
        );
        assert_eq!(bench.memory.records(), 16);
        assert_eq!(bench.replica(KEY_1).losses().await, []);
    }
}

/// The loss is told even where nothing can be written, and the writes are made up for.
#[tokio::test]
async fn a_loss_is_told_although_the_store_fails_then() {
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Hang] {
        for kept in [false, true] {
            let bench = Bench::new();
            let replica = bench.replica(KEY_1);
            assert_eq!(replica.losses().await, []);
            bench.clock.advance(HOUR);
            bench.memory.lose(if kept { |partition| partition.0[14] < 18 } else { |_| true });
            // After the 16 reads.
            bench.faults.script(&(16..32).map(|index| (index, fault)).collect::<Vec<_>>());
            let failed = replica.witness.examine(Deadline::after(Duration::from_millis(50))).await;
            // Where a canary is left, what cannot be written again is tried at the next look.
            assert_eq!(failed.is_err(), !kept, "{fault:?}");
            bench.faults.script(&[]);
            let loss = if kept { StoreLoss::Part } else { StoreLoss::All };
            assert_eq!(replica.losses().await, [loss], "{fault:?}");
            assert_eq!(bench.memory.records(), 16);
        }
    }
}

/// A minute passes at each look at the clock.
struct Slow(TestClock);

impl Clock for Slow {
    fn now(&self) -> Timestamp {
        self.0.advance(MINUTE);
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.advance(MINUTE);
        self.0.monotonic()
    }
}
