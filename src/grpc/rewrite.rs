//! Statuses that the framework makes by itself get our reasons and texts: bytes that are no message, messages too
//! large, methods that do not exist. Its own texts name library internals, and its codes are not those of the contract.

use http::{HeaderMap, HeaderName, Response};
use tonic::{Code, Status, body::Body};

use super::status;

const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Rewrites where need be, and tells how the call failed if it did.
pub(crate) fn rewrite(response: Response<Body>, max_message_bytes: usize) -> (Response<Body>, Option<Status>) {
    let Some(failure) = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) else {
        return (response, None);
    };
    if is_ours(response.headers()) {
        return (response, Some(failure));
    }
    let ours = before_the_handler(failure.code(), max_message_bytes);
    let mut rewritten: Response<Body> = ours.clone().into_http();
    // Part of the answer to an unknown encoding: what is known.
    if let Some(encodings) = response.headers().get(ACCEPT_ENCODING) {
        rewritten.headers_mut().insert(ACCEPT_ENCODING, encodings.clone());
    }
    (rewritten, Some(ours))
}

/// All our statuses have details, and none of the framework's has.
fn is_ours(headers: &HeaderMap) -> bool {
    headers.contains_key(Status::GRPC_STATUS_DETAILS)
}

/// A failure without a message: routing or reading the request failed, for the handler's failures are ours.
fn before_the_handler(code: Code, max_message_bytes: usize) -> Status {
    match code {
        Code::Unimplemented => status::unimplemented(),
        // tonic's code for a length above the limit.
        Code::OutOfRange => status::too_large(max_message_bytes),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => status::undecodable(),
    }
}

/// The same after the headers: the answer could not be encoded.
pub(super) fn rewrite_trailers(trailers: HeaderMap) -> HeaderMap {
    let failed = Status::from_header_map(&trailers).is_some_and(|status| status.code() != Code::Ok);
    if !failed || is_ours(&trailers) {
        return trailers;
    }
    tracing::error!(target: "otpd::rpc", "an answer could not be encoded");
    let mut rewritten = HeaderMap::new();
    // Our texts are plain ASCII, so this cannot fail; without a status the caller sees UNKNOWN.
    let _ = status::internal().add_header(&mut rewritten);
    rewritten
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn reason(status: &Status) -> String {
        status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
    }

    #[test]
    fn the_frameworks_statuses_are_rewritten() {
        for (theirs, code, expected) in [
            (Status::internal("failed to decode Protobuf message: X"), Code::InvalidArgument, "INVALID_FIELD_VALUE"),
            (Status::out_of_range("X, decoded message length too large"), Code::InvalidArgument, "INVALID_FIELD_VALUE"),
            (Status::unimplemented("X"), Code::Unimplemented, "UNIMPLEMENTED"),
            (Status::unknown("X"), Code::InvalidArgument, "INVALID_FIELD_VALUE"),
        ] {
            let (response, failure) = rewrite(theirs.into_http(), 65_536);
            let sent = Status::from_header_map(response.headers()).unwrap();
            assert_eq!((sent.code(), reason(&sent).as_str()), (code, expected));
            assert!(!sent.message().contains('X'));
            assert_eq!(failure.map(|status| status.code()), Some(code));
        }
    }

    #[test]
    fn our_statuses_and_successes_are_left_alone() {
        let (response, failure) = rewrite(status::overloaded().into_http(), 65_536);
        assert_eq!(reason(&Status::from_header_map(response.headers()).unwrap()), "OVERLOADED");
        assert_eq!(failure.map(|status| status.code()), Some(Code::ResourceExhausted));
        let (response, failure) = rewrite(Response::new(Body::empty()), 65_536);
        assert!(failure.is_none() && response.headers().is_empty());
    }

    #[test]
    fn a_failure_in_the_trailers_is_internal() {
        let mut trailers = HeaderMap::new();
        Status::out_of_range("X").add_header(&mut trailers).unwrap();
        let sent = Status::from_header_map(&rewrite_trailers(trailers)).unwrap();
        assert_eq!((sent.code(), reason(&sent).as_str()), (Code::Internal, "INTERNAL"));
        assert_eq!(sent.message(), "internal error");
        let mut ours = HeaderMap::new();
        status::overloaded().add_header(&mut ours).unwrap();
        assert_eq!(rewrite_trailers(ours.clone()), ours);
    }
}
