//! `[server]`, `[operations]` and `[requests]`: where otpd listens, and the limits of calls and their time.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::profile::{Force, Profile};
use crate::settings::{Section, values};

const SECOND: Duration = Duration::from_secs(1);
/// What the end of the process may take after the drain: closing the store, and the last answers to probes (`lifecycle`).
const CLOSING: Duration = Duration::from_secs(6);
/// What Kubernetes grants before it kills, where nothing else is set (`terminationGracePeriodSeconds`).
const USUAL_GRACE: Duration = Duration::from_secs(30);

/// The gRPC server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it listens. Port 0: the operating system chooses.
    pub listen: SocketAddr,
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
    pub(super) fn read(section: &mut Section<'_>, profile: Profile, force: Force) -> Self {
        let reflection = section.boolean("reflection").unwrap_or(profile == Profile::Development);
        if reflection && profile == Profile::Production && !force.reflection {
            section.cross_field_error("reflection", "is refused by profile production unless force.reflection is set");
        }
        Self {
            reflection,
            listen: section.text("listen", values::address).unwrap_or_else(|| local(50051)),
            max_in_flight: section.integer("max_in_flight", 1..=1_000_000).unwrap_or(512),
            max_connections: section.integer("max_connections", 1..=1_000_000).unwrap_or(4096),
            request_timeout: section.text("request_timeout", values::span(SECOND..=60 * SECOND)).unwrap_or(10 * SECOND),
            drain_delay: section
                .text("drain_delay", values::span(Duration::ZERO..=300 * SECOND))
                .unwrap_or(5 * SECOND),
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
}

/// The operations server: plain HTTP for probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operations {
    /// Where it listens. Port 0: the operating system chooses.
    pub listen: SocketAddr,
}

impl Operations {
    pub(super) fn read(section: &mut Section<'_>, server: &Server) -> Self {
        let listen = section.text("listen", values::address).unwrap_or_else(|| local(9464));
        if overlap(listen, server.listen) {
            section.cross_field_error("listen", "must differ from server.listen");
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

/// Loopback: by default the listener is unencrypted and knows no callers, so other machines must not reach it.
fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_host
}
