//! The stores, and how one is opened from its address.
//!
//! To add one: implement [`Store`] in `stores/<name>.rs`, give it a scheme in `stores/url.rs`, open it below, and run the
//! suite of `tests/store` over it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::task::TaskTracker;

use crate::{
    ports::{
        clock::Clock,
        event_stream::EventStream,
        observer::StoreCallObserver,
        store::{Store, StoreError},
    },
    secret::Secret,
};

pub mod embedded;
mod measured;
mod redis;
mod url;

use embedded::{Embedded, EmbeddedOptions, StoreTime};
use measured::Measured;
pub use url::{StoreUrl, StoreUrlError, with_login};

/// How to reach the store and how long to wait for it. Most of it is about Redis only.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Which store, and where.
    pub url: StoreUrl,
    /// The longest that one operation may take, where the request's own deadline is later.
    pub operation_timeout: Duration,
    /// The longest that setting up a connection to one server may take.
    pub connect_timeout: Duration,
    /// Whether to refuse a Redis that may evict keys, or that does not tell. Evicted keys are forgotten locks.
    pub require_noeviction: bool,
    /// Certificates, where the address asks for encryption.
    pub tls: TlsFiles,
    /// How to log in at sentinels. User and password of the address are for the servers that they name.
    pub sentinel: SentinelLogin,
    /// What must have a commit before it is told.
    pub confirmation: Confirmation,
    /// Whether to go on with what is left, where less is there than was acknowledged. The embedded store only.
    pub accept_loss: bool,
}

/// Certificates of encrypted connections, in PEM form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that servers are verified by. `None`: those that Mozilla trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate and those that it rests on, where servers ask for one.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
    /// The name that the certificate of the one server is for. `None`: the host of the address.
    pub server_name: Option<String>,
}

/// User and password at sentinels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentinelLogin {
    /// `None`: the default user.
    pub user: Option<String>,
    /// `None`: sentinels ask for none.
    pub password: Option<Secret<String>>,
}

/// What must have a commit before it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// So many replicas (`WAIT`).
    pub replicas: u32,
    /// The disk of the master, and the disks of these replicas (`WAITAOF`, Redis 7.2 and Valkey).
    pub disk: bool,
    /// How long to wait for that, within the operation's own time.
    pub timeout: Duration,
}

impl Confirmation {
    /// Whether anything is to be waited for.
    pub(crate) fn is_wanted(self) -> bool {
        self.replicas > 0 || self.disk
    }
}

impl StoreConfig {
    /// The defaults for an address: operations 2 s, connections 2 s, eviction warned about, nothing to be confirmed.
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            operation_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            require_noeviction: false,
            tls: TlsFiles::default(),
            sentinel: SentinelLogin::default(),
            confirmation: Confirmation::default(),
            accept_loss: false,
        }
    }
}

/// Opens the store. Its background tasks run on `tracker`; they end when the store is closed or dropped.
///
/// A Redis that cannot be reached now is connected to later: until then each operation fails. What waiting does not help, as
/// a wrong address or password, is an error.
pub async fn open(
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    tracker: &TaskTracker,
) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(directory) = config.url.directory() {
        let options = EmbeddedOptions { accept_loss: config.accept_loss, ..EmbeddedOptions::default() };
        let time = StoreTime::starting_at(clock);
        return Ok(Arc::new(Embedded::open_with(directory, time, tracker, options).await?));
    }
    Ok(Arc::new(redis::Redis::open(&config, tracker).await?))
}

/// A stream of events in the Redis of an address, over a connection of its own. It is connected to in the background, on
/// `tracker`, until what is returned is dropped.
///
/// # Errors
/// The address is not of a Redis.
pub fn open_event_stream(
    config: &StoreConfig,
    name: &str,
    max_length: u64,
    tracker: &TaskTracker,
) -> Result<Arc<dyn EventStream>, StoreError> {
    Ok(Arc::new(redis::event_stream::RedisStream::open(config, name, max_length, tracker)?))
}

/// The store of an address, with every operation observed, and in traces.
pub fn measured(store: Arc<dyn Store>, url: &StoreUrl, observer: Arc<dyn StoreCallObserver>) -> Arc<dyn Store> {
    let system = if url.directory().is_some() { "otpd.embedded" } else { "redis" };
    Arc::new(Measured::new(store, system, observer))
}

/// Whether an embedded store was ever written in a folder.
pub fn was_written(directory: &Path) -> bool {
    embedded::was_written(directory)
}
