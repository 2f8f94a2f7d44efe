//! Who may call, and what: by token, certificate and sidecar, over TLS and Unix sockets.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use otpd::{
    grpc::proto::{
        CancelChallengeRequest, GetAccountRequest, GetChallengeRequest,
        otp_admin_service_client::OtpAdminServiceClient, otp_service_client::OtpServiceClient,
    },
    ports::clock::{Deadline, Stopwatch},
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use tokio::{io::AsyncReadExt, task::JoinSet, time::interval};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::{
    caller::{TENANT, header_of, lock, login, send, unlock, verify},
    certificates::{Authority, Issued},
    dial::{Headers, TlsClient, described, operated, plain, socket, with},
    site::{Server, Site, until},
    words::{created, ended, sent, verified},
};

const OTHER: &str = "another-tenant";
const NUMBER: &str = "+14155550100";
const KNOWN: &str = "NotFound INVALID_IDENTIFIER";
const UNKNOWN: &str = "Unauthenticated -";
const FORBIDDEN: &str = "PermissionDenied FORBIDDEN";
const ELSEWHERE: &str = "Unimplemented UNIMPLEMENTED";
const SHOP: &str = "spiffe://td/shop";

/// The setting for a token.
pub(crate) fn hashed(token: &str) -> String {
    let hex: Vec<String> = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token-sha256:{}", hex.concat())
}

/// A shop of one tenant, and operators of all. Each has a token and a certificate.
fn callers() -> String {
    format!(
        "[callers.shop]\nidentities = [\"{}\", \"{SHOP}\", \"dns:shop.example\"]\ntenants = [\"{TENANT}\"]\n\
         [callers.ops]\nidentities = [\"{}\", \"spiffe://td/ops\"]\ntenants = [\"*\"]\nadmin = true\n",
        hashed("shop-token"),
        hashed("ops-token")
    )
}

async fn health(channel: &Channel) -> ServingStatus {
    let request = HealthCheckRequest { service: "otp.v1.OtpService".to_owned() };
    HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner().status()
}

/// Every RPC, for a challenge and an account of a tenant.
async fn every_rpc(
    channel: &Channel,
    tenant: &str,
    challenge: &str,
    account: &str,
    headers: Headers<'_>,
) -> Vec<String> {
    let (mut otp, mut admin) = (OtpServiceClient::new(channel.clone()), OtpAdminServiceClient::new(channel.clone()));
    let header = |id: &str| header_of(tenant, &format!("{challenge}-{id}"));
    let create = otpd::grpc::proto::CreateChallengeRequest {
        request_header: header_of(tenant, challenge),
        ..login(challenge, account, NUMBER)
    };
    let send = otpd::grpc::proto::SendOtpRequest { request_header: header("s"), ..send("s", challenge) };
    let verify =
        otpd::grpc::proto::VerifyOtpRequest { request_header: header("v"), ..verify("v", challenge, "123456") };
    let authenticate_request_id = challenge.to_owned();
    let get = GetChallengeRequest { request_header: header("g"), authenticate_request_id: challenge.to_owned() };
    let cancel = CancelChallengeRequest { request_header: header("c"), authenticate_request_id };
    let lock = otpd::grpc::proto::LockAccountRequest { request_header: header("l"), ..lock("l", account, None) };
    let unlock = otpd::grpc::proto::UnlockAccountRequest { request_header: header("u"), ..unlock("u", account) };
    let account =
        GetAccountRequest { request_header: header("a"), account_id: account.to_owned(), ..Default::default() };
    let inner = |told: Result<tonic::Response<_>, _>| told.map(tonic::Response::into_inner);
    vec![
        created(&inner(otp.create_challenge(with(create, headers)).await)),
        sent(&otp.send_otp(with(send, headers)).await.map(tonic::Response::into_inner)),
        verified(&otp.verify_otp(with(verify, headers)).await.map(tonic::Response::into_inner)),
        ended(&otp.get_challenge(with(get, headers)).await),
        ended(&otp.cancel_challenge(with(cancel, headers)).await),
        ended(&admin.get_account(with(account, headers)).await),
        ended(&admin.lock_account(with(lock, headers)).await),
        ended(&admin.unlock_account(with(unlock, headers)).await),
    ]
}

#[tokio::test]
async fn tokens_tell_who_calls_and_what_it_may_do() {
    let site = Site::embedded().configured(&callers());
    let server = site.start();
    let channel = plain(&server.grpc).await;
    let (shop, ops) = ([("authorization", "Bearer shop-token")], [("authorization", "bearer ops-token")]);

    // A challenge of another tenant, by an operator, who may name all.
    let theirs = every_rpc(&channel, OTHER, "theirs", "person", &ops).await;
    let expected = ["success", "success", "otp_not_matched", "done", "done", "done", "done", "done"];
    assert_eq!(theirs, expected);

    let xfcc = "By=spiffe://td/otpd;URI=spiffe://td/shop";
    let unknown: &[Headers] = &[
        &[],
        &[("authorization", "Bearer other")],
        &[("authorization", "Basic shop-token")],
        &[("authorization", "Bearer shop-token"), ("authorization", "Bearer shop-token")],
        // Headers of a sidecar say nothing unless they are configured.
        &[("x-forwarded-client-cert", xfcc)],
        &[("l5d-client-id", "shop.example")],
    ];
    for headers in unknown {
        for (tenant, challenge) in [(TENANT, "never"), (OTHER, "theirs"), ("a bad name", "")] {
            let answers = every_rpc(&channel, tenant, challenge, "person", headers).await;
            assert_eq!(answers, [UNKNOWN; 8], "{headers:?}");
        }
    }

    // Ordinary callers do not operate, and name no other tenant, whatever is there.
    for challenge in ["theirs", "never"] {
        let answers = every_rpc(&channel, OTHER, challenge, "person", &shop).await;
        assert_eq!(answers, [FORBIDDEN; 8], "{challenge}");
    }
    let own = every_rpc(&channel, TENANT, "own", "person", &shop).await;
    let operates = [FORBIDDEN; 3];
    assert_eq!(own, [&["success", "success", "otp_not_matched", "done", "done"][..], &operates].concat());
    assert_eq!(described(&channel, TENANT, &shop).await, KNOWN);
    let both = [("authorization", "Bearer shop-token"), ("x-forwarded-client-cert", "rubbish\"")];
    assert_eq!(described(&channel, TENANT, &both).await, KNOWN);

    // Probes have no name.
    assert_eq!(health(&channel).await, ServingStatus::Serving);
    assert!(!server.log().contains("-token"));
}

/// A site with TLS: its folder has `tls.pem`, `tls.key` and `ca.pem`.
fn encrypted(authority: &Authority, served: &Issued, settings: &str) -> Site {
    let site = Site::embedded();
    served.write(site.folder());
    fs::write(site.folder().join("ca.pem"), authority.pem()).unwrap();
    let file = |name: &str| site.folder().join(name).display().to_string();
    let tls = format!(
        "[server.tls]\ncertificate_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\n{settings}",
        file("tls.pem"),
        file("tls.key"),
        file("ca.pem")
    );
    site.configured(&tls)
}

/// `otpd health` with the configuration of a server that runs.
fn health_command(site: &mut Site, server: &Server) -> Option<i32> {
    site.set("OTPD__SERVER__LISTEN", &server.grpc);
    site.command(&["health"]).status.code()
}

#[tokio::test]
async fn certificates_tell_who_calls() {
    let (ours, strange) = (Authority::new("ours"), Authority::new("strange"));
    let mut site = encrypted(&ours, &ours.server(), &callers());
    let server = site.start();
    let client = |shown: Option<&Issued>| TlsClient::new(&ours.der(), shown);
    let token = [("authorization", "Bearer shop-token")];
    let ops_token = [("authorization", "Bearer ops-token")];
    for (uris, dns, headers, expected) in [
        (&[SHOP][..], &[][..], &[][..], KNOWN),
        (&[SHOP], &["other.example"], &[], KNOWN),
        (&[], &["www.example", "shop.example"], &[], KNOWN),
        (&[SHOP], &[], &token, KNOWN),
        (&[SHOP], &[], &ops_token, UNKNOWN),
        (&["spiffe://td/other"], &[], &[], UNKNOWN),
        (&["spiffe://td/other"], &["shop.example"], &token, UNKNOWN),
        (&[SHOP, "spiffe://td/ops"], &[], &[], UNKNOWN),
    ] {
        let channel = client(Some(&ours.client(uris, dns))).channel(&server.grpc).await.unwrap();
        assert_eq!(described(&channel, TENANT, headers).await, expected, "{uris:?} {dns:?} {headers:?}");
    }
    let channel = client(Some(&ours.client(&["spiffe://td/ops"], &[]))).channel(&server.grpc).await.unwrap();
    assert_eq!(operated(&channel, TENANT, &[]).await, "done");

    // Without a certificate it takes a token, and probes take neither.
    let channel = client(None).channel(&server.grpc).await.unwrap();
    assert_eq!(described(&channel, TENANT, &[]).await, UNKNOWN);
    assert_eq!(described(&channel, TENANT, &token).await, KNOWN);
    assert_eq!(health(&channel).await, ServingStatus::Serving);
    assert_eq!(health_command(&mut site, &server), Some(0));
    assert_eq!(client(None).connect(&server.grpc).await.unwrap().get_ref().1.alpn_protocol(), Some(&b"h2"[..]));

    // One of a strange authority, or that is no good, is worse than none. The client learns of it when it reads.
    let refused = async |shown: &Issued| match client(Some(shown)).connect(&server.grpc).await {
        Err(_) => true,
        Ok(mut stream) => stream.read(&mut [0; 1]).await.is_err(),
    };
    for (index, useless) in ours.useless(SHOP).iter().enumerate() {
        assert!(refused(useless).await, "{index}");
    }
    // Lines of the wire are paced.
    let strange = strange.client(&[SHOP], &[]);
    until("a line of a handshake that failed", async || {
        assert!(refused(&strange).await);
        server.log().contains("a TLS handshake failed")
    })
    .await;
    assert!(server.get("/metrics").contains("otp_certificate_expiry_timestamp_seconds{listener=\"server\"} "));
}

#[tokio::test]
async fn without_callers_a_certificate_of_the_authority_is_enough_and_needed() {
    let ours = Authority::new("ours");
    let mut site = encrypted(&ours, &ours.server(), "");
    let server = site.start();
    let anybody = TlsClient::new(&ours.der(), Some(&ours.client(&["spiffe://td/anybody"], &[])));
    let anybody = anybody.channel(&server.grpc).await.unwrap();
    assert_eq!(described(&anybody, TENANT, &[]).await, KNOWN);
    assert_eq!(operated(&anybody, TENANT, &[]).await, "done");
    let nobody = TlsClient::new(&ours.der(), None).channel(&server.grpc).await.unwrap();
    assert_eq!(described(&nobody, TENANT, &[]).await, UNKNOWN);
    assert_eq!(health_command(&mut site, &server), Some(0));
}

/// Over a Unix socket no certificate can be shown: whoever has access to it is served, and on an address nobody without one.
#[tokio::test]
async fn without_callers_a_unix_socket_needs_no_certificate() {
    let ours = Authority::new("ours");
    let mut site = encrypted(&ours, &ours.server(), "").with("OTPD__ADMIN__LISTEN", "127.0.0.1:0");
    let path = site.folder().join("otpd.sock");
    site.set("OTPD__SERVER__LISTEN", &format!("unix:{}", path.display()));
    let server = site.start();
    assert_eq!(described(&socket(&path).await, TENANT, &[]).await, KNOWN);
    let nobody = TlsClient::new(&ours.der(), None).channel(&server.admin()).await.unwrap();
    assert_eq!(operated(&nobody, TENANT, &[]).await, UNKNOWN);
    let operator = TlsClient::new(&ours.der(), Some(&ours.client(&["spiffe://td/anybody"], &[])));
    assert_eq!(operated(&operator.channel(&server.admin()).await.unwrap(), TENANT, &[]).await, "done");
}

#[test]
fn files_that_cannot_be_used_are_mistakes() {
    let ours = Authority::new("ours");
    let site = encrypted(&ours, &ours.server(), "");
    let complaint = |arguments: &[&str]| {
        let ended = site.command(arguments);
        (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
    };
    assert_eq!(complaint(&["check-config"]).0, Some(0));
    // A key that is another's, and an authority that is none.
    fs::write(site.folder().join("tls.key"), ours.server().key.serialize_pem()).unwrap();
    let (code, text) = complaint(&["check-config"]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("server.tls.key_file: is not the key of certificate_file"), "{text}");
    assert_eq!(complaint(&["serve"]).0, Some(1));
    fs::write(site.folder().join("ca.pem"), "rubbish").unwrap();
    fs::write(site.folder().join("tls.key"), "rubbish").unwrap();
    let (_, text) = complaint(&["check-config"]);
    for expected in ["server.tls.key_file: holds no", "server.tls.client_ca_file: holds no"] {
        assert!(text.contains(expected), "{text}");
    }
    fs::remove_file(site.folder().join("tls.pem")).unwrap();
    assert!(complaint(&["check-config"]).1.contains("server.tls.certificate_file: cannot be read"));
}

/// The certificate that new connections are shown.
async fn shown(client: &TlsClient, address: &str) -> Option<CertificateDer<'static>> {
    let stream = client.connect(address).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
}

/// How long a new certificate may take to be served.
const MAX_RELOAD: Duration = Duration::from_secs(5);

/// Callers that call all the time, each tenth time on a connection of its own if `is_fresh`. Every call must be answered.
struct Load {
    callers: JoinSet<()>,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
}

impl Load {
    /// 200 calls a second.
    fn start(client: &TlsClient, open: &Channel, address: &str, is_fresh: bool) -> Self {
        let (mut callers, stop, answered) = (JoinSet::new(), CancellationToken::new(), Arc::<AtomicUsize>::default());
        for _ in 0..4 {
            let (client, open, address) = (client.clone(), open.clone(), address.to_owned());
            let (stop, answered) = (stop.clone(), Arc::clone(&answered));
            callers.spawn(async move {
                let (mut ticks, mut calls) = (interval(Duration::from_millis(20)), 0_u32);
                while !stop.is_cancelled() {
                    ticks.tick().await;
                    calls += 1;
                    let is_due = is_fresh && calls.is_multiple_of(10);
                    let fresh = if is_due { Some(client.channel(&address).await.unwrap()) } else { None };
                    let told = described(fresh.as_ref().unwrap_or(&open), TENANT, &[]).await;
                    assert_eq!(told, KNOWN, "call {calls}");
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { callers, stop, answered }
    }

    /// Waits for 40 more answers, of which some are to connections that were opened meanwhile, and fails if a caller has.
    async fn goes_on(&mut self, phase: &str) {
        let before = self.answered.load(Ordering::SeqCst);
        until(phase, async || self.answered.load(Ordering::SeqCst) >= before + 40).await;
        assert!(self.callers.try_join_next().is_none(), "{phase}: a caller has failed");
    }

    async fn end(self) {
        self.stop.cancel();
        self.callers.join_all().await;
    }
}

#[tokio::test]
async fn certificates_are_replaced_under_load_and_no_call_is_lost() {
    let (ours, next) = (Authority::new("ours"), Authority::new("next"));
    let site = encrypted(&ours, &ours.server(), &callers());
    let server = site.start();
    let client = TlsClient::new(&ours.der(), Some(&ours.client(&[SHOP], &[])));
    let open = client.channel(&server.grpc).await.unwrap();
    let mut load = Load::start(&client, &open, &server.grpc, true);
    load.goes_on("calls before").await;

    for _ in 0..2 {
        let renewed = ours.server();
        let since = Stopwatch::start();
        renewed.write(site.folder());
        until("the new certificate", async || shown(&client, &server.grpc).await == Some(renewed.der())).await;
        assert!(since.elapsed() < MAX_RELOAD, "{:?}", since.elapsed());
        load.goes_on("calls after a new certificate").await;
    }

    // Half of a pair changes nothing, and is told.
    let before = shown(&client, &server.grpc).await;
    let pem = fs::read(site.folder().join("tls.pem")).unwrap();
    fs::write(site.folder().join("tls.pem"), &pem[..pem.len() / 2]).unwrap();
    server.hang_up();
    let failed = "otp_certificate_reloads_total{outcome=\"failed\"} 1";
    until("the failure", async || server.get("/metrics").contains(failed)).await;
    assert!(server.log().contains("the files of server.tls cannot be used"));
    assert_eq!(shown(&client, &server.grpc).await, before);
    load.goes_on("calls after half of a pair").await;
    fs::write(site.folder().join("tls.pem"), pem).unwrap();

    // Another authority of callers: those of the old one are served on where they are connected.
    load.end().await;
    let mut load = Load::start(&client, &open, &server.grpc, false);
    load.goes_on("calls before another authority").await;
    fs::write(site.folder().join("ca.pem"), next.pem()).unwrap();
    let newcomer = TlsClient::new(&ours.der(), Some(&next.client(&[SHOP], &[])));
    until("the new authority", async || match newcomer.channel(&server.grpc).await {
        Ok(channel) => described(&channel, TENANT, &[]).await == KNOWN,
        Err(_) => false,
    })
    .await;
    load.goes_on("calls after another authority").await;
    let newcomers = newcomer.channel(&server.grpc).await.unwrap();
    let mut of_newcomers = Load::start(&newcomer, &newcomers, &server.grpc, true);
    of_newcomers.goes_on("calls of the new authority").await;
    of_newcomers.end().await;
    load.end().await;

    // Each change was loaded once: two certificates, and the authority.
    let loaded = "otp_certificate_reloads_total{outcome=\"loaded\"} 3";
    let text = server.get("/metrics");
    assert!(text.lines().any(|line| line == loaded), "{text}");
}

#[tokio::test]
async fn a_sidecar_on_a_unix_socket_tells_who_calls() {
    let mut site = Site::embedded();
    let path = site.folder().join("otpd.sock");
    let sidecar = format!(
        "[server]\nlisten = \"unix:{}\"\n[server.sidecar]\nxfcc_by = [\"spiffe://td/otpd\"]\nl5d_client_id = true\n{}",
        path.display(),
        callers()
    );
    site.configure(&sidecar);
    site.set("OTPD__SERVER__LISTEN", &format!("unix:{}", path.display()));
    let mut server = site.start();
    assert_eq!(server.grpc, format!("unix:{}", path.display()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let channel = socket(&path).await;
    let xfcc = |value| [("x-forwarded-client-cert", value)];
    let shop = "By=spiffe://td/otpd;Hash=1;Subject=\"CN=\\\"a\\\",O=b\";URI=spiffe://td/shop";
    let appended = "By=spiffe://td/edge;URI=spiffe://td/ops,By=spiffe://td/otpd;URI=spiffe://td/shop";
    for (headers, expected) in [
        (xfcc(shop), KNOWN),
        (xfcc(appended), KNOWN),
        (xfcc("By=spiffe://td/other;URI=spiffe://td/shop"), UNKNOWN),
        (xfcc("By=spiffe://td/otpd;URI=spiffe://td/shop;URI=spiffe://td/ops"), UNKNOWN),
        (xfcc("URI=spiffe://td/shop"), UNKNOWN),
        (xfcc("By=spiffe://td/otpd;Subject=\"CN=a;URI=spiffe://td/shop"), UNKNOWN),
        ([("l5d-client-id", "shop.example")], KNOWN),
        ([("l5d-client-id", "other.example")], UNKNOWN),
        ([("authorization", "Bearer shop-token")], KNOWN),
    ] {
        assert_eq!(described(&channel, TENANT, &headers).await, expected, "{headers:?}");
        assert!(operated(&channel, TENANT, &headers).await != "done", "{headers:?}");
    }
    assert_eq!(health(&channel).await, ServingStatus::Serving);
    assert_eq!(health_command(&mut site, &server), Some(0));

    let second = String::from_utf8(site.run().stderr).unwrap();
    assert!(second.contains("another process listens on it"), "{second}");
    server.kill();
    assert!(path.exists(), "what a killed process leaves");
    let mut server = site.start();
    assert_eq!(described(&socket(&path).await, TENANT, &xfcc(shop)).await, KNOWN);
    server.terminate();
    assert_eq!(server.exit_code().await, Some(0));
    assert!(!path.exists());
    assert_eq!(site.command(&["health"]).status.code(), Some(1));
}

#[tokio::test]
async fn operators_have_a_listener_of_their_own() {
    let site = Site::embedded().configured(&callers()).with("OTPD__ADMIN__LISTEN", "127.0.0.1:0");
    let server = site.start();
    let (otp, admin) = (plain(&server.grpc).await, plain(&server.admin()).await);
    let (shop, ops) = ([("authorization", "Bearer shop-token")], [("authorization", "Bearer ops-token")]);
    for (channel, is_admin) in [(&otp, false), (&admin, true)] {
        for (headers, known, may_operate) in [(&shop, KNOWN, FORBIDDEN), (&ops, KNOWN, "done")] {
            let (described, operated) =
                (described(channel, TENANT, headers).await, operated(channel, TENANT, headers).await);
            let expected = if is_admin { (ELSEWHERE, may_operate) } else { (known, ELSEWHERE) };
            assert_eq!((described.as_str(), operated.as_str()), expected, "{headers:?}");
        }
        assert_eq!(health(channel).await, ServingStatus::Serving);
    }
    assert_eq!(operated(&admin, TENANT, &[]).await, UNKNOWN);
}

/// Callers that are not known take nothing from those that are.
#[tokio::test]
async fn strangers_take_no_permits() {
    let site = Site::embedded().configured(&callers()).with("OTPD__SERVER__MAX_IN_FLIGHT", "1");
    let server = site.start();
    let (strange, known) = (plain(&server.grpc).await, plain(&server.grpc).await);
    let end = Deadline::after(Duration::from_secs(1));
    let mut flood = JoinSet::new();
    for _ in 0..16 {
        let channel = strange.clone();
        flood.spawn(async move {
            while !end.remaining().is_zero() {
                assert_eq!(described(&channel, TENANT, &[]).await, UNKNOWN);
            }
        });
    }
    let shop = [("authorization", "Bearer shop-token")];
    for _ in 0..50 {
        assert_eq!(described(&known, TENANT, &shop).await, KNOWN);
    }
    assert_eq!(flood.join_all().await.len(), 16);
}
