//! One suite over every store (`suite.rs`, `history.rs`), and what only one of them can do (`embedded.rs`, `crash.rs`, `redis.rs`, `faults.rs`).
//!
//! Servers are real, and started by the tests.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod crash;
mod embedded;
mod faults;
mod harness;
mod history;
mod redis;
#[path = "../support/redis.rs"]
mod redis_server;
mod suite;
