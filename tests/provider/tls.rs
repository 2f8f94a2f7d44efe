//! TLS: whom we trust, what we show, and that it stays HTTP/1.1.

use std::{fs, path::Path, sync::Arc};

use otpd::ports::provider::Delivered;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring::default_provider,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};

use super::{
    probe::{FAILED, Probe, accepted, http_settings, success},
    server::{Act, Server},
};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of this authority for a name, and its key.
fn issue(ca: &Issuer, name: &str, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, ca).unwrap(), key)
}

async fn server(ca: &Issuer, name: &str, clients_of: Option<&Issuer>) -> Server {
    let (certificate, key) = issue(ca, name, ExtendedKeyUsagePurpose::ServerAuth);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients_of {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    // A server that would rather speak HTTP/2.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let server = Server::start_tls(config).await;
    server.otherwise(Act::Send(success("tls")));
    server
}

fn write(folder: &Path, file: &str, text: &str) -> String {
    let path = folder.join(file);
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn url(server: &Server) -> String {
    format!("https://localhost:{}", server.port())
}

#[tokio::test]
async fn an_authority_of_ones_own_takes_the_place_of_the_public_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (authority(), authority());
    let server = server(&ca, "localhost", None).await;
    let trusting = format!("ca_file = {:?}", write(folder.path(), "ca.pem", &ca.pem()));
    let distrusting = format!("ca_file = {:?}", write(folder.path(), "other.pem", &other.pem()));
    for settings in ["", distrusting.as_str()] {
        assert_eq!(Probe::new(&url(&server), settings).deliver().await, FAILED);
    }
    assert!(server.seen().is_empty());
    assert_eq!(Probe::new(&url(&server), &trusting).deliver().await, accepted("tls"));
    // The name counts: it is not the server's address that was certified.
    let by_address = format!("https://127.0.0.1:{}", server.port());
    assert_eq!(Probe::new(&by_address, &trusting).deliver().await, FAILED);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, clients) = (authority(), authority());
    let server = server(&ca, "localhost", Some(&clients)).await;
    let trusting = format!("ca_file = {:?}", write(folder.path(), "ca.pem", &ca.pem()));
    let (certificate, key) = issue(&clients, "otpd", ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = write(folder.path(), "client.pem", &certificate.pem());
    let key = write(folder.path(), "client.key", &key.serialize_pem());
    let showing = format!("{trusting}\nclient_certificate_file = {certificate:?}\nclient_key_file = {key:?}");
    assert_eq!(Probe::new(&url(&server), &showing).deliver().await, accepted("tls"));
    assert_eq!(server.seen().len(), 1);
    // In TLS 1.3 the server refuses after our side has finished: our request may have left by then.
    let refused = Probe::new(&url(&server), &trusting).deliver().await;
    assert!(matches!(refused, Delivered::Unknown | Delivered::Failed { .. }), "{refused:?}");
    assert!(server.seen().is_empty());
}

#[test]
fn files_that_hold_nothing_fit_are_refused_when_the_provider_is_built() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(folder.path(), "empty.pem", "");
    let (certificate, _) = issue(&authority(), "otpd", ExtendedKeyUsagePurpose::ClientAuth);
    let certificate = write(folder.path(), "client.pem", &certificate.pem());
    let other_key = write(folder.path(), "other.key", &KeyPair::generate().unwrap().serialize_pem());
    for settings in [
        "ca_file = \"absent.pem\"".to_owned(),
        format!("ca_file = {empty:?}"),
        format!("client_certificate_file = {certificate:?}\nclient_key_file = {empty:?}"),
        format!("client_certificate_file = {certificate:?}\nclient_key_file = {other_key:?}"),
    ] {
        assert!(Probe::try_new("https://localhost", &http_settings(&settings)).is_err(), "{settings}");
    }
}
