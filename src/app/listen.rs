//! Everything that otpd listens on.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use super::StartError;
use crate::{
    config::{Config, Listen},
    grpc::listener::{BoundListener, on_address},
    ports::observer::ListenerName,
};

/// Where otpd listens, with the ports that the system has chosen.
pub(super) struct Addresses {
    pub(super) server: Listen,
    pub(super) admin: Option<Listen>,
    pub(super) operations: SocketAddr,
}

/// All listeners.
pub(super) struct Bound {
    pub(super) server: BoundListener,
    pub(super) admin: Option<BoundListener>,
    pub(super) operations: TcpListener,
    pub(super) addresses: Addresses,
}

/// Listens everywhere.
///
/// # Errors
/// Another process listens there, or the system refuses.
pub(super) async fn all(config: &Config) -> Result<Bound, StartError> {
    let mode = config.server.socket_mode;
    let (server, server_address) = bind("server.listen", &config.server.listen, mode).await?;
    let (admin, admin_address) = match &config.server.admin {
        Some(listen) => {
            bind("admin.listen", listen, mode).await.map(|(bound, address)| (Some(bound), Some(address)))?
        }
        None => (None, None),
    };
    let refused = refused("operations.listen", &Listen::Address(config.operations.listen));
    let operations = on_address(config.operations.listen).map_err(&refused)?;
    let operations_address = operations.local_addr().map_err(&refused)?;
    let addresses = Addresses { server: server_address, admin: admin_address, operations: operations_address };
    Ok(Bound { server, admin, operations, addresses })
}

impl Bound {
    /// The listeners on IP addresses, which encrypt where that is configured.
    pub(super) fn encrypted(&self) -> Vec<ListenerName> {
        let Addresses { server, admin, .. } = &self.addresses;
        let listeners = [(ListenerName::Server, Some(server)), (ListenerName::Admin, admin.as_ref())];
        let on_address = listeners.into_iter().filter(|(_, listen)| matches!(listen, Some(Listen::Address(_))));
        on_address.map(|(name, _)| name).collect()
    }
}

async fn bind(setting: &'static str, listen: &Listen, mode: u32) -> Result<(BoundListener, Listen), StartError> {
    let refused = refused(setting, listen);
    match listen {
        Listen::Address(address) => {
            let listener = on_address(*address).map_err(&refused)?;
            let address = listener.local_addr().map_err(&refused)?;
            Ok((BoundListener::Address(listener), Listen::Address(address)))
        }
        Listen::Socket(path) => Ok((BoundListener::on_socket(path, mode).await.map_err(&refused)?, listen.clone())),
    }
}

fn refused(setting: &'static str, listen: &Listen) -> impl Fn(io::Error) -> StartError + use<> {
    let address = listen.clone();
    move |cause| StartError::Listen { setting, address: address.clone(), cause }
}
