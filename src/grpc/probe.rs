//! A client of `grpc.health.v1` that asks a server of this machine, in whatever way it listens.

use std::{error::Error, io, net::SocketAddr, path::PathBuf, sync::Arc};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tower::service_fn;

/// Where a server is asked.
#[derive(Clone, Debug)]
pub(crate) enum ProbeTarget {
    /// In plain text.
    Plain(SocketAddr),
    /// With TLS.
    Encrypted(SocketAddr),
    /// On a Unix socket.
    Socket(PathBuf),
}

/// How a service does.
///
/// # Errors
/// There is no answer, or it is none.
pub(crate) async fn ask(target: ProbeTarget, service: &str) -> Result<ServingStatus, Box<dyn Error + Send + Sync>> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(connect(target).await?).check(request).await;
    Ok(answer.map_err(|status| status.message().to_owned())?.into_inner().status())
}

async fn connect(target: ProbeTarget) -> Result<Channel, tonic::transport::Error> {
    let connector = service_fn(move |_| {
        let target = target.clone();
        async move {
            let stream = match target {
                ProbeTarget::Plain(address) => Either::Left(Either::Left(TcpStream::connect(address).await?)),
                ProbeTarget::Socket(path) => Either::Left(Either::Right(UnixStream::connect(path).await?)),
                ProbeTarget::Encrypted(address) => {
                    let stream = TcpStream::connect(address).await?;
                    let connector = TlsConnector::from(Arc::new(client().map_err(io::Error::other)?));
                    Either::Right(connector.connect(ServerName::from(address.ip()), stream).await?)
                }
            };
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    // The name is in no certificate and asked for by nobody: the connector knows where to go.
    Endpoint::from_static("http://otpd").connect_with_connector(connector).await
}

fn client() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let anybody = builder.dangerous().with_custom_certificate_verifier(Arc::new(OwnMachine(provider)));
    let mut config = anybody.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Takes any certificate. Nothing secret is said to whoever listens on an address of this machine, and a probe that took the
/// certificate of the configured file only would fail, and have the process restarted, while a new one is taken over or a
/// broken one was refused.
#[derive(Debug)]
struct OwnMachine(Arc<CryptoProvider>);

impl ServerCertVerifier for OwnMachine {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
