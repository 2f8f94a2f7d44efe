//! Connections to a server in each way that it listens, with headers of the test's choice.

use std::{io, path::Path, sync::Arc};

use hyper_util::rt::TokioIo;
use otpd::grpc::proto::{
    GetAccountRequest, GetChallengeRequest, otp_admin_service_client::OtpAdminServiceClient,
    otp_service_client::OtpServiceClient,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request,
    metadata::{MetadataKey, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::service_fn;

use crate::{
    caller::{Told, header_of},
    certificates::Issued,
    words::ended,
};

/// Names and values.
pub(crate) type Headers<'a> = &'a [(&'static str, &'a str)];

/// In plain text.
pub(crate) async fn plain(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Over a Unix socket.
pub(crate) async fn socket(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://otpd").connect_with_connector(connector).await.unwrap()
}

/// Who is trusted, and what is shown.
#[derive(Clone)]
pub(crate) struct TlsClient(Arc<ClientConfig>);

impl TlsClient {
    /// Trusts an authority, and shows a certificate if there is one.
    pub(crate) fn new(authority: &CertificateDer<'static>, shown: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(issued) => {
                let key = PrivateKeyDer::try_from(issued.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![issued.der()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(Arc::new(config))
    }

    /// A connection that says nothing yet.
    pub(crate) async fn connect(&self, address: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(&self.0)).connect(name, TcpStream::connect(address).await?).await
    }

    /// Encrypted.
    pub(crate) async fn channel(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let (client, address) = (self.clone(), address.to_owned());
        let connector = service_fn(move |_| {
            let (client, address) = (client.clone(), address.clone());
            async move { client.connect(&address).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://otpd").connect_with_connector(connector).await
    }
}

/// A request with headers.
pub(crate) fn with<T>(message: T, headers: Headers) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let value = MetadataValue::try_from(*value).unwrap();
        request.metadata_mut().append(MetadataKey::from_static(name), value);
    }
    request
}

/// How a caller is answered who describes a challenge that never was: as `NotFound INVALID_IDENTIFIER` where it is known.
pub(crate) async fn described(channel: &Channel, tenant: &str, headers: Headers<'_>) -> String {
    let message =
        GetChallengeRequest { request_header: header_of(tenant, "get"), authenticate_request_id: "never".into() };
    let answer: Told<_> = OtpServiceClient::new(channel.clone()).get_challenge(with(message, headers)).await;
    ended(&answer)
}

/// How a caller is answered who asks for an account: as `done` where it is an operator.
pub(crate) async fn operated(channel: &Channel, tenant: &str, headers: Headers<'_>) -> String {
    let message = GetAccountRequest {
        request_header: header_of(tenant, "get"),
        account_id: "nobody".into(),
        ..Default::default()
    };
    let answer: Told<_> = OtpAdminServiceClient::new(channel.clone()).get_account(with(message, headers)).await;
    ended(&answer)
}
