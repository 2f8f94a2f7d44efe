//! A stream of events, over a connection that no call waits for. All of it is one key, and so in one slot of a cluster.

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{connection::Connection, connector::Connector, link::Link};
use crate::{
    ports::{clock::Deadline, event_stream::EventStream, store::StoreError},
    stores::StoreConfig,
};

/// A stream, and about how many entries it keeps.
pub(in crate::stores) struct RedisStream {
    link: Link,
    name: String,
    max_length: u64,
}

impl RedisStream {
    /// Connects in the background.
    pub(in crate::stores) fn open(
        config: &StoreConfig,
        name: &str,
        max_length: u64,
        tracker: &TaskTracker,
    ) -> Result<Self, StoreError> {
        let servers = config.url.servers().ok_or_else(|| StoreError::lasting("open", "not a redis address"))?;
        // Only the first call in a process has an effect, and any provider will do.
        drop(rustls::crypto::ring::default_provider().install_default());
        let connector = Connector::new(config, servers, tracker).untold();
        Ok(Self { link: Link::keep(connector, None), name: name.to_owned(), max_length })
    }
}

#[async_trait]
impl EventStream for RedisStream {
    async fn append(&self, events: &[Vec<u8>], deadline: Deadline) -> Result<(), StoreError> {
        let mut adds = redis::pipe();
        for event in events {
            let add = adds.cmd("XADD").arg(&self.name).arg("MAXLEN").arg("~").arg(self.max_length);
            add.arg("*").arg("event").arg(event).ignore();
        }
        let adds = &adds;
        let asked = |mut connection: Connection| async move { adds.query_async(&mut connection).await };
        self.link.ask("audit", deadline, asked).await
    }
}
