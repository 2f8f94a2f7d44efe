//! Which keys are in use, and sealing anew with the active one, beside replicas that run.

use std::{sync::Arc, time::Duration};

use otpd::{
    keys::ring::KeyRing,
    ports::{
        clock::Deadline,
        observer::{StoreLoss, StoreObserver},
        store::Store,
    },
    secret::Secret,
    service::{
        error::Error,
        gate::Gate,
        key_usage::{KeyReview, KeyRow, KeyUsage},
        witness::{Witness, WitnessPorts},
    },
};

use crate::{
    entropy::SeededEntropy,
    faults::{Fault, FaultyStore, When},
    requests::{ACCOUNT, is_not_matched, is_success, wrong},
    tasks::start,
    world::{KEY_1, KEY_2, World},
};

const KEY_3: &str = "3:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=";

struct Silent;

impl StoreObserver for Silent {
    fn store_examined(&self, _: bool) {}

    fn clock_compared(&self, _: i64) {}
    fn store_lost(&self, _: StoreLoss) {}
}

fn ports(store: Arc<dyn Store>, ring: &str) -> WitnessPorts {
    let keys = Arc::new(KeyRing::parse(&Secret::new(ring.to_owned()), true).expect("ring"));
    WitnessPorts { store, keys, entropy: Arc::new(SeededEntropy::new(7)), observer: Arc::new(Silent) }
}

async fn walk(world: &World, ring: &str, reseal: bool) -> KeyUsage {
    let review = KeyReview::new(ports(world.faults.clone(), ring));
    review.check_keys().await.expect("an answer").expect("the right keys");
    review.walk(reseal, |_| {}).await.expect("walked over")
}

async fn mark(world: &World) {
    let witness = Witness::new(ports(world.faults.clone(), KEY_1), Arc::new(Gate::new(Arc::new(world.clock.clone()))));
    witness.examine(Deadline::after(Duration::from_secs(10))).await.expect("an answer");
}

fn row(usage: &KeyUsage, id: u32) -> (u64, u64, u64, u64, u64) {
    let KeyRow { challenges, lockouts, canaries, unopened, codes, .. } = usage.rows[&id];
    (challenges, lockouts, canaries, unopened, codes)
}

/// Three challenges by three replicas, of which each has another key first; failures at the second.
async fn three_keys(world: &World) -> [String; 3] {
    mark(world).await;
    let rings = [KEY_1.to_owned(), format!("{KEY_2},{KEY_1}"), format!("{KEY_3},{KEY_2},{KEY_1}")];
    let mut codes = Vec::new();
    for (number, ring) in rings.iter().enumerate() {
        let replica = world.replica_of(ring, world.clock.clone());
        codes.push(world.sent(&replica, &format!("c{number}")).await);
        if number == 1 {
            assert!(is_not_matched(&replica.verify("c1", "g", &wrong(&world.code())).await));
        }
    }
    codes.try_into().unwrap()
}

fn no_gaps() -> World {
    World::new().policy(|policy| policy.limits.resend_gaps.clear())
}

#[tokio::test]
async fn what_each_key_is_used_for_is_told_and_nothing_is_changed() {
    let world = no_gaps();
    three_keys(&world).await;
    let before = world.memory.dump();
    let usage = walk(&world, &format!("{KEY_3},{KEY_2},{KEY_1}"), false).await;
    assert_eq!(world.memory.dump(), before);
    assert_eq!((usage.ring.clone(), usage.lowest, usage.resealed, usage.changed), (vec![3, 2, 1], 1, 0, 0));
    assert_eq!([1, 2, 3].map(|id| row(&usage, id)), [(1, 0, 16, 0, 1), (1, 1, 0, 0, 1), (1, 0, 0, 0, 1)]);
    assert_eq!(usage.records(), 20);
    assert_eq!(usage.rows[&2].codes_until, Some(world.now().plus(Duration::from_secs(300))));

    // Without key 2 its records do not open. Where it is missing and unused, it has no row.
    let usage = walk(&world, &format!("{KEY_3},{KEY_1}"), true).await;
    assert_eq!([1, 2, 3].map(|id| row(&usage, id)), [(0, 0, 16, 0, 1), (1, 1, 0, 2, 0), (2, 0, 0, 0, 1)]);
    // A ring that is forced to do without key 1 is shown what it cannot open.
    let usage = walk(&world, &format!("{KEY_3},{KEY_2}"), false).await;
    assert_eq!([1, 2, 3].map(|id| row(&usage, id).3), [16, 0, 0]);
    // A code that has expired needs its key no more.
    world.clock.advance(Duration::from_secs(300));
    let usage = walk(&world, &format!("{KEY_3},{KEY_2},{KEY_1}"), false).await;
    assert_eq!([1, 2, 3].map(|id| usage.rows[&id].codes), [0; 3]);
}

#[tokio::test]
async fn all_but_the_canaries_is_sealed_anew_and_goes_on() {
    let world = no_gaps();
    let codes = three_keys(&world).await;
    let ring = format!("{KEY_3},{KEY_2},{KEY_1}");
    let running = world.replica_of(&ring, world.clock.clone());
    // It remembers records as they were sealed before.
    assert!(is_not_matched(&running.verify("c0", "before", &wrong(&codes[0])).await));
    let failures = running.failures().await;
    let usage = walk(&world, &ring, true).await;
    assert_eq!([1, 2, 3].map(|id| row(&usage, id)), [(0, 0, 16, 0, 1), (0, 0, 0, 0, 1), (3, 1, 0, 0, 1)]);
    assert_eq!((usage.resealed, usage.changed), (1, 0));
    let usage = walk(&world, &ring, true).await;
    assert_eq!((usage.resealed, usage.records()), (0, 20));
    // The codes of key 2 live on with key 2, and those of key 1 go on.
    for (number, code) in codes.iter().enumerate() {
        let challenge = format!("c{number}");
        assert_eq!(running.view(&challenge).await.expires_at, world.now().plus(Duration::from_secs(600)));
        let answer = running.verify(&challenge, "wrong", &wrong(code)).await;
        assert!(is_not_matched(&answer), "{challenge}: {answer:?}");
    }
    assert_eq!(running.failures().await, failures + 3);
    for (number, code) in codes.iter().enumerate() {
        assert!(is_success(&running.verify(&format!("c{number}"), "right", code).await));
    }
    // Key 2 can go.
    let without = world.replica_of(&format!("{KEY_3},{KEY_1}"), world.clock.clone());
    assert_eq!((without.failures().await, without.view("c1").await.attempts), (0, 3));
}

/// A record that a replica changes between the read and the write stays as the replica wrote it.
#[tokio::test]
async fn what_changes_meanwhile_is_left_and_told() {
    let world = no_gaps();
    mark(&world).await;
    let ring = format!("{KEY_2},{KEY_1}");
    let old = world.replica();
    let code = world.sent(&old, "c").await;
    let line = Arc::new(FaultyStore::new(world.faults.clone()));
    let pause = line.pause_next("commit", When::Before);
    let review = KeyReview::new(ports(line.clone(), &ring));
    let walking = start(async move { review.walk(true, |_| {}).await });
    pause.reached().await;
    assert!(is_not_matched(&old.verify("c", "meanwhile", &wrong(&code)).await));
    pause.resume();
    let usage = crate::tasks::ended(walking).await.expect("walked over");
    assert_eq!((usage.resealed, usage.changed, usage.records()), (0, 1, 17));
    assert_eq!(old.account(ACCOUNT).await.failures, 1);
    let usage = walk(&world, &ring, true).await;
    assert_eq!((usage.resealed, usage.changed), (2, 0));
}

/// An answer that is lost, or a store that fails, loses no record; the next walk does the rest.
#[tokio::test]
async fn a_store_that_fails_ends_the_walk_and_loses_nothing() {
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Twice] {
        let world = no_gaps();
        let codes = three_keys(&world).await;
        let ring = format!("{KEY_3},{KEY_2},{KEY_1}");
        let review = KeyReview::new(ports(world.faults.clone(), &ring));
        world.faults.script(&[(0, fault)]);
        let told = review.walk(true, |_| {}).await;
        assert_eq!(told.is_ok(), fault == Fault::Twice, "{told:?}");
        assert!(matches!(told, Ok(_) | Err(Error::Store(_))));
        world.faults.script(&[]);
        let usage = walk(&world, &ring, true).await;
        assert_eq!([1, 2, 3].map(|id| row(&usage, id)), [(0, 0, 16, 0, 1), (0, 0, 0, 0, 1), (3, 1, 0, 0, 1)]);
        let replica = world.replica_of(&ring, world.clock.clone());
        assert!(is_success(&replica.verify("c1", "right", &codes[1]).await));
    }
}
