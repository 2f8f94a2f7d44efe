//! A stream of events outside of the process, bounded by whoever keeps it.

use async_trait::async_trait;

use super::{clock::Deadline, store::StoreError};

/// Takes events.
#[async_trait]
pub trait EventStream: Send + Sync {
    /// Adds events at the end, all or some: after an error they may be there, and are added again.
    ///
    /// # Errors
    /// They may not be there.
    async fn append(&self, events: &[Vec<u8>], deadline: Deadline) -> Result<(), StoreError>;
}
