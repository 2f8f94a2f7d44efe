//! What callers hand over for providers, and what we show to those: nothing of it stays, at any talkativeness.

use otpd::grpc::proto::{Amount, CreateChallengeRequest, Purpose, Transaction, send_otp_result::Result as SendResult};
use serde_json::json;
use tonic::Status;

use crate::{
    caller::{Caller, SMS, login, send, verify},
    redis_server::RedisServer,
    secrecy::{find_none, stored},
    site::Site,
    upstream::{Act, Upstream, answer, code, down, gateway, ok, send_with, to, verify_with},
    words::{created, sent, verified},
};

const NUMBER: &str = "+918867772222";
const PAN: &str = "6075000000004412";
/// Short: looked for as a word, for its digits occur in the times of a log.
const CVD2: &str = "9173";
const NAME: &str = "Marie-Claire Dupont";
const IDENTITY: &str = "765386439745";
const REFERENCE: &str = "reference-of-marie";
const TYPED: &str = "7391826405";
const OTHER_TYPED: &str = "5046281937";
const KEYS: [&str; 6] = [
    "AF165FBD-4E85-4c66-BEB1C54DC16CD48B",
    "secret-of-the-client",
    "Bearer token-of-the-gateway",
    "token-of-the-gateway",
    "password-of-the-gateway",
    "key-in-a-header",
];

fn card() -> [(&'static str, &'static str); 4] {
    [("pan", PAN), ("expDate", "022024"), ("cvd2", CVD2), ("nameOnCard", NAME)]
}

fn site(redis: &RedisServer, upstream: &Upstream) -> Site {
    let url = upstream.url();
    let times = "timeout = \"500ms\"\nconnect_timeout = \"500ms\"\nbreaker_failures = 1000\n";
    let ours = gateway("gateway", &url);
    Site::on(redis).with("OTPD__LOG__FILTER", "trace").configured(&format!(
        "routes = [\"gateway\"]\n[policy]\nresend_gaps = []\ncode_digits = 10\nmax_send_attempts = 10\n\
         max_verification_attempts = 20\n[policy.quotas]\ndestination_sends = []\n\
         [route.cards]\npurpose = \"transaction\"\nproviders = [\"cards\"]\n\
         [route.registrations]\npurpose = \"registration\"\nproviders = [\"registrations\"]\n\
         [route.integrator]\ntenant = \"tenant-of-the-tests\"\nchannel = \"voice\"\nproviders = [\"integrator\"]\n\
         [providers.cards]\nkind = \"wibmo-rupay\"\nbase_url = \"{url}\"\npg_instance_id = \"72702415\"\n\
         merchant_id = \"12345678\"\napi_key = \"{}\"\n{times}\
         [providers.registrations]\nkind = \"iserveu\"\nbase_url = \"{url}\"\nclient_id = \"client\"\n\
         client_secret = \"{}\"\nusername = \"user\"\n{times}\
         [providers.integrator]\nkind = \"google-payment-integrator\"\nbase_url = \"{url}\"\n\
         authorization = \"{}\"\n{times}\
         {ours}user = \"otpd\"\npassword = \"{}\"\nbreaker_failures = 1000\n\
         [providers.gateway.headers]\nx-api-key = \"{}\"\nx-sender = \"{{{{parameters.sender}}}}\"\n",
        KEYS[0], KEYS[1], KEYS[2], KEYS[4], KEYS[5]
    ))
}

/// Answers that providers may give, each with what they were told in it, as bad servers do.
fn echoes() -> Vec<Act> {
    let everything = json!({
        "status": "failed", "errorcode": "07", "errormsg": format!("{PAN} {CVD2} {NAME} {TYPED} {}", KEYS[0]),
        "statusCode": "1", "statusDesc": format!("{IDENTITY} {TYPED} {}", KEYS[1])
    });
    vec![
        down(),
        answer(401, &everything),
        answer(400, &everything),
        ok(&everything),
        answer(500, &everything),
        Act::Close,
        Act::Last(format!("HTTP/1.1 200 {PAN}\r\nx-{CVD2}: {PAN}\r\n\r\n{TYPED} {NAME}").into_bytes()),
        Act::Last(format!("{PAN} {TYPED}\r\n\r\n").into_bytes()),
    ]
}

fn challenge(id: &str, purpose: Purpose) -> CreateChallengeRequest {
    let amount = Some(Amount { amount_micros: 110_250_000, currency_code: "INR".into() });
    let transaction = Transaction { amount, payee: "Bat Shop".into(), reference: REFERENCE.into() };
    let transaction = (purpose == Purpose::Transaction).then_some(transaction);
    CreateChallengeRequest { purpose: purpose.into(), transaction, ..login(id, "account-of-marie", NUMBER) }
}

/// Sends and verifies with a provider through all its bad answers, then a good one. Returns all statuses.
async fn walk(
    caller: &Caller,
    upstream: &Upstream,
    id: &str,
    sending: &[(&str, &str)],
    checking: Option<&[(&str, &str)]>,
    good: [Act; 2],
) -> Vec<Status> {
    let mut statuses = Vec::new();
    for (n, act) in echoes().into_iter().enumerate() {
        upstream.script([act]);
        statuses.extend(caller.send(send_with(send(&format!("s{n}"), id), sending)).await.err());
    }
    for (name, value) in sending {
        let other: Vec<_> =
            sending.iter().map(|(known, kept)| (*known, if known == name { "\u{1}" } else { *kept })).collect();
        statuses.extend(caller.send(send_with(send("bad", id), &other)).await.err());
        assert!(!value.is_empty());
    }
    let [good_send, good_check] = good;
    upstream.script([good_send]);
    let told = caller.send(send_with(send("good", id), sending)).await.unwrap();
    assert!(matches!(told.result.unwrap().result, Some(SendResult::Success(_))), "{id}");
    let Some(checking) = checking else { return statuses };
    for (n, act) in echoes().into_iter().enumerate() {
        upstream.script([act]);
        let guess = verify_with(verify(&format!("v{n}"), id, OTHER_TYPED), checking);
        statuses.extend(caller.verify(guess).await.err());
    }
    upstream.script([good_check]);
    let right = verify_with(verify("right", id, TYPED), checking);
    assert_eq!(verified(&caller.verify(right).await), "success", "{id}");
    statuses
}

/// Whether a short text stands there by itself.
fn find_no_word(place: &str, text: &[u8], word: &str) {
    let part = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
    for at in 0..text.len().saturating_sub(word.len()) {
        let here = text[at..].starts_with(word.as_bytes());
        let apart = !part(at.checked_sub(1).and_then(|before| text.get(before))) && !part(text.get(at + word.len()));
        assert!(!(here && apart), "{place} holds {word}");
    }
}

#[tokio::test]
async fn nothing_of_cards_keys_and_codes_stays() {
    let redis = RedisServer::start();
    let upstream = Upstream::start().await;
    let server = site(&redis, &upstream).start();
    let caller = Caller::of(&server).await;
    let mut statuses = Vec::new();

    assert_eq!(created(&caller.create(challenge("cards", Purpose::Transaction)).await), "success");
    let number = json!({"status": "success", "errorcode": "00", "pgTransactionId": "4711471147"});
    let good = [ok(&number), ok(&json!({"status": "success", "errorcode": "00", "tranCtxId": "1001220241030000"}))];
    statuses.extend(walk(&caller, &upstream, "cards", &card(), Some(&[]), good).await);

    assert_eq!(created(&caller.create(challenge("registrations", Purpose::Registration)).await), "success");
    let document = [("ovdType", "Aadhaar Card"), ("ovdData", IDENTITY)];
    let person =
        [("name", NAME), ("latlong", "12.9715987_77.5945627"), ("publicIP", "192.0.2.77"), ("ovdData", IDENTITY)];
    let success =
        || ok(&json!({"status": "SUCCESS", "statusCode": "0", "statusDesc": format!("OTP {TYPED} for {NUMBER}")}));
    statuses.extend(walk(&caller, &upstream, "registrations", &document, Some(&person), [success(), success()]).await);

    let by_voice = to(
        otpd::grpc::proto::Destination {
            channel: otpd::grpc::proto::Channel::Voice.into(),
            ..crate::caller::sms(NUMBER, SMS)
        },
        challenge("integrator", Purpose::Login),
    );
    assert_eq!(created(&caller.create(by_voice).await), "success");
    let resent = || ok(&json!({"responseHeader": {}, "result": {"success": {}}}));
    let authentication = [("authenticate_request_id", "authentication-of-marie")];
    statuses.extend(
        walk(&caller, &upstream, "integrator", &authentication, Some(&authentication), [resent(), resent()]).await,
    );

    assert_eq!(created(&caller.create(challenge("ours", Purpose::Login)).await), "success");
    let sender = [("sender", "sender-of-marie")];
    statuses.extend(walk(&caller, &upstream, "ours", &sender, None, [ok(&json!({})), resent()]).await);
    let codes: Vec<String> = upstream.seen().iter().filter(|request| request.target == "/gateway").map(code).collect();
    assert!(codes.len() >= 2, "{codes:?}");
    let open = stored(&redis);
    let right = verify("right", "ours", codes.last().unwrap());
    assert_eq!(verified(&caller.verify(right).await), "success");
    assert_eq!(sent(&caller.send(send("late", "ours")).await), "challenge_option_expired");

    let known = [PAN, NAME, "Dupont", IDENTITY, TYPED, OTHER_TYPED, "8867772222", "12.9715987", "192.0.2.77"];
    let more = [REFERENCE, "Bat Shop", "authentication-of-marie", "sender-of-marie", "account-of-marie", "4711471147"];
    let basic = "b3RwZDpwYXNzd29yZC1vZi10aGUtZ2F0ZXdheQ==";
    let secrets: Vec<String> =
        known.into_iter().chain(more).chain(KEYS).chain([basic]).map(str::to_owned).chain(codes).collect();
    assert!(statuses.len() > 20, "{}", statuses.len());
    for status in &statuses {
        let printed = format!("{status:?}");
        for text in [status.message().as_bytes(), status.details(), printed.as_bytes()] {
            find_none("a status", text, &secrets);
            find_no_word("a status", text, CVD2);
        }
    }
    let log = server.log();
    for said in ["the provider failed", "the provider refuses otpd's credentials", "the provider answered"] {
        assert!(log.contains(said), "{said} is not in {log}");
    }
    find_none("the log", log.as_bytes(), &secrets);
    find_no_word("the log", log.as_bytes(), CVD2);
    let ended = stored(&redis);
    assert!(ended.len() >= 5, "{:?}", ended.keys());
    for (key, dump) in open.iter().chain(&ended) {
        find_none("a key", key.as_bytes(), &secrets);
        find_none(key, dump, &secrets);
        find_no_word(key, dump, CVD2);
    }
}
