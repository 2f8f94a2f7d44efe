//! What providers, quotas and gaps do to a send.

use std::{sync::Arc, time::Duration};

use otpd::{
    domain::{
        destination::Channel,
        locale::Language,
        outcome::{Created, Sent, Verified},
        purpose::Purpose,
        quota::Window,
        route::Scope,
    },
    messages::{Messages, sms_suffix::SmsSuffix, templates::Template},
    service::{
        error::{Error, Precondition},
        request::CreateChallenge,
    },
};

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    requests::{
        ACCOUNT, NUMBER, accepted, caller, caller_of, create, created, is_not_matched, is_success, mailbox, of_account,
        phone, reach, register, request_id, send, transaction, verify,
    },
    tasks::{at_once, ended, start},
    world::World,
};

const HOUR: Duration = Duration::from_secs(3600);

fn two() -> World {
    World::with(vec![FakeProvider::ours("first"), FakeProvider::ours("second")])
}

#[tokio::test(start_paused = true)]
async fn the_next_provider_of_the_route_delivers() {
    let world = two();
    let replica = world.replica();
    world.providers[0].deliveries([Deliver::Fail(None)]);
    replica.open("c").await;
    let dispatch = accepted(replica.send("c", "s").await);
    assert_eq!((world.providers[0].calls(), world.providers[1].calls()), (1, 1));
    // One code, by whichever provider.
    let code = world.providers[1].last_code();
    assert_eq!(world.providers[0].last_code(), code);
    assert_eq!((dispatch.remaining_sends, world.uses()), (2, 2));
    assert!(is_success(&replica.verify("c", "v", &code).await));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_used_up_when_all_providers_fail_at_most_ten_times() {
    let world = two();
    let replica = world.replica();
    for provider in &world.providers {
        provider.always_deliver(Deliver::Fail(Some(Duration::from_secs(7))));
    }
    replica.open("c").await;
    let uses = world.uses();
    // After the sixth refund the providers are left alone for a while, and after each further one for twice as long.
    let pauses = [2, 4, 8, 16, 32].map(Duration::from_secs);
    for number in 0..10_usize {
        if let Some(pause) = number.checked_sub(6).map(|place| pauses[place]) {
            let messages = world.messages();
            let early = replica.send("c", "early").await;
            assert!(
                matches!(early, Err(Error::ProviderUnavailable { retry_after }) if retry_after == Some(pause)),
                "{early:?}"
            );
            assert_eq!(world.messages(), messages, "nobody is asked");
            world.clock.advance(pause);
        }
        // Also under the same id, for a refunded send leaves none behind.
        let id = if number % 2 == 0 { "s".to_owned() } else { format!("s{number}") };
        let answer = replica.send("c", &id).await;
        let retry_after = Duration::from_secs(7);
        let fine =
            matches!(&answer, Err(Error::ProviderUnavailable { retry_after: after }) if *after == Some(retry_after));
        assert!(fine, "{number}: {answer:?}");
        let view = replica.view("c").await;
        assert_eq!((view.options[0].1, view.code_expires_at), (0, None), "{number}");
        assert_eq!(view.next_send_at, Some(view.created_at), "the gap is refunded");
        assert_eq!(world.uses(), uses, "{number}");
        let nothing_sent = replica.verify("c", &format!("v{number}"), &world.code()).await;
        assert!(matches!(nothing_sent, Err(Error::Precondition(Precondition::NothingSent))), "{nothing_sent:?}");
    }
    world.clock.advance(pauses[4]);
    // Then the failed send is spent, and its repetition tries no provider again.
    let calls = world.messages() + 2;
    for _ in 0..2 {
        let eleventh = replica.send("c", "s-eleventh").await;
        assert!(matches!(eleventh, Err(Error::ProviderUnavailable { .. })), "{eleventh:?}");
        assert_eq!(world.messages(), calls);
    }
    assert_eq!(replica.view("c").await.options[0].1, 1);
    assert!(matches!(replica.send("c", "s").await, Ok(Sent::ResendTooSoon { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_previous_code_lives_again_when_a_resend_fails() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.clock.advance(Duration::from_secs(31));
    world.provider().deliveries([Deliver::Fail(None)]);
    assert!(matches!(replica.send("c", "again").await, Err(Error::ProviderUnavailable { .. })));
    assert_ne!(world.code(), code);
    assert!(is_not_matched(&replica.verify("c", "v1", &world.code()).await));
    assert!(is_success(&replica.verify("c", "v2", &code).await));
}

#[tokio::test(start_paused = true)]
async fn a_resend_voids_the_code_before() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.clock.advance(Duration::from_secs(31));
    accepted(replica.send("c", "again").await);
    assert!(is_not_matched(&replica.verify("c", "v1", &code).await));
    assert!(is_success(&replica.verify("c", "v2", &world.code()).await));
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_sent_is_sent_by_nobody_else() {
    for silence in [Deliver::Unknown, Deliver::Hang, Deliver::After(Duration::from_secs(60), Box::new(Deliver::Accept))]
    {
        let world = two();
        let replica = world.replica();
        world.providers[0].deliveries([silence.clone()]);
        replica.open("c").await;
        let sent = replica.send("c", "s").await.unwrap();
        assert!(matches!(sent, Sent::Success(ref dispatch) if !dispatch.confirmed), "{silence:?}: {sent:?}");
        assert_eq!(world.messages(), 1, "{silence:?}");
        assert_eq!(world.replica().send("c", "s").await.unwrap(), sent);
        assert!(matches!(replica.send("c", "s2").await, Ok(Sent::ResendTooSoon { .. })));
        assert!(is_success(&replica.verify("c", "v", &world.code()).await));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_destination_is_spent_and_tried_nowhere_else() {
    let world = two();
    let replica = world.replica();
    world.providers[0].deliveries([Deliver::Reject]);
    replica.open("c").await;
    for _ in 0..2 {
        assert_eq!(replica.send("c", "s").await.unwrap(), Sent::DestinationRejected);
    }
    assert_eq!(world.messages(), 1);
    assert_eq!(replica.view("c").await.options[0].1, 1);
    let nothing_sent = replica.verify("c", "v", &world.code()).await;
    assert!(matches!(nothing_sent, Err(Error::Precondition(Precondition::NothingSent))), "{nothing_sent:?}");
}

/// The wall clock passes the lease while the provider is at work: the first settle wins.
#[tokio::test(start_paused = true)]
async fn an_answer_after_the_lease_changes_nothing() {
    for late in [Deliver::Hold, Deliver::After(Duration::from_secs(1), Box::new(Deliver::Fail(None)))] {
        let world = World::new();
        let (replica, other) = (world.replica(), world.replica());
        replica.open("c").await;
        world.provider().deliveries([late.clone()]);
        let sending = {
            let replica = replica.clone();
            at_once([async move { replica.send("c", "s").await }])
        };
        let settling = async {
            while world.messages() == 0 {
                tokio::task::yield_now().await;
            }
            world.clock.advance(Duration::from_secs(11));
            let answer = other.send("c", "s").await.unwrap();
            world.provider().release();
            answer
        };
        let (first, second) = tokio::join!(sending, settling);
        assert!(matches!(second, Sent::Success(ref dispatch) if !dispatch.confirmed), "{second:?}");
        assert_eq!(*first[0].as_ref().unwrap(), second, "{late:?}");
        assert_eq!(replica.view("c").await.options[0].1, 1);
        assert_eq!(world.uses(), 2, "not refunded: it counts as sent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusing_quota_uses_nothing_up() {
    let hour = |max| vec![Window { max, per: HOUR }];
    let limits: [fn(&mut otpd::domain::quota::QuotaPolicy, Vec<Window>); 3] = [
        |quotas, windows| quotas.destination_sends = windows,
        |quotas, windows| quotas.account_sends = windows,
        |quotas, windows| quotas.tenant_sends = windows,
    ];
    for (index, limit) in limits.into_iter().enumerate() {
        let world = World::new().policy(|policy| {
            policy.limits.resend_gaps.clear();
            policy.quotas.destination_sends = hour(100);
            policy.quotas.account_sends = hour(100);
            policy.quotas.tenant_sends = hour(100);
            limit(&mut policy.quotas, hour(2));
        });
        let replica = world.replica();
        replica.open("c").await;
        accepted(replica.send("c", "s1").await);
        accepted(replica.send("c", "s2").await);
        let (uses, code) = (world.uses(), world.code());
        for id in ["s3", "s3", "s4"] {
            assert_eq!(replica.send("c", id).await.unwrap(), Sent::RiskDeclined, "quota {index}");
        }
        assert_eq!((world.uses(), world.messages()), (uses, 2), "quota {index}");
        assert_eq!(replica.view("c").await.options[0].1, 2, "quota {index}");
        // The code that was sent is still the live one.
        assert!(is_success(&replica.verify("c", "v", &code).await), "quota {index}");
        // Windows slide.
        world.clock.advance(HOUR);
        replica.open("d").await;
        accepted(replica.send("d", "s1").await);
    }
}

#[tokio::test(start_paused = true)]
async fn many_challenges_send_as_often_to_one_destination_as_its_quota_allows() {
    let world = World::new().interleaved(5);
    let replicas = [world.replica(), world.replica()];
    let sends = (0..20).map(|index| {
        let replica = replicas[index % 2].clone();
        async move {
            let challenge = format!("c{index}");
            replica.create(&challenge, create(&format!("account-{index}"))).await.unwrap();
            replica.send(&challenge, "s").await
        }
    });
    let answers = at_once(sends).await;
    let sent = answers.iter().filter(|answer| matches!(answer, Ok(Sent::Success(_)))).count();
    let declined = answers.iter().filter(|answer| matches!(answer, Ok(Sent::RiskDeclined))).count();
    assert_eq!((sent, declined, world.messages()), (5, 15, 5), "{answers:?}");
}

#[tokio::test]
async fn creations_are_counted_by_account() {
    let world = World::new();
    let replica = world.replica();
    for number in 0..30 {
        let created = replica.create(&format!("c{number}"), create(ACCOUNT)).await.unwrap();
        assert!(matches!(created, Created::Success { .. }), "{number}: {created:?}");
        // A repetition is no other creation.
        assert_eq!(replica.create(&format!("c{number}"), create(ACCOUNT)).await.unwrap(), created);
    }
    assert_eq!(replica.create("c30", create(ACCOUNT)).await.unwrap(), Created::RiskDeclined);
    assert_eq!(world.memory.records(), 30);
    let unknown = replica.send("c30", "s").await;
    assert!(matches!(unknown, Err(Error::InvalidIdentifier)), "nothing was created: {unknown:?}");
    assert!(matches!(replica.create("d", create("joe")).await, Ok(Created::Success { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_creation_that_sends_resumes_its_send() {
    let world = World::new();
    let replica = world.replica();
    let request = CreateChallenge { send_otp: true, ..create(ACCOUNT) };
    world.provider().deliveries([Deliver::Fail(None)]);
    let failed = replica.create("c", request.clone()).await;
    assert!(matches!(failed, Err(Error::ProviderUnavailable { .. })), "{failed:?}");
    let created = replica.create("c", request.clone()).await.unwrap();
    assert!(matches!(created, Created::Success { send: Some(Sent::Success(_)), .. }), "{created:?}");
    assert_eq!(world.replica().create("c", request.clone()).await.unwrap(), created);
    assert_eq!(world.messages(), 2, "one failed");
    let other = replica.create("c", create(ACCOUNT)).await;
    assert!(matches!(other, Err(Error::IdempotencyViolation)), "{other:?}");
}

#[tokio::test]
async fn one_request_id_has_one_content() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    for (id, other) in [
        ("c-send", replica.verify("c", "c-send", &code).await.map(drop)),
        ("c", replica.send("c", "c").await.map(drop)),
        ("c", replica.verify("c", "c", &code).await.map(drop)),
        ("c-send", replica.cancel("c", "c-send").await),
    ] {
        assert!(matches!(other, Err(Error::IdempotencyViolation)), "{id}: {other:?}");
    }
    assert!(is_not_matched(&replica.verify("c", "v", &world.wrong_code()).await));
    assert!(matches!(replica.verify("c", "v", &code).await, Err(Error::IdempotencyViolation)));
    assert!(matches!(replica.send("c", "v").await, Err(Error::IdempotencyViolation)));
    assert_eq!(replica.view("c").await.attempts, 1);
}

/// Also while the request is in flight, and then nothing is counted.
#[tokio::test(start_paused = true)]
async fn a_request_in_flight_has_one_content_as_well() {
    for managed in [false, true] {
        let provider = if managed { FakeProvider::managed("managed", true) } else { FakeProvider::ours("sms") };
        let world = World::with(vec![provider]).policy(|policy| policy.limits.resend_gaps.clear());
        let (replica, other) = (world.replica(), world.replica());
        let destinations = vec![reach("o1", phone(NUMBER)), reach("o2", mailbox("jane@example.com"))];
        created(replica.create("c", CreateChallenge { destinations, ..create(ACCOUNT) }).await);
        if managed {
            accepted(replica.send("c", "s").await);
        }
        world.provider().deliveries([Deliver::Hold]);
        world.provider().checks([Judge::Hold]);
        let in_flight = start({
            let (replica, code) = (replica.clone(), if managed { world.code() } else { String::new() });
            async move {
                if managed {
                    replica.verify("c", "id", &code).await.map(drop)
                } else {
                    replica.send("c", "id").await.map(drop)
                }
            }
        });
        while world.messages() + world.provider().questions().len() < 1 + usize::from(managed) {
            tokio::task::yield_now().await;
        }
        for answer in [
            other.send_to("c", "id", "o2").await.map(drop),
            other.verify("c", "id", "999999").await.map(drop),
            other.cancel("c", "id").await,
        ] {
            assert!(matches!(answer, Err(Error::IdempotencyViolation)), "managed: {managed}: {answer:?}");
        }
        world.provider().release();
        ended(in_flight).await.unwrap();
        assert_eq!(other.failures().await, 0);
        assert_eq!(other.view("c").await.attempts, u32::from(managed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_challenge_serves_several_destinations() {
    let world = World::new();
    let replica = world.replica();
    let destinations = vec![reach("o1", phone("+14155550100")), reach("o2", mailbox("jane@example.com"))];
    replica.create("c", CreateChallenge { destinations, ..create(ACCOUNT) }).await.unwrap();
    accepted(replica.send("c", "s1").await);
    let first = world.code();
    assert!(matches!(replica.send_to("c", "s2", "o2").await, Ok(Sent::ResendTooSoon { .. })), "gaps run over all");
    world.clock.advance(Duration::from_secs(31));
    accepted(replica.send_to("c", "s2", "o2").await);
    let mails = world.provider().outbox();
    assert_eq!((mails[0].destination.as_str(), mails[1].destination.as_str()), ("+14155550100", "jane@example.com"));
    assert_eq!((mails[0].channel, mails[1].channel), (Channel::Sms, Channel::Email));
    assert_eq!(mails[0].code_life, Duration::from_secs(300));
    assert!(is_not_matched(&replica.verify("c", "v1", &first).await), "one live code");
    assert!(is_success(&replica.verify("c", "v2", &mails[1].code).await));
    assert!(matches!(replica.send_to("c", "s3", "o3").await, Err(Error::InvalidIdentifier)));
}

#[tokio::test]
async fn another_tenant_sees_nothing() {
    let world = World::new();
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    let other = |id: &str| caller_of("other", id);
    let answers = [
        replica.otp.send_otp(other("s"), send("c", "o1")).await.map(drop),
        replica.otp.verify_otp(other("v"), verify("c", &code)).await.map(drop),
        replica.otp.cancel_challenge(other("x"), request_id("c")).await,
        replica.otp.get_challenge(other("g"), request_id("c")).await.map(drop),
        // As one that never was.
        replica.otp.send_otp(caller("s"), send("unknown", "o1")).await.map(drop),
    ];
    for answer in answers {
        assert!(matches!(answer, Err(Error::InvalidIdentifier)), "{answer:?}");
    }
    // Nor do its failures count there.
    assert!(is_not_matched(&replica.verify("c", "v", &world.wrong_code()).await));
    let account = replica.otp.get_account(other("g"), of_account(ACCOUNT)).await.unwrap();
    assert_eq!(account.failures, 0);
}

/// A challenge is forgotten after its retention. The same id then names a new one, which owes nothing to the old.
#[tokio::test(start_paused = true)]
async fn an_id_used_again_after_retention_is_a_new_challenge() {
    let world = World::new().policy(|policy| policy.limits.retention = HOUR);
    let replicas = [world.replica(), world.replica()];
    world.sent(&replicas[0], "c").await;
    for guess in 0..4 {
        assert!(is_not_matched(&replicas[0].verify("c", &format!("g{guess}"), &world.wrong_code()).await));
    }
    world.clock.advance(2 * HOUR);
    for replica in &replicas {
        let gone = replica.verify("c", "g0", &world.wrong_code()).await;
        assert!(matches!(gone, Err(Error::InvalidIdentifier)), "{gone:?}");
    }
    // On another replica, to another destination.
    let uses = world.uses();
    let request =
        CreateChallenge { destinations: vec![reach("o2", phone("+14155550101"))], ..register(ACCOUNT, "+14155550101") };
    let request = CreateChallenge { purpose: otpd::domain::purpose::Purpose::Login, ..request };
    replicas[1].create("c", request).await.unwrap();
    accepted(replicas[0].send_to("c", "s", "o2").await);
    assert_eq!(world.uses(), uses + 2, "its creation and its send count");
    assert!(matches!(replicas[0].send("c", "s1").await, Err(Error::InvalidIdentifier)));
    for guess in 0..4 {
        let answer = replicas[0].verify("c", &format!("g{guess}"), &world.wrong_code()).await;
        assert!(matches!(answer, Ok(Verified::NotMatched { .. })), "{answer:?}");
    }
    assert_eq!(replicas[0].failures().await, 8, "every guess counts");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_german_sees_amount_and_payee_in_german() {
    let text = "{{ code }} für {{ amount }} {{ currency }} an {{ payee }}. {{ brand }} fragt nie danach.";
    let scope = Scope { purpose: Some(Purpose::Transaction), channel: Some(Channel::Sms), ..Scope::default() };
    let german = Template { name: "de".to_owned(), scope, locale: Language::parse("de"), text: text.to_owned() };
    let ending = SmsSuffix::origin_bound("bank.example").unwrap();
    let messages = Messages::new(Some("Bank".to_owned()), ending, vec![german]).unwrap();
    let mut world = World::new();
    world.messages = Arc::new(messages);
    let replica = world.replica();
    for (id, locale) in [("c", "de-AT"), ("d", "fr")] {
        let destinations = vec![reach("o1", phone(NUMBER)), reach("o2", mailbox("jane@example.com"))];
        let transaction = Some(transaction(12_500_000));
        let purpose = Purpose::Transaction;
        let request = CreateChallenge { purpose, transaction, destinations, locale: locale.to_owned(), ..create(id) };
        replica.create(id, request).await.unwrap();
        accepted(replica.send(id, &format!("{id}-send")).await);
    }
    let texts: Vec<(String, String)> =
        world.provider().outbox().into_iter().map(|mail| (mail.code, mail.text)).collect();
    let (code, text) = &texts[0];
    let german = format!("{code} für 12.50 EUR an Books & Co. Bank fragt nie danach.\n@bank.example #{code}");
    assert_eq!(text, &german);
    let (code, text) = &texts[1];
    assert!(text.contains("EUR 12.50 to Books & Co.") && text.ends_with(&format!("\n@bank.example #{code}")), "{text}");
}
