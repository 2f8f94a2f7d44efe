//! Encryption of connections to Redis.
//!
//! The files are read at every connect, so that a certificate that was replaced is used without a restart.

use std::{path::Path, sync::Arc};

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::{ports::store::StoreError, stores::TlsFiles};

/// What the files hold, in PEM form.
pub(super) struct TlsMaterial {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsMaterial {
    /// Reads the files.
    pub(super) async fn read(files: &TlsFiles) -> Result<Self, StoreError> {
        let ca = match &files.ca {
            Some(path) => Some(read("store.ca_file", path).await?),
            None => None,
        };
        let client = match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let certificate = read("store.client_certificate_file", certificate).await?;
                Some((certificate, read("store.client_key_file", key).await?))
            }
            _ => None,
        };
        Ok(Self { ca, client })
    }

    /// For connections that redis-rs makes.
    pub(super) fn certificates(self) -> TlsCertificates {
        let client_tls = self.client.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        TlsCertificates { client_tls, root_cert: self.ca }
    }

    /// For connections that we make. Without a file, the authorities are those that Mozilla trusts.
    pub(super) fn connector(&self) -> Result<TlsConnector, StoreError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(pem) => {
                let wrong = |cause: String| unusable("store.ca_file", &cause);
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|cause| wrong(cause.to_string()))?;
                    roots.add(certificate).map_err(|cause| wrong(cause.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(wrong("it holds no certificate".to_owned()));
                }
            }
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let Some((certificate, key)) = &self.client else {
            return Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())));
        };
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|cause| unusable("store.client_certificate_file", &cause.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(key);
        let key = key.map_err(|cause| unusable("store.client_key_file", &cause.to_string()))?;
        let config = config.with_client_auth_cert(chain, key);
        let config = config.map_err(|cause| unusable("store.client_certificate_file", &cause.to_string()))?;
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The name that the certificate of a server must be for.
pub(super) fn server_name(name: &str) -> Result<ServerName<'static>, StoreError> {
    let parsed = ServerName::try_from(name.to_owned());
    parsed.map_err(|_| StoreError::lasting("connect", "the server's name is no name that a certificate can be for"))
}

async fn read(setting: &str, path: &Path) -> Result<Vec<u8>, StoreError> {
    tokio::fs::read(path).await.map_err(|cause| unusable(setting, &format!("{}: {cause}", path.display())))
}

fn unusable(setting: &str, cause: &str) -> StoreError {
    StoreError::lasting("connect", format!("{setting}: {cause}"))
}
