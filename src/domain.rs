//! The rules. Nothing here awaits, reads a clock, draws randomness or touches the outside.

pub mod quota;
pub mod time;
