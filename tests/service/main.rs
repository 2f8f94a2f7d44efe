//! The use cases over a store in memory and fake providers: races, lost answers, dead processes, and a simulation.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and prints its seed"
)]

mod broken;
mod callers;
mod cases;
mod checker;
#[path = "../support/clock.rs"]
mod clock;
mod deadlines;
mod deaths;
mod decisions;
#[path = "../support/entropy.rs"]
mod entropy;
#[path = "../support/fake.rs"]
mod fake;
#[path = "../support/faults.rs"]
mod faults;
mod gate;
mod keys;
mod limits;
mod lockouts;
mod lost_answers;
mod managed;
#[path = "../support/memory.rs"]
mod memory;
#[path = "../support/observed.rs"]
mod observed;
mod protocol;
mod races;
mod refunds;
mod requests;
mod rotation;
mod secrecy;
mod sends;
mod simulation;
mod tasks;
#[path = "../support/told.rs"]
mod told;
mod trips;
mod verifications;
mod witness;
mod world;
