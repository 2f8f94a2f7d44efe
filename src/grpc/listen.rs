//! Accepted connections, bounded: so many at once, and each must say within a while that it speaks HTTP/2. Beyond that
//! the keepalive of HTTP/2 finds the dead ones, and those that do nothing give way to new ones.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::listener::{BoundListener, Wire};
use crate::streams::limit::{ConnectionLimit, OpenConnection};

/// How long to wait when the system cannot accept, as without free file descriptors.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// A connection that was accepted. Nothing of it has been read.
pub(super) struct Accepted {
    pub(super) wire: Wire,
    pub(super) connection: Arc<OpenConnection>,
    /// Whether the other side is on this machine.
    pub(super) is_local: bool,
}

/// Accepts connections. Where all permits are taken by connections with calls at work, new ones are closed at once, so
/// that the caller's balancer looks elsewhere.
pub(super) struct Incoming {
    listener: BoundListener,
    limit: ConnectionLimit,
}

impl Incoming {
    pub(super) fn new(listener: BoundListener, limit: ConnectionLimit) -> Self {
        Self { listener, limit }
    }

    /// Accepts no more. The limit counts the calls of those that are open, and is needed as long as they are.
    pub(super) fn close(self) -> ConnectionLimit {
        self.limit
    }

    /// The next connection. Nothing is lost when it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Accepted {
        loop {
            match self.listener.accept().await {
                Ok((wire, peer)) => {
                    let Some(connection) = self.limit.admit(peer) else {
                        tracing::warn!(target: "otpd::wire", "a connection is refused: too many are open");
                        continue;
                    };
                    return Accepted { wire, connection, is_local: peer.is_none_or(is_loopback) };
                }
                Err(error) => {
                    tracing::warn!(target: "otpd::wire", %error, "cannot accept a connection");
                    sleep(AFTER_ACCEPT_ERROR).await;
                }
            }
        }
    }
}

/// Also as a listener for both versions of IP sees it.
fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_as_either_version_of_ip_sees_it() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            // The form that is no longer in use.
            ("::127.0.0.1", false),
            ("64:ff9b::7f00:1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(is_loopback(address.parse().unwrap()), expected, "{address}");
        }
    }
}
