//! Where a server listens: an IP address and a port, or a Unix socket.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

/// The longest path of a Unix socket on all systems, in bytes (`sun_path`, less the zero at its end).
const MAX_SOCKET_PATH: usize = 103;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// On an IP address. Port 0: the operating system chooses.
    Address(SocketAddr),
    /// On a Unix socket: for callers and sidecars of the same machine.
    Socket(PathBuf),
}

impl Listen {
    /// On loopback.
    pub(super) fn local(port: u16) -> Self {
        Self::Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be an IP address and a port, such as 127.0.0.1:50051, or unix: and a path".to_owned();
        let text = text.trim();
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Address).map_err(|_| wrong());
        };
        if !path.starts_with('/') {
            return Err("must be unix: and a path from the root, such as unix:/run/otpd/otpd.sock".to_owned());
        }
        if path.len() > MAX_SOCKET_PATH || path.contains('\0') {
            return Err(format!("the path of a Unix socket has at most {MAX_SOCKET_PATH} bytes"));
        }
        Ok(Self::Socket(PathBuf::from(path)))
    }

    /// Whether other machines can reach it.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Address(address) => !address.ip().to_canonical().is_loopback(),
            Self::Socket(_) => false,
        }
    }

    /// Whether both cannot be listened on at once.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => {
                let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() != 0 && one.port() == other.port() && same_host
            }
            (Self::Socket(one), Self::Socket(other)) => one == other,
            (Self::Address(_), Self::Socket(_)) | (Self::Socket(_), Self::Address(_)) => false,
        }
    }
}

/// As the setting is written.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
