//! `smtp`: mails a code of otpd through a mail server (RFC 5321 and 6409).
//!
//! The commands are given one by one, so that it is known how far a failed delivery got: the mail can have been accepted only
//! after its last line was sent.

mod connection;
mod message;
mod reply;
mod stream;

use std::{fs, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::{
    Configured, ProviderDeps,
    adapter::settings,
    guard::{Guard, GuardSettings},
    http,
    mail::Envelope,
    mail_html::HtmlPart,
};
use crate::{
    domain::destination::Channel,
    ports::{
        clock::Deadline,
        provider::{Capabilities, Check, Checked, Delivered, Delivery, Failure, Provider},
    },
    secret::Secret,
    settings::{Section, values},
};
use connection::{Connections, Encryption};
use message::Mail;

/// Connections in flight, unless it is set: mail servers allow few of one client.
const MAX_IN_FLIGHT: usize = 8;

/// How the connection is encrypted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Security {
    /// From the start (RFC 8314, 3.3).
    Tls,
    /// After STARTTLS (RFC 3207), without which nothing is sent.
    StartTls,
    /// Not at all.
    None,
}

impl Security {
    const WORDS: [(&str, Self); 3] = [("tls", Self::Tls), ("starttls", Self::StartTls), ("none", Self::None)];

    /// The usual port (RFC 8314, 7; RFC 5321, 4.5.4.2).
    fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// A mail server and what mails have in common.
#[derive(Clone)]
struct Server {
    host: String,
    port: u16,
    security: Security,
    login: Option<(String, Secret<String>)>,
    hello_name: String,
    connect_timeout: Duration,
    ca_file: Option<std::path::PathBuf>,
}

/// What mails have in common.
#[derive(Clone)]
struct Style {
    envelope: Envelope,
    html: Option<HtmlPart>,
}

/// Reads the server.
pub(super) fn read(section: &mut Section<'_>) -> Option<Configured> {
    let guard = GuardSettings::read(section, MAX_IN_FLIGHT);
    let host = settings::required(section, "host", "the mail server", host);
    let security = section.text("security", values::word(&Security::WORDS)).unwrap_or(Security::Tls);
    let port = section.integer("port", 1..=65_535).unwrap_or(security.port());
    let user = section.optional_text("user", login);
    let password = section.optional_secret("password", |text| login(text).map(Secret::new));
    if user.is_some() != password.is_some() && !settings::is_wrong(section, "user") {
        section.cross_field_error("password", "goes with user: set both or none");
    }
    let envelope = Envelope::read(section);
    if envelope.as_ref().is_some_and(|envelope| message::address(envelope.from.expose()).is_none()) {
        section.cross_field_error("from", "must be an address that a mail can bear");
    }
    let html = HtmlPart::read(section);
    let hello_name = section.optional_text("hello_name", self::host);
    let span = values::span(Duration::from_millis(10)..=Duration::from_secs(30));
    let connect_timeout = section.text("connect_timeout", span).unwrap_or(Duration::from_secs(2));
    if connect_timeout > guard.timeout {
        section.cross_field_error("connect_timeout", "must be at most timeout");
    }
    let ca_file = section.optional_text("ca_file", values::path);
    if ca_file.is_some() && security == Security::None {
        section.cross_field_error("ca_file", "goes with encryption: security is none");
    }
    let (host, envelope) = (host?, envelope?);
    let hello_name = hello_name.unwrap_or_else(|| domain_of(&envelope).to_owned());
    let is_open = security == Security::None && !is_loopback(&host);
    let login = user.zip(password);
    let server = Server { host, port, security, login, hello_name, connect_timeout, ca_file };
    let style = Style { envelope, html };
    let build = move |name: &str, deps: &ProviderDeps| {
        let provider = Smtp::new(name, &server, style.clone(), &guard, deps)?;
        Ok(Arc::new(provider) as Arc<dyn Provider>)
    };
    let note = is_open.then(|| "security is none: codes and credentials can be read on the way".to_owned());
    Some(Configured {
        notes: note.into_iter().collect(),
        open: is_open.then_some(("security", "none leaves mail in the clear")),
        ..Configured::new(build)
    })
}

/// A host name or an address.
fn host(text: &str) -> Result<String, String> {
    let fits = (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'));
    if fits { Ok(text.to_owned()) } else { Err("must be a host such as smtp.example.com".to_owned()) }
}

/// A name or password of printable ASCII.
fn login(text: &str) -> Result<String, String> {
    settings::header_text(text)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn domain_of(envelope: &Envelope) -> &str {
    envelope.from.expose().rsplit_once('@').map_or("", |(_, domain)| domain)
}

/// A provider over SMTP.
struct Smtp {
    capabilities: Capabilities,
    guard: Guard,
    connections: Connections,
    style: Style,
}

impl Smtp {
    fn new(
        name: &str,
        server: &Server,
        style: Style,
        settings: &GuardSettings,
        deps: &ProviderDeps,
    ) -> io::Result<Self> {
        let capabilities = Capabilities { timeout: settings.timeout, ..Capabilities::delivers(vec![Channel::Email]) };
        let guard = Guard::new(name, settings, Arc::clone(&deps.clock));
        let guard = guard.observed(Arc::clone(&deps.observer), &capabilities);
        let encryption = match server.security {
            Security::Tls => {
                let config = http::trusting(server.ca_file.as_deref())?.with_no_client_auth();
                let host = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
                Encryption::AtOnce(TlsConnector::from(Arc::new(config)), host)
            }
            Security::StartTls => Encryption::Later(tls(server)?),
            Security::None => Encryption::None,
        };
        let connections = Connections::new(server.clone(), encryption, settings.max_in_flight, Arc::clone(&deps.clock));
        Ok(Self { capabilities, guard, connections, style })
    }
}

/// The TLS configuration for STARTTLS, whose certificates must be for the host.
fn tls(server: &Server) -> io::Result<TlsParameters> {
    let builder = TlsParameters::builder(server.host.clone());
    let builder = match &server.ca_file {
        Some(path) => {
            let name = |error| format!("{}: {error}", path.display());
            let pem = fs::read(path).map_err(|error| io::Error::new(error.kind(), name(error.to_string())))?;
            let none = || io::Error::other(name("holds no certificates in PEM".to_owned()));
            let certificates = Certificate::from_pem(&pem).map_err(|_| none())?;
            if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
                return Err(none());
            }
            builder.certificate_store(CertificateStore::None).add_root_certificate(certificates)
        }
        None => builder.certificate_store(CertificateStore::WebpkiRoots),
    };
    builder.build_rustls().map_err(io::Error::other)
}

#[async_trait]
impl Provider for Smtp {
    fn name(&self) -> &str {
        self.guard.name()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn is_ready(&self) -> bool {
        self.guard.is_ready()
    }

    fn is_resting(&self) -> bool {
        self.guard.is_resting()
    }

    fn refusal(&self) -> Option<Failure> {
        self.guard.refusal()
    }

    async fn deliver(&self, delivery: Delivery, deadline: Deadline) -> Delivered {
        let mail = match Mail::new(&delivery, &self.style) {
            Ok(mail) => mail,
            Err(error) => return Delivered::Unaskable(error),
        };
        let exchange = |deadline| self.connections.deliver(&mail, deadline);
        self.guard.call("deliver", deadline, exchange).await
    }

    async fn check(&self, _check: Check, _deadline: Deadline) -> Checked {
        Checked::Failed(Failure::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::adapter::settings::wrong_settings;

    const RIGHT: &str = "host = \"smtp.example.com\"\nfrom = \"otp@acme.example\"\nuser = \"u\"\npassword = \"p w\"";

    #[test]
    fn each_wrong_setting_is_reported_once() {
        wrong_settings(
            RIGHT,
            read,
            &[
                ("host", "host: required"),
                ("host = \"a/b\"", "host: must be a host"),
                ("from", "from: required"),
                ("password", "password: goes with user"),
                ("user", "password: goes with user"),
                ("security = \"ssl\"", "security: must be tls or starttls or none"),
                ("port = 0", "port: must be 1 to 65535"),
                ("connect_timeout = \"20s\"", "connect_timeout: must be at most timeout"),
                ("hello_name = \"a b\"", "hello_name: must be a host"),
                ("html = \"<p>\"", "html: must be HTML"),
            ],
        );
    }

    #[test]
    fn mail_that_can_be_read_on_the_way_is_noted() {
        let notes = |host: &str, security: &str| {
            let settings = format!("host = \"{host}\"\nsecurity = \"{security}\"\nfrom = \"otp@acme.example\"");
            settings::adapter_of(&settings, read).unwrap().notes().len()
        };
        assert_eq!(notes("smtp.example.com", "none"), 1);
        for (host, security) in
            [("127.0.0.1", "none"), ("localhost", "none"), ("::1", "none"), ("a.example", "starttls")]
        {
            assert_eq!(notes(host, security), 0, "{host} {security}");
        }
    }
}
