//! The rules. Nothing here awaits, reads a clock, draws randomness or touches the outside.

pub mod caller;
pub mod canonical;
pub mod challenge;
pub mod code;
pub mod destination;
pub mod identity;
pub mod ids;
pub mod invariants;
pub mod locale;
pub mod lockout;
pub mod outcome;
pub mod policy;
pub mod purpose;
pub mod quota;
pub mod route;
pub mod rules;
pub mod time;
pub mod transaction;
