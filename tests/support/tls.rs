//! A real Redis that speaks TLS, with certificates of an authority of the test's own. Included with `#[path]`, beside
//! `redis.rs` as `redis_server`.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::redis_server::{Port, Program, RedisServer};

/// A certificate and its key, each in a file.
pub(crate) struct CertificateFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// An authority that nobody knows, with a folder for what it issues.
pub(crate) struct TestAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl TestAuthority {
    /// A new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::Builder::new().prefix("otpd-ca-").tempdir().expect("a temporary folder");
        let authority = Self { issuer, folder };
        fs::write(authority.file(), authority.issuer.pem()).expect("the file is written");
        authority
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate of a server for these names and addresses.
    pub(crate) fn server(&self, names: &[&str]) -> CertificateFiles {
        self.issue("server", names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate of a client.
    pub(crate) fn client(&self) -> CertificateFiles {
        self.issue("client", &["otpd"], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, file: &str, names: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateFiles {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).expect("names");
        // OpenSSL takes a certificate for self-signed that has its issuer's name.
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let path = |suffix: &str| self.folder.path().join(format!("{file}-{}.{suffix}", names.join("-")));
        let files = CertificateFiles { certificate: path("pem"), key: path("key") };
        fs::write(&files.certificate, certificate.pem()).expect("the file is written");
        fs::write(&files.key, key.serialize_pem()).expect("the file is written");
        files
    }
}

/// A server that speaks TLS on a port of its own, besides its socket.
pub(crate) struct TlsServer {
    pub(crate) server: RedisServer,
    port: Port,
}

impl TlsServer {
    /// Starts one with this certificate. With `clients_of`, it refuses who shows no certificate of that authority.
    pub(crate) fn start(program: Program, own: &CertificateFiles, clients_of: Option<&TestAuthority>) -> Self {
        let port = Port::reserve();
        let number = port.number().to_string();
        let text = |path: &PathBuf| path.display().to_string();
        let (certificate, key) = (text(&own.certificate), text(&own.key));
        let mut options = vec!["--tls-port", &number, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        let authority = clients_of.map(|authority| text(&authority.file()));
        match &authority {
            Some(file) => options.extend(["--tls-auth-clients", "yes", "--tls-ca-cert-file", file]),
            None => options.extend(["--tls-auth-clients", "no"]),
        }
        Self { server: RedisServer::start_as(program, &options), port }
    }

    /// Its address under one of its names.
    pub(crate) fn url(&self, host: &str) -> String {
        format!("rediss://{host}:{}", self.port.number())
    }
}
