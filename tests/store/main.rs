//! One suite over every store (`suite.rs`, `quotas.rs`, `history.rs`), and what only one of them can do (`embedded.rs`, `crash.rs`,
//! `backup.rs`, `confirmed.rs`, `damage.rs`, `redis.rs`, `faults.rs`, `memory.rs`).
//!
//! Servers are real, and started by the tests.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says then what it did"
)]

mod backup;
mod cluster;
mod confirmed;
mod crash;
mod damage;
#[path = "../support/dice.rs"]
mod dice;
mod embedded;
#[expect(dead_code, reason = "other test binaries use the rest of it")]
#[path = "../support/entropy.rs"]
mod entropy;
mod faults;
#[expect(dead_code, reason = "other test binaries use the rest of it")]
#[path = "../support/faults.rs"]
mod faulty;
mod harness;
mod history;
mod memory;
#[expect(dead_code, reason = "other test binaries use the rest of it")]
#[path = "../support/memory.rs"]
mod memory_store;
mod quotas;
mod redis;
#[path = "../support/cluster.rs"]
mod redis_cluster;
#[path = "../support/sentinel.rs"]
mod redis_sentinel;
#[path = "../support/redis.rs"]
mod redis_server;
#[path = "../support/tls.rs"]
mod redis_tls;
mod secured;
mod sentinel;
mod servers;
mod suite;
mod valkey;
