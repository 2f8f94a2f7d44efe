//! The running store's part of a backup: whoever may open the socket in its folder is sent all that is there at one moment.
//! What is made of it is in `copy.rs`.
//!
//! A line says what follows. Then come the number of the last batch, and the keys with their values, each after its length;
//! after the last, an empty key with how many they were.

use std::{
    fs,
    io::{self, BufRead, BufWriter, Read, Write},
    net::Shutdown,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use fjall::Slice;
use tokio::{net::UnixListener, sync::oneshot, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    disk::{Moment, Tables},
    failure::StoreFailure,
    readers::Readers,
};
use crate::ports::{files, store::StoreError};

/// The socket in the store's folder.
pub(super) const SOCKET: &str = "backup.sock";
/// The first line. Another format has another number.
const FIRST_LINE: &str = "otpd backup 1\n";
/// The longest that the other side may let us wait for it. The database keeps what a backup has yet to read.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// The longest value, with room to spare: a record is at most 64 KiB.
const VALUE_MAX: usize = 1 << 20;
const BUFFER: usize = 64 << 10;
/// How long to wait after a connection could not be accepted, as when there are no descriptors left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// Opens the socket, for the owner of the folder alone.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let (path, new) = (directory.join(SOCKET), directory.join(format!("{SOCKET}.new")));
    files::remove(&new)?;
    let listener = UnixListener::bind(&new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    // Replaces what an earlier process has left.
    fs::rename(&new, &path)?;
    Ok(listener)
}

/// Removes the socket. Only while the folder is locked: afterwards it may be another process'.
pub(super) fn end(directory: &Path) {
    // It is in nobody's way where it stays.
    let _ = fs::remove_file(directory.join(SOCKET));
}

/// What backups are made from.
pub(super) struct BackupSource {
    pub(super) tables: Arc<RwLock<Option<Tables>>>,
    pub(super) readers: Arc<Readers>,
    pub(super) failure: StoreFailure,
}

impl BackupSource {
    /// Serves one backup after the other, until the store is closed or dropped.
    pub(super) async fn serve(self, listener: UnixListener, ended: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = ended.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream.into_std(),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection for a backup");
                        sleep(ACCEPT_AGAIN).await;
                        continue;
                    }
                },
            };
            let sent = match stream {
                Ok(stream) => self.answer(stream, &ended).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok(keys) => tracing::info!(keys, "the store was backed up"),
                Err(error) => tracing::warn!(%error, "a backup was not completed"),
            }
        }
    }

    /// Sends all keys; how many these were. A thread of its own does it, which neither reads nor writes of calls wait for.
    async fn answer(&self, stream: UnixStream, ended: &CancellationToken) -> io::Result<u64> {
        let closed = || io::Error::other("the store is closed");
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(STALLED))?;
        let to_cut = stream.try_clone()?;
        let permit = self.readers.permit().await.ok_or_else(closed)?;
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)?;
        let (sender, mut sent) = oneshot::channel();
        let failure = self.failure.clone();
        let copying = move || {
            let keys = send(&tables.moment(), &failure, BufWriter::with_capacity(BUFFER, stream));
            // In this order: a closing store that has all permits knows that nothing has the database.
            drop(tables);
            drop(permit);
            drop(sender.send(keys));
        };
        thread::Builder::new().name("otpd-store-copy".to_owned()).spawn(copying)?;
        tokio::select! {
            keys = &mut sent => keys.map_err(|_| io::Error::other("the database gave up"))?,
            () = ended.cancelled() => {
                to_cut.shutdown(Shutdown::Both)?;
                Err(closed())
            }
        }
    }
}

fn send(moment: &Moment, failure: &StoreFailure, mut to: impl Write) -> io::Result<u64> {
    let failed = |error: StoreError| {
        failure.set(&error.cause);
        io::Error::other(error)
    };
    to.write_all(FIRST_LINE.as_bytes())?;
    to.write_all(&moment.sequence("back up").map_err(failed)?.to_be_bytes())?;
    let mut keys: u64 = 0;
    for pair in moment.all("back up") {
        let (key, value) = pair.map_err(failed)?;
        write_pair(&mut to, &key, &value)?;
        keys += 1;
    }
    write_pair(&mut to, &[], &keys.to_be_bytes())?;
    to.flush()?;
    Ok(keys)
}

fn write_pair(to: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    let key_length = u16::try_from(key.len()).map_err(io::Error::other)?;
    let value_length = u32::try_from(value.len()).map_err(io::Error::other)?;
    to.write_all(&key_length.to_be_bytes())?;
    to.write_all(&value_length.to_be_bytes())?;
    to.write_all(key)?;
    to.write_all(value)
}

/// Keys and values as a running store sends them. Ends after the last, or with an error.
pub(super) struct Received<R> {
    from: R,
    /// The number of the last batch.
    pub(super) sequence: u64,
    keys: u64,
    ended: bool,
}

impl<R: BufRead> Received<R> {
    pub(super) fn new(mut from: R) -> io::Result<Self> {
        let mut line = String::new();
        from.by_ref().take(FIRST_LINE.len() as u64).read_line(&mut line)?;
        if line != FIRST_LINE {
            return Err(io::Error::other("the process that has the store is of another version"));
        }
        let mut sequence = [0; 8];
        from.read_exact(&mut sequence)?;
        Ok(Self { from, sequence: u64::from_be_bytes(sequence), keys: 0, ended: false })
    }

    /// `None`: that was the last, and none is missing.
    fn pair(&mut self) -> io::Result<Option<(Slice, Slice)>> {
        let (mut key_length, mut value_length) = ([0; 2], [0; 4]);
        self.from.read_exact(&mut key_length)?;
        self.from.read_exact(&mut value_length)?;
        let value_length = usize::try_from(u32::from_be_bytes(value_length)).unwrap_or(usize::MAX);
        if value_length > VALUE_MAX {
            return Err(io::Error::other("a value is too long"));
        }
        let mut key = vec![0; usize::from(u16::from_be_bytes(key_length))];
        let mut value = vec![0; value_length];
        self.from.read_exact(&mut key)?;
        self.from.read_exact(&mut value)?;
        if !key.is_empty() {
            self.keys += 1;
            return Ok(Some((key.into(), value.into())));
        }
        if value != self.keys.to_be_bytes() {
            return Err(io::Error::other("keys are missing"));
        }
        Ok(None)
    }
}

impl<R: BufRead> Iterator for Received<R> {
    type Item = Result<(Slice, Slice), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let pair = self.pair().transpose();
        self.ended = !matches!(pair, Some(Ok(_)));
        pair.map(|pair| {
            pair.map_err(|cause| match cause.kind() {
                io::ErrorKind::UnexpectedEof => {
                    StoreError::new("back up", "the process that has the store stopped sending; its log may say why")
                }
                _ => StoreError::new("back up", format!("from the process that has the store: {cause}")),
            })
        })
    }
}
