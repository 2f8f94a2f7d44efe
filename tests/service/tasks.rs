//! Requests at once, in the background, and of processes that die.

use std::future::Future;

use tokio::task::JoinSet;

/// Runs all at once and waits for all.
pub(crate) async fn at_once<F>(all: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut tasks = JoinSet::new();
    for one in all {
        tasks.spawn(one);
    }
    tasks.join_all().await
}

/// Starts something in the background.
pub(crate) fn start<F>(work: F) -> JoinSet<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    tasks
}

/// What became of it.
pub(crate) async fn ended<T: Send + 'static>(mut tasks: JoinSet<T>) -> T {
    tasks.join_next().await.expect("a task").expect("no panic")
}

/// Polls a future so many times, then drops it, as the death of the process does. `None`: it had not ended by then.
pub(crate) async fn killed_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// Polls a future until something has happened, then drops it.
pub(crate) async fn killed_when<F: Future>(happened: impl Fn() -> bool, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending if happened() => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    })
    .await
}
