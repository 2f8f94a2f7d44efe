//! Spans: where a call is in a trace, and how one is continued.

pub(crate) mod w3c;
