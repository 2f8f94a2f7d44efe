//! otpd: a gRPC one-time-password service.

pub mod config;
pub mod domain;
pub mod ports;
pub mod secret;
pub mod service;
pub mod stores;
