//! TLS of the gRPC server: its certificate, and the certificates of its callers.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::{Arc, PoisonError, RwLock},
    task::Poll,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::extensions::GeneralName;

use super::callers::{CallerDirectory, ShownIdentity};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes that compute at once: more would stand before the calls that can run. One takes up to a millisecond.
const MAX_COMPUTING: usize = 16;
/// The tag of a URI among the names of a certificate (RFC 5280, 4.2.1.6).
const URI_TAG: u32 = 6;
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
pub(crate) struct TlsServer {
    acceptor: RwLock<TlsAcceptor>,
    computing: Semaphore,
}

impl TlsServer {
    pub(crate) fn new(loaded: &LoadedTls) -> Self {
        let acceptor = RwLock::new(Arc::clone(&loaded.config).into());
        Self { acceptor, computing: Semaphore::new(MAX_COMPUTING) }
    }

    /// From now on, for new connections.
    pub(crate) fn replace(&self, loaded: &LoadedTls) {
        *self.acceptor.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded.config).into();
    }

    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.acceptor.read().unwrap_or_else(PoisonError::into_inner).clone();
        let handshake = by_turns(&self.computing, acceptor.accept(stream));
        timeout(HANDSHAKE, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Each poll of the work takes a permit, and none is taken while it waits: who connects and says nothing keeps nobody out.
async fn by_turns<T>(permits: &Semaphore, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        // Never closed.
        let permit = permits.acquire().await;
        let polled = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        drop(permit);
        if let Poll::Ready(done) = polled {
            return done;
        }
        woken().await;
    }
}

/// Waits until something wakes the task that was to be woken.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| if std::mem::replace(&mut is_woken, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// What the certificate of the other side shows of it. Its signature was verified by the handshake.
pub(super) fn shown(stream: &TlsStream<TcpStream>, callers: &CallerDirectory) -> ShownIdentity {
    let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() else { return ShownIdentity::Nothing };
    match CertificateNames::of(certificate) {
        Some(names) => callers.of_certificate(names.uris.into_iter(), names.dns.into_iter()),
        None => ShownIdentity::Unknown,
    }
}

/// The names of a certificate that tell who it is.
#[derive(Debug, Default, PartialEq, Eq)]
struct CertificateNames<'a> {
    uris: Vec<&'a str>,
    dns: Vec<&'a str>,
}

impl<'a> CertificateNames<'a> {
    /// `None`: they, or one of its URIs, cannot be read. That it has a URI which tells nothing must not give its DNS names weight.
    fn of(certificate: &'a [u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let mut names = Self::default();
        let Some(listed) = certificate.subject_alternative_name().ok()? else { return Some(names) };
        for name in &listed.value.general_names {
            match name {
                GeneralName::URI(uri) => names.uris.push(uri),
                GeneralName::DNSName(name) => names.dns.push(name),
                GeneralName::Invalid(tag, _) if tag.0 == URI_TAG => return None,
                _ => {}
            }
        }
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use rcgen::{CertificateParams, CustomExtension, KeyPair};
    use tokio::sync::Notify;

    use super::*;

    const SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];

    /// A certificate with names of these tags and bytes.
    fn certificate(names: &[(u8, &[u8])]) -> Vec<u8> {
        let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
        let listed: Vec<u8> = names.iter().flat_map(|(tag, bytes)| [&[*tag, length(bytes)], *bytes].concat()).collect();
        let content = [&[0x30, length(&listed)], listed.as_slice()].concat();
        let mut params = CertificateParams::default();
        params.custom_extensions = vec![CustomExtension::from_oid_content(SUBJECT_ALT_NAME, content)];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_uri_that_cannot_be_read_leaves_a_certificate_without_names() {
        const URI: u8 = 0x86;
        const DNS: u8 = 0x82;
        const EMAIL: u8 = 0x81;
        let (shop, name) = (&b"spiffe://td/shop"[..], &b"shop.example"[..]);
        let table: &[(&[(u8, &[u8])], Option<(&[&str], &[&str])>)] = &[
            (&[(URI, shop)], Some((&["spiffe://td/shop"], &[]))),
            (&[(DNS, name), (URI, shop)], Some((&["spiffe://td/shop"], &["shop.example"]))),
            (&[(DNS, name), (EMAIL, b"\xff"), (DNS, b"\xff")], Some((&[], &["shop.example"]))),
            (&[(URI, b"spiffe://td/\xff"), (DNS, name)], None),
            (&[(DNS, name), (URI, b"\xff")], None),
            (&[(URI, shop), (URI, b"\xff")], None),
        ];
        for (names, expected) in table {
            let der = certificate(names);
            let found = CertificateNames::of(&der);
            let expected = expected.map(|(uris, dns)| CertificateNames { uris: uris.to_vec(), dns: dns.to_vec() });
            assert_eq!(found, expected, "{names:?}");
        }
        let params = CertificateParams::default();
        let without = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(CertificateNames::of(without.der()), Some(CertificateNames::default()));
        assert_eq!(CertificateNames::of(b"rubbish"), None);
    }

    #[tokio::test]
    async fn work_that_waits_keeps_no_other_out() {
        let permits = Semaphore::new(1);
        let (mut silent, go, turns) = (Vec::new(), Notify::new(), AtomicUsize::new(0));
        for _ in 0..10 {
            let mut waiting = Box::pin(by_turns(&permits, pending::<()>()));
            assert!(poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
            silent.push(waiting);
        }
        let work = async {
            for _ in 0..3 {
                go.notified().await;
                assert_eq!(permits.available_permits(), 0, "it is its turn");
                turns.fetch_add(1, Ordering::SeqCst);
            }
        };
        let wake = async {
            for done in 1..=3 {
                go.notify_one();
                while turns.load(Ordering::SeqCst) < done {
                    tokio::task::yield_now().await;
                }
            }
        };
        tokio::join!(by_turns(&permits, work), wake);
        assert_eq!(permits.available_permits(), 1);
    }
}
