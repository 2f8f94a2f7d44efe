//! otpd: a gRPC one-time-password service.

pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod lifecycle;
pub mod operations;
pub mod ports;
pub mod readiness;
pub mod secret;
pub mod service;
pub mod stores;
pub mod telemetry;
