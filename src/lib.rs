//! otpd: a gRPC one-time-password service.

pub mod domain;
pub mod grpc;
pub mod ports;
pub mod secret;
pub mod service;
pub mod stores;
