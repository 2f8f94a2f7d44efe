//! Where a call comes from, by its headers: its `x-request-id`, and its position in a trace of the caller's.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tracing::{Span, field::Empty};

use super::method::RpcTarget;
use crate::{
    domain::ids::is_id,
    ports::call::{CallOrigin, TraceParent},
    spans::{self, w3c},
};

/// Proxies name a call by it, and Envoy prints it in its access log.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The span of a call, and where it comes from: with its position in the trace that the caller has begun, or that begins here. A
/// call that may not be traced has no span, however much its caller asks for one: a flood of them would crowd out others. Its line
/// names the trace all the same.
pub(super) fn arrived(
    target: RpcTarget,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
    may_trace: bool,
) -> (Span, CallOrigin) {
    let origin = origin(headers, peer);
    if !may_trace {
        let trace = origin.trace.map(|parent| TraceParent { is_sampled: false, ..parent });
        return (Span::none(), CallOrigin { trace, ..origin });
    }
    let span = tracing::info_span!(
        target: spans::TARGET,
        "call",
        otel.name = target.name(),
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system.name = "grpc",
        rpc.method = target.name(),
        rpc.response.status_code = Empty,
        error.type = Empty,
        network.peer.address = peer.map(tracing::field::display),
        x_request_id = &*origin.x_request_id,
        request_id = Empty,
        caller = Empty,
        tenant = Empty,
        challenge = Empty,
        account = Empty,
        contact = Empty,
        otp.outcome = Empty,
    );
    if let Some(parent) = origin.trace {
        spans::continue_trace(&span, parent, &origin.trace_state);
    }
    let trace = spans::position(&span).or(origin.trace);
    (span, CallOrigin { trace, ..origin })
}

/// Of a call with these headers.
fn origin(headers: &HeaderMap, peer: Option<IpAddr>) -> CallOrigin {
    let x_request_id = given(headers).map_or_else(made, Arc::from);
    let trace = parent(headers);
    let trace_state = trace.and_then(|_| state(headers)).unwrap_or_default();
    CallOrigin { peer, x_request_id, trace, trace_state }
}

/// The caller's position in its trace. Of several none is to be believed.
fn parent(headers: &HeaderMap) -> Option<TraceParent> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let text = all.next()?.to_str().ok().filter(|_| all.next().is_none())?;
    w3c::parse_parent(text)
}

/// The lists of all `tracestate` headers are one.
fn state(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut all = headers.get_all(TRACESTATE).iter().map(|value| value.to_str().ok());
    let first = all.next()??;
    let joined = all.try_fold(first.to_owned(), |joined, next| Some(format!("{joined},{}", next?)))?;
    w3c::is_state(&joined).then(|| joined.into())
}

/// Tells the caller how its call is named in the log.
pub(super) fn tell(origin: &CallOrigin, headers: &mut HeaderMap) {
    // An id has characters of headers only.
    if let Ok(value) = HeaderValue::from_str(&origin.x_request_id) {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// The id that a proxy, or the caller, gave the call: taken over only where it is one of ours in form, since it is printed.
fn given(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(X_REQUEST_ID)?.to_str().ok()?;
    is_id(text).then_some(text)
}

/// 16 hexadecimal digits: a keyed hash of a number that no other call of this process has. The key is random for each process.
fn made() -> Arc<str> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let hash = KEY.hash_one(NUMBER.fetch_add(1, Ordering::Relaxed));
    format!("{hash:016x}").into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_id_in_the_form_of_ours_is_taken_over_and_told() {
        let longest = "x".repeat(crate::domain::ids::MAX_ID_LENGTH);
        for (given, is_kept) in [
            ("7f3c0a5e-9d1b-4c62-8f7e-000000000001", true),
            ("a:B_9", true),
            (longest.as_str(), true),
            ("", false),
            (&format!("{longest}x"), false),
            ("two words", false),
            ("a,b", false),
            ("\u{e9}", false),
        ] {
            let value = HeaderValue::from_bytes(given.as_bytes()).unwrap();
            let origin = origin(&HeaderMap::from_iter([(X_REQUEST_ID, value)]), None);
            assert_eq!(&*origin.x_request_id == given, is_kept, "{given}");
            let mut told = HeaderMap::new();
            tell(&origin, &mut told);
            assert_eq!(told.get(X_REQUEST_ID).unwrap().to_str().unwrap(), &*origin.x_request_id);
        }
    }

    #[test]
    fn a_trace_is_taken_over_from_one_good_parent() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (parents, states, expected) in [
            (&[good][..], &["a=1", "b=2"][..], Some("a=1,b=2")),
            (&[good], &["bad"], Some("")),
            (&[good], &[], Some("")),
            (&[good, good], &["a=1"], None),
            (&["bad"], &["a=1"], None),
            (&[], &["a=1"], None),
        ] {
            let mut headers = HeaderMap::new();
            for (name, texts) in [(TRACEPARENT, parents), (TRACESTATE, states)] {
                for text in texts {
                    headers.append(name.clone(), HeaderValue::from_static(text));
                }
            }
            let origin = origin(&headers, None);
            assert_eq!(origin.trace.map(|_| &*origin.trace_state), expected, "{parents:?} {states:?}");
        }
    }

    #[test]
    fn a_call_that_may_not_be_traced_has_no_span_and_names_its_trace() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(text))]);
        for may_trace in [true, false] {
            let (span, origin) = arrived(RpcTarget::Unknown, &headers, None, may_trace);
            let trace = origin.trace.unwrap();
            assert_eq!(trace.id().to_string(), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(trace.is_sampled, may_trace);
            assert!(may_trace || span.is_none());
        }
    }

    #[test]
    fn made_ids_differ() {
        let made: BTreeSet<_> = (0..1_000).map(|_| made()).collect();
        assert_eq!(made.len(), 1_000);
        assert!(made.iter().all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
