//! `kill -9` of otpd at any point, a new start on the same store, and the same requests again: what was told stays told,
//! nothing is sent or counted twice.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use otpd::{
    grpc::proto::{
        ChallengeState, CreateChallengeRequest, DeliveryState, EventKind,
        create_challenge_result::Result as CreateResult, send_otp_result::Result as SendResult,
    },
    ports::clock::Deadline,
};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    caller::{Caller, Told, login, send, verify, wrong},
    dice::Dice,
    lifecycle::{Gate, hang},
    redis_server::RedisServer,
    site::{Server, Site, until},
    words::{created, sent, verified},
};

const IN_PROGRESS: &str = "Aborted REQUEST_IN_PROGRESS";
const GONE: [&str; 4] = ["Unavailable -", "Unknown -", "Cancelled -", "Internal -"];

/// Challenges of one run, each walked by a task of its own.
const WALKS: u64 = 40;

/// What was told so far, by challenge and step, and a sign at each answer.
#[derive(Default)]
struct Heard {
    answers: Mutex<BTreeMap<(u64, &'static str), String>>,
    another: Notify,
}

impl Heard {
    /// Notes an answer, and compares it with the one to the same request before. False: the server is gone.
    fn hear(&self, walk: u64, step: &'static str, word: &str, detail: &str) -> bool {
        if GONE.contains(&word) {
            return false;
        }
        let mut answers = self.answers.lock().unwrap();
        // What was not decided is no answer.
        if word != IN_PROGRESS {
            let told = format!("{word} {detail}");
            let before = answers.entry((walk, step)).or_insert_with(|| told.clone());
            assert_eq!(*before, told, "another answer to the same request: {step} of challenge {walk}");
        }
        self.another.notify_one();
        true
    }

    fn count(&self) -> u64 {
        u64::try_from(self.answers.lock().unwrap().len()).unwrap()
    }
}

/// Repeats a request while an earlier one of the same id holds a lease.
async fn until_decided<T, F: Future<Output = Told<T>>>(
    word: fn(&Told<T>) -> String,
    mut call: impl FnMut() -> F,
) -> (String, Told<T>) {
    let deadline = Deadline::after(Duration::from_secs(30));
    loop {
        let told = call().await;
        let word = word(&told);
        if word != IN_PROGRESS {
            return (word, told);
        }
        assert!(!deadline.remaining().is_zero(), "still in progress");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn number(walk: u64) -> String {
    format!("+14155553{walk:03}")
}

/// A creation with a send, a wrong code, and for every other challenge the right one. Ends early when the server is gone.
async fn walk(site: Arc<Site>, caller: Caller, heard: Arc<Heard>, walk: u64) -> Option<()> {
    let (challenge, account, number) = (format!("c{walk}"), format!("person-{walk}"), number(walk));
    let request = CreateChallengeRequest { send_otp: true, ..login(&challenge, &account, &number) };
    let (word, told) = until_decided(created, || caller.create(request.clone())).await;
    let result = told.as_ref().map(|response| format!("{:?}", response.result)).unwrap_or_default();
    heard.hear(walk, "creation", &word, &result).then_some(())?;
    assert_eq!(word, "success with success", "{told:?}");
    let codes = site.codes(&number);
    assert!(codes.len() <= 1, "two messages for one send");
    let Some(code) = codes.first() else {
        // The kill came between the reservation and the provider: the send is spent, and unconfirmed.
        let Some(CreateResult::Success(success)) = told.unwrap().result.unwrap().result else { panic!() };
        let Some(SendResult::Success(send)) = success.send_result.unwrap().result else { panic!() };
        assert_eq!(send.delivery_state(), DeliveryState::Unconfirmed);
        return Some(());
    };
    for (step, right) in [("wrong", false), ("right", true)] {
        if right && walk.is_multiple_of(2) {
            continue;
        }
        let typed = if right { code.clone() } else { wrong(code, 0) };
        let (word, told) = until_decided(verified, || caller.verify(verify(step, &challenge, &typed))).await;
        let result = told.map(|response| format!("{:?}", response.result)).unwrap_or_default();
        heard.hear(walk, step, &word, &result).then_some(())?;
        assert_eq!(word, if right { "success" } else { "otp_not_matched" });
    }
    Some(())
}

async fn walk_all(site: &Arc<Site>, server: &Server, heard: &Arc<Heard>) -> JoinSet<Option<()>> {
    let caller = Caller::of(server).await;
    (0..WALKS).map(|n| walk(Arc::clone(site), caller.clone(), Arc::clone(heard), n)).collect()
}

/// How often a server is killed, where twice is not often enough. A campaign takes 200.
const KILLS: &str = "OTPD_TEST_KILLS";

/// Kills, each time after so many answers as the dice say, and then walks to the end.
async fn killed_and_started_again(site: Site, seed: u64) {
    let kills = std::env::var_os(KILLS).map_or(2, |kills| kills.to_str().unwrap().parse().unwrap());
    println!("seed {seed}, {kills} kills");
    let (site, heard, mut dice) = (Arc::new(site), Arc::new(Heard::default()), Dice(seed));
    for _ in 0..kills {
        let mut server = site.start();
        let mut walks = walk_all(&site, &server, &heard).await;
        let (total, goal) = (WALKS * 5 / 2, heard.count() + 1 + dice.below(WALKS));
        while heard.count() < goal.min(total) && !walks.is_empty() {
            tokio::select! {
                () = heard.another.notified() => {}
                ended = walks.join_next() => drop(ended.map(Result::unwrap)),
            }
        }
        server.kill();
        while let Some(ended) = walks.join_next().await {
            ended.unwrap();
        }
    }
    let server = site.start();
    let mut walks = walk_all(&site, &server, &heard).await;
    while let Some(ended) = walks.join_next().await {
        assert_eq!(ended.unwrap(), Some(()), "the server is gone:\n{}", server.log());
    }
    let caller = Caller::of(&server).await;
    for walk in 0..WALKS {
        let sent = site.codes(&number(walk)).len();
        let shown = caller.challenge(&format!("c{walk}")).await.unwrap();
        let account = caller.account(&format!("person-{walk}")).await.unwrap();
        let expected = match (sent, walk % 2) {
            (0, _) => (ChallengeState::Sent, 0, 0),
            (_, 0) => (ChallengeState::Sent, 1, 1),
            _ => (ChallengeState::Verified, 2, 0),
        };
        assert_eq!((shown.state(), shown.verification_attempts, account.failures()), expected, "challenge {walk}");
        assert_eq!(shown.options[0].sends, 1);
        let count = |kind: EventKind| shown.timeline.iter().filter(|event| event.kind() == kind).count();
        assert_eq!(count(EventKind::SendReserved), 1);
        assert_eq!(count(EventKind::SendAccepted) + count(EventKind::SendUnconfirmed), 1);
    }
}

#[tokio::test]
async fn of_a_server_with_its_own_store() {
    let mut runs: JoinSet<()> =
        [11, 12, 13].map(|seed| killed_and_started_again(Site::embedded(), seed)).into_iter().collect();
    while let Some(ended) = runs.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn of_a_server_on_redis() {
    let redis = [RedisServer::start(), RedisServer::start()];
    let sites = redis.each_ref().map(Site::on);
    let mut runs: JoinSet<()> =
        sites.into_iter().zip([21, 22]).map(|(site, seed)| killed_and_started_again(site, seed)).collect();
    while let Some(ended) = runs.join_next().await {
        ended.unwrap();
    }
}

/// The provider has the message, and the server dies before it hears so: the send is spent, its code lives, and no
/// second message goes out.
async fn killed_while_sending(site: Site) {
    let number = "+14155554000";
    let (mut server, _gate) = Gate::start(&site);
    let caller = Caller::of(&server).await;
    let mut sending = hang(&site, &caller, number).await;
    server.kill();
    assert!(GONE.contains(&&*sending.join_next().await.unwrap().unwrap()));

    let server = site.start();
    let caller = Caller::of(&server).await;
    assert_eq!(sent(&caller.send_within(send("s", "c"), Duration::from_millis(300)).await), IN_PROGRESS);
    assert_eq!(sent(&caller.send(send("other", "c")).await), "resend_too_soon");
    let (_, told) = until_decided(sent, || caller.send(send("s", "c"))).await;
    let Some(SendResult::Success(success)) = told.unwrap().result.unwrap().result else { panic!("not a success") };
    assert_eq!(success.delivery_state(), DeliveryState::Unconfirmed);
    assert_eq!(success.remaining_send_attempts, Some(2));
    let code = site.code(number);
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
    assert_eq!(sent(&caller.send(send("s", "c")).await), "success");
    assert_eq!(site.codes(number).len(), 1);
}

#[tokio::test]
async fn while_the_provider_has_the_message() {
    let redis = RedisServer::start();
    tokio::join!(killed_while_sending(Site::embedded()), killed_while_sending(Site::on(&redis)));
}

/// The right code was compared and recorded, and the answer never arrived.
#[tokio::test]
async fn after_a_success_whose_answer_was_lost() {
    let redis = RedisServer::start();
    for site in [Site::embedded(), Site::on(&redis)] {
        let number = "+14155554001";
        let server = site.start();
        let caller = Caller::of(&server).await;
        caller.sent("c", "person", number).await;
        let code = site.code(number);
        assert_eq!(verified(&caller.verify(verify("w", "c", &wrong(&code, 0))).await), "otp_not_matched");
        let mut unheard = JoinSet::new();
        let (calling, right) = (caller.clone(), verify("v", "c", &code));
        unheard.spawn(async move { drop(calling.verify(right).await) });
        let recorded = async || caller.challenge("c").await.unwrap().state() == ChallengeState::Verified;
        until("the success", recorded).await;
        drop(server);
        let server = site.start();
        let caller = Caller::of(&server).await;
        assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
        assert_eq!(verified(&caller.verify(verify("v2", "c", &code)).await), "otp_already_used");
        assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 2);
        assert_eq!(caller.account("person").await.unwrap().failures(), 0);
    }
}
