//! Certificates of an authority of the test's own.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;

/// From when until when certificates are valid.
const YEARS: (i32, i32) = (2000, 3000);

/// An authority that nobody knows.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub(crate) struct Issued {
    certificate: Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of a server on this machine.
    pub(crate) fn server(&self) -> Issued {
        self.issue(vec![SanType::DnsName("localhost".try_into().unwrap())], ExtendedKeyUsagePurpose::ServerAuth, YEARS)
    }

    /// A certificate of a sidecar on this machine, which has this SPIFFE id too.
    pub(crate) fn sidecar(&self, id: &str) -> Issued {
        let names = vec![SanType::DnsName("localhost".try_into().unwrap()), SanType::URI(id.try_into().unwrap())];
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth, YEARS)
    }

    /// A certificate of a caller with these URIs and DNS names.
    pub(crate) fn client(&self, uris: &[&str], dns: &[&str]) -> Issued {
        let uris = uris.iter().map(|&uri| SanType::URI(uri.try_into().unwrap()));
        let names = uris.chain(dns.iter().map(|&name| SanType::DnsName(name.try_into().unwrap()))).collect();
        self.issue(names, ExtendedKeyUsagePurpose::ClientAuth, YEARS)
    }

    /// Certificates with the URI of a caller that no server takes: one whose time is over, one whose time is to come, and one that is
    /// for servers.
    pub(crate) fn useless(&self, uri: &str) -> [Issued; 3] {
        let names = || vec![SanType::URI(uri.try_into().unwrap())];
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        [
            self.issue(names(), client.clone(), (2000, 2001)),
            self.issue(names(), client, (3000, 3001)),
            self.issue(names(), ExtendedKeyUsagePurpose::ServerAuth, YEARS),
        ]
    }

    fn issue(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose, (from, until): (i32, i32)) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let key = KeyPair::generate().unwrap();
        Issued { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

impl Issued {
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// Writes `tls.pem` and `tls.key`, one after the other.
    pub(crate) fn write(&self, folder: &Path) {
        fs::write(folder.join("tls.key"), self.key.serialize_pem()).unwrap();
        fs::write(folder.join("tls.pem"), self.certificate.pem()).unwrap();
    }
}
