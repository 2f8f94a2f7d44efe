//! `[server]`, `[operations]` and `[requests]`: where otpd listens, and the limits of calls and their time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::{
    listen::Listen,
    profile::{Force, Profile},
    server_tls::{self, ServerTlsFiles},
};
use crate::{
    domain::identity::SidecarTrust,
    settings::{Section, values},
};

const SECOND: Duration = Duration::from_secs(1);
/// What the end of the process may take after the drain: 5 s for store and audit to close (`lifecycle`), 1 s for the last answers to
/// probes (`app`), 2 s for the last traces (`telemetry`), and somewhat more than a second for the last lines of the log.
const CLOSING: Duration = Duration::from_secs(10);
/// What Kubernetes grants before it kills, where nothing else is set (`terminationGracePeriodSeconds`).
const USUAL_GRACE: Duration = Duration::from_secs(30);

/// The gRPC server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub listen: Listen,
    /// Where `OtpAdminService` is served, and nothing else is; `None`: beside `OtpService`.
    pub admin: Option<Listen>,
    /// Who may connect to Unix sockets, as their mode.
    pub socket_mode: u32,
    /// The certificate that the server shows on IP addresses; `None`: it does not encrypt.
    pub tls: Option<ServerTlsFiles>,
    /// Which headers of a sidecar are believed.
    pub sidecar: SidecarTrust,
    /// How many calls may be in flight; more are refused before any work.
    pub max_in_flight: u32,
    /// Connections open at once. One more replaces one without a call at work, or is refused.
    pub max_connections: u32,
    /// How long a call may take at most, whatever the caller's own deadline.
    pub request_timeout: Duration,
    /// Whether reflection is served.
    pub reflection: bool,
    /// How long it keeps serving after health says otherwise, so that load balancers stop sending calls first.
    pub drain_delay: Duration,
    /// How long calls in flight, and their work, may then take to end.
    pub drain_timeout: Duration,
    /// The age at which a connection is closed, so that callers spread over replicas again; `None`: never.
    pub max_connection_age: Option<Duration>,
}

impl Server {
    pub(super) fn read(section: &mut Section<'_>, admin: Option<Listen>, profile: Profile, force: Force) -> Self {
        // As long as a balancer that asks for health once a second needs to notice, and orchestrators to tell all of theirs.
        let drain_delay = match profile {
            Profile::Development => 3 * SECOND,
            Profile::Production => 5 * SECOND,
        };
        let reflection = section.boolean("reflection").unwrap_or(profile == Profile::Development);
        if reflection && profile == Profile::Production && !force.reflection {
            section.cross_field_error("reflection", "is refused by profile production unless force.reflection is set");
        }
        Self {
            reflection,
            listen: section.text("listen", Listen::parse).unwrap_or_else(|| Listen::local(50051)),
            admin,
            socket_mode: section.text("socket_mode", socket_mode).unwrap_or(0o660),
            tls: section.section("tls", ServerTlsFiles::read),
            sidecar: section.section("sidecar", server_tls::sidecar),
            max_in_flight: section.integer("max_in_flight", 1..=1_000_000).unwrap_or(512),
            max_connections: section.integer("max_connections", 1..=1_000_000).unwrap_or(4096),
            request_timeout: section.text("request_timeout", values::span(SECOND..=60 * SECOND)).unwrap_or(10 * SECOND),
            drain_delay: section
                .text("drain_delay", values::span(Duration::ZERO..=300 * SECOND))
                .unwrap_or(drain_delay),
            drain_timeout: section.text("drain_timeout", values::span(SECOND..=600 * SECOND)).unwrap_or(15 * SECOND),
            max_connection_age: section
                .optional_text("max_connection_age", values::span(10 * SECOND..=30 * 86_400 * SECOND)),
        }
    }

    /// What may cost calls when the process ends.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.drain_timeout < self.request_timeout {
            let setting = "server.drain_timeout is shorter than server.request_timeout";
            warnings.push(format!("{setting}: calls may be cut off when the process ends"));
        }
        let end = self.drain_delay + self.drain_timeout + CLOSING;
        if end > USUAL_GRACE {
            let grace = "the 30 s that Kubernetes grants by default: raise terminationGracePeriodSeconds, or lower \
                         server.drain_delay or server.drain_timeout";
            warnings.push(format!("the end of the process may take {} s, longer than {grace}", end.as_secs()));
        }
        warnings
    }

    /// Where it listens, with the names of the settings.
    pub fn listeners(&self) -> impl Iterator<Item = (&'static str, &Listen)> {
        let admin = self.admin.as_ref().map(|listen| ("admin.listen", listen));
        [("server.listen", &self.listen)].into_iter().chain(admin)
    }
}

/// `[admin]`: where operators call.
pub(super) fn admin(section: &mut Section<'_>) -> Option<Listen> {
    section.optional_text("listen", Listen::parse)
}

/// The mode of a Unix socket: those who may write may connect.
fn socket_mode(text: &str) -> Result<u32, String> {
    let is_octal = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = if is_octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| "must be a mode in octal digits, such as \"0660\"".to_owned())
}

/// The operations server: plain HTTP for probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// Where it listens. Port 0: the operating system chooses.
    pub listen: SocketAddr,
}

impl Operations {
    pub(super) fn read(section: &mut Section<'_>, server: &Server) -> Self {
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);
        let listen = section.text("listen", values::address).unwrap_or(local);
        for (setting, other) in server.listeners() {
            if other.overlaps(&Listen::Address(listen)) {
                section.cross_field_error("listen", format!("must differ from {setting}"));
            }
        }
        Self { listen }
    }
}

/// What each request must fulfil.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// How far a request's timestamp may be from the clock; `None`: any.
    pub max_timestamp_skew: Option<Duration>,
    /// Whether tenants without a section of their own are accepted; `None`: only while no tenant has one.
    pub accept_unlisted_tenants: Option<bool>,
}

impl Requests {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            max_timestamp_skew: section.optional_text("max_timestamp_skew", values::span(SECOND..=86_400 * SECOND)),
            accept_unlisted_tenants: section.boolean("accept_unlisted_tenants"),
        }
    }
}
