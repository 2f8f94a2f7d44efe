//! What a caller finds of what is not its own: nothing, after as many trips to the store as where nothing ever was.

use std::{fmt::Debug, sync::Arc};

use otpd::{
    domain::{caller::CallerRights, ids::Tenant, purpose::Purpose},
    service::request::{Caller, LockAccount, UnlockAccount},
};

use crate::{
    observed::ObservedStore,
    requests::{
        ACCOUNT, TENANT, caller, caller_of, create, created, is_success, of_account, request_id, send, verify, wrong,
    },
    trips::{counted, trips},
    world::{Replica, World},
};

const OTHER: &str = "other";

/// What each request came to, its trips, and its operations.
type Answers = Vec<(String, u128, Vec<&'static str>)>;

fn with(rights: &CallerRights, caller: Caller) -> Caller {
    Caller { rights: Arc::new(rights.clone()), ..caller }
}

/// May name the usual tenant.
fn of_one_tenant() -> CallerRights {
    CallerRights { tenants: Some([Tenant::parse(TENANT).unwrap()].into()), ..CallerRights::of_everybody() }
}

async fn note<T: Debug>(answers: &mut Answers, observed: &ObservedStore, request: impl Future<Output = T>) {
    let (answer, waits, mut log) = trips(observed, request).await;
    log.sort_unstable();
    answers.push((format!("{answer:?}"), waits, log));
}

/// Every request that names a challenge.
async fn of_challenge(
    replica: &Replica,
    observed: &ObservedStore,
    caller: &impl Fn(&str) -> Caller,
    challenge: &str,
    code: &str,
) -> Answers {
    let (otp, mut answers) = (&replica.otp, Vec::new());
    let id = |name: &str| caller(&format!("{challenge}-{name}"));
    note(&mut answers, observed, otp.send_otp(id("s"), send(challenge, "o1"))).await;
    note(&mut answers, observed, otp.verify_otp(id("right"), verify(challenge, code))).await;
    note(&mut answers, observed, otp.verify_otp(id("wrong"), verify(challenge, &wrong(code)))).await;
    note(&mut answers, observed, otp.cancel_challenge(id("c"), request_id(challenge))).await;
    note(&mut answers, observed, otp.get_challenge(id("g"), request_id(challenge))).await;
    answers
}

/// Every request that names an account.
async fn of_operators(
    replica: &Replica,
    observed: &ObservedStore,
    caller: &impl Fn(&str) -> Caller,
    account: &str,
) -> Answers {
    let (otp, mut answers) = (&replica.otp, Vec::new());
    let (owner, reason) = (of_account(account), "a test".to_owned());
    note(&mut answers, observed, otp.get_account(caller("ga"), owner.clone())).await;
    let request = LockAccount { owner: owner.clone(), reason: reason.clone(), until: None };
    note(&mut answers, observed, otp.lock_account(caller("la"), request)).await;
    note(&mut answers, observed, otp.unlock_account(caller("ua"), UnlockAccount { owner, reason })).await;
    answers
}

/// A challenge of another tenant, `theirs`, with a code sent and a failure counted.
async fn theirs(world: &World, replica: &Replica) -> String {
    let otp = &replica.otp;
    created(otp.create_challenge(caller_of(OTHER, "theirs"), create(ACCOUNT)).await);
    otp.send_otp(caller_of(OTHER, "s"), send("theirs", "o1")).await.unwrap();
    let code = world.code();
    otp.verify_otp(caller_of(OTHER, "f"), verify("theirs", &wrong(&code))).await.unwrap();
    code
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_not_the_callers_is_forbidden_without_a_look() {
    let world = World::new();
    let (replica, observed) = counted(&world);
    let code = theirs(&world, &replica).await;
    let caller = |id: &str| with(&of_one_tenant(), caller_of(OTHER, id));
    let forbidden = ("Err(Forbidden)".to_owned(), 0, Vec::new());
    for challenge in ["theirs", "never"] {
        let answers = of_challenge(&replica, &observed, &caller, challenge, &code).await;
        assert_eq!(answers, vec![forbidden.clone(); 5], "{challenge}");
        let mut answers = Answers::new();
        note(&mut answers, &observed, replica.otp.create_challenge(caller(challenge), create(ACCOUNT))).await;
        assert_eq!(answers, vec![forbidden.clone()], "{challenge}");
    }
    for account in [ACCOUNT, "nobody"] {
        let answers = of_operators(&replica, &observed, &caller, account).await;
        assert_eq!(answers, vec![forbidden.clone(); 3], "{account}");
    }
    let view = replica.otp.get_account(caller_of(OTHER, "get"), of_account(ACCOUNT)).await.unwrap();
    assert_eq!((view.failures, view.locked), (1, None));
}

#[tokio::test(start_paused = true)]
async fn ids_of_another_tenant_are_like_those_that_never_were() {
    for world in [World::new(), World::reading_apart()] {
        let (replica, observed) = counted(&world);
        let code = theirs(&world, &replica).await;
        let caller = |id: &str| with(&of_one_tenant(), caller_of(TENANT, id));
        let of_them = of_challenge(&replica, &observed, &caller, "theirs", &code).await;
        assert!(of_them.iter().all(|(answer, ..)| answer == "Err(InvalidIdentifier)"), "{of_them:?}");
        assert_eq!(of_them, of_challenge(&replica, &observed, &caller, "never", &code).await);
        let of_them = of_operators(&replica, &observed, &caller, ACCOUNT).await;
        assert_eq!(of_them, of_operators(&replica, &observed, &caller, "nobody").await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_of_another_purpose_is_like_one_that_never_was() {
    let rights = CallerRights { purposes: Some([Purpose::Transaction].into()), ..CallerRights::of_everybody() };
    let transactions = |id: &str| with(&rights, caller(id));
    for remembers in [true, false] {
        let world = World::new();
        let (opener, (other, observed)) = (world.replica(), counted(&world));
        let opens = if remembers { &other } else { &opener };
        let code = world.sent(opens, "login").await;
        let of_login = of_challenge(&other, &observed, &transactions, "login", &code).await;
        assert!(of_login.iter().all(|(answer, ..)| answer == "Err(InvalidIdentifier)"), "{of_login:?}");
        let trips = |answers: &Answers| answers.iter().map(|(_, waits, _)| *waits).collect::<Vec<_>>();
        let of_none = of_challenge(&other, &observed, &transactions, "never", &code).await;
        assert_eq!(trips(&of_login), trips(&of_none), "remembers: {remembers}");

        let mut answers = Answers::new();
        note(&mut answers, &observed, other.otp.create_challenge(transactions("new"), create(ACCOUNT))).await;
        note(&mut answers, &observed, other.otp.create_challenge(transactions("login"), create(ACCOUNT))).await;
        assert_eq!(answers, vec![("Err(Forbidden)".to_owned(), 0, Vec::new()); 2]);

        // Nothing of it was counted, sent or cancelled.
        assert_eq!((other.failures().await, world.messages()), (0, 1));
        let logins = CallerRights { purposes: Some([Purpose::Login].into()), ..CallerRights::of_everybody() };
        let verified = other.otp.verify_otp(with(&logins, caller("v")), verify("login", &code)).await;
        assert!(is_success(&verified), "{verified:?}");
    }
}
