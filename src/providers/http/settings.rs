//! The settings that every provider over HTTP has.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::Uri;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::proxy::{ProxyChoice, ProxyVariables};
use crate::{
    providers::guard::GuardSettings,
    settings::{Section, values},
};

const SECOND: Duration = Duration::from_secs(1);

/// How a provider is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// The bounds of its calls.
    pub guard: GuardSettings,
    /// How long connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// The proxy; unset: what the environment says.
    pub proxy: Option<ProxyChoice>,
    /// The proxies of the environment.
    pub variables: ProxyVariables,
    /// Whether requests tell the provider of the trace (`traceparent`).
    pub propagate_trace: bool,
    /// Certificate authorities instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain that otpd presents.
    pub client_certificate_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
}

impl HttpSettings {
    /// Reads them from a provider's section.
    pub fn read(section: &mut Section<'_>) -> Self {
        let span = |most| values::span(Duration::from_millis(10)..=most);
        let settings = Self {
            guard: GuardSettings::read(section, 256),
            connect_timeout: section.text("connect_timeout", span(30 * SECOND)).unwrap_or(2 * SECOND),
            proxy: section.optional_secret("proxy", ProxyChoice::parse),
            variables: ProxyVariables::default(),
            propagate_trace: section.boolean("propagate_trace").unwrap_or(false),
            ca_file: section.optional_text("ca_file", values::path),
            client_certificate_file: section.optional_text("client_certificate_file", values::path),
            client_key_file: section.optional_text("client_key_file", values::path),
        };
        if settings.connect_timeout > settings.guard.timeout {
            section.cross_field_error("connect_timeout", "must be at most timeout");
        }
        if settings.client_certificate_file.is_some() != settings.client_key_file.is_some() {
            section.cross_field_error("client_key_file", "goes with client_certificate_file: set both or none");
        }
        settings
    }

    /// The TLS configuration.
    ///
    /// # Errors
    /// A file cannot be read, or holds no certificate or key.
    pub(super) fn tls(&self) -> io::Result<ClientConfig> {
        let builder = trusting(self.ca_file.as_deref())?;
        match (&self.client_certificate_file, &self.client_key_file) {
            (Some(chain), Some(key)) => {
                let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| wrong(key, "a private key"))?;
                builder.with_client_auth_cert(certificates(chain)?, key).map_err(io::Error::other)
            }
            _ => Ok(builder.with_no_client_auth()),
        }
    }
}

/// A TLS configuration that trusts the authorities in a file, or else the public ones.
///
/// # Errors
/// The file cannot be read, or holds no certificate.
pub(in crate::providers) fn trusting(
    ca_file: Option<&Path>,
) -> io::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => certificates(path)?.into_iter().try_for_each(|ca| roots.add(ca)).map_err(io::Error::other)?,
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    certificates.ok().filter(|found| !found.is_empty()).ok_or_else(|| wrong(path, "certificates"))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

fn wrong(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: holds no {what} in PEM", path.display()))
}

/// Where a provider's API begins: scheme, host and path, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// Reads `base_url` from a provider's section; by default it is the provider's own.
    pub fn read(section: &mut Section<'_>, default: Option<&str>) -> Option<Self> {
        let given = section.text("base_url", Self::parse);
        let url = given.or_else(|| default.and_then(|text| Self::parse(text).ok()));
        if url.is_none() {
            section.missing("base_url", "the URL of the provider's API");
        }
        url
    }

    /// Parses a URL.
    ///
    /// # Errors
    /// It is not an http or https URL with a host, or it has a query.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be a URL such as https://api.example.com, without a query".to_owned();
        let uri: Uri = text.trim().parse().map_err(|_| wrong())?;
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let host = uri.host().is_some_and(|host| !host.is_empty());
        let plain = host && uri.query().is_none() && !text.contains(['@', '#']);
        if scheme && plain { Ok(Self(text.trim().trim_end_matches('/').to_owned())) } else { Err(wrong()) }
    }

    /// The URL of a path below it, which begins with a slash.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether what is sent there can be read on the way: without TLS, and to another machine.
    pub(crate) fn is_open(&self) -> bool {
        self.uri().as_ref().and_then(Uri::scheme_str) == Some("http") && !self.is_loopback()
    }

    /// Whether it is on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        self.uri().is_some_and(|uri| is_loopback(&uri))
    }

    /// The whole URL.
    pub(super) fn uri(&self) -> Option<Uri> {
        self.0.parse().ok()
    }
}

/// Whether a URL is on this machine.
pub(super) fn is_loopback(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_scheme_a_host_and_perhaps_a_path() {
        for good in ["https://api.example.com", "http://127.0.0.1:8080/v1/", " https://[::1]/ ", "HTTPS://Example.com"]
        {
            assert!(BaseUrl::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.example.com",
            "ftp://a",
            "https://",
            "https://:443",
            "https://a?b",
            "https://a#b",
            "https://u:p@a",
        ] {
            assert!(BaseUrl::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(BaseUrl::parse("https://a/v1/").unwrap().join("/x"), "https://a/v1/x");
    }

    #[test]
    fn plain_http_is_open_but_for_this_machine() {
        for (text, open) in [
            ("http://a", true),
            ("HTTP://a", true),
            ("https://a", false),
            ("http://127.0.0.1:1", false),
            ("http://localhost", false),
            ("http://[::1]:1", false),
        ] {
            assert_eq!(BaseUrl::parse(text).unwrap().is_open(), open, "{text}");
        }
    }
}
