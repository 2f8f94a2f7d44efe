//! What a provider answers is bounded: refusals of what a caller gave, repetitions of unconfirmed sends; and sends whose challenge
//! ends under way.

use std::time::Duration;

use otpd::{
    domain::{
        destination::{Channel, Destination},
        outcome::Sent,
        purpose::Purpose,
    },
    ports::provider::{Capabilities, RequestError},
    service::{
        error::{Error, Precondition},
        request::CreateChallenge,
    },
};

use crate::{
    fake::{Deliver, FakeProvider, Judge},
    faults::When,
    requests::{ACCOUNT, NUMBER, accepted, create, created, is_success, phone, reach, register, transaction},
    tasks::{ended, start},
    world::World,
};

const PAUSES: [u64; 10] = [0, 0, 0, 0, 0, 0, 2, 4, 8, 16];

fn names_the_parameter<T>(answer: &Result<T, Error>) -> bool {
    matches!(answer, Err(Error::Invalid(RequestError::InvalidParameter("pan") | RequestError::MissingParameter("pan"))))
}

/// Each answer may say whether a card exists, so that a challenge has a bounded number of them.
#[tokio::test(start_paused = true)]
async fn what_a_provider_does_not_take_is_refunded_ten_times_with_pauses() {
    let world = World::new();
    let replica = world.replica();
    world.provider().always_deliver(Deliver::Invalid);
    replica.open("c").await;
    let uses = world.uses();
    for (number, pause) in PAUSES.into_iter().enumerate() {
        if pause > 0 {
            let early = replica.send("c", "early").await;
            let expected = Some(Duration::from_secs(pause));
            let told = matches!(early, Err(Error::ProviderUnavailable { retry_after }) if retry_after == expected);
            assert!(told, "{number}: {early:?}");
            world.clock.advance(Duration::from_secs(pause));
        }
        let answer = replica.send("c", &format!("s{number}")).await;
        assert!(names_the_parameter(&answer), "{number}: {answer:?}");
        assert_eq!((world.provider().calls(), world.uses()), (number + 1, uses), "{number}");
    }
    world.clock.advance(Duration::from_secs(32));
    for _ in 0..2 {
        let eleventh = replica.send("c", "eleventh").await;
        assert!(matches!(eleventh, Err(Error::ProviderUnavailable { .. })), "{eleventh:?}");
        assert_eq!((world.provider().calls(), world.uses()), (11, uses + 1));
    }
    assert_eq!(replica.view("c").await.options[0].1, 1, "spent");
}

/// The number of a send is its own, also after one that failed. What nobody was asked for uses none up.
#[tokio::test(start_paused = true)]
async fn no_two_sends_have_one_number() {
    let world = World::new().policy(|policy| policy.limits.resend_gaps.clear());
    let replica = world.replica();
    let destinations = vec![reach("o1", phone(NUMBER)), reach("o2", phone("+14155550101"))];
    created(replica.create("c", CreateChallenge { destinations, ..create(ACCOUNT) }).await);
    let provider = world.provider();
    let acts = [Deliver::Unaskable, Deliver::Accept, Deliver::Accept, Deliver::Invalid, Deliver::Unknown];
    provider.deliveries(acts.into_iter().chain([Deliver::Fail(None)]));
    for (id, option) in
        [("s1", "o1"), ("s1", "o1"), ("s2", "o2"), ("s3", "o1"), ("s4", "o1"), ("s5", "o2"), ("s5", "o2")]
    {
        drop(replica.send_to("c", id, option).await);
    }
    let numbers: Vec<_> = provider.outbox().iter().map(|mail| mail.number).collect();
    assert_eq!(numbers, [1, 1, 2, 3, 4, 5, 6]);
}

/// What never left the machine tells nobody anything, and is not counted.
#[tokio::test(start_paused = true)]
async fn what_no_provider_can_be_asked_is_not_counted() {
    let world = World::new();
    let replica = world.replica();
    replica.open("c").await;
    let uses = world.uses();
    world.provider().always_deliver(Deliver::Unaskable);
    for number in 0..20 {
        let answer = replica.send("c", &format!("s{number}")).await;
        assert!(names_the_parameter(&answer), "{number}: {answer:?}");
        assert_eq!(world.uses(), uses, "{number}");
    }
    world.provider().always_deliver(Deliver::Accept);
    accepted(replica.send("c", "s").await);
}

/// One that was asked counts, whichever of the route it was.
#[tokio::test(start_paused = true)]
async fn one_asked_provider_of_a_route_is_enough_to_count() {
    for (first, second) in [(Deliver::Unaskable, Deliver::Invalid), (Deliver::Invalid, Deliver::Unaskable)] {
        let world = World::with(vec![FakeProvider::ours("first"), FakeProvider::ours("second")]);
        let replica = world.replica();
        world.providers[0].always_deliver(first.clone());
        world.providers[1].always_deliver(second);
        replica.open("c").await;
        for number in 0..6 {
            let answer = replica.send("c", &format!("s{number}")).await;
            assert!(names_the_parameter(&answer), "{first:?} {number}: {answer:?}");
        }
        let paused = replica.send("c", "s").await;
        assert!(matches!(paused, Err(Error::ProviderUnavailable { retry_after: Some(_) })), "{first:?}: {paused:?}");
    }
}

/// The same of a check.
#[tokio::test(start_paused = true)]
async fn a_check_that_is_not_taken_is_refunded_with_pauses() {
    let world = World::with(vec![FakeProvider::managed("managed", false)]);
    let replica = world.replica();
    let code = world.sent(&replica, "c").await;
    world.provider().checks(vec![Judge::Invalid; 6]);
    for number in 0..6 {
        let answer = replica.verify("c", &format!("v{number}"), &code).await;
        assert!(names_the_parameter(&answer), "{number}: {answer:?}");
    }
    let paused = replica.verify("c", "v", &code).await;
    assert!(matches!(paused, Err(Error::ProviderUnavailable { retry_after: Some(_) })), "{paused:?}");
    world.clock.advance(Duration::from_secs(2));
    assert!(is_success(&replica.verify("c", "v", &code).await));
}

/// A challenge that ends while its first provider is asked: no other is, and nothing is to be waited for.
#[tokio::test(start_paused = true)]
async fn a_send_whose_challenge_ends_under_way() {
    for (providers, answer) in [(1, Deliver::Fail(None)), (2, Deliver::Fail(None)), (2, Deliver::Invalid)] {
        let all = ["first", "second"].into_iter().take(providers).map(FakeProvider::ours);
        let world = World::with(all.collect());
        let replica = world.replica();
        replica.open("c").await;
        let uses = world.uses();
        world.providers[0].deliveries([Deliver::HoldThen(Box::new(answer.clone()))]);
        let sending = {
            let replica = replica.clone();
            start(async move { replica.send("c", "s").await })
        };
        while world.providers[0].calls() == 0 {
            tokio::task::yield_now().await;
        }
        replica.cancel("c", "x").await.unwrap();
        world.providers[0].release();
        assert_eq!(ended(sending).await.unwrap(), Sent::ChallengeOptionExpired, "{providers} {answer:?}");
        assert_eq!((world.messages(), world.uses()), (1, uses), "{providers} {answer:?}");
        assert_eq!(replica.send("c", "s").await.unwrap(), Sent::ChallengeOptionExpired);
    }
}

/// A replica that stood still between the reservation and the delivery asks nobody.
#[tokio::test(start_paused = true)]
async fn a_send_whose_challenge_ends_before_anybody_is_asked() {
    let world = World::new();
    let (replica, line) = world.line();
    replica.open("c").await;
    let uses = world.uses();
    let pause = line.pause_next("commit", When::After);
    let sending = {
        let replica = replica.clone();
        start(async move { replica.send("c", "s").await })
    };
    pause.reached().await;
    world.clock.advance(Duration::from_secs(601));
    pause.resume();
    assert_eq!(ended(sending).await.unwrap(), Sent::ChallengeOptionExpired);
    assert_eq!((world.messages(), world.uses()), (0, uses));
}

fn capabilities(send_repeatable: bool) -> Capabilities {
    Capabilities {
        contact_on_file: true,
        currencies: Some(&["INR"]),
        prefix: Some("+91"),
        send_repeatable,
        ..Capabilities::manages(Channel::ALL.to_vec(), true)
    }
}

/// A login with an Indian number.
fn indian() -> CreateChallenge {
    CreateChallenge { destinations: vec![reach("o1", phone("+919876543210"))], ..create(ACCOUNT) }
}

/// Its provider is asked about an unconfirmed send ten times more; then the answer is the recorded one.
#[tokio::test(start_paused = true)]
async fn an_unconfirmed_send_is_asked_about_a_bounded_number_of_times() {
    let world = World::with(vec![FakeProvider::with("managed", capabilities(true))]);
    let replica = world.replica();
    world.provider().always_deliver(Deliver::Unknown);
    created(replica.create("c", indian()).await);
    for _ in 0..50 {
        let answer = replica.send("c", "s").await;
        assert!(matches!(&answer, Ok(Sent::Success(dispatch)) if !dispatch.confirmed), "{answer:?}");
        world.clock.advance(Duration::from_secs(5));
    }
    let mails = world.provider().outbox();
    assert_eq!(mails.len(), 11);
    assert!(mails.iter().all(|mail| mail.idempotency_key == mails[0].idempotency_key));
}

/// While it is asked about, the person's code is checked.
#[tokio::test(start_paused = true)]
async fn a_code_is_checked_while_its_send_is_asked_about() {
    let world = World::with(vec![FakeProvider::with("managed", capabilities(true))]);
    let replica = world.replica();
    created(replica.create("c", indian()).await);
    world.provider().deliveries([Deliver::Unknown, Deliver::Hold]);
    world.provider().checks([Judge::Match]);
    let first = replica.send("c", "s").await;
    assert!(matches!(&first, Ok(Sent::Success(dispatch)) if !dispatch.confirmed), "{first:?}");
    let asking = {
        let replica = replica.clone();
        start(async move { replica.send("c", "s").await })
    };
    while world.messages() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(is_success(&replica.verify("c", "v", "123456").await));
    world.provider().release();
    assert!(accepted(ended(asking).await).confirmed);
}

/// What no provider of the route can ever send is refused when the challenge is opened.
#[tokio::test(start_paused = true)]
async fn currencies_and_countries_that_no_provider_serves() {
    let cases = [("INR", "+919876543210", true), ("EUR", "+919876543210", false), ("INR", "+14155550101", false)];
    for (currency, number, is_served) in cases {
        for fallback in [false, true] {
            let mut providers = vec![FakeProvider::with("managed", capabilities(false))];
            providers.extend(fallback.then(|| FakeProvider::ours("any")));
            let world = World::with(providers);
            let replica = world.replica();
            let mut payment = transaction(1_000_000);
            payment.amount.currency = currency.to_owned();
            let request = CreateChallenge {
                purpose: Purpose::Transaction,
                destinations: vec![reach("o1", phone(number))],
                transaction: Some(payment),
                ..create(ACCOUNT)
            };
            let told = replica.create("c", request).await;
            if fallback || is_served {
                created(told);
            } else {
                let refused = matches!(told, Err(Error::Precondition(Precondition::NoProvider)));
                assert!(refused, "{currency} {number}: {told:?}");
            }
        }
    }
    // A code for no payment needs no currency, and a contact on file no number.
    let world = World::with(vec![FakeProvider::with("managed", capabilities(false))]);
    let mut request = create(ACCOUNT);
    request.destinations[0].destination = Destination::OnFile;
    created(world.replica().create("on-file", request).await);
    created(world.replica().create("r", register(ACCOUNT, "+919876543210")).await);
}
