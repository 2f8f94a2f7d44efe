//! The gRPC face: bytes to use cases and back. Knows the contract and the service, and no adapter.
//!
//! `listen` accepts connections, and `connection` serves each, encrypted by `tls`. A call passes `call_layer` (call log, caller, deadline, arrival of its
//! message, limit of calls in flight, rewriting of the framework's own statuses), then the generated code, then `otp` or `admin`: parse, one use case in a tracked task, render. `status` is the only
//! place that makes a status.

mod admin;
mod answer;
mod arrival;
mod call;
mod call_layer;
mod call_limit;
mod call_log;
pub(crate) mod callers;
mod connection;
mod deadline;
pub(crate) mod descriptor;
mod framework;
mod listen;
pub(crate) mod listener;
mod method;
mod origin;
mod otp;
mod parse;
pub(crate) mod probe;
mod reason;
mod redacted;
mod render;
mod rewrite;
pub(crate) mod server;
mod shed;
mod status;
pub(crate) mod tls;
mod xfcc;

/// The generated code of `proto/otp/v1/otp.proto`.
#[expect(
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code keeps its generator's rules"
)]
pub mod proto {
    tonic::include_proto!("otp.v1");

    /// The compiled contract with its comments, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/otp_v1_descriptor.bin"));
}
