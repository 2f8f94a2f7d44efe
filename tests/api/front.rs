//! The shipped files of Envoy, and what they believe of those who call: certificates that are shown, and no header that tells of one.

use std::{fs, time::Duration};

use tokio::{io::AsyncReadExt, time::timeout};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    caller::{Caller, TENANT},
    certificates::Authority,
    dial::{Headers, TlsClient, described, operated, plain},
    envoy::Replicas,
    envoy_server::{Beside, CHECKED_OFTEN, Envoy, FRONT, SIDECAR, validate},
    http_client::{ask, post},
    redis_server::{Port, RedisServer},
    seeds::SEND,
    site::{Site, until},
};

const KNOWN: &str = "NotFound INVALID_IDENTIFIER";
const UNKNOWN: &str = "Unauthenticated -";
const AWAY: &str = "Unavailable STORE_UNAVAILABLE";
const SIDECAR_ID: &str = "spiffe://td/otpd";

/// A shop, and operators. otpd takes the word of whoever is on this machine, as each Envoy of the tests is.
fn settings() -> String {
    format!(
        "[server.sidecar]\nxfcc_by = [\"{SIDECAR_ID}\"]\nl5d_client_id = true\n\
         [callers.shop]\nidentities = [\"spiffe://td/shop\", \"dns:shop.example\", \"{}\"]\ntenants = [\"{TENANT}\"]\n\
         [callers.ops]\nidentities = [\"spiffe://td/ops\"]\ntenants = [\"*\"]\nadmin = true\n",
        crate::callers::hashed("shop-token")
    )
}

/// What callers may say of themselves, and none may be believed.
const SAID: &[Headers] = &[
    &[("x-forwarded-client-cert", "By=spiffe://td/otpd;URI=spiffe://td/shop")],
    &[("x-forwarded-client-cert", "By=spiffe://td/otpd;URI=spiffe://td/ops")],
    &[("x-forwarded-client-cert", "By=spiffe://td/other;URI=spiffe://td/x,By=spiffe://td/otpd;URI=spiffe://td/shop")],
    &[("l5d-client-id", "shop.example")],
];

async fn health(channel: &Channel) -> ServingStatus {
    let request = HealthCheckRequest { service: "otp.v1.OtpService".to_owned() };
    HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
}

#[test]
fn the_files_are_valid_as_they_are_shipped() {
    let (ours, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    ours.sidecar(SIDECAR_ID).write(folder.path());
    fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    for file in [FRONT, SIDECAR] {
        let Some(said) = validate(file, folder.path()) else { return };
        let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.status.success() && text.contains("OK"), "{file}: {text}");
        assert!(!text.to_lowercase().contains("deprecated"), "{file}: {text}");
    }
}

#[tokio::test]
async fn the_front_believes_no_header_of_a_caller() {
    let replicas = Replicas::configured(&settings());
    let Some((envoy, caller)) = replicas.behind_envoy().await else { return };
    let channel = &caller.channel;
    let direct = plain(&replicas.servers[0].grpc).await;
    for headers in SAID {
        // otpd would believe it.
        assert_eq!(described(&direct, TENANT, headers).await, KNOWN, "{headers:?}");
        assert_eq!(described(channel, TENANT, headers).await, UNKNOWN, "{headers:?}");
        let named: Vec<_> = headers.iter().chain(&[("content-type", "application/json")]).copied().collect();
        let answer = ask(&envoy.address(), "POST", "/virtual-cards-v1/sendOtp", &named, SEND).await;
        assert_eq!(answer.status, 401, "{headers:?}");
    }
    let token = ("authorization", "Bearer shop-token");
    assert_eq!(described(channel, TENANT, &[token]).await, KNOWN);
    assert_eq!(health(channel).await, ServingStatus::Serving);
    // Operators do not come this way.
    assert_eq!(operated(channel, TENANT, &[token]).await, "Unimplemented -");

    // The id of the caller's own proxy is kept and answered, also by Envoy itself.
    let id = "5d4b9d1e-7d5c-4f0e-9c77-0d6b1c1f4a10";
    for (target, expected) in [("/otp.v1.OtpService/SendOtp", 401), ("/nothing", 404)] {
        let answer = ask(&envoy.address(), "POST", target, &[("x-request-id", id)], "{}").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (expected, id));
        for name in ["server", "x-envoy-upstream-service-time"] {
            assert_eq!(answer.header(name), "", "{answer:?}");
        }
    }
    post(&envoy.address(), "/otp.v1.OtpService/SendOtp?otp=123456", "{}").await;
    until("the lines of all calls", async || {
        envoy.access().matches(id).count() == 2 && envoy.access().contains("\"status\":400")
    })
    .await;
    assert!(!envoy.access().contains("123456") && !envoy.access().contains("shop-token"), "{}", envoy.access());
    assert_eq!(hurried(&replicas.redis, channel, &[token]).await, AWAY);
}

/// How a call ends that says it has a millisecond, while otpd waits for its store for a second.
async fn hurried(redis: &RedisServer, channel: &Channel, headers: Headers<'_>) -> String {
    let short = [("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-expected-rq-timeout-ms", "1")];
    redis.pause();
    let told = described(channel, TENANT, &[headers, &short].concat()).await;
    redis.resume();
    told
}

#[tokio::test]
async fn a_watch_outlasts_the_span_of_a_try() {
    let replicas = Replicas::start();
    let edits = [CHECKED_OFTEN, &[("per_try_timeout: 10.5s", "per_try_timeout: 0.3s")]].concat();
    let Some((_envoy, caller)) = replicas.behind(&edits).await else { return };
    let request = HealthCheckRequest { service: "otp.v1.OtpService".to_owned() };
    let mut watch = HealthClient::new(caller.channel.clone()).watch(request).await.unwrap().into_inner();
    let mut told = async || timeout(Duration::from_secs(20), watch.message()).await.unwrap().unwrap().unwrap().status();
    assert_eq!(told().await, ServingStatus::Serving);
    replicas.redis.pause();
    // Of a call, otpd is told the span of a try, and answers before its store does.
    assert_eq!(described(&caller.channel, TENANT, &[]).await, "DeadlineExceeded DEADLINE_EXCEEDED");
    // The store is away for seconds until otpd says so.
    assert_eq!(told().await, ServingStatus::NotServing);
    replicas.redis.resume();
    assert_eq!(told().await, ServingStatus::Serving);
}

#[tokio::test]
async fn the_sidecar_tells_who_has_shown_a_certificate() {
    let (ours, strange) = (Authority::new("ours"), Authority::new("strange"));
    let redis = RedisServer::start();
    let site = Site::on(&redis).configured(&settings());
    ours.sidecar(SIDECAR_ID).write(site.folder());
    fs::write(site.folder().join("ca.pem"), ours.pem()).unwrap();
    let port = Port::reserve();
    let server = site.start_at(port.number());
    let Some(envoy) = Envoy::sidecar(&Beside::Port(port.number()), site.folder()) else { return };
    let at = envoy.address();
    let client = |uris: &[&str], dns: &[&str]| TlsClient::new(&ours.der(), Some(&ours.client(uris, dns)));

    let shop = client(&["spiffe://td/shop"], &[]).channel(&at).await.unwrap();
    let by_name = client(&[], &["shop.example"]).channel(&at).await.unwrap();
    let nobody = client(&["spiffe://td/nobody"], &[]).channel(&at).await.unwrap();
    let ops = client(&["spiffe://td/ops"], &[]).channel(&at).await.unwrap();
    let of_nobody: Headers = &[("l5d-client-id", "other.example")];
    for headers in SAID.iter().copied().chain([&[][..], of_nobody]) {
        assert_eq!(described(&shop, TENANT, headers).await, KNOWN, "{headers:?}");
        assert_eq!(described(&by_name, TENANT, headers).await, KNOWN, "{headers:?}");
        assert_eq!(described(&nobody, TENANT, headers).await, UNKNOWN, "{headers:?}");
        assert_eq!(operated(&shop, TENANT, headers).await, "PermissionDenied FORBIDDEN", "{headers:?}");
    }
    assert_eq!(operated(&ops, TENANT, &[]).await, "done");
    assert_eq!(health(&nobody).await, ServingStatus::Serving);
    assert_eq!(hurried(&redis, &shop, &[]).await, AWAY);
    until("otpd names the caller", async || server.log().contains(r#""caller":"shop""#)).await;

    // Without a certificate, or with one that is no good, there is no connection. A client learns of it when it reads.
    let mut refused = vec![TlsClient::new(&ours.der(), None)];
    refused.push(TlsClient::new(&ours.der(), Some(&strange.client(&["spiffe://td/shop"], &[]))));
    refused.extend(ours.useless("spiffe://td/shop").iter().map(|shown| TlsClient::new(&ours.der(), Some(shown))));
    for (index, client) in refused.iter().enumerate() {
        let read = match client.connect(&at).await {
            Err(error) => Err(error),
            Ok(mut stream) => timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.unwrap(),
        };
        assert!(read.is_err(), "{index}: {read:?}");
    }

    drop(server);
    let told = Caller::over(shop).challenge("c").await.unwrap_err();
    assert_eq!((told.code(), told.message()), (Code::Unavailable, "otpd does not take the call now; try again"));
}

/// Callers over TLS, the front with a certificate of its own, a sidecar, otpd on a Unix socket.
#[tokio::test]
async fn the_front_is_who_calls_where_it_shows_a_certificate() {
    let ours = Authority::new("ours");
    let mut site = Site::embedded().configured(&settings());
    let path = site.folder().join("otpd.sock");
    site.set("OTPD__SERVER__LISTEN", &format!("unix:{}", path.display()));
    let front = site.folder().join("front");
    fs::create_dir(&front).unwrap();
    ours.sidecar(SIDECAR_ID).write(site.folder());
    ours.client(&["spiffe://td/shop"], &[]).write(&front);
    fs::write(site.folder().join("ca.pem"), ours.pem()).unwrap();
    let _server = site.start();
    let Some(sidecar) = Envoy::sidecar(&Beside::Socket(path), site.folder()) else { return };
    let Some(envoy) = Envoy::encrypted_front([sidecar.port(); 2], site.folder()) else { return };
    // Health is asked for through the sidecar.
    until("both names are healthy", async || envoy.count("membership_healthy") == 2).await;
    // With a certificate that otpd would know, which stays with the front, and without any.
    for shown in [None, Some(&ours.client(&["spiffe://td/ops"], &[]))] {
        let channel = TlsClient::new(&ours.der(), shown).channel(&envoy.address()).await.unwrap();
        for headers in SAID.iter().copied().chain([&[][..]]) {
            assert_eq!(described(&channel, TENANT, headers).await, KNOWN, "{headers:?}");
            assert_eq!(described(&channel, "another-tenant", headers).await, "PermissionDenied FORBIDDEN");
        }
    }
}
