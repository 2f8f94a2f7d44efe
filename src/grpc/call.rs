//! One call on its way from the call layer to its handler: its deadline, its permit, and what its log line will say.

use std::{future::Future, pin::Pin, sync::Arc};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::{Instrument, Span};

use super::{call_log, method::Method, render::Rendered, shed::CallPermit, status};
use crate::{
    domain::caller::CallerRights,
    ports::{call::CallRecord, clock::Deadline},
    service::error::Error,
};

/// A use case at work. Boxed where it is made: use cases are kilobytes large, and a call moves them several times.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// What the call layer hands to the handler, in the extensions of the request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// When the answer is due.
    pub(crate) deadline: Deadline,
    pub(crate) permit: CallPermit,
    /// What its caller may do.
    pub(crate) rights: Arc<CallerRights>,
    pub(crate) record: Arc<CallRecord>,
    pub(crate) span: Span,
}

impl Call {
    /// Takes a request apart. One that did not pass the call layer has no deadline, and is refused.
    pub(crate) fn open<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let (_, mut extensions, message) = request.into_parts();
        let call = extensions.remove::<Self>().ok_or_else(status::internal)?;
        Ok((call, message))
    }

    /// Does the work in a task of its own, so that what is recorded does not depend on how long the caller waits: when
    /// the caller hangs up or its time runs out, this future is dropped and the task goes on, with the call's permit.
    pub(crate) async fn run<T: Send + 'static>(&self, tasks: &TaskTracker, work: Work<T>) -> Result<T, Status> {
        let (permit, method) = (Arc::clone(&self.permit), self.method.name());
        let working = async move {
            let result = work.await;
            if let Err(error) = &result {
                call_log::cause(method, error);
            }
            drop(permit);
            result
        };
        let task = tasks.spawn(Arc::clone(&self.record).scope(working.instrument(self.span.clone())));
        match task.await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The store was given no more time than the caller has. UNAVAILABLE would blame the store, and a mesh would
            // turn away from this replica.
            Ok(Err(Error::Store(_))) if self.deadline.remaining().is_zero() => Err(status::deadline_exceeded()),
            Ok(Err(error)) => Err(status::of_error(&error)),
            Err(_) => {
                // The panic's text may hold anything, so it is left out; the panic hook logs where it happened.
                self.record.within(|| {
                    tracing::error!(target: "otpd::rpc", { rpc.method = method }, "use case panicked");
                });
                Err(status::internal())
            }
        }
    }

    /// The answer.
    pub(crate) fn answer<T>(&self, rendered: Rendered<T>) -> Response<T> {
        // Nothing else sets it.
        let _ = self.record.outcome.set(rendered.outcome);
        Response::new(rendered.message)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use tokio::sync::oneshot;
    use tonic::Code;

    use super::*;
    use crate::{
        grpc::shed::CallPermits,
        streams::limit::{ConnectionLimit, GivesWay},
    };

    fn admit(permits: &CallPermits) -> Option<CallPermit> {
        permits.admit(Method::VerifyOtp, &ConnectionLimit::new(1, GivesWay::Idle, None).admit(None).unwrap(), None).ok()
    }

    fn call(permits: &CallPermits) -> Call {
        let method = Method::VerifyOtp;
        let permit = admit(permits).expect("a permit");
        let deadline = Deadline::after(Duration::from_secs(10));
        Call { method, deadline, permit, rights: Arc::default(), record: Arc::default(), span: Span::none() }
    }

    #[tokio::test]
    async fn work_keeps_its_permit_and_goes_on_when_the_handler_is_dropped() {
        let (permits, tasks) = (CallPermits::new(1), TaskTracker::new());
        let done = Arc::new(AtomicBool::new(false));
        let (go, wait) = oneshot::channel::<()>();
        let flag = Arc::clone(&done);
        let call = call(&permits);
        let work = Box::pin(async move {
            let _ = wait.await;
            flag.store(true, Ordering::SeqCst);
            Ok(())
        });
        let dropped = tokio::time::timeout(Duration::from_millis(20), call.run(&tasks, work)).await;
        assert!(dropped.is_err());
        drop(call);
        assert!(admit(&permits).is_none());
        go.send(()).unwrap();
        tasks.close();
        tasks.wait().await;
        assert!(done.load(Ordering::SeqCst));
        assert!(admit(&permits).is_some());
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let (permits, tasks) = (CallPermits::new(1), TaskTracker::new());
        let status = call(&permits).run::<()>(&tasks, Box::pin(async { panic!("4711") })).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("4711"));
        assert!(admit(&permits).is_some());
    }

    /// The handler and the task are moved between threads with what they hold.
    #[tokio::test]
    async fn what_is_moved_per_call_stays_small_however_large_the_use_case() {
        let (permits, tasks) = (CallPermits::new(1), TaskTracker::new());
        let call = call(&permits);
        let large = Box::pin(async {
            let state = [1_u8; 16 * 1024];
            tokio::task::yield_now().await;
            Ok(state.iter().map(|byte| usize::from(*byte)).sum::<usize>())
        });
        let running = call.run(&tasks, large);
        assert!(size_of_val(&running) <= 512, "{} bytes", size_of_val(&running));
        assert_eq!(running.await.unwrap(), 16 * 1024);
    }
}
