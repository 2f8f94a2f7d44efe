//! What the service needs from outside. A port is a trait in domain types; `stores` and `providers` implement them.

#![warn(missing_docs)]

pub mod call;
pub mod clock;
pub mod decisions;
pub mod entropy;
pub mod event_stream;
pub(crate) mod files;
pub mod observer;
pub mod provider;
pub mod store;
