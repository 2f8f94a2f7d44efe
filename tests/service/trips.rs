//! How often a request goes to the store: operations, and waits that follow one another.

use std::{sync::Arc, time::Duration};

use otpd::{domain::outcome::Created, ports::clock::Stopwatch, service::request::CreateChallenge};

use crate::{
    observed::ObservedStore,
    requests::{
        ACCOUNT, NUMBER, accepted, caller, create, created, is_not_matched, is_success, register, send, verify, wrong,
    },
    world::{KEY_1, Replica, World},
};

/// What each operation takes, by the paused clock of the runtime.
const TRIP: Duration = Duration::from_millis(1);

/// A replica whose operations are counted.
pub(crate) fn counted(world: &World) -> (Replica, Arc<ObservedStore>) {
    let observed = ObservedStore::with_trips(world.faults.clone(), TRIP);
    (world.replica_over(observed.clone(), KEY_1, world.clock.clone()), observed)
}

/// What a request comes to, its trips that follow one another, and its operations.
pub(crate) async fn trips<T>(
    observed: &ObservedStore,
    request: impl Future<Output = T>,
) -> (T, u128, Vec<&'static str>) {
    observed.drain_log();
    let started = Stopwatch::start();
    let answer = request.await;
    (answer, started.elapsed().as_millis() / TRIP.as_millis(), observed.drain_log())
}

#[tokio::test(start_paused = true)]
async fn a_verification_on_a_replica_that_knows_the_challenge_is_one_commit() {
    let world = World::new();
    let (replica, observed) = counted(&world);
    let code = world.sent(&replica, "c").await;
    let (answer, waits, log) = trips(&observed, replica.verify("c", "wrong", &wrong(&code))).await;
    assert!(is_not_matched(&answer));
    assert_eq!((waits, log), (1, vec!["commit"]));
    let (answer, waits, log) = trips(&observed, replica.verify("c", "wrong", &wrong(&code))).await;
    assert!(is_not_matched(&answer), "a recorded answer");
    assert_eq!((waits, log), (0, vec![]));
    let (answer, waits, log) = trips(&observed, replica.verify("c", "right", &code)).await;
    assert!(is_success(&answer));
    assert_eq!((waits, log), (1, vec!["commit"]));
}

#[tokio::test(start_paused = true)]
async fn a_verification_on_another_replica_finds_the_challenge_first() {
    for apart in [false, true] {
        for right in [false, true] {
            let world = if apart { World::reading_apart() } else { World::new() };
            let code = world.sent(&world.replica(), "c").await;
            let (replica, observed) = counted(&world);
            let otp = if right { code } else { wrong(&code) };
            let (answer, waits, log) = trips(&observed, replica.verify("c", "v", &otp)).await;
            assert_eq!(is_success(&answer), right);
            let expected = if apart { vec!["locate", "read", "commit"] } else { vec!["locate", "commit"] };
            assert_eq!((usize::try_from(waits).unwrap(), log), (expected.len(), expected));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_is_three_trips() {
    let world = World::new().policy(|policy| {
        policy.quotas.account_sends = policy.quotas.destination_sends.clone();
        policy.quotas.tenant_sends = policy.quotas.destination_sends.clone();
    });
    let (replica, observed) = counted(&world);
    replica.open("c").await;
    let (sent, waits, log) = trips(&observed, replica.send("c", "s")).await;
    accepted(sent);
    assert_eq!((waits, log), (3, vec!["acquire", "acquire", "acquire", "commit", "commit"]));
    let (sent, waits, log) = trips(&observed, replica.send("c", "s")).await;
    accepted(sent);
    assert_eq!((waits, log), (0, vec![]), "a recorded answer");
}

#[tokio::test(start_paused = true)]
async fn a_creation_is_two_trips() {
    let world = World::new();
    let (replica, observed) = counted(&world);
    let (answer, waits, mut log) = trips(&observed, replica.create("c", create(ACCOUNT))).await;
    created(answer);
    log.sort_unstable();
    assert_eq!((waits, log), (2, vec!["acquire", "claim", "commit", "read"]));
    let request = CreateChallenge { send_otp: true, ..create(ACCOUNT) };
    let (answer, waits, _) = trips(&observed, replica.create("d", request)).await;
    assert!(matches!(answer, Ok(Created::Success { send: Some(_), .. })), "{answer:?}");
    assert_eq!(waits, 5, "the creation and the send");
}

/// The operator's lock of the account lives in another partition.
#[tokio::test(start_paused = true)]
async fn a_registration_reads_one_record_more_before_each_commit() {
    let world = World::new();
    let (replica, observed) = counted(&world);
    let (answer, waits, _) = trips(&observed, replica.create("c", register(ACCOUNT, NUMBER))).await;
    created(answer);
    assert_eq!(waits, 2, "beside the others");
    accepted(replica.send("c", "s").await);
    let (answer, waits, log) = trips(&observed, replica.verify("c", "v", &world.code())).await;
    assert!(is_success(&answer));
    assert_eq!((waits, log), (2, vec!["read", "commit"]));
}

/// A refusal that changes nothing rests on a fresh read, and a conflict answers with what is there.
#[tokio::test(start_paused = true)]
async fn refusals_and_conflicts_are_one_read_more() {
    let world = World::new();
    let ((replica, observed), other) = (counted(&world), world.replica());
    let code = world.sent(&replica, "c").await;
    let (refused, waits, log) = trips(&observed, replica.send("c", "soon")).await;
    assert!(matches!(refused, Ok(otpd::domain::outcome::Sent::ResendTooSoon { .. })), "{refused:?}");
    assert_eq!((waits, log), (1, vec!["read"]));
    assert!(is_not_matched(&other.verify("c", "elsewhere", &wrong(&code)).await));
    let (answer, waits, log) = trips(&observed, replica.verify("c", "v", &code)).await;
    assert!(is_success(&answer));
    assert_eq!((waits, log), (2, vec!["commit", "commit"]));
}

/// A call moves its use case several times on the way into a task of its own.
#[tokio::test]
async fn use_cases_are_small() {
    let world = World::new();
    let otp = world.replica().otp;
    let sizes = [
        ("VerifyOtp", size_of_val(&otp.verify_otp(caller("v1"), verify("c1", "123456"))), 2_048),
        ("SendOtp", size_of_val(&otp.send_otp(caller("s1"), send("c1", "phone"))), 4_096),
        ("CreateChallenge", size_of_val(&otp.create_challenge(caller("c1"), create("jane"))), 6_144),
    ];
    for (call, size, most) in sizes {
        assert!(size <= most, "{call}: {size} bytes, at most {most}");
    }
}
