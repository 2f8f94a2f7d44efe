//! Bound listeners: on an IP address, or on a Unix socket.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream},
    time::{sleep, timeout},
};
use tokio_util::either::Either;

/// What the system keeps of what is written to a connection and not yet received.
const SEND_BUFFER: u32 = 256 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// How long another process that starts on a socket of the same folder is waited for, and how often it is looked at.
const OTHER_START: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// The bytes of a connection as they come.
pub(super) type Wire = Either<TcpStream, UnixStream>;

/// A listener that is bound.
pub(crate) enum BoundListener {
    /// To an IP address and a port.
    Address(TcpListener),
    /// To a Unix socket, which is removed with it.
    Socket(UnixListener, #[expect(dead_code, reason = "it is removed when this is dropped")] SocketFile),
}

impl BoundListener {
    /// Listens on a Unix socket, to which those may connect who may write to it by this mode. One that is left of a process that
    /// has died is replaced.
    ///
    /// # Errors
    /// Another process listens on it, something else has its name, or the system refuses.
    pub(crate) async fn on_socket(path: &Path, mode: u32) -> io::Result<Self> {
        let _locked = lock_folder(path).await?;
        remove_stale(path).await?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(path)?;
        let file = SocketFile::at(path)?;
        // Before anybody can connect.
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(Self::Socket(socket.listen(BACKLOG)?, file))
    }

    /// The next connection, and the address of the other side if it has one.
    pub(super) async fn accept(&self) -> io::Result<(Wire, Option<IpAddr>)> {
        match self {
            Self::Address(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are single small frames; waiting for more to send only delays them. Fails on a dead connection
                // only.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Some(address.ip())))
            }
            Self::Socket(listener, _) => Ok((Either::Right(listener.accept().await?.0), None)),
        }
    }
}

/// Listens on an IP address.
///
/// # Errors
/// The system refuses, as where another process listens there.
pub(crate) fn on_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Its connections have the same. The system would let them grow to megabytes, of answers that nobody reads.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The file of a Unix socket of ours. Removed when dropped, unless another process has replaced it meanwhile.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number: they tell it from one that has its name.
    identity: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // Left behind, it is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Keeps out other processes that start on a socket of the same folder, until it is dropped: each would take the other's socket,
/// bound and not listened on yet, for one that is left.
async fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let locking = async {
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    };
    let another = || io::Error::new(io::ErrorKind::WouldBlock, "another process has locked its folder");
    timeout(OTHER_START, locking).await.unwrap_or_else(|_| Err(another()))?;
    Ok(folder)
}

/// Removes a socket that nobody listens on any more.
async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what has this name is no socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on it")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otpd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let ours = BoundListener::on_socket(&path, 0o600).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let second = BoundListener::on_socket(&path, 0o600).await.err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(ours);
        assert!(!path.exists());

        fs::write(&path, "a file of somebody").unwrap();
        let refused = BoundListener::on_socket(&path, 0o600).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_several_that_start_at_once_one_listens() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = folder.path().join(format!("{round}.sock"));
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let starting: Vec<_> = (0..8)
                .map(|_| {
                    let path = path.clone();
                    tokio::spawn(async move { BoundListener::on_socket(&path, 0o600).await })
                })
                .collect();
            let mut listening = Vec::new();
            for start in starting {
                match start.await.unwrap() {
                    Ok(listener) => listening.push(listener),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
                }
            }
            assert_eq!(listening.len(), 1, "{round}");
            assert!(UnixStream::connect(&path).await.is_ok(), "{round}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_stays_locked_ends_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let other = File::open(folder.path()).unwrap();
        other.lock().unwrap();
        let path = folder.path().join("otpd.sock");
        let refused = BoundListener::on_socket(&path, 0o600).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(other);
        assert!(BoundListener::on_socket(&path, 0o600).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_was_replaced_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("otpd.sock");
        let ours = BoundListener::on_socket(&path, 0o600).await.unwrap();
        // Kept, so that its number is not used again.
        fs::rename(&path, folder.path().join("old")).unwrap();
        let _others = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }
}
