//! A copy of the embedded store with the key that is kept beside it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::Config,
    keys::generate,
    ports::{
        clock::{Clock, SystemClock},
        store::StoreError,
    },
    stores::{StoreUrl, StoreUrlError, embedded},
};

/// There is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The address of the store is wrong.
    #[error("store.url: {0}")]
    Url(#[from] StoreUrlError),
    /// The store is elsewhere.
    #[error("store.url: only an embedded store is backed up like this; back a Redis up by its own means")]
    NotEmbedded,
    /// The store cannot be read, or the copy not written.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The key cannot be copied.
    #[error("{path}: the master key beside the store cannot be copied: {cause}")]
    Key {
        /// The folder of the store.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

/// Copies the store that the configuration names, whether a process runs on it or not. The copy is in `to` when it is whole.
///
/// # Errors
/// There is no copy then.
pub fn back_up(config: &Config, to: &Path) -> Result<(), BackupError> {
    let url: StoreUrl = config.store.url.expose().parse()?;
    let folder = url.directory().ok_or(BackupError::NotEmbedded)?;
    let backup = embedded::back_up(folder, to, SystemClock.now())?;
    let copied = generate::copy_kept(folder, backup.folder());
    copied.map_err(|cause| BackupError::Key { path: folder.to_owned(), cause })?;
    Ok(backup.finish()?)
}
