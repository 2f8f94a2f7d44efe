//! How a server of this configuration is asked how it does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tonic_health::pb::health_check_response::ServingStatus;

use super::Cause;
use crate::{
    config::{Listen, Server},
    grpc::probe::{self, ProbeTarget},
};

/// How a service of the server does that listens on `server.listen`.
///
/// # Errors
/// It does not answer.
pub async fn health(server: &Server, service: &str) -> Result<ServingStatus, Cause> {
    let target = match &server.listen {
        Listen::Address(address) if server.tls.is_some() => ProbeTarget::Encrypted(reachable(*address)),
        Listen::Address(address) => ProbeTarget::Plain(reachable(*address)),
        Listen::Socket(path) => ProbeTarget::Socket(path.clone()),
    };
    probe::ask(target, service).await
}

/// Where a server that listens here can be asked: one that listens everywhere listens on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    SocketAddr::new(host, listen.port())
}
