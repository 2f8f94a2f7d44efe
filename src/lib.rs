//! otpd: a gRPC one-time-password service.

pub mod domain;
pub mod keys;
pub mod ports;
pub mod providers;
pub mod secret;
pub mod service;
pub mod stores;
