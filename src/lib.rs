//! otpd: a gRPC one-time-password service.
//!
//! Data flows one way: `grpc -> service -> domain`, `service -> ports` and `keys`; `stores` and `providers` implement the
//! ports; only `app` names concrete adapters. ARCHITECTURE.md has the map.

pub mod app;
pub mod audit;
pub mod cli;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod keys;
mod lifecycle;
pub mod messages;
pub mod metrics;
mod operations;
pub mod ports;
pub mod providers;
mod readiness;
pub mod secret;
pub mod service;
pub mod settings;
mod spans;
pub mod stores;
mod streams;
pub mod telemetry;
