//! The stores, and how one is opened from its address.
//!
//! To add one: implement [`Store`] in `stores/<name>.rs`, give it a scheme in `stores/url.rs`, open it below, and run the
//! suite of `tests/store` over it.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use crate::ports::{
    clock::Clock,
    store::{Store, StoreError},
};

pub mod embedded;
mod redis;
mod url;

use embedded::{Embedded, StoreTime};
pub use url::{StoreUrl, StoreUrlError};

/// How to reach the store and how long to wait for it.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Which store, and where.
    pub url: StoreUrl,
    /// The longest that one operation may take, where the request's own deadline is later. Redis only.
    pub operation_timeout: Duration,
    /// The longest that setting up a connection may take. Redis only.
    pub connect_timeout: Duration,
    /// Whether to refuse a Redis that may evict keys, or that does not tell. Evicted keys are forgotten locks.
    pub require_noeviction: bool,
}

impl StoreConfig {
    /// The defaults for an address: operations 2 s, connections 2 s, eviction warned about.
    pub fn new(url: StoreUrl) -> Self {
        Self {
            url,
            operation_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(2),
            require_noeviction: false,
        }
    }
}

/// Opens the store. Its background tasks run on `tracker`; they end when the store is closed or dropped.
///
/// Fails where the store cannot be reached now: a process that starts without its store has nothing to serve.
pub async fn open(
    config: StoreConfig,
    clock: Arc<dyn Clock>,
    tracker: &TaskTracker,
) -> Result<Arc<dyn Store>, StoreError> {
    if let Some(directory) = config.url.directory() {
        return Ok(Arc::new(Embedded::open(directory, StoreTime::starting_at(clock), tracker).await?));
    }
    Ok(Arc::new(redis::Redis::open(&config, tracker).await?))
}
