//! A signal from anywhere to the one task that waits for it. It is raised once.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// A signal, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Signal {
    /// Raises it, and wakes the task that waits.
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        if let Some(waker) = self.waiting().take() {
            waker.wake();
        }
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Ready once it is raised. The task that asked last is the one that is woken.
    pub(crate) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_raised() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting();
        if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waiting = Some(cx.waker().clone());
        }
        // It may have been raised before the waker was there; after that, the waker is seen.
        if self.is_raised() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::Arc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn it_wakes_the_task_that_waits() {
        let signal = Arc::new(Signal::default());
        let raised = Arc::clone(&signal);
        let waited = async { poll_fn(|cx| signal.poll(cx)).await };
        let (waited, ()) = tokio::join!(tokio::time::timeout(Duration::from_secs(60), waited), async {
            tokio::task::yield_now().await;
            raised.raise();
        });
        assert!(waited.is_ok() && signal.is_raised());
    }
}
