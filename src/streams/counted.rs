//! A connection that is counted as long as it is open.

use std::sync::Arc;

use crate::ports::observer::{ListenerName, ListenerObserver};

/// Counts an accepted connection until it is dropped.
pub(crate) struct CountedConnection {
    listener: ListenerName,
    observer: Arc<dyn ListenerObserver>,
}

impl CountedConnection {
    /// One more is open.
    pub(crate) fn open(listener: ListenerName, observer: &Arc<dyn ListenerObserver>) -> Self {
        observer.connection_opened(listener);
        Self { listener, observer: Arc::clone(observer) }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.observer.connection_closed(self.listener);
    }
}
