//! Two replicas on one Redis: each step on the other one, and a store that somebody has tampered with.

use otpd::grpc::proto::{ChallengeState, CreateChallengeRequest};

use crate::{
    caller::{Caller, lock, login, send, unlock, verify, wrong},
    redis_server::RedisServer,
    site::Site,
    words::{created, ended, sent, verified},
};

/// What a replica remembers of a challenge must never be what it answers from.
#[tokio::test]
async fn take_turns() {
    let redis = RedisServer::start();
    let site = Site::on(&redis).with("OTPD__POLICY__RESEND_GAPS", "[]");
    let (one, two) = (site.start(), site.start());
    let (one, two) = (Caller::of(&one).await, Caller::of(&two).await);
    let number = "+14155558000";
    assert_eq!(created(&one.create(login("c", "person", number)).await), "success");
    assert_eq!(sent(&two.send(send("s1", "c")).await), "success");
    let first = site.code(number);
    assert_eq!(verified(&one.verify(verify("w1", "c", &wrong(&first, 0))).await), "otp_not_matched");
    assert_eq!(sent(&one.send(send("s2", "c")).await), "success");
    // The first code is void on the replica that has sent it, too.
    let second = site.code(number);
    assert_ne!(first, second, "one time in a million");
    assert_eq!(verified(&two.verify(verify("w2", "c", &first)).await), "otp_not_matched");
    assert_eq!(verified(&one.verify(verify("w2", "c", &first)).await), "otp_not_matched");
    for caller in [&one, &two] {
        assert_eq!(caller.challenge("c").await.unwrap().verification_attempts, 2);
        assert_eq!(caller.account("person").await.unwrap().failures(), 2);
    }
    assert!(two.lock(lock("l", "person", None)).await.unwrap().locked());
    assert_eq!(verified(&one.verify(verify("v", "c", &second)).await), "account_locked");
    assert!(!one.unlock(unlock("u", "person")).await.unwrap().locked());
    assert_eq!(verified(&two.verify(verify("v", "c", &second)).await), "success");
    assert_eq!(verified(&one.verify(verify("v", "c", &second)).await), "success");
    assert_eq!(verified(&one.verify(verify("v3", "c", &second)).await), "otp_already_used");

    one.sent("d", "person", number).await;
    assert_eq!(verified(&one.verify(verify("w", "d", &wrong(&site.code(number), 0))).await), "otp_not_matched");
    assert_eq!(ended(&two.cancel("x", "d").await), "done");
    assert_eq!(verified(&one.verify(verify("v", "d", &site.code(number))).await), "otp_expired");
    assert_eq!(sent(&one.send(send("s", "d")).await), "challenge_option_expired");
}

/// A store that has lost everything knows nothing, whatever a replica remembers.
#[tokio::test]
async fn a_store_that_has_lost_all() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let number = "+14155558001";
    caller.sent("c", "person", number).await;
    let code = site.code(number);
    assert_eq!(verified(&caller.verify(verify("w", "c", &wrong(&code, 0))).await), "otp_not_matched");
    assert_eq!(redis.cli(&["FLUSHALL"]), "OK");
    assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(sent(&caller.send(send("s", "c")).await), "NotFound INVALID_IDENTIFIER");
    assert_eq!(ended(&caller.challenge("c").await), "NotFound INVALID_IDENTIFIER");
    caller.sent("c", "person", number).await;
    assert_ne!(site.codes(number).len(), 1);
    assert_eq!(caller.challenge("c").await.unwrap().state(), ChallengeState::Sent);
    assert_eq!(verified(&caller.verify(verify("v", "c", &site.code(number))).await), "success");
}

/// Whoever can write into the store can destroy, but cannot make one challenge stand for another.
#[tokio::test]
async fn a_store_that_was_tampered_with() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    // Of challenges: the key of a lockout ends with its letter, and those of canaries are in partitions of their own.
    let records = || {
        let keys = redis.cli(&["--scan", "--pattern", "otp:{*}:??*"]);
        let challenges = keys.lines().filter(|key| !key.starts_with("otp:{b3RwZCBjYW5hcnkg"));
        challenges.map(str::to_owned).collect::<std::collections::BTreeSet<String>>()
    };
    let (mine, theirs) = ("+14155558002", "+14155558003");
    caller.sent("mine", "mallory", mine).await;
    let of_mine = records();
    caller.sent("theirs", "victim", theirs).await;
    let of_theirs: Vec<String> = records().difference(&of_mine).cloned().collect();
    assert_eq!((of_mine.len(), of_theirs.len()), (1, 1));
    let (from, to) = (of_mine.first().unwrap(), &of_theirs[0]);
    assert_eq!(redis.cli(&["COPY", from, to, "REPLACE"]), "1");
    let right = verify("v", "theirs", &site.code(mine));
    assert_eq!(verified(&caller.verify(right).await), "Internal INTERNAL");
    assert_eq!(ended(&caller.challenge("theirs").await), "Internal INTERNAL");
    redis.cli(&["SET", to, "rubbish", "EX", "1000"]);
    assert!(
        ["Internal INTERNAL", "Unavailable STORE_UNAVAILABLE"].contains(&&*ended(&caller.challenge("theirs").await))
    );
    redis.cli(&["DEL", to]);
    redis.cli(&["LPUSH", to, "rubbish"]);
    assert_eq!(ended(&caller.challenge("theirs").await), "Unavailable STORE_UNAVAILABLE");
    let again = CreateChallengeRequest { send_otp: true, ..login("theirs", "victim", theirs) };
    assert_eq!(created(&caller.create(again).await), "Unavailable STORE_UNAVAILABLE");
    // Other challenges are as they were.
    assert_eq!(verified(&caller.verify(verify("v", "mine", &site.code(mine))).await), "success");
}
