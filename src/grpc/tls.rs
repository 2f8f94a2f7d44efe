//! TLS of the gRPC server: its certificate, and the certificates of its callers.

use std::{
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use webpki::EndEntityCert;

use super::callers::{CallerDirectory, Shown};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What is spoken: HTTP/2 (RFC 7301).
const ALPN: &[u8] = b"h2";

/// The contents of the files, in PEM.
pub(crate) struct TlsPem<'a> {
    /// The certificate, and those between it and its authority.
    pub(crate) certificate: &'a [u8],
    /// Its key.
    pub(crate) key: &'a [u8],
    /// The authorities of callers; `None`: they are not asked for a certificate.
    pub(crate) client_ca: Option<&'a [u8]>,
}

/// What is wrong with one of the files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.tls.{setting}: {message}")]
pub(crate) struct TlsError {
    pub(crate) setting: &'static str,
    pub(crate) message: String,
}

impl TlsError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting, message: message.into() }
    }
}

/// A certificate that can be served, and its time.
pub(crate) struct LoadedTls {
    config: Arc<ServerConfig>,
    /// Since when and until when it is valid, in seconds of Unix time.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl LoadedTls {
    /// Reads all, and says all that is wrong.
    pub(crate) fn of(pem: &TlsPem<'_>) -> Result<Self, Vec<TlsError>> {
        let provider = Arc::new(ring::default_provider());
        let chain = chain(pem.certificate);
        let key = PrivateKeyDer::from_pem_slice(pem.key);
        let key = key.map_err(|_| TlsError::new("key_file", "holds no private key in PEM"));
        let verifier = pem.client_ca.map(|client_ca| verifier(client_ca, &provider)).transpose();
        match (chain, key, verifier) {
            (Ok((chain, not_before, not_after)), Ok(key), Ok(verifier)) => {
                let config = config(chain, key, verifier, provider).map_err(|error| vec![error])?;
                Ok(Self { config: Arc::new(config), not_before, not_after })
            }
            (chain, key, verifier) => Err([chain.err(), key.err(), verifier.err()].into_iter().flatten().collect()),
        }
    }
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::new("certificate_file", error.to_string()))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::new("key_file", "is not the key of certificate_file"),
        error => TlsError::new("certificate_file", format!("cannot be used: {error}")),
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Connections live for long. Each new one shows its certificates anew, so that none outlives them.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn certificates(setting: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| TlsError::new(setting, "is no certificate in PEM"))?;
    if found.is_empty() { Err(TlsError::new(setting, "holds no certificate in PEM")) } else { Ok(found) }
}

/// A certificate with those that stand between it and its authority, and its time.
fn chain(pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, i64, i64), TlsError> {
    let wrong = || TlsError::new("certificate_file", "holds a certificate that cannot be read");
    let chain = certificates("certificate_file", pem)?;
    let first = chain.first().ok_or_else(wrong)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(first).map_err(|_| wrong())?;
    let validity = parsed.validity();
    let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    Ok((chain, not_before, not_after))
}

/// A caller is asked for a certificate and may have none: who it is may be told otherwise, and probes need no name. One that is
/// shown must be good.
fn verifier(pem: &[u8], provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let wrong = |error: String| TlsError::new("client_ca_file", format!("cannot be used: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca_file", pem)? {
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let built: Result<Arc<dyn ClientCertVerifier>, _> = builder.allow_unauthenticated().build();
    built.map_err(|error| wrong(error.to_string()))
}

/// What new connections are encrypted with. It is replaced when the files change; open connections go on.
pub(crate) struct TlsServer(RwLock<TlsAcceptor>);

impl TlsServer {
    pub(crate) fn new(loaded: &LoadedTls) -> Self {
        Self(RwLock::new(Arc::clone(&loaded.config).into()))
    }

    /// From now on, for new connections.
    pub(crate) fn replace(&self, loaded: &LoadedTls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded.config).into();
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        timeout(HANDSHAKE, acceptor.accept(stream)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What the certificate of the other side shows of it. Its signature was verified by the handshake.
pub(super) fn shown(stream: &TlsStream<TcpStream>, callers: &CallerDirectory) -> Shown {
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return Shown::Nothing };
    match EndEntityCert::try_from(certificate) {
        Ok(certificate) => callers.of_certificate(certificate.valid_uri_names(), certificate.valid_dns_names()),
        Err(_) => Shown::Unknown,
    }
}
