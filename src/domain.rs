//! The rules. Nothing here awaits, reads a clock, draws randomness or touches the outside.

pub mod challenge;
pub mod destination;
pub mod ids;
pub mod outcome;
pub mod policy;
pub mod purpose;
pub mod quota;
pub mod time;
pub mod transaction;
