//! One call between the front and its handler: until when, in which place, and what is noted of it.

use std::{future::Future, sync::Arc};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::{
    call_log::{self, Notes},
    method::Target,
    parse::{Parsed, Violations},
    render::Rendered,
    shed::Place,
    status,
};
use crate::{
    ports::clock::Deadline,
    service::{error::Error, request::Caller},
};

/// What the front hands to the handler, in the extensions of the request.
#[derive(Clone)]
pub(crate) struct Call {
    /// Which method, for the log.
    pub(crate) target: Target,
    /// When the answer is due.
    pub(crate) deadline: Deadline,
    /// Among the calls in flight.
    pub(crate) place: Option<Place>,
    /// For the call log.
    pub(crate) notes: Arc<Notes>,
}

impl Call {
    /// Takes a request apart. One that did not pass the front has no deadline, and is refused.
    pub(crate) fn open<T>(request: Request<T>) -> Result<(Self, T), Status> {
        let (_, mut extensions, message) = request.into_parts();
        let call = extensions.remove::<Self>().ok_or_else(status::internal)?;
        Ok((call, message))
    }

    /// A parsed request, or the status that lists what is wrong with it.
    pub(crate) fn accept<T>(&self, parsed: Parsed<T>) -> Result<(Caller, T), Status> {
        let (caller, request) = parsed.map_err(|faults: Violations| status::of_violations(faults))?;
        // The only writer; a second note would be the same.
        let _ = self.notes.tenant.set(caller.tenant.clone());
        Ok((caller, request))
    }

    /// Does the work in a task of its own, so that what is recorded does not depend on how long the caller waits: when
    /// the caller hangs up or its time runs out, this future is dropped and the task goes on, in the call's place.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tasks: &TaskTracker,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Status> {
        let (place, method) = (self.place.clone(), self.target.name());
        let task = tasks.spawn(async move {
            let result = work.await;
            if let Err(error) = &result {
                call_log::cause(method, error);
            }
            drop(place);
            result
        });
        match task.await {
            Ok(Ok(outcome)) => Ok(outcome),
            // The store was given no more time than the caller has: it is not to blame, and no mesh is to shun us for it.
            Ok(Err(Error::Store(_))) if self.deadline.remaining().is_zero() => Err(status::deadline_exceeded()),
            Ok(Err(error)) => Err(status::of_error(&error)),
            Err(_) => {
                // The panic's text may hold anything; its place is the panic hook's to tell.
                tracing::error!(target: "otpd::rpc", { rpc.method = method }, "use case panicked");
                Err(status::internal())
            }
        }
    }

    /// The answer.
    pub(crate) fn answer<T>(&self, rendered: Rendered<T>) -> Response<T> {
        // The only writer.
        let _ = self.notes.outcome.set(rendered.outcome);
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
    use crate::grpc::{
        method::Method,
        shed::{Admission, Places},
    };

    fn call(places: &Places) -> Call {
        let target = Target::Contract(Method::VerifyOtp);
        let Admission::Admitted(place) = places.admit(target) else { panic!("no place") };
        let deadline = Deadline::after(Duration::from_secs(10));
        Call { target, deadline, place: Some(place), notes: Arc::default() }
    }

    #[tokio::test]
    async fn work_goes_on_in_its_place_when_the_handler_is_dropped() {
        let (places, tasks) = (Places::new(1), TaskTracker::new());
        let done = Arc::new(AtomicBool::new(false));
        let (go, wait) = oneshot::channel::<()>();
        let flag = Arc::clone(&done);
        let call = call(&places);
        let work = async move {
            let _ = wait.await;
            flag.store(true, Ordering::SeqCst);
            Ok(())
        };
        let dropped = tokio::time::timeout(Duration::from_millis(20), call.run(&tasks, work)).await;
        assert!(dropped.is_err());
        drop(call);
        assert!(matches!(places.admit(Target::Contract(Method::SendOtp)), Admission::Shed));
        go.send(()).unwrap();
        tasks.close();
        tasks.wait().await;
        assert!(done.load(Ordering::SeqCst));
        assert!(matches!(places.admit(Target::Contract(Method::SendOtp)), Admission::Admitted(_)));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let (places, tasks) = (Places::new(1), TaskTracker::new());
        let status = call(&places).run::<()>(&tasks, async { panic!("4711") }).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert!(!format!("{status:?}").contains("4711"));
        assert!(matches!(places.admit(Target::Contract(Method::SendOtp)), Admission::Admitted(_)));
    }
}
