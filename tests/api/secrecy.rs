//! What a copy of the store, the logs at their most talkative, and all statuses give away: nothing.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use otpd::grpc::proto::{CreateChallengeRequest, Purpose, SendOtpRequest, VerifyOtpRequest};
use tonic::Status;

use crate::{
    caller::{Caller, TENANT, email, lock, login, payment, send, send_to, unlock, verify, wrong},
    redis_server::RedisServer,
    site::{KEY_1, Site},
    words::{created, sent, verified},
};

pub(crate) const ACCOUNT: &str = "account-of-marie-dupont";
pub(crate) const NUMBER: &str = "+14155557001";
const MAILBOX: &str = "marie.dupont@example.com";
const PAYEE: &str = "Boulangerie Martin";
const PARAMETER: &str = "4111111111111111";
const CHALLENGE: &str = "challenge-of-marie";
const REASON: &str = "a test";

/// Walks through all calls, in success and in failure. Returns every status, and every code that was typed or sent.
pub(crate) async fn all_calls(site: &Site, caller: &Caller) -> (Vec<Status>, Vec<String>) {
    let mut statuses = Vec::new();
    let parameters = || BTreeMap::from([("pan".to_owned(), PARAMETER.to_owned())]);
    let request = CreateChallengeRequest {
        purpose: Purpose::Transaction.into(),
        transaction: payment(77_123_456, PAYEE),
        destinations: vec![login("", "", NUMBER).destinations.remove(0), email(MAILBOX, "mail")],
        provider_parameters: parameters(),
        send_otp: true,
        ..login(CHALLENGE, ACCOUNT, NUMBER)
    };
    assert_eq!(created(&caller.create(request.clone()).await), "success with success");
    let other = CreateChallengeRequest { locale: "fr".into(), ..request.clone() };
    statuses.push(caller.create(other).await.unwrap_err());
    let second = SendOtpRequest { provider_parameters: parameters(), ..send_to("s2", CHALLENGE, "mail") };
    assert_eq!(sent(&caller.send(second.clone()).await), "success");
    let conflicting = SendOtpRequest { provider_parameters: BTreeMap::new(), ..second };
    statuses.push(caller.send(conflicting).await.unwrap_err());
    statuses.push(caller.send(send("s3", "unknown")).await.unwrap_err());

    let code = site.code(MAILBOX);
    let typed = wrong(&code, 0);
    let guess = VerifyOtpRequest { provider_parameters: parameters(), ..verify("v1", CHALLENGE, &typed) };
    assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
    let differing = VerifyOtpRequest { transaction: payment(77_123_457, PAYEE), ..verify("v2", CHALLENGE, &code) };
    statuses.push(caller.verify(differing).await.unwrap_err());
    statuses.push(caller.verify(verify("v1", CHALLENGE, &code)).await.unwrap_err());
    statuses.push(caller.verify(verify("v3", CHALLENGE, &format!("{code}."))).await.unwrap_err());
    statuses.push(caller.verify(verify("v3", ACCOUNT, &format!("{code}{code}"))).await.unwrap_err());
    statuses.push(caller.create(login("bad", ACCOUNT, &format!("{NUMBER}00000000"))).await.unwrap_err());
    let mailbox = email(&format!("<{MAILBOX}>"), "");
    let request =
        CreateChallengeRequest { destinations: vec![mailbox], ..login("bad", &format!("{ACCOUNT} "), NUMBER) };
    statuses.push(caller.create(request).await.unwrap_err());
    assert!(caller.challenge(CHALLENGE).await.is_ok() && caller.account(ACCOUNT).await.is_ok());
    assert!(caller.lock(lock("l", ACCOUNT, None)).await.unwrap().locked());
    assert_eq!(verified(&caller.verify(verify("v4", CHALLENGE, &code)).await), "account_locked");
    assert!(!caller.unlock(unlock("u", ACCOUNT)).await.unwrap().locked());
    assert!(caller.number(NUMBER).await.is_ok());
    // A second challenge stays open, so that both an open and an ended one are in the store.
    let registration = CreateChallengeRequest {
        purpose: Purpose::Registration.into(),
        send_otp: true,
        ..login("registration", ACCOUNT, "+14155557002")
    };
    assert_eq!(created(&caller.create(registration).await), "success with success");
    let guess = verify("v1", "registration", &wrong(&site.code("+14155557002"), 0));
    assert_eq!(verified(&caller.verify(guess).await), "otp_not_matched");
    let codes = site.messages().into_iter().map(|message| message.code).chain([typed]);
    (statuses, codes.collect())
}

pub(crate) fn secrets(codes: Vec<String>) -> Vec<String> {
    let key = KEY_1.strip_prefix("1:").unwrap();
    let known = [ACCOUNT, "dupont", NUMBER, "4155557001", "4155557002", MAILBOX, PAYEE, PARAMETER, "77123456", key];
    known.map(str::to_owned).into_iter().chain(codes).collect()
}

pub(crate) fn find_none(place: &str, text: &[u8], secrets: &[String]) {
    for secret in secrets {
        let found = text.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{place} holds {secret}");
    }
}

/// Whatever a file of the folder holds.
fn files(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

/// Codes of 10 digits: a time or a duration in a log cannot look like one by chance.
pub(crate) fn talkative(site: Site) -> Site {
    site.with("OTPD__LOG__FILTER", "trace")
        .with("OTPD__POLICY__RESEND_GAPS", "[]")
        .with("OTPD__POLICY__CODE_DIGITS", "10")
}

#[tokio::test]
async fn nothing_shows_in_redis_logs_and_statuses() {
    let redis = RedisServer::start();
    let site = talkative(Site::on(&redis));
    let server = site.start();
    let caller = Caller::of(&server).await;
    let (statuses, codes) = all_calls(&site, &caller).await;
    let open = stored(&redis);
    let right = verify("right", CHALLENGE, &site.code(MAILBOX));
    assert_eq!(verified(&caller.verify(right).await), "success");

    let secrets = secrets(codes);
    for status in statuses {
        find_none("a message", status.message().as_bytes(), &secrets);
        find_none("the details", status.details(), &secrets);
    }
    let log = server.log();
    assert!(log.contains("otp.v1.OtpService/VerifyOtp"), "{log}");
    assert!(log.contains(REASON));
    find_none("the log", log.as_bytes(), &secrets);

    let mut hidden = secrets;
    hidden.extend([TENANT, CHALLENGE, REASON, "registration", "mail", "console"].map(str::to_owned));
    let ended = stored(&redis);
    assert!(ended.len() >= 6, "{:?}", ended.keys());
    for (key, dump) in open.iter().chain(&ended) {
        find_none("a key", key.as_bytes(), &hidden);
        assert!(dump.len() > 10, "{key} was not read");
        find_none(key, dump, &hidden);
        let left: i64 = redis.cli(&["PTTL", key]).parse().unwrap();
        assert!(left > 0 || (key == "otp:check" && left == -2), "{key} has no time to live: {left}");
    }
}

/// All keys with their content.
pub(crate) fn stored(redis: &RedisServer) -> BTreeMap<String, Vec<u8>> {
    let socket = redis.url().strip_prefix("redis+unix://").unwrap().to_owned();
    let dump = |key: &str| Command::new("redis-cli").args(["-s", &socket, "DUMP", key]).output().unwrap().stdout;
    redis.cli(&["--scan"]).lines().map(|key| (key.to_owned(), dump(key))).collect()
}

#[tokio::test]
async fn nothing_shows_in_the_embedded_store() {
    let site = talkative(Site::embedded());
    let mut server = site.start();
    let (_, codes) = all_calls(&site, &Caller::of(&server).await).await;
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    let mut hidden = secrets(codes);
    find_none("the log", server.log().as_bytes(), &hidden);
    hidden.extend([TENANT, CHALLENGE, REASON, "registration"].map(str::to_owned));
    let mut found = Vec::new();
    files(&site.folder().join("store"), &mut found);
    assert!(found.iter().any(|(_, bytes)| bytes.len() > 500), "nothing is stored");
    for (path, bytes) in found {
        find_none(&path, &bytes, &hidden);
    }
}

/// What a challenge costs: 700 bytes, so that a GB holds a million and more.
#[tokio::test]
async fn a_challenge_is_small() {
    let redis = RedisServer::start();
    let site = Site::on(&redis);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let challenge = "0d1f2a3b-4c5d-6e7f-8091-a2b3c4d5e6f7";
    let number = "+14155557003";
    let account = "user-01HZX3J5K7M9P1R3T5V7W9Y1A3";
    caller.sent(challenge, account, number).await;
    let largest = || {
        let keys = redis.cli(&["--scan", "--pattern", "otp:{*}:*"]);
        let usage = |key: &str| redis.cli(&["MEMORY", "USAGE", key, "SAMPLES", "0"]).parse::<u64>().unwrap();
        keys.lines().map(usage).max().unwrap()
    };
    let after_send = largest();
    let code = site.code(number);
    let id = "1d1f2a3b-4c5d-6e7f-8091-a2b3c4d5e6f7";
    assert_eq!(verified(&caller.verify(verify(id, challenge, &wrong(&code, 0))).await), "otp_not_matched");
    let after_failure = largest();
    assert_eq!(verified(&caller.verify(verify("right", challenge, &code)).await), "success");
    let after_success = largest();
    println!("{after_send}, {after_failure}, {after_success} bytes");
    assert!(after_send.max(after_failure).max(after_success) <= 700, "{after_send}, {after_failure}, {after_success}");
}
