//! Refunds after an answer: queued, and handed to the store in groups by one task.
//!
//! A refund that is lost, in a crash or because the queue is full, is not made up: the use counts until its window has passed.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::timing::FINISH;
use crate::{
    domain::ids::Token,
    ports::{
        clock::Deadline,
        store::{Name, Store},
    },
};

/// Refunds that may wait. A success makes a handful.
const QUEUE: usize = 8192;
/// Refunds that are handed to the store at once.
const GROUP: usize = 256;
/// How long refunds gather before a group is handed over.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes refunds.
#[derive(Clone)]
pub(super) struct Refunds {
    queue: mpsc::Sender<(Name, Token)>,
}

impl Refunds {
    /// Starts the task. It ends, with what is queued done, when the last sender is dropped.
    pub(super) fn start(store: Arc<dyn Store>, tasks: &TaskTracker) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tasks.spawn(serve(store, waiting));
        Self { queue }
    }

    pub(super) fn push(&self, quota: Name, token: Token) {
        if self.queue.try_send((quota, token)).is_err() {
            tracing::warn!("a refund is dropped: too many are waiting; the use counts until its window has passed");
        }
    }
}

async fn serve(store: Arc<dyn Store>, mut waiting: mpsc::Receiver<(Name, Token)>) {
    let mut group = Vec::with_capacity(GROUP);
    while waiting.recv_many(&mut group, GROUP).await > 0 {
        if let Err(error) = store.refund(&group, Deadline::after(FINISH)).await {
            tracing::warn!(%error, "quotas of verified challenges could not be refunded");
        }
        group.clear();
        tokio::time::sleep(PAUSE).await;
    }
}
