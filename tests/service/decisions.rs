//! Each decision is told once, after its commit or at the refusal, and repeated answers never.

use std::{sync::Arc, time::Duration};

use otpd::{
    domain::{
        caller::CallerRights,
        destination::Channel,
        ids::Tenant,
        purpose::Purpose,
        quota::{QuotaPolicy, Window},
    },
    ports::{
        call::CallRecord,
        clock::Deadline,
        decisions::{DecisionEvent, DecisionObserver, Keeping, NotKept},
        provider::Capabilities,
    },
    service::{
        error::Error,
        request::{Caller, VerifyOtp},
    },
};

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    faults::{Fault, When},
    requests::{
        ACCOUNT, NUMBER, TENANT, account_id, caller, create, of_account, of_contact, register, request_id, send,
        verify, wrong,
    },
    tasks::{ended, start},
    told::Told,
    world::{Replica, World},
};

/// Longer than any lease here.
const PAST_LEASE: Duration = Duration::from_secs(11);

type Set = fn(&mut QuotaPolicy, Vec<Window>);

/// A world whose decisions are written down.
fn told(mut world: World) -> (World, Replica, Arc<Told>) {
    let told = Arc::new(Told::default());
    world.observers.push(told.clone());
    let replica = world.replica();
    (world, replica, told)
}

fn without_limits(world: World) -> World {
    world.policy(|policy| {
        policy.quotas = QuotaPolicy::default();
        policy.limits.resend_gaps.clear();
        policy.limits.max_verification_attempts = 20;
    })
}

#[tokio::test]
async fn a_challenge_is_followed_from_its_opening_to_its_end_by_the_same_tags() {
    let (world, replica, told) = told(World::new());
    for _ in 0..2 {
        drop(replica.create("c", create(ACCOUNT)).await);
        drop(replica.send("c", "s").await);
    }
    drop(replica.send("c", "too-soon").await);
    let code = world.code();
    for _ in 0..2 {
        drop(replica.verify("c", "v1", &wrong(&code)).await);
        drop(replica.verify("c", "v2", &code).await);
    }
    drop(replica.verify("c", "v3", &code).await);
    drop(replica.cancel("c", "late").await);
    let events = told.drain();
    let lines: Vec<&str> = events.iter().map(|(line, _)| line.as_str()).collect();
    let expected = [
        "challenge login success",
        "send sms sms accepted",
        "send sms resend_too_soon",
        "attempt sms sms otp_not_matched",
        "attempt sms sms success",
        "attempt sms otp_already_used",
    ];
    assert_eq!(lines, expected);
    let (_, tags) = events[0];
    assert!(tags[0].is_some() && tags[1].is_some() && tags[2].is_none());
    assert!(events.iter().all(|(_, of_event)| *of_event == tags));
    // Another challenge of the account is another, of the same account.
    drop(replica.create("d", create(ACCOUNT)).await);
    for _ in 0..2 {
        drop(replica.cancel("d", "x").await);
        drop(replica.cancel("d", "y").await);
    }
    let events = told.drain();
    assert_eq!(
        events.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>(),
        ["challenge login success", "cancel login"]
    );
    assert!(events.iter().all(|(_, [challenge, account, _])| *challenge != tags[0] && *account == tags[1]));
}

#[tokio::test]
async fn a_registration_has_the_tag_of_its_contact_also_when_it_has_ended() {
    let (world, replica, told) = told(World::new());
    drop(replica.create("c", register(ACCOUNT, NUMBER)).await);
    drop(replica.send("c", "s").await);
    drop(replica.verify("c", "v", &world.code()).await);
    drop(replica.verify("c", "w", &world.code()).await);
    drop(replica.lockout(of_contact(NUMBER)).await);
    let events = told.drain();
    let contact = events[0].1[2];
    assert!(contact.is_some());
    assert!(events.iter().all(|(_, tags)| tags[2] == contact), "{events:?}");
    assert_eq!(events.len(), 5);
}

#[tokio::test]
async fn locks_are_told_with_the_failure_that_sets_them_and_by_operators_once() {
    let (world, replica, told) = told(without_limits(World::new()));
    let code = world.sent(&replica, "c").await;
    for number in 0..10 {
        drop(replica.verify("c", &format!("v{number}"), &wrong(&code)).await);
    }
    drop(replica.verify("c", "v9", &wrong(&code)).await);
    drop(replica.verify("c", "refused", &code).await);
    drop(replica.create("d", create(ACCOUNT)).await);
    drop(replica.send("c", "refused").await);
    assert_eq!(
        told.take()[2 + 9..],
        [
            "attempt sms sms otp_not_matched",
            "lock account failures",
            "lock contact failures",
            "attempt sms sms account_locked",
            "challenge login account_locked",
            "send sms account_locked",
        ]
    );
    for _ in 0..2 {
        drop(replica.unlock_as("u", of_account(ACCOUNT)).await);
        drop(replica.lock_as("l", of_account(ACCOUNT), None).await);
        drop(replica.lock_as("m", of_contact(NUMBER), Some(world.now().plus(PAST_LEASE))).await);
    }
    drop(replica.account(ACCOUNT).await);
    assert_eq!(
        told.take(),
        [
            "quota_clear account account_sends account_creations test",
            "unlock account test",
            "lock account for good test",
            "lock contact test",
            "look account",
        ]
    );
}

#[tokio::test]
async fn the_failures_of_a_registration_lock_its_contact() {
    let (world, replica, told) = told(without_limits(World::new()));
    drop(replica.create("c", register(ACCOUNT, NUMBER)).await);
    drop(replica.send("c", "s").await);
    for number in 0..10 {
        drop(replica.verify("c", &format!("v{number}"), &wrong(&world.code())).await);
    }
    assert_eq!(told.take()[2 + 9..], ["attempt sms sms otp_not_matched", "lock contact failures"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_quota() {
    let once = || vec![Window { max: 1, per: Duration::from_secs(3600) }];
    let quotas: [(&str, Set); 5] = [
        ("destination_sends", |quotas, windows| quotas.destination_sends = windows),
        ("account_sends", |quotas, windows| quotas.account_sends = windows),
        ("tenant_sends", |quotas, windows| quotas.tenant_sends = windows),
        ("account_creations", |quotas, windows| quotas.account_creations = windows),
        ("tenant_creations", |quotas, windows| quotas.tenant_creations = windows),
    ];
    for (name, set) in quotas {
        let (_world, replica, told) =
            told(without_limits(World::new()).policy(|policy| set(&mut policy.quotas, once())));
        for challenge in ["c", "d"] {
            drop(replica.create(challenge, create(ACCOUNT)).await);
            drop(replica.send(challenge, &format!("{challenge}-send")).await);
        }
        let refused = if name.ends_with("sends") { "send sms risk_declined" } else { "challenge login risk_declined" };
        let refused = format!("{refused} {name}");
        assert_eq!(
            told.take().into_iter().filter(|line| line.contains("risk_declined")).collect::<Vec<_>>(),
            [refused]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_settle_of_a_send_is_told() {
    let outcomes =
        [(Deliver::Reject, "destination_rejected"), (Deliver::Fail(None), "failed"), (Deliver::Unknown, "unconfirmed")];
    for (deliver, outcome) in outcomes {
        let (world, replica, told) = told(without_limits(World::new()));
        world.provider().deliveries([deliver]);
        drop(replica.create("c", create(ACCOUNT)).await);
        drop(replica.send("c", "s").await);
        assert_eq!(told.take()[1..], [format!("send sms sms {outcome}")]);
    }
    // Another worker settles what is overdue; the settle of the first then changes nothing.
    let (world, replica, told) = told(without_limits(World::new()));
    world.provider().deliveries([Deliver::Hold]);
    drop(replica.create("c", create(ACCOUNT)).await);
    let sender = replica.clone();
    let sending = start(async move { sender.send("c", "s").await });
    while world.messages() == 0 {
        tokio::task::yield_now().await;
    }
    world.clock.advance(PAST_LEASE);
    let (request_id, tenant) = (request_id("v").into(), Tenant::parse(TENANT).unwrap().into());
    let record = Arc::new(CallRecord { request_id, tenant, ..CallRecord::default() });
    let loader = Caller { record, ..caller("v") };
    drop(replica.otp.verify_otp(loader, verify("c", &wrong(&world.code()))).await);
    world.provider().release();
    drop(ended(sending).await);
    assert_eq!(told.take()[1..], ["send sms sms unconfirmed overdue", "attempt sms sms otp_not_matched"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_provider_judges_is_told_with_each_outcome_that_it_gets() {
    let (world, replica, told) = told(without_limits(World::with(vec![FakeProvider::managed("theirs", true)])));
    let code = world.sent(&replica, "c").await;
    drop(told.take());
    world.provider().checks([Judge::Unknown, Judge::Fail, Judge::NotMatch]);
    for id in ["v", "w", "w", "v", "v"] {
        drop(replica.verify("c", id, &code).await);
    }
    assert_eq!(
        told.take(),
        [
            "attempt sms theirs unknown",
            "attempt sms theirs provider_unavailable",
            "attempt sms theirs otp_not_matched",
            "attempt sms theirs success",
        ]
    );
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_told_as_in_doubt() {
    let (world, replica, told) = told(World::new());
    let code = world.sent(&replica, "c").await;
    drop(told.take());
    world.faults.script(&[(0, Fault::LostAnswer)]);
    assert!(replica.verify("c", "v", &code).await.is_err());
    assert_eq!(told.take(), ["in_doubt verify_otp"]);
    world.faults.heal();
    drop(replica.verify("c", "v", &code).await);
    assert_eq!(told.take(), [""; 0]);
    // What certainly was not sent is in no doubt.
    let code = world.sent(&replica, "d").await;
    drop(told.take());
    world.faults.script(&[(0, Fault::Before)]);
    assert!(replica.verify("d", "v", &code).await.is_err());
    assert_eq!(told.take(), [""; 0]);
    // An operator's unlock clears two quotas before it commits.
    for (fault, expected) in [
        (Fault::LostAnswer, &["quota_clear account account_sends test", "in_doubt unlock_account"][..]),
        (Fault::Before, &["quota_clear account account_sends test"]),
    ] {
        world.faults.script(&[(2, fault)]);
        assert!(replica.unlock_as("u", of_account(ACCOUNT)).await.is_err());
        assert_eq!(world.faults.log(), ["read", "clear", "clear"]);
        assert_eq!(told.take(), expected);
    }
}

/// `failed` is what providers have failed at: an alert on it must not be raised by callers.
#[tokio::test(start_paused = true)]
async fn a_send_that_nothing_came_of_is_told_by_its_reason() {
    let providers = || vec![FakeProvider::ours("a"), FakeProvider::ours("b")];
    for (first, second, expected) in [
        (Deliver::Unaskable, Deliver::Unaskable, "send sms b missing_required_field"),
        (Deliver::Invalid, Deliver::Invalid, "send sms b invalid_field_value"),
        (Deliver::Unaskable, Deliver::Fail(None), "send sms b failed"),
        (Deliver::Fail(None), Deliver::Invalid, "send sms b failed"),
    ] {
        let (world, replica, told) = told(without_limits(World::with(providers())));
        world.providers[0].deliveries([first]);
        world.providers[1].deliveries([second]);
        drop(replica.create("c", create(ACCOUNT)).await);
        assert!(replica.send("c", "s").await.is_err());
        assert_eq!(told.take()[1..], [expected]);
    }
    // Its challenge runs out while the reservation is on its way.
    let (world, _, told) = told(without_limits(World::new()));
    let (replica, line) = world.line();
    drop(replica.create("c", create(ACCOUNT)).await);
    drop(told.take());
    let pause = line.pause_next("commit", When::After);
    let sending = start(async move { replica.send("c", "s").await });
    pause.reached().await;
    world.clock.advance(Duration::from_secs(601));
    pause.resume();
    drop(ended(sending).await);
    assert_eq!(told.take(), ["send sms challenge_option_expired"]);
}

#[tokio::test(start_paused = true)]
async fn a_send_without_time_to_ask_a_provider_is_told_so() {
    let (world, _, told) = told(without_limits(World::new()));
    let (replica, line) = world.line();
    drop(replica.create("c", create(ACCOUNT)).await);
    drop(told.take());
    let pause = line.pause_next("commit", When::After);
    let late = Caller { deadline: Deadline::after(Duration::from_millis(500)), ..caller("s") };
    let sending = start(async move { replica.otp.send_otp(late, send("c", "o1")).await });
    pause.reached().await;
    tokio::time::advance(Duration::from_millis(600)).await;
    pause.resume();
    assert!(matches!(ended(sending).await, Err(Error::ProviderUnavailable { retry_after: None })));
    assert_eq!((told.take(), world.messages()), (vec!["send sms deadline_exceeded".to_owned()], 0));
}

/// Keeps nothing that it must keep.
struct Unkeeping;

impl DecisionObserver for Unkeeping {
    fn decided(&self, _event: &DecisionEvent<'_>) {}

    fn keeping(&self) -> Option<Keeping> {
        Some(Box::pin(async { Err(NotKept) }))
    }
}

#[tokio::test]
async fn no_answer_tells_of_decisions_that_are_not_kept() {
    let mut world = World::new();
    let code = world.sent(&world.replica(), "c").await;
    world.observers.push(Arc::new(Unkeeping));
    let replica = world.replica();
    let answers = [
        ("create", replica.create("d", create("joe")).await.err()),
        ("repeated", replica.create("c", create(ACCOUNT)).await.err()),
        ("send", replica.send("c", "s").await.err()),
        ("verify", replica.verify("c", "v", &code).await.err()),
        ("get", replica.otp.get_challenge(caller("g"), request_id("c")).await.err()),
        ("cancel", replica.cancel("c", "x").await.err()),
        ("account", replica.otp.get_account(caller("a"), of_account(ACCOUNT)).await.err()),
        ("lock", replica.lock_as("l", of_account(ACCOUNT), None).await.err()),
        ("unlock", replica.unlock_as("u", of_account(ACCOUNT)).await.err()),
    ];
    for (name, error) in answers {
        assert!(matches!(error, Some(Error::Audit(NotKept))), "{name}: {error:?}");
    }
}

/// Conversion divides by what was accepted or is unconfirmed: each send is one of both, once.
#[tokio::test(start_paused = true)]
async fn a_send_that_a_repetition_confirms_is_told_as_confirmed_later() {
    let capabilities = Capabilities { send_repeatable: true, ..Capabilities::manages(vec![Channel::Sms], true) };
    let (world, replica, told) = told(without_limits(World::with(vec![FakeProvider::with("theirs", capabilities)])));
    world.provider().deliveries([Deliver::Unknown, Deliver::Unknown, Deliver::Fail(None), Deliver::Accept]);
    drop(replica.create("c", create(ACCOUNT)).await);
    for _ in 0..5 {
        drop(replica.send("c", "s").await);
        world.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(world.messages(), 4);
    assert_eq!(told.take()[1..], ["send sms theirs unconfirmed", "send sms theirs confirmed_later"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_before_it_is_judged_is_told_with_the_reason() {
    let (world, replica, told) = told(without_limits(World::with(vec![FakeProvider::managed("theirs", true)])));
    drop(replica.create("c", create(ACCOUNT)).await);
    drop(told.take());
    drop(replica.verify("c", "early", "123456").await);
    drop(replica.send("c", "s").await);
    let other = VerifyOtp { account: Some(account_id("somebody")), ..verify("c", "123456") };
    drop(replica.otp.verify_otp(caller("other"), other).await);
    assert_eq!(
        told.take(),
        ["attempt precondition_violation", "send sms theirs accepted", "attempt sms theirs invalid_identifier",]
    );
    // A purpose that is not the caller's, and a destination that nobody serves.
    let rights = CallerRights { purposes: Some([Purpose::Registration].into()), ..CallerRights::of_everybody() };
    let of_others = Caller { rights: Arc::new(rights), ..caller("d") };
    drop(replica.otp.create_challenge(of_others, create(ACCOUNT)).await);
    assert_eq!(
        told.drain().iter().map(|(line, tags)| (line.as_str(), tags[1].is_some())).collect::<Vec<_>>(),
        [("challenge login forbidden", true)]
    );
    let prefix = Capabilities { prefix: Some("+91"), ..Capabilities::delivers(vec![Channel::Sms]) };
    let (_world, replica, told) = self::told(World::with(vec![FakeProvider::with("indian", prefix)]));
    drop(replica.create("e", create(ACCOUNT)).await);
    assert_eq!(told.take(), ["challenge login precondition_violation"]);
    drop(world);
}
