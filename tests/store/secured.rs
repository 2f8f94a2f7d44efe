//! Redis with TLS, with certificates of clients, and with users.

use otpd::{
    ports::store::{Store, StoreError},
    stores::{StoreConfig, TlsFiles},
};
use std::{path::PathBuf, sync::Arc};

use crate::{
    harness::{Easy, Outcome, soon},
    redis::{RedisHarness, config, open},
    redis_server::{Program, RedisServer},
    redis_tls::{CertificateFiles, TestAuthority, TlsServer},
};

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

fn trusting(url: &str, ca: Option<PathBuf>, own: Option<&CertificateFiles>) -> StoreConfig {
    let mut config = config(url);
    config.tls = TlsFiles {
        ca,
        certificate: own.map(|own| own.certificate.clone()),
        key: own.map(|own| own.key.clone()),
        server_name: None,
    };
    config
}

/// Whether the store opens and serves.
async fn serves(config: StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    let store = open(config).await?;
    store.check(soon()).await?;
    Ok(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_authority() {
    let (ours, other) = (TestAuthority::new(), TestAuthority::new());
    let tls = TlsServer::start(Program::Redis, &ours.server(&NAMES), None);
    for host in NAMES {
        let store = serves(trusting(&tls.url(host), Some(ours.file()), None)).await.unwrap();
        drop(store);
    }
    for ca in [None, Some(other.file())] {
        assert!(serves(trusting(&tls.url("localhost"), ca, None)).await.is_err(), "an authority that nobody named");
    }
    // The suite's longest history, over TLS.
    let store = serves(trusting(&tls.url("127.0.0.1"), Some(ours.file()), None)).await.unwrap();
    crate::suite::random_history(&RedisHarness { server: tls.server, store }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_name() {
    let ours = TestAuthority::new();
    let tls = TlsServer::start(Program::Redis, &ours.server(&["redis.example"]), None);
    assert!(serves(trusting(&tls.url("localhost"), Some(ours.file()), None)).await.is_err());
    let mut named = trusting(&tls.url("localhost"), Some(ours.file()), None);
    named.tls.server_name = Some("redis.example".to_owned());
    serves(named).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_certificate() {
    let (ours, clients, other) = (TestAuthority::new(), TestAuthority::new(), TestAuthority::new());
    let tls = TlsServer::start(Program::Redis, &ours.server(&NAMES), Some(&clients));
    let config = |own: Option<&CertificateFiles>| trusting(&tls.url("localhost"), Some(ours.file()), own);
    let store = Easy(serves(config(Some(&clients.client()))).await.unwrap());
    assert_eq!(store.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    assert!(serves(config(None)).await.is_err());
    assert!(serves(config(Some(&other.client()))).await.is_err());
}

/// A user who may do what otpd does, on its own keys, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_an_access_control_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users.acl");
    let may = "~otp:* +@read +@write +@connection +@scripting +time +info +config|get +ping +wait";
    let users = format!(
        "user default on nopass ~* &* +@all\nuser otpd on >hunter2 {may}\nuser narrow on >hunter2 {may} -select\nuser reader on >hunter2 ~otp:* +@read\n"
    );
    std::fs::write(&file, users).unwrap();
    let server = RedisServer::start_with(&["--aclfile", file.to_str().unwrap()]);
    let url = |login: &str| server.tcp_url().replace("redis://", &format!("redis://{login}@"));
    let store = Easy(serves(config(&url("otpd:hunter2"))).await.unwrap());
    assert_eq!(store.commit(1, &[(1, None, Some(10))]).await, Outcome::Done);
    for login in ["otpd:hunter3", "nobody:hunter2", "reader:hunter2"] {
        let error = serves(config(&url(login))).await.err().expect("a refusal");
        assert!(!error.to_string().contains("hunter"), "{error}");
    }
    // The number of a database is the address' own, and asked for before all else.
    serves(config(&format!("{}/3", url("otpd:hunter2").trim_end_matches('/')))).await.unwrap();
    for (login, number, why) in
        [("narrow:hunter2", 3, "may not use: select"), ("otpd:hunter2", 99, "no database of this number")]
    {
        let url = format!("{}/{number}", url(login).trim_end_matches('/'));
        let error = serves(config(&url)).await.err().expect("a refusal");
        assert!(error.is_final && error.to_string().contains(why), "{error}");
    }
}
