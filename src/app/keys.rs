//! Looking over a store for the keys that are in use.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    App, Cause, StartError,
    parts::{key_ring, open_store},
};
use crate::{
    config::Config,
    metrics::Metrics,
    ports::{
        clock::{Deadline, SystemClock},
        entropy::SystemEntropy,
        store::{Store, StoreError},
    },
    service::{
        key_usage::{KeyReview, KeyUsage},
        witness::WitnessPorts,
    },
    stores::StoreUrl,
};

/// How long a store may take to answer for the first time.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the store has to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl App {
    /// Walks over all records of the configured store, and seals those anew that are not under the active key, if asked to.
    /// `progress` is called now and then.
    ///
    /// # Errors
    /// The keys or the store cannot be had, do not belong together, or the store fails.
    pub async fn review_keys(
        config: &Config,
        reseal: bool,
        progress: impl FnMut(&KeyUsage),
    ) -> Result<KeyUsage, StartError> {
        let url: StoreUrl = config.store.url.expose().parse().map_err(|cause| StartError::Store(Box::new(cause)))?;
        let folder = url.directory().map(Path::to_owned);
        if let Some(folder) = folder.as_ref().filter(|folder| !folder.is_dir()) {
            return Err(StartError::Store(format!("there is no store in {}", folder.display()).into()));
        }
        let store = open_store(config, url, Arc::new(SystemClock)).await?;
        let keys = Arc::new(key_ring(config, folder.as_deref(), &SystemEntropy)?);
        let observer = Arc::new(Metrics::default());
        let ports = WitnessPorts { store: Arc::clone(&store), keys, entropy: Arc::new(SystemEntropy), observer };
        let reviewed = review(&*store, &KeyReview::new(ports), reseal, progress).await;
        store.close(Deadline::after(CLOSE_TIMEOUT)).await;
        reviewed
    }
}

async fn review(
    store: &dyn Store,
    review: &KeyReview,
    reseal: bool,
    progress: impl FnMut(&KeyUsage),
) -> Result<KeyUsage, StartError> {
    let failed = |error: Cause| StartError::Store(error);
    until_it_answers(store).await.map_err(|error| failed(error.into()))?;
    let checked = review.check_keys().await.map_err(|error| failed(error.into()))?;
    checked.map_err(|wrong| StartError::Keys(wrong.into()))?;
    review.walk(reseal, progress).await.map_err(|error| failed(error.into()))
}

/// A server may take a moment to be connected to.
async fn until_it_answers(store: &dyn Store) -> Result<(), StoreError> {
    let until = Deadline::after(FIRST_ANSWER);
    loop {
        match store.check(until).await {
            Err(error) if !error.is_final && until.remaining() > PAUSE => sleep(PAUSE).await,
            answered => return answered.map(drop),
        }
    }
}
